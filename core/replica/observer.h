// What a simulation may watch from outside the replica; a node without an observer does the same. Observers must not
// call back, and nothing may depend on them.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/base/ids.h"
#include "core/kv/batch.h"
#include "core/kv/shard_state.h"
#include "core/raft/raft.h"

namespace mneme::replica {

class Observer {
 public:
  virtual ~Observer() = default;
  // The nth command of a client's stream of this node (from 1, by env::Stream::id()) travels in that batch, at
  // `position` among its commands.
  virtual void admitted(uint64_t /*stream*/, uint64_t /*nth*/, const kv::Origin& /*origin*/, size_t /*position*/) {}
  // A replica starts with this state: nothing, or a checkpoint's.
  virtual void started(NodeId /*node*/, GroupId /*group*/, const raft::Raft& /*raft*/, LogIndex /*applied*/,
                       uint64_t /*digest*/) {}
  // The replica's raft has moved, by any number of steps.
  virtual void moved(NodeId /*node*/, GroupId /*group*/, const raft::Raft& /*raft*/) {}
  // An entry was applied, and the state's digest after it.
  virtual void applied(NodeId /*node*/, GroupId /*group*/, const raft::Entry& /*entry*/, uint64_t /*digest*/) {}
  // A snapshot replaced the state.
  virtual void installed(NodeId /*node*/, GroupId /*group*/, LogIndex /*index*/, uint64_t /*digest*/) {}
  // What the replica has applied up to there makes of its shard: after each of these three, where it may have changed.
  virtual void has_shard(NodeId /*node*/, GroupId /*group*/, LogIndex /*applied*/, const kv::ShardState& /*shard*/) {}
  // The node's replica of the group was removed, while the node goes on.
  virtual void retired(NodeId /*node*/, GroupId /*group*/) {}
  // A batch of reads was answered from the state at `applied`.
  virtual void read_served(GroupId /*group*/, const kv::Origin& /*origin*/, LogIndex /*applied*/) {}
};

}  // namespace mneme::replica
