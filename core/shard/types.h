// What the shard map is made of: nodes, shards, their replicas, and the operations that change them.
//
// Two kinds of facts stand in it. What the meta group *decides*: which nodes and shards exist, which slots a shard has,
// what is to be changed next. And what a group last *reported* of itself: its configuration, leader, size and load. A
// group's membership changes only through its own Raft log; the map plans it and learns of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/ids.h"
#include "core/shard/slot_set.h"

namespace mneme::shard {

using OperationId = Id<struct OperationIdTag>;  // counted over the whole cluster, from 1; 0: none

inline constexpr GroupId kMetaGroup{1};       // holds the map, and no slots
inline constexpr GroupId kFirstDataGroup{2};  // data groups begin here

enum class NodeState : uint8_t {
  kJoining = 1,  // has an id, and was not seen running with it yet
  kUp,           // may be given replicas
  kDraining,     // loses its replicas, gets none
  kRemoved,      // remembered, so that neither its id nor its data directory comes back
};

struct Node {
  NodeId id;
  Incarnation incarnation;  // of its data directory; no two nodes ever have the same
  std::string peer_address;
  std::string client_address;
  std::string rack;  // nodes of one rack fail together; empty: not known
  NodeState state = NodeState::kJoining;
  uint64_t revision = 0;  // counts the changes of its state

  bool operator==(const Node&) const = default;
};

// One copy of a shard. A node that loses its copy and gets another one holds another replica: the generation is counted
// by the shard, so that nothing meant for the first can reach the second.
struct Replica {
  NodeId node;
  uint32_t generation = 0;  // from 1; 0: no replica

  explicit operator bool() const { return generation != 0; }
  auto operator<=>(const Replica&) const = default;
};

enum class Role : uint8_t {
  kVoter = 1,
  kLearner,
  // In a joint configuration only:
  kIncoming,  // votes in the new half
  kOutgoing,  // votes in the old half
};

struct Member {
  Replica replica;
  Role role = Role::kVoter;

  bool operator==(const Member&) const = default;
};

// A group's configuration: sorted by node, one replica per node, at least one voter.
using Configuration = std::vector<Member>;

[[nodiscard]] const Member* member_on(const Configuration& configuration, NodeId node);
[[nodiscard]] bool is_joint(const Configuration& configuration);
[[nodiscard]] size_t voters_of(const Configuration& configuration);  // with those of either half of a joint one

// What a group says of itself, by its leader, from what that has applied: all up to `slots` is then the same on every
// replica that has applied as much.
struct Report {
  GroupId group;
  Epoch epoch;
  LogIndex configuration_index;  // 0 in what is made today, when epochs count changes of members; the format has it
  Configuration configuration;
  uint32_t next_generation = 1;  // above those of all replicas that the group ever had
  SlotSet slots;
  Term term;
  NodeId leader;        // 0: not known
  uint64_t number = 0;  // counts a leader's reports of one term
  uint64_t bytes = 0;
  uint64_t writes_per_second = 0;

  bool operator==(const Report&) const = default;
};

// Whether `a` was made after `b`: by epoch, then configuration, then term, then number.
[[nodiscard]] bool is_newer(const Report& a, const Report& b);

enum class ActionKind : uint8_t {
  kSplit = 1,  // the slots from `at` on become a new shard on the same nodes
  kMove,       // the voter on `source` is replaced by one on `target`
  kAdd,        // a voter on `target`
  kRemove,     // without the replica on `source`
  kTransfer,   // the voter on `target` is to lead
};

// What is to be done to a shard. Fields that its kind does not name are 0.
struct Action {
  ActionKind kind = ActionKind::kTransfer;
  NodeId source;
  NodeId target;
  uint16_t at = 0;

  bool operator==(const Action&) const = default;
};

// What the group is to do next. Each but kTransfer is one change in the group's log, made only if the shard is still at
// the epoch that the operation names, and raising it: so a step is never done twice, and never after another change.
enum class Step : uint8_t {
  kAddLearner = 1,  // add `target` as a learner, and wait until it has caught up
  kSwap,            // in one joint change make `target` a voter and remove `source`, which hands over if it leads
  kPromote,         // make `target` a voter
  kRemove,          // remove `source`, which hands over if it leads
  kTransfer,        // have `target` elected
  kSplit,           // give the slots from `at` on to `child`; both are at the epoch after the operation's then
};

enum class Outcome : uint8_t { kPending = 1, kDone, kAbandoned };

struct Operation {
  OperationId id;
  OperationId after;  // the shard's last operation when this was planned
  Epoch planned;      // the shard's epoch when this was planned
  Action action;
  Replica source;
  Replica target;  // if the operation creates it, this is the generation that it shall have
  GroupId child;   // of a split; allocated before anything happens
  Epoch epoch;     // at which the step is to be made
  Step step = Step::kTransfer;
  Outcome outcome = Outcome::kPending;

  bool pending() const { return outcome == Outcome::kPending; }
  bool operator==(const Operation&) const = default;
};

struct Shard {
  SlotSet slots;  // none for the meta group
  // The newest that its group has said; of founding and splitting until then. `last.slots` is empty: it would be
  // `slots`.
  Report last;
  std::optional<Operation> operation;  // the last one that was begun

  GroupId group() const { return last.group; }
  Epoch epoch() const { return last.epoch; }
  const Configuration& configuration() const { return last.configuration; }
  const Operation* pending() const { return operation && operation->pending() ? &*operation : nullptr; }
  OperationId last_operation() const { return operation ? operation->id : OperationId(); }
  bool operator==(const Shard&) const = default;
};

[[nodiscard]] std::string_view name_of(NodeState state);
[[nodiscard]] std::string_view name_of(Step step);
[[nodiscard]] std::string_view name_of(Role role);
[[nodiscard]] std::string_view name_of(Outcome outcome);
// For people: "shard 12", and of the meta group, which is a shard to nobody else, "the shard map".
[[nodiscard]] std::string name_of_shard(GroupId group);
// "move n3 to n7", "split at slot 8192".
[[nodiscard]] std::string text_of(const Action& action);

}  // namespace mneme::shard
