// What a node is told when it starts. Everything has a default that suits a real node; simulations draw their own.
#pragma once

#include <string>
#include <vector>

#include "core/base/ids.h"
#include "core/base/limits.h"
#include "core/base/time.h"
#include "core/env/network.h"

namespace mneme::replica {
class Observer;
}

namespace mneme::node {

struct Member {
  NodeId id;
  env::Address address;
};

struct Config {
  NodeId id{1};
  env::Address listen;
  // First start of a cluster, the same on every node: its nodes with this one, ascending; empty: this node alone.
  std::vector<Member> cluster;
  uint32_t shards = 1;  // that it begins with
  uint32_t copies = 3;  // of each shard, if there are so many nodes
  // Later: nodes of a running cluster, any of which lets this one in. `id` and `cluster` mean nothing then.
  std::vector<env::Address> join;
  std::string rack;  // of this node, when it founds or joins; nodes of one rack fail together

  Duration election_timeout{1000ms};
  Duration heartbeat_interval{200ms};
  Duration request_timeout{5s};  // until a client is told that there is no leader, or that its outcome is unknown

  // Leaders answer reads without asking the others for so long after these last agreed, at most election_timeout; the
  // same on all nodes. 0: they ask. Safe while no two nodes' monotonic clocks differ in rate by more than drift_ppm. By
  // default that is what two clocks may which are being corrected in opposite directions as fast as chrony does
  // (maxslewrate, a twelfth); it costs a fifth of the lease.
  Duration lease{0};
  uint32_t drift_ppm = 200'000;
  bool may_rest = true;               // groups with nothing to do fall silent; nodes then watch each other
  bool balance = true;                // the leader of the meta group repairs, spreads, splits and balances by itself
  Duration lost_after{300s};          // a node that is silent for so long is replaced
  uint64_t split_bytes = 8ull << 30;  // a shard that is larger
  uint64_t split_writes_per_second = 20'000;  // or busier is split

  // In a cluster of so many nodes each has connections to all others; in a larger one only to those that it needs.
  size_t link_all_up_to = 16;

  size_t segment_bytes = limits::kSegmentBytes;
  size_t checkpoint_log_bytes = 64 * limits::kMiB;
  uint64_t keep_entries = 10'000;
  size_t max_append_bytes = limits::kMaxAppendBytes;
  size_t max_inflight_appends = limits::kMaxInflightAppends;
  size_t max_uncommitted_bytes = limits::kMaxUncommittedBytes;
  size_t snapshot_chunk_bytes = limits::kSnapshotChunkBytes;
  size_t max_memory_bytes = 0;  // of the table; 0: no bound
  size_t max_clients = limits::kMaxClients;

  size_t* connections = nullptr;  // where to keep the number of client connections, if anybody wants to know
  replica::Observer* observer = nullptr;
};

}  // namespace mneme::node
