// The groups that a shard map speaks of, without Raft: of each only what the map can learn of it.
//
// A group does what a request asks if it is at the epoch that the request names, and raises it by that; otherwise
// nothing. Requests may be delivered late, twice, or never: that is up to the test.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "core/shard/map.h"
#include "tests/unit/shard/support.h"

namespace mneme::shard {

// What a driver asks a group to do for an operation.
struct Request {
  GroupId group;
  Operation operation;
};

class Groups {
 public:
  explicit Groups(const Map& map) {
    for (const auto& [id, shard] : map.shards()) {
      Report& group = groups_[id] = shard.last;
      group.slots = shard.slots;
      group.term = Term(1);
      group.leader = group.configuration[0].replica.node;
    }
  }

  const std::map<GroupId, Report>& all() const { return groups_; }

  // What the leader says now; null when there is no such group.
  std::optional<Report> report(GroupId id) {
    auto found = groups_.find(id);
    if (found == groups_.end()) return {};
    ++found->second.number;
    return found->second;
  }

  // Whether the group did it. Of kSwap the first half at first, unless `at_once`; leave_joint() does the other.
  bool make(const Request& request, bool at_once = true) {
    Report& group = groups_.at(request.group);
    const Operation& operation = request.operation;
    if (operation.step == Step::kTransfer) {
      const Member* target = member_on(group.configuration, operation.target.node);
      if (target && target->role == Role::kVoter) elect(request.group, operation.target.node);
      return true;
    }
    if (group.epoch != operation.epoch || is_joint(group.configuration)) return false;
    switch (operation.step) {
      case Step::kAddLearner:
        if (operation.target.generation < group.next_generation) return false;
        put(group.configuration, operation.target, Role::kLearner);
        group.next_generation = operation.target.generation + 1;
        break;
      case Step::kSwap:
        put(group.configuration, operation.target, Role::kIncoming);
        put(group.configuration, operation.source, Role::kOutgoing);
        break;
      case Step::kPromote: put(group.configuration, operation.target, Role::kVoter); break;
      case Step::kRemove: take_out(group.configuration, operation.source); break;
      case Step::kSplit: split(group, operation); break;
      case Step::kTransfer: break;
    }
    group.epoch = group.epoch.next();
    group.configuration_index = group.configuration_index.next();
    if (operation.step == Step::kSwap && at_once) leave_joint(request.group);
    settle_leader(group);
    return true;
  }

  void leave_joint(GroupId id) {
    Report& group = groups_.at(id);
    if (!is_joint(group.configuration)) return;
    std::erase_if(group.configuration, [](const Member& m) { return m.role == Role::kOutgoing; });
    for (Member& m : group.configuration)
      if (m.role == Role::kIncoming) m.role = Role::kVoter;
    group.epoch = group.epoch.next();
    group.configuration_index = group.configuration_index.next();
    settle_leader(group);
  }

  // An entry that does nothing but raise the epoch: what was asked at the one before will not happen any more.
  void fence(GroupId id) {
    Report& group = groups_.at(id);
    group.epoch = group.epoch.next();
  }

  void elect(GroupId id, NodeId leader) {
    Report& group = groups_.at(id);
    if (group.leader == leader) return;
    group.leader = leader;
    group.term = group.term.next();
    group.number = 0;
  }

  void load(GroupId id, uint64_t bytes, uint64_t writes_per_second) {
    groups_.at(id).bytes = bytes;
    groups_.at(id).writes_per_second = writes_per_second;
  }

  // Every slot in exactly one group, or a sentence.
  std::optional<std::string> check() const {
    size_t slots = 0;
    SlotSet all;
    for (const auto& [id, group] : groups_) {
      slots += group.slots.size();
      all.add(group.slots);
    }
    if (slots != kSlots || all != SlotSet::all())
      return fmt::format("the groups have {} slots, {} different ones", slots, all.size());
    return {};
  }

 private:
  // Whoever can is elected when the leader has left.
  static void settle_leader(Report& group) {
    const Member* leader = member_on(group.configuration, group.leader);
    if (leader && leader->role != Role::kLearner) return;
    for (const Member& m : group.configuration)
      if (m.role != Role::kLearner) group.leader = m.replica.node;
    group.term = group.term.next();
    group.number = 0;
  }

  void split(Report& parent, const Operation& operation) {
    Report child = parent;
    child.group = operation.child;
    child.slots = parent.slots.split_at(operation.action.at);
    child.epoch = operation.epoch.next();
    child.configuration_index = {};
    child.term = Term(1);
    child.number = 0;
    for (Member& m : child.configuration) m.replica.generation = 1;
    child.next_generation = 2;
    child.bytes = parent.bytes / 2;
    child.writes_per_second = parent.writes_per_second / 2;
    parent.bytes -= child.bytes;
    parent.writes_per_second -= child.writes_per_second;
    REQUIRE(groups_.emplace(operation.child, child).second);  // a group is made once
  }

  std::map<GroupId, Report> groups_;
};

}  // namespace mneme::shard
