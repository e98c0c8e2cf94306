// What a run has in store: client operations and timed faults, drawn before it begins.
//
// Every item is drawn by its own number, so that leaving one out (Removals) changes no other; that is what shrinking
// rests on.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "sim/fate.h"
#include "sim/scenarios/fault.h"
#include "sim/scenarios/options.h"

namespace mneme::sim {

enum class OpKind : uint8_t { kGet, kSet, kDel, kCas, kIncr, kAppend, kSetPx, kPexpire, kGetSet, kSetNx };

struct PlannedOp {
  uint32_t nth = 0;  // of its client's; names it whatever is left out before it
  OpKind kind = OpKind::kGet;
  uint32_t key = 0;
  WorldTime think = 0;   // before it is sent
  int64_t amount = 0;    // INCRBY: summand; expiry: ms
  uint32_t padding = 0;  // bytes that make the value larger
  bool guess = false;    // CAS: expect something that was hardly ever there
  uint32_t burst = 1;    // of a client that pipelines: sent together with up to so many less one of those after it
  bool operator==(const PlannedOp&) const = default;
};

enum class ClientStyle : uint8_t { kPlain, kRetrying, kSession, kLibrary, kLibrarySession, kTransfers };

struct PlannedClient {
  ClientStyle style = ClientStyle::kPlain;
  bool pipelines = false;
  // Of one that uses the library, also for transfers:
  uint32_t patience = 1;      // how long a call may take, in timeouts
  uint32_t max_requests = 1;  // under way with one node
  std::vector<PlannedOp> operations;
  bool operator==(const PlannedClient&) const = default;
};

// Items left out of a plan.
struct Removals {
  std::set<uint64_t> faults;                           // by item
  std::set<std::pair<uint32_t, uint32_t>> operations;  // (client, nth from 0)
  bool empty() const { return faults.empty() && operations.empty(); }
};

struct Plan {
  std::vector<Fault> faults;  // by time
  std::vector<PlannedClient> clients;
  uint64_t damageable = 0;  // bit n: machine n's disk may be damaged; in the recoverable regime no group's majority
  bool operator==(const Plan&) const = default;
};

// Machines: 1 to nodes are store nodes.
Plan make_plan(const Fate& fate, const Options& options, const Removals& removals);
// The item of the fault with which half of the branches begin; no kind has numbers below 1000.
inline constexpr uint64_t kStrikeAtBranch = 3;

// Draws the faults of a plan anew, for a run that branches; whom they may damage and what the clients do stays. In half
// of the branches a node is struck within 50 ms from `now`, as from an ambush, since what a rare moment makes possible
// is often over soon.
void branch_plan(Plan& plan, WorldTime now, const Fate& fate, const Options& options, const Removals& removals);

}  // namespace mneme::sim
