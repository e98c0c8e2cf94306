// A node's copy of the shard map is a copy: it is no older than what the meta group's replica on the node has.
#include <fmt/format.h>

#include "core/node/map_cache.h"
#include "core/node/node.h"
#include "sim/machine.h"
#include "sim/world.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::node;

namespace {

constexpr sim::WorldTime kSecond = 1'000'000'000;

}  // namespace

TEST_CASE("a node that starts alone with an old copy of the map has the one of its meta group's checkpoint", "[node]") {
  sim::World world(1, {}, nullptr);
  uint64_t before = 0;
  uint64_t after = 0;
  world.run([&] {
    auto done = fiber::with_scope(world.scheduler(), [&](fiber::Scope& scope) {
      for (uint32_t n = 1; n <= 3; ++n) world.add_machine(fmt::format("n{}", n), {});
      auto boot = [&](uint32_t n, sim::Machine::Program program) {
        world.machine(n).boot(scope, std::move(program), [](Result<void> result) { CHECK(result.has_value()); });
      };
      auto start = [&](uint32_t n) {
        boot(n, [n](Env& env) {
          Config config{.id = NodeId(n), .listen = {fmt::format("n{}", n), 1}};
          for (uint32_t m = 1; m <= 3; ++m) config.cluster.push_back({NodeId(m), {fmt::format("n{}", m), 1}});
          config.shards = 3;
          config.checkpoint_log_bytes = 1;  // so that no entry is left to be applied
          return run_node(env, config);
        });
      };
      auto crash_all = [&] {
        for (uint32_t n = 1; n <= 3; ++n) world.machine(n).crash(sim::CrashKind::kPowerLoss);
        world.sleep_for(kSecond);
      };
      auto look = [&](uint64_t& version, bool remove) {
        boot(1, [&version, remove](Env& env) -> Result<void> {
          MapCache map(env);
          TRY(map.load());
          version = map.version();
          if (!remove) return {};
          TRY(env.disk.remove("map"));
          return env.disk.sync_dir("");
        });
        world.sleep_for(kSecond);
      };
      for (uint32_t n = 1; n <= 3; ++n) start(n);
      world.sleep_for(20 * kSecond);
      crash_all();
      look(before, true);
      // Nothing can be decided, and nobody else be asked.
      start(1);
      world.sleep_for(5 * kSecond);
      crash_all();
      look(after, false);
    });
    CHECK(done.has_value());
  });
  CHECK(before > 1);
  CHECK(after == before);
}
