// The shard map: the meta group's state. Who is in the cluster, which shards there are, where they are and what is to
// be done to them.
//
// It changes only by apply(), a function of the map and one command. A command that is refused has changed nothing. A
// command that is applied a second time changes nothing and answers the same, for as long as nothing else has happened
// to what it is about; later it may be refused instead, and still changes nothing.
//
// How a shard is changed (in the manner of TiKV's placement driver, with two differences: an operation is in the map
// before anything happens, and it ends only with proof):
//
//   1. A planner (planner.h, or a person) proposes BeginOperation. The map accepts one per shard at a time, and only
//   for
//      the epoch that the plan was made for. It hands out every id that will be needed: the operation's, the new
//      replica's generation, the child's group.
//   2. Whoever drives the operation asks the shard's leader to make `step` *if the shard is at epoch
//   `operation.epoch`*.
//      The group's log decides: the entry that makes the change raises the epoch, so a second or belated request for
//      the same step finds another epoch and does nothing.
//   3. AdvanceOperation brings the group's report, which shows that the step was made. The next step is then to be made
//      at the epoch reported.
//   4. AbandonOperation brings a report that shows an epoch beyond the operation's and the step not made: now it can
//      never be. Without that proof a split that was given up could still happen, and its slots would be lost.
//
// A driver needs no memory: all that it must know is in the map and in the group. A plain Report shows what a group did
// by itself: elections, growth. It never changes slots; only the last step of a split does, for parent and child at
// once.
//
// Errors: kInvalid, a command that makes no sense; kNotFound, of what is not there; kRefused, not (any more) allowed as
// things are; kExists; kTooLarge; kUnavailable, before the cluster is founded. Each is a sentence for whoever runs the
// cluster.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/base/ids.h"
#include "core/shard/command.h"
#include "core/shard/table.h"
#include "core/shard/types.h"

namespace mneme::shard {

inline constexpr uint8_t kMapVersion = 1;

// What a command made or named; 0 where it has none.
struct Answer {
  NodeId node;
  OperationId operation;
  GroupId group;

  bool operator==(const Answer&) const = default;
};

// Whether the report shows that the step of the shard's pending operation was made.
[[nodiscard]] bool shows_step(const Shard& shard, const Report& report);

class Map {
 public:
  Result<Answer> apply(const Command& command);

  ClusterId cluster() const { return cluster_; }  // 0: not founded yet
  uint32_t cluster_version() const { return cluster_version_; }
  // Rises with every change but those of sizes, loads and the numbers of reports.
  uint64_t version() const { return version_; }
  // The command that made it, of a map to which nothing else has happened.
  [[nodiscard]] FoundCluster founding() const;
  uint32_t copies() const { return copies_; }
  const Table<NodeId, Node>& nodes() const { return nodes_; }
  const Table<GroupId, Shard>& shards() const { return shards_; }  // the meta group too
  // Null when there is none. Valid until the next apply().
  const Node* node(NodeId id) const { return nodes_.find(id); }
  const Shard* shard(GroupId id) const { return shards_.find(id); }
  // In constant time. 0 before founding.
  GroupId owner_of(uint16_t slot) const { return owners_->empty() ? GroupId() : (*owners_)[slot]; }
  NodeId next_node() const { return next_node_; }
  GroupId next_group() const { return next_group_; }
  OperationId next_operation() const { return next_operation_; }

  // A sentence about the first thing that is not as it must always be, or nothing. Looks at everything.
  [[nodiscard]] std::optional<std::string> check() const;

  // For checkpoints: u8 version, the numbers, all nodes and all shards in the order of their ids. Equal maps, and only
  // those, have equal bytes. Appends.
  void encode(std::string& out) const;
  // kUnsupported, kTooLarge, or kCorrupt: not a map, or one that check() objects to.
  static Result<Map> decode(std::string_view bytes);
  // What has to change in a map of that version to make it this one: a node or a shard each as a whole. Cost: as much
  // as has changed, when this map has come from that one by copying and changing. Format: u8 version, cluster and
  // version of that map, the numbers of this one, the nodes and the shards that are new or not the same. Appends.
  void encode_change_since(const Map& before, std::string& out) const;
  // This map with such a change. Sizes and loads may be older than the sender's where its map of this version had newer
  // ones. kRefused: it is of another map than this one; kUnsupported, kTooLarge, or kCorrupt: not a change, or one that
  // leads to something that check() objects to, as far as that can be seen by looking at what has changed.
  Result<Map> with_change(std::string_view bytes) const;
  // Of the encoding.
  [[nodiscard]] uint64_t digest() const;

  bool operator==(const Map&) const = default;

 private:
  // nodes.cc
  Result<Answer> on(const FoundCluster& command);
  Result<Answer> on(const AddNode& command);
  Result<Answer> on(const NodeUp& command);
  Result<Answer> on(const DrainNode& command);
  Result<Answer> on(const RemoveNode& command);
  Result<Answer> on(const SetCopies& command);
  Result<Answer> on(const RaiseClusterVersion& command);
  // operations.cc
  Result<Answer> on(const BeginOperation& command);
  Result<Answer> on(const AdvanceOperation& command);
  Result<Answer> on(const AbandonOperation& command);
  Result<Answer> on(const Report& report);

  Result<const Node*> known_node(NodeId id);
  size_t nodes_up() const;
  Result<void> check_takes_replica(const Shard& shard, NodeId node) const;
  Result<const Shard*> known_shard(GroupId id);
  Result<void> check_action(const Shard& shard, const Action& action) const;
  Result<void> check_report(const Report& report) const;
  Result<Operation> last_operation(const Shard& shard, OperationId operation) const;
  Result<Answer> finish_split(Shard parent, const Report& report);
  // Before and after.
  void store(const Shard& shard, Shard changed);
  void change_state(Node node, NodeState state);
  void give_slots(const SlotSet& slots, GroupId owner);
  Result<void> take_slots(const Table<GroupId, Shard>& before, const std::vector<GroupId>& changed);
  std::optional<std::string> check_nodes() const;
  std::optional<std::string> check_shard(GroupId group, const Shard& shard) const;
  std::optional<std::string> check_operation(const Shard& shard, const Operation& operation) const;

  ClusterId cluster_;
  uint64_t founding_ = 0;  // XXH3 of the FoundCluster that made this map
  uint32_t cluster_version_ = 0;
  uint32_t copies_ = 0;
  uint64_t version_ = 0;
  NodeId next_node_{1};
  GroupId next_group_ = kFirstDataGroup;
  OperationId next_operation_{1};
  Table<NodeId, Node> nodes_;
  Table<GroupId, Shard> shards_;
  Shared<std::vector<GroupId>> owners_;  // by slot, none before founding; follows from shards_
};

}  // namespace mneme::shard
