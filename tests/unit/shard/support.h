// What the tests of this folder share: clusters to begin with, reports as a group would make them.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "core/shard/map.h"
#include "tests/test.h"

namespace mneme::shard {

struct Shape {
  uint32_t nodes = 5;
  uint32_t shards = 3;
  uint32_t copies = 3;
  uint32_t racks = 0;  // 0: their names are not known
};

inline std::string rack_name(uint32_t node, uint32_t racks) {
  return racks == 0 ? "" : fmt::format("rack{:03}", node % racks);
}

inline FoundCluster founding(Shape shape) {
  FoundCluster found;
  found.cluster = ClusterId(77);
  found.copies = shape.copies;
  found.shards = shape.shards;
  for (uint32_t n = 1; n <= shape.nodes; ++n)
    found.nodes.push_back({NodeId(n), Incarnation(1000 + n), fmt::format("n{}:1", n), fmt::format("n{}:2", n),
                           rack_name(n, shape.racks)});
  return found;
}

inline Map founded(Shape shape = {}) {
  Map map;
  auto answer = map.apply(founding(shape));
  INFO((answer ? "" : answer.error().message));
  REQUIRE(answer);
  return map;
}

// What the group would say if it had done nothing since the map last heard of it.
inline Report report_of(const Map& map, GroupId group) {
  const Shard& shard = *map.shard(group);
  Report report = shard.last;
  report.slots = shard.slots;
  return report;
}

// The same, after one more change in its log.
inline Report changed_report(const Map& map, GroupId group) {
  Report report = report_of(map, group);
  report.epoch = report.epoch.next();
  report.configuration_index = LogIndex(report.configuration_index.value + 10);
  report.term = Term(std::max<uint64_t>(report.term.value, 1));
  return report;
}

inline void put(Configuration& configuration, Replica replica, Role role) {
  std::erase_if(configuration, [&](const Member& m) { return m.replica.node == replica.node; });
  auto at = configuration.begin();
  while (at != configuration.end() && at->replica < replica) ++at;
  configuration.insert(at, {replica, role});
}

inline void take_out(Configuration& configuration, Replica replica) {
  std::erase_if(configuration, [&](const Member& m) { return m.replica == replica; });
}

// The report of a group that has just made the pending operation's step.
inline Report made_report(const Map& map, GroupId group) {
  Report report = changed_report(map, group);
  const Operation& operation = *map.shard(group)->operation;
  switch (operation.step) {
    case Step::kAddLearner:
      put(report.configuration, operation.target, Role::kLearner);
      report.next_generation = std::max(report.next_generation, operation.target.generation + 1);
      break;
    case Step::kSwap:
      put(report.configuration, operation.target, Role::kVoter);
      take_out(report.configuration, operation.source);
      break;
    case Step::kPromote: put(report.configuration, operation.target, Role::kVoter); break;
    case Step::kRemove: take_out(report.configuration, operation.source); break;
    case Step::kTransfer:
      report = report_of(map, group);
      report.term = report.term.next();
      report.leader = operation.target.node;
      break;
    case Step::kSplit: report.slots.split_at(operation.action.at); break;
  }
  if (report.leader && !member_on(report.configuration, report.leader)) report.leader = {};
  return report;
}

inline BeginOperation begin(const Map& map, GroupId group, Action action) {
  return {group, map.shard(group)->epoch(), map.shard(group)->last_operation(), action};
}

inline AdvanceOperation advance(const Map& map, GroupId group) {
  const Operation& operation = *map.shard(group)->operation;
  return {operation.id, operation.step, made_report(map, group)};
}

inline AbandonOperation abandon(const Map& map, GroupId group) {
  const Operation& operation = *map.shard(group)->operation;
  return {operation.id, operation.step, changed_report(map, group)};
}

// Applies it twice: the second time must change nothing and answer the same.
inline Answer accept(Map& map, const Command& command) {
  auto answer = map.apply(command);
  INFO((answer ? "" : answer.error().message));
  REQUIRE(answer);
  REQUIRE(map.check() == std::nullopt);
  const Map before = map;
  auto again = map.apply(command);
  INFO((again ? "" : again.error().message));
  REQUIRE(again);
  REQUIRE(*again == *answer);
  REQUIRE(map == before);
  return *answer;
}

// Must be refused, in a sentence that has `words`, and change nothing.
inline void refuse(Map& map, const Command& command, std::string_view words) {
  const Map before = map;
  auto answer = map.apply(command);
  REQUIRE_FALSE(answer);
  INFO(answer.error().message);
  REQUIRE(answer.error().message.find(words) != std::string::npos);
  REQUIRE(map == before);
}

// Begins it and makes all its steps.
inline void carry_out(Map& map, GroupId group, Action action) {
  accept(map, begin(map, group, action));
  for (int step = 0; step < 2 && map.shard(group)->pending(); ++step) accept(map, advance(map, group));
  REQUIRE_FALSE(map.shard(group)->pending());
}

}  // namespace mneme::shard
