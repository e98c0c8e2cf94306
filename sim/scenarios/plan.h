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

#include "core/base/chance.h"
#include "sim/event.h"
#include "sim/fate.h"
#include "sim/scenarios/options.h"

namespace mneme::sim {

enum class FaultKind : uint8_t {
  kKill = 1,
  kPowerLoss,
  kBlackout,
  kPause,
  kPartition,
  kBlock,
  kClog,
  kReset,
  kFailSync,
  kRot,
  kReadError,
  kFullDisk,
  kSlowDisk,
  kDrift,
  kWallJump,
  kClientVanishes,
  kAmbush,     // waits for a process to reach a probe; becomes one of the others, with that node as `a`
  kOverthrow,  // only of an ambush: the node is cut off and all others lose power
  kRestartStorm,
  kRollingRestart,
  kWipe,
  kSlowLink,
  kStall,
  kHalfOpen,
  kSlowCpu,
  kHungDisk,
  kEvict,
};

struct Fault {
  uint64_t item = 0;  // its number in the plan, 1000 times the kind plus the nth of its kind
  FaultKind kind;
  WorldTime at = 0;
  WorldTime duration = 0;  // until it ends, or until the machine is started again
  uint32_t a = 0;          // machine; kClientVanishes: client, from 0
  uint32_t b = 0;          // the other machine
  uint64_t set = 0;        // bit n: machine n is on the one side (kPartition), loses power (kBlackout)
  // kDrift: ppm; kWallJump: ms; kSlowDisk, kSlowLink: factor; kRestartStorm: crashes; kSlowCpu: us; kHalfOpen: 0
  // swallows, 1 is reset at `a`
  int64_t amount = 0;
  bool torn_too = false;  // kKill: power is lost while the machine is down
  WorldTime delay = 0;    // kAmbush: until it strikes; kRollingRestart: from one node's start to the next one's end
  // kAmbush: the nth time from `at` on that a node reaches `trigger`.
  Probe trigger{};
  uint32_t nth = 0;
  FaultKind strike = FaultKind::kPowerLoss;

  bool operator==(const Fault&) const = default;
  std::string text() const;
  // What an ambush becomes when `victim` has walked into it.
  Fault sprung_on(uint32_t victim, uint32_t nodes) const;
};

// How long a machine stays down in a fault that takes several: some are back early, none later than its duration.
WorldTime down_for(const Fate& fate, const Fault& fault, uint32_t machine);

enum class OpKind : uint8_t { kGet, kSet, kDel, kCas, kIncr, kAppend, kSetPx, kPexpire, kGetSet, kSetNx };

struct PlannedOp {
  uint32_t nth = 0;  // of its client's; names it whatever is left out before it
  OpKind kind = OpKind::kGet;
  uint32_t key = 0;
  WorldTime think = 0;   // before it is sent
  int64_t amount = 0;    // INCRBY: summand; expiry: ms
  uint32_t padding = 0;  // bytes that make the value larger
  bool guess = false;    // CAS: expect something that was hardly ever there
  uint32_t burst = 1;    // kPipelining: sent together with up to so many less one of those after it
  bool operator==(const PlannedOp&) const = default;
};

enum class ClientStyle : uint8_t { kPlain, kRetrying, kSession, kPipelining };

struct PlannedClient {
  ClientStyle style = ClientStyle::kPlain;
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
  uint64_t damageable = 0;  // bit n: machine n's disk may be damaged; in the recoverable regime never a majority
  bool operator==(const Plan&) const = default;
};

// Machines: 1 to nodes are store nodes.
Plan make_plan(const Fate& fate, const Options& options, const Removals& removals);

}  // namespace mneme::sim
