#include "sim/scenarios/kv_leases.h"

#include <fmt/format.h>

#include <algorithm>

namespace mneme::sim {

namespace {

std::string in_ms(Duration time) { return fmt::format("{}.{:03} ms", time / 1ms, time / 1us % 1000); }

}  // namespace

Duration KvLeases::left(NodeId node, const Leading& leading) const {
  if (leading.lease_end.ns == 0) return Duration::zero();
  return std::max(leading.lease_end - clock_(node), Duration::zero());
}

std::optional<std::string> KvLeases::moved(NodeId node, GroupId id, const raft::Raft& raft) {
  if (raft.role() != raft::Role::kLeader) {
    gone(node, id);
    return {};
  }
  Group& group = groups_[id];
  const Leading own{raft.term(), raft.lease_end(), raft.commit()};
  group.leading[node] = own;
  for (const auto& [other, leading] : group.leading) {
    if (leading.term == own.term) continue;
    const bool is_later = leading.term > own.term;
    const auto& [earlier, with_lease] = is_later ? std::pair(node, own) : std::pair(other, leading);
    const Duration left = this->left(earlier, with_lease);
    if (left > Duration::zero())
      return fmt::format("n{} leads group {} in term {}, while n{} has a lease of term {} for another {}",
                         (is_later ? other : node).value, id.value, (is_later ? leading : own).term.value,
                         earlier.value, with_lease.term.value, in_ms(left));
  }
  return check_knowledge(id);
}

std::optional<std::string> KvLeases::applied(GroupId id, LogIndex index) {
  Group& group = groups_[id];
  if (index <= group.applied) return {};
  group.applied = index;
  return check_knowledge(id);
}

std::optional<std::string> KvLeases::check_knowledge(GroupId id) const {
  const Group& group = groups_.at(id);
  for (const auto& [node, leading] : group.leading) {
    if (leading.commit >= group.applied) continue;
    if (const Duration left = this->left(node, leading); left > Duration::zero())
      return fmt::format(
          "index {} of group {} was applied, and n{}, which knows of {}, has a lease of term {} for "
          "another {}",
          group.applied.value, id.value, node.value, leading.commit.value, leading.term.value, in_ms(left));
  }
  return {};
}

void KvLeases::gone(NodeId node, GroupId group) {
  if (auto found = groups_.find(group); found != groups_.end()) found->second.leading.erase(node);
}

void KvLeases::gone(NodeId node) {
  for (auto& [id, group] : groups_) group.leading.erase(node);
}

}  // namespace mneme::sim
