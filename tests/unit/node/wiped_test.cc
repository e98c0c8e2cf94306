// A node whose disk was wiped must stay out: the others founded the cluster with what it has lost.
#include <fmt/format.h>

#include "core/node/node.h"
#include "sim/machine.h"
#include "sim/network.h"
#include "sim/world.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::node;

namespace {

constexpr sim::WorldTime kMs = 1'000'000;

Config config_of(uint32_t node) {
  Config config{.id = NodeId(node), .listen = {fmt::format("n{}", node), 6399}};
  for (uint32_t n = 1; n <= 3; ++n) config.cluster.push_back({NodeId(n), {fmt::format("n{}", n), 6399}});
  return config;
}

}  // namespace

TEST_CASE("a wiped node is refused, whoever of it and the others is the first to connect", "[node]") {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    INFO("seed " << seed);
    sim::World world(seed, {}, nullptr);
    std::optional<ErrorCode> ended;
    world.run([&] {
      auto done = fiber::with_scope(world.scheduler(), [&](fiber::Scope& scope) {
        std::vector<sim::Machine*> machines;
        for (uint32_t n = 1; n <= 3; ++n) machines.push_back(&world.add_machine(fmt::format("n{}", n), {}));
        const std::vector<Config> configs{config_of(1), config_of(2), config_of(3)};
        auto boot = [&](uint32_t n) {
          machines[n - 1]->boot(
              scope, [&configs, n](Env& env) { return run_node(env, configs[n - 1]); },
              [&ended, n](Result<void> result) {
                if (n == 3) ended = result ? ErrorCode::kInvalid : result.error().code;
              });
        };
        for (uint32_t n = 1; n <= 3; ++n) boot(n);
        world.sleep_for(3000 * kMs);
        machines[2]->crash(sim::CrashKind::kKill);  // so that who asks is told at once that nobody listens
        machines[2]->disk().wipe();
        world.sleep_for(static_cast<sim::WorldTime>(seed) * 37 * kMs);
        // It can be reached at once, and what it asks itself is long on its way.
        for (uint32_t n = 1; n <= 2; ++n)
          world.network().slow(3, n, world.now() + 10'000 * kMs, 500 + static_cast<uint32_t>(seed % 8) * 300, 0);
        boot(3);
        world.sleep_for(20'000 * kMs);
        for (sim::Machine* machine : machines) machine->crash(sim::CrashKind::kKill);
        world.sleep_for(20'000 * kMs);
      });
      CHECK(done.has_value());
    });
    CHECK(ended == ErrorCode::kRefused);
  }
}
