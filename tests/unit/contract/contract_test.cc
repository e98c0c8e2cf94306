// The worlds that must keep the contracts of core/env: add a type to a list, and every body runs against it.
#include <tuple>

#include "tests/contract/clock.h"
#include "tests/contract/disk.h"
#include "tests/contract/network.h"
#include "tests/unit/contract/real_world.h"
#include "tests/unit/contract/simulated_world.h"

using namespace mneme;
using namespace mneme::contract;

namespace {

using Blocking = RealWorld<disk::Way::kBlocking>;
using Thread = RealWorld<disk::Way::kThread>;
using Uring = RealWorld<disk::Way::kUring>;
using Adaptive = RealWorld<disk::Way::kAdaptive>;

using Simulated = SimulatedWorld<false>;
using SimulatedBlocking = SimulatedWorld<true>;

using ClockWorlds = std::tuple<Blocking, Simulated>;
using NetworkWorlds = std::tuple<Blocking, Simulated>;
using DiskWorlds = std::tuple<Blocking, Thread, Uring, Adaptive, Simulated, SimulatedBlocking>;

template <class World>
bool is_available(World& world) {
  if (const char* why = world.unavailable()) {
    WARN("not tested: " << why);
    return false;
  }
  return true;
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("a clock keeps its contract", "[contract][clock]", ClockWorlds) {
  TestType world;
  if (is_available(world)) clock_contract(world);
}

TEMPLATE_LIST_TEST_CASE("a network keeps its contract", "[contract][network]", NetworkWorlds) {
  TestType world;
  if (is_available(world)) network_contract(world);
}

TEMPLATE_LIST_TEST_CASE("a disk keeps its contract", "[contract][disk]", DiskWorlds) {
  TestType world;
  if (is_available(world)) disk_contract(world);
}
