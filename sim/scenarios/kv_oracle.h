// Watches all replicas of a kv run from outside, and judges the clients' answers by the replicas' order of commands.
//
// Group by group. After every step: Raft's invariants for one replica and for all (core/raft/invariants.h). At every
// applied index: all replicas have the same digest. At the end: the log that the replicas agreed on is replayed into
// KvModel, that of a split's child after its parent's; every acknowledged write is in one of them, every answer is the
// one that the model gives at that place, and the order respects the times of call and return. This is independent of
// the black-box checker, which knows only the history. What the logs say of the cluster's shape is judged in
// kv_shape.h, and leases are in kv_leases.h.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/raft/invariants.h"
#include "core/replica/observer.h"
#include "sim/scenarios/kv_history.h"
#include "sim/scenarios/kv_leases.h"
#include "sim/scenarios/kv_model.h"
#include "sim/scenarios/kv_shape.h"

namespace mneme::sim {

struct Finding {
  std::string property;
  std::string summary;
  std::vector<OpRecord> operations = {};  // that are involved
  std::string account = {};               // of what the nodes were doing, a line each
};

class KvOracle final : public replica::Observer {
 public:
  // Called at the first violation, and only then; the run is to be stopped. Empty: it judges nothing and only knows
  // what replicas showed last, and the cluster's shape. `shards`: that the cluster begins with.
  KvOracle(std::function<void(Finding)> violated, uint32_t shards) : violated_(std::move(violated)), shape_(shards) {}

  void admitted(uint64_t stream, uint64_t nth, const kv::Origin& origin, size_t position) override;
  void started(NodeId node, GroupId group, const raft::Raft& raft, LogIndex applied, uint64_t digest) override;
  void moved(NodeId node, GroupId group, const raft::Raft& raft) override;
  void applied(NodeId node, GroupId group, const raft::Entry& entry, uint64_t digest) override;
  void installed(NodeId node, GroupId group, LogIndex index, uint64_t digest) override;
  void retired(NodeId node, GroupId group) override;
  void has_shard(NodeId node, GroupId group, LogIndex applied, const kv::ShardState& shard) override;
  void read_served(GroupId group, const kv::Origin& origin, LogIndex applied) override;
  // Called after each step of a replica that violated nothing, and for each entry that one applies.
  std::function<void()> after_step;
  std::function<void(GroupId, const raft::Entry&)> after_apply;

  // For a cluster whose nodes use leases; before any of them starts.
  void watch_leases(KvLeases::Clock clock) { leases_.emplace(std::move(clock)); }

  // The node's process is gone: what it showed last is no longer compared with.
  void stopped(NodeId node);
  // Its disk has gone back to an earlier state: what it promised with it holds no longer.
  void rolled_back(NodeId node);

  // Something on its disk was, or may be, damaged: it may be suspect from its next start on.
  void damaged(NodeId node) { damaged_.insert(node.value); }

  // What the node's replica of a group showed last; null when the process is gone or it has none that has started.
  const raft::View* last_seen(NodeId node, GroupId group) const;
  // The groups that there have been, by id.
  std::vector<GroupId> groups() const { return shape_.groups(); }
  KvShape& shape() { return shape_; }
  const KvShape& shape() const { return shape_; }

  // At the end of the run.
  std::optional<Finding> judge(const std::vector<OpRecord>& records);
  // After judge() found nothing: the records that happened, in the order that explains them.
  const std::vector<size_t>& order() const { return order_; }

 private:
  struct OriginHash {
    size_t operator()(const kv::Origin& o) const { return fold(fold(o.node.value, o.incarnation.value), o.request); }
  };
  struct StreamHash {
    size_t operator()(const std::pair<uint64_t, uint64_t>& command) const {
      return fold(command.first, command.second);
    }
  };
  struct Applied {  // the entry at an index, from whoever applied it first
    bool known = false;
    raft::EntryKind kind = raft::EntryKind::kNoop;
    std::shared_ptr<const std::string> payload;
    uint64_t digest = 0;
  };
  struct Group {
    raft::ClusterInvariants cluster;
    std::map<uint64_t, raft::View> last_seen;  // by node
    std::map<uint64_t, ReplicaId> replica;     // that the node had last
    std::vector<Applied> log;
  };
  // An operation's place in a group's order: after which index, and in which order within it; writes before the reads
  // at that index.
  struct Place {
    LogIndex index;
    bool read = false;
    size_t position = 0;
    size_t record = 0;
  };
  struct Executed {
    GroupId group;
    Place place;
    std::string answer;
  };
  struct Judging {
    const std::vector<OpRecord>& records;
    std::map<std::pair<uint64_t, size_t>, size_t> asked;  // (request, position) -> record
    std::vector<bool> placed;
    std::vector<std::vector<std::string>> answers;  // of each record, that the model gives, for each place
    std::map<GroupId, KvModel> models;
    std::map<size_t, std::vector<Executed>> repeated;  // of records that repeat: where logs have them
    std::set<size_t> uncertain;  // reads of which more than one execution may be the one that was told
  };
  void violate(std::string property, std::string summary);
  void compare_digest(NodeId node, GroupId group, LogIndex index, uint64_t digest);
  Applied& at(GroupId group, LogIndex index);
  std::optional<Finding> replay(Judging& judging, GroupId group, std::vector<Place>& places);
  std::vector<Executed> executions(Judging& judging, size_t record);
  std::optional<Finding> judge_answers(const Judging& judging) const;
  std::optional<Finding> judge_order(const Judging& judging, std::vector<Place> places);

  std::function<void(Finding)> violated_;
  KvShape shape_;
  std::optional<KvLeases> leases_;
  bool found_ = false;
  std::map<GroupId, Group> groups_;
  std::set<uint64_t> running_;
  std::set<uint64_t> damaged_;
  std::vector<size_t> order_;
  std::unordered_map<kv::Origin, std::vector<std::pair<GroupId, LogIndex>>, OriginHash>
      reads_;  // where a batch of reads was answered
  // By (stream, nth), looked up only: every batch in which it was proposed, with its position there. A node that asks
  // again, because an earlier batch is said not to have been executed, may be wrong about that.
  std::unordered_map<std::pair<uint64_t, uint64_t>, std::vector<std::pair<kv::Origin, size_t>>, StreamHash> admitted_;
};

}  // namespace mneme::sim
