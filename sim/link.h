// One direction between two machines, shared by all their connections.
#pragma once

#include <cstdint>

#include "sim/event.h"

namespace mneme::sim {

struct Link {
  WorldTime blocked_until = 0;
  WorldTime clogged_until = 0;
  uint64_t connections = 0;  // made so far
  uint64_t connects = 0;     // tried so far
};

}  // namespace mneme::sim
