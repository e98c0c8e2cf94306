#include "core/shard/types.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace mneme::shard {

const Member* member_on(const Configuration& configuration, NodeId node) {
  auto found = std::find_if(configuration.begin(), configuration.end(),
                            [&](const Member& member) { return member.replica.node == node; });
  return found == configuration.end() ? nullptr : &*found;
}

bool is_joint(const Configuration& configuration) {
  return std::any_of(configuration.begin(), configuration.end(), [](const Member& member) {
    return member.role == Role::kIncoming || member.role == Role::kOutgoing;
  });
}

size_t voters_of(const Configuration& configuration) {
  return static_cast<size_t>(std::count_if(configuration.begin(), configuration.end(),
                                           [](const Member& member) { return member.role != Role::kLearner; }));
}

bool is_newer(const Report& a, const Report& b) {
  auto age = [](const Report& r) { return std::tie(r.epoch, r.configuration_index, r.term, r.number); };
  return age(a) > age(b);
}

std::string_view name_of(NodeState state) {
  switch (state) {
    case NodeState::kJoining: return "joining";
    case NodeState::kUp: return "up";
    case NodeState::kDraining: return "draining";
    case NodeState::kRemoved: return "removed";
  }
  return "unknown";
}

std::string_view name_of(Step step) {
  switch (step) {
    case Step::kAddLearner: return "add learner";
    case Step::kSwap: return "swap";
    case Step::kPromote: return "promote";
    case Step::kRemove: return "remove";
    case Step::kTransfer: return "transfer";
    case Step::kSplit: return "split";
  }
  return "unknown";
}

std::string_view name_of(Role role) {
  switch (role) {
    case Role::kVoter: return "voter";
    case Role::kLearner: return "learner";
    case Role::kIncoming: return "incoming";
    case Role::kOutgoing: return "outgoing";
  }
  return "unknown";
}

std::string_view name_of(Outcome outcome) {
  switch (outcome) {
    case Outcome::kPending: return "pending";
    case Outcome::kDone: return "done";
    case Outcome::kAbandoned: return "abandoned";
  }
  return "unknown";
}

std::string name_of_shard(GroupId group) {
  return group == kMetaGroup ? "the shard map" : fmt::format("shard {}", group.value);
}

std::string text_of(const Action& action) {
  switch (action.kind) {
    case ActionKind::kSplit: return fmt::format("split at slot {}", action.at);
    case ActionKind::kMove: return fmt::format("move n{} to n{}", action.source.value, action.target.value);
    case ActionKind::kAdd: return fmt::format("add n{}", action.target.value);
    case ActionKind::kRemove: return fmt::format("remove n{}", action.source.value);
    case ActionKind::kTransfer: return fmt::format("transfer to n{}", action.target.value);
  }
  return "unknown";
}

}  // namespace mneme::shard
