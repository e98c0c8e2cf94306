// What a node is told when it starts. Everything has a default that suits a real node; simulations draw their own.
#pragma once

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
  std::vector<Member> cluster;  // all voters with this node, ascending; empty: a cluster of this node alone

  Duration election_timeout{1000ms};
  Duration heartbeat_interval{200ms};
  Duration request_timeout{5s};  // until a client is told that there is no leader, or that its outcome is unknown

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
