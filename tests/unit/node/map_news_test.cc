// The leader of the meta group tells everybody what is new in the shard map; a node that it does not reach hears of it
// from another one.
#include <fmt/format.h>

#include "core/node/map_cache.h"
#include "core/node/node.h"
#include "sim/machine.h"
#include "sim/network.h"
#include "sim/world.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::node;

namespace {

constexpr sim::WorldTime kSecond = 1'000'000'000;
constexpr uint32_t kNodes = 3;  // with one copy of each shard: node 1 is the meta group
constexpr uint32_t kNewcomer = kNodes + 1;

Config config_of(uint32_t n) {
  Config config{.id = NodeId(n), .listen = {fmt::format("n{}", n), 1}};
  config.copies = 1;
  config.balance = false;
  if (n == kNewcomer)
    config.join = {{"n1", 1}};
  else
    for (uint32_t m = 1; m <= kNodes; ++m) config.cluster.push_back({NodeId(m), {fmt::format("n{}", m), 1}});
  return config;
}

// Whether node 3 knows the newcomer some seconds after that has joined, having heard nothing of the nodes in
// `unheard` from before that on.
bool hears(const std::vector<uint32_t>& unheard) {
  sim::World world(1, {}, nullptr);
  bool known = false;
  world.run([&] {
    auto done = fiber::with_scope(world.scheduler(), [&](fiber::Scope& scope) {
      for (uint32_t n = 1; n <= kNewcomer; ++n) world.add_machine(fmt::format("n{}", n), {});
      auto boot = [&](uint32_t n, sim::Machine::Program program) {
        world.machine(n).boot(scope, std::move(program), [](Result<void> result) { CHECK(result.has_value()); });
      };
      auto start = [&](uint32_t n) { boot(n, [n](Env& env) { return run_node(env, config_of(n)); }); };
      for (uint32_t n = 1; n <= kNodes; ++n) start(n);
      world.sleep_for(10 * kSecond);
      for (uint32_t n : unheard) world.network().block(n, 3, world.now() + 3600 * kSecond);
      start(kNewcomer);
      world.sleep_for(10 * kSecond);
      for (uint32_t n = 1; n <= kNewcomer; ++n) world.machine(n).crash(sim::CrashKind::kKill);
      world.sleep_for(kSecond);
      boot(3, [&](Env& env) -> Result<void> {
        MapCache map(env);
        TRY(map.load());
        known = map.map().node(NodeId(kNewcomer)) != nullptr;
        return {};
      });
      world.sleep_for(kSecond);
    });
    CHECK(done.has_value());
  });
  return known;
}

}  // namespace

TEST_CASE("what is new in the map reaches a node that the meta group's leader does not reach", "[node]") {
  CHECK(hears({}));
  CHECK(hears({1, kNewcomer}));
  CHECK(!hears({1, 2, kNewcomer}));
}
