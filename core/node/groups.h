// The replicas of this node, by group, with the log that they share and the fibers that serve them.
//
// Which there are follows from the shard map, and from nothing else: one is made when the map gives this node a replica
// of a generation that the log does not remember as removed, and removed when the map shows that it gave the replica
// out and took it away again. A message never makes one. A split makes the child's replica from the parent's (births).
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "core/env/env.h"
#include "core/fiber/scope.h"
#include "core/node/config.h"
#include "core/node/identity.h"
#include "core/node/map_cache.h"
#include "core/replica/driver.h"
#include "core/replica/forwarded.h"
#include "core/replica/laggards.h"
#include "core/replica/log_writer.h"
#include "core/replica/replica.h"

namespace mneme::node {

// How long nothing was heard of a node.
using Silence = std::function<Duration(NodeId node)>;

class Groups final : private replica::Host {
 public:
  // All references outlive it.
  Groups(Env& env, const Config& config, const Identity& identity, MapCache& map, replica::Transport& transport,
         Silence silence);
  ~Groups();

  // Recovers the log and opens the replicas that it has. Suspends.
  Result<void> open(bool newly_founded);
  // Starts the fibers; an error of one must end the node.
  void start(fiber::Scope& scope);

  // Null when there is none. Valid until the caller suspends.
  replica::Replica* find(GroupId group) const;
  std::shared_ptr<replica::Replica> hold(GroupId group) const;
  const std::map<GroupId, std::shared_ptr<replica::Replica>>& all() const { return replicas_; }
  // A node that the meta group's log here adds, though nobody has said yet that this is committed. Looks at all of the
  // log that is not applied.
  std::optional<shard::Node> logged_node(NodeId node) const;

  // The connection to that node broke; its process is no more; it is another one than before.
  void unreachable(NodeId node);
  void ended(NodeId node);
  void restarted(NodeId node);

  replica::Forwarded& forwarded() { return forwarded_; }
  replica::LogWriter& log_writer() { return *log_writer_; }
  // Notified when a replica's leader changes, or its configuration, or what the shard is, or the shard map.
  void wait_for_news() { news_.wait(); }
  size_t bytes_used() const;  // by all state machines

 private:
  struct Birth {
    std::unique_ptr<replica::Hold> parent;
    wal::Origin origin;
    GroupId child;
    uint32_t generation = 0;
    std::shared_ptr<kv::StateMachine> machine;
  };
  // The replica that the map gives this node of a group.
  struct Wanted {
    uint32_t generation = 0;
    bool founding = false;  // nothing has happened in the group yet: its configuration is that of the map
    bool arriving = false;  // an operation brings it here
  };

  void leader_changed(replica::Replica& replica) override;
  void shard_changed(replica::Replica& replica) override;
  void split(replica::Replica& parent, const raft::LogPosition& entry, const kv::SplitRequest& request,
             std::unique_ptr<kv::StateMachine> child) override;

  replica::ReplicaConfig config_for(GroupId group, uint32_t generation) const;
  Wanted wanted(const shard::Shard& shard) const;
  Result<void> open_recovered(std::vector<wal::GroupState> states);
  Result<void> open_replica(wal::GroupState state, replica::Beginning beginning = {});
  Result<replica::Beginning> bear_again(wal::GroupState& state);
  Result<void> keep_replicas();  // the fiber that makes and removes them
  Result<void> follow_map();
  Result<void> follow(GroupId group, const shard::Shard& shard);
  Result<void> keep_watch();  // the fiber that wakes resting replicas whose others are not heard of
  bool can_rest(const raft::Raft& raft) const;
  Result<void> make(GroupId group, uint32_t generation);
  Result<void> remove(GroupId group);
  Result<void> give_birth(Birth birth);
  void elect_newborn();
  bool was_born(GroupId group) const;
  bool is_gone(GroupId group, uint32_t generation) const;
  Result<void> durable();  // suspends until all that is in the log writer's batch is

  Env& env_;
  const Config& config_;
  const Identity& identity_;
  MapCache& map_;
  replica::Transport& transport_;
  Silence silence_;
  replica::Forwarded forwarded_;
  replica::Driver driver_;  // outlives what the log writer still has to complete
  std::unique_ptr<wal::Log> log_;
  std::unique_ptr<replica::LogWriter> log_writer_;
  std::unique_ptr<replica::Laggards> laggards_;
  std::map<GroupId, std::shared_ptr<replica::Replica>> replicas_;
  std::deque<Birth> births_;
  std::map<GroupId, Instant> awaited_;  // since when the map has given a replica that a split here may yet make
  std::shared_ptr<const shard::Map> settled_ = std::make_shared<const shard::Map>();  // the map that was followed last
  std::set<GroupId> unsettled_;         // to be looked at again though the map has not changed them
  std::map<GroupId, Instant> newborn_;  // until when the children of shards that are led here stand for election
  std::map<GroupId, std::weak_ptr<replica::Replica>> leaving_;  // were removed; who works on one still holds it
  uint64_t followed_ = 0;  // the version of the map that work_ was last notified of
  fiber::Condition news_;
  fiber::Condition work_;
};

}  // namespace mneme::node
