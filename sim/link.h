// One direction between two machines, shared by all their connections: when it is closed, and how long bytes take.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sim/event.h"

namespace mneme::sim {

// Bandwidths are in bytes per second; 0 is no limit.
struct Link {
  WorldTime blocked_until = 0;
  WorldTime clogged_until = 0;
  // Until then latencies are that many times longer and, unless it is 0, the bandwidth is another.
  WorldTime slow_until = 0;
  uint32_t slow_factor = 1;
  uint64_t slow_bandwidth = 0;
  WorldTime busy_until = 0;  // when all bytes given to it so far have left
  uint64_t connections = 0;  // made so far
  uint64_t connects = 0;     // tried so far

  // When `bytes` that are given to it now have left, behind all that were before.
  WorldTime transmit(WorldTime now, size_t bytes, uint64_t bandwidth);
  int64_t slowed(WorldTime now, int64_t latency) const { return now < slow_until ? latency * slow_factor : latency; }
};

}  // namespace mneme::sim
