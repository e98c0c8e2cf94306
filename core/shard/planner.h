// What is worth doing to the shards next: a function of the map, of who was heard of lately, and of some limits.
//
// In the order of importance:
//   1. repair: replace replicas on nodes that are lost or draining, make missing copies, remove what is too much;
//   2. spread: replicas of a shard in different racks, as far as there are racks;
//   3. split shards that are too large or too busy;
//   4. balance the replicas that nodes hold, then the shards that they lead. What counts is a weight: one part for
//   being
//      there, one for size and one for load, each relative to the mean and bounded, so that neither many small shards
//      nor one large one gathers.
//
// What keeps it calm: a shard has one operation at a time, and what is under way counts as if it were done, so that a
// plan is not made twice; a move must lessen the difference of two nodes by more than a margin, one of them being
// outside the band around the mean, so that moves end and then none is planned; part of the room for operations is kept
// for repair, so that balancing never delays it. Nothing is planned for a shard without a majority of voters that were
// heard of lately: it could not carry it out.
//
// Pure: no clock, no chance; equal arguments give equal plans, ties go to lower ids. It remembers nothing: what was
// planned and not begun is planned again if it is still worth it. Cost: O((replicas + nodes) log nodes).
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/ids.h"
#include "core/shard/command.h"
#include "core/shard/map.h"

namespace mneme::shard {

// How long ago the caller heard of a node. One that is not listed is taken as not heard of lately, and not as lost.
struct Liveness {
  NodeId node;
  uint64_t silent_ms = 0;
};

inline constexpr size_t kLeastPending = 64;
inline constexpr size_t kMostPending = 2048;

// How many operations may well be under way in a cluster of so many nodes: since each node works for a few at a time,
// a large cluster is as soon in order again as a small one.
[[nodiscard]] constexpr size_t pending_for(size_t nodes) {
  return std::clamp(nodes * kLeastPending / 100, kLeastPending, kMostPending);
}

struct PlanOptions {
  uint64_t suspect_after_ms = 5'000;  // silent for longer: gets nothing new
  uint64_t lost_after_ms = 300'000;   // silent for longer: its replicas are replaced
  // Operations in the cluster, with those under way, except of shards that have no majority: these cost nothing.
  size_t max_pending = kLeastPending;
  size_t max_pending_per_node = 2;  // that send a copy from it or to it, or change what it leads
  uint64_t split_bytes = 8ull << 30;
  uint64_t split_writes_per_second = 20'000;
  uint32_t band_permille = 50;  // around the mean: nodes inside are balanced
};

struct Proposal {
  BeginOperation command;
  std::string
      reason;  // one line, for people: "move shard 12 from n3 to n7: n3 has 41 replicas, n7 has 12, the mean is 34"
};

// An operation under way that will not end by itself, because its target is gone. Have the group raise its epoch, then
// abandon the operation with the group's report.
struct GiveUp {
  GroupId group;
  OperationId operation;
  Step step = Step::kTransfer;
  std::string reason;
};

struct Plan {
  std::vector<GiveUp> give_up;
  std::vector<Proposal> operations;  // the most important first
  // What ought to be done and cannot, for people; the first few.
  std::vector<std::string> obstacles;
};

[[nodiscard]] Plan plan(const Map& map, std::span<const Liveness> liveness, const PlanOptions& options = {});

}  // namespace mneme::shard
