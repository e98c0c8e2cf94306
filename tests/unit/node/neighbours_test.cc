// In a large cluster nodes have connections to those that they share groups with and to those of the meta group. Here a
// small one is told to count as large: what nodes 1 to 3 (the meta group) and 4 to 6 (the only shard) need.
#include <fmt/format.h>

#include "core/base/bytes.h"
#include "core/node/node.h"
#include "sim/machine.h"
#include "sim/network.h"
#include "sim/world.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::node;

namespace {

constexpr sim::WorldTime kSecond = 1'000'000'000;
constexpr uint32_t kNodes = 7;
constexpr size_t kAll = kNodes * (kNodes - 1);
constexpr size_t kNeeded = kAll - 2 * 3;  // node 7 has nothing to do with 4, 5 and 6

Config config_of(uint32_t n, size_t link_all_up_to) {
  Config config{.id = NodeId(n), .listen = {fmt::format("n{}", n), 1}};
  for (uint32_t m = 1; m <= kNodes; ++m) config.cluster.push_back({NodeId(m), {fmt::format("n{}", m), 1}});
  config.balance = false;
  config.link_all_up_to = link_all_up_to;
  return config;
}

Result<std::string> ask(Env& env, uint32_t node, std::string_view line) {
  return fiber::with_deadline(env.scheduler, env.clock.timers(), env.clock.now() + 10s, [&]() -> Result<std::string> {
    auto stream = TRY(env.network.connect({fmt::format("n{}", node), 1}));
    TRY(stream->write(as_bytes(std::string(line) + "\r\n")));
    uint8_t reply[100];
    const size_t size = TRY(stream->read(reply));
    return std::string(as_text(ByteView(reply, size)));
  });
}

struct Seen {
  size_t connections = 0;
  std::string set, got, after_death;
};

Seen tell(size_t link_all_up_to) {
  sim::World world(1, {}, nullptr);
  Seen seen;
  world.run([&] {
    auto done = fiber::with_scope(world.scheduler(), [&](fiber::Scope& scope) {
      for (uint32_t n = 1; n <= kNodes; ++n) world.add_machine(fmt::format("n{}", n), {});
      sim::Machine& client = world.add_machine("c", {});
      auto boot = [&](sim::Machine& machine, sim::Machine::Program program) {
        machine.boot(scope, std::move(program), [](Result<void> result) { CHECK(result.has_value()); });
      };
      auto say = [&](std::string_view line, std::string& reply) {
        boot(client, [&reply, line](Env& env) -> Result<void> {
          reply = TRY(ask(env, 7, line));
          return {};
        });
        world.sleep_for(15 * kSecond);
      };
      for (uint32_t n = 1; n <= kNodes; ++n)
        boot(world.machine(n), [n, link_all_up_to](Env& env) { return run_node(env, config_of(n, link_all_up_to)); });
      world.sleep_for(100 * kSecond);
      seen.connections = world.network().connection_count();
      say("SET k v", seen.set);
      world.machine(4).crash(sim::CrashKind::kPowerLoss);
      world.sleep_for(10 * kSecond);
      say("GET k", seen.got);
      world.machine(1).crash(sim::CrashKind::kPowerLoss);
      world.sleep_for(100 * kSecond);
      say("GET k", seen.after_death);
      for (uint32_t n = 1; n <= kNodes; ++n)
        if (world.machine(n).running()) world.machine(n).crash(sim::CrashKind::kKill);
      world.sleep_for(kSecond);
    });
    CHECK(done.has_value());
  });
  return seen;
}

}  // namespace

TEST_CASE("in a large cluster a node keeps the connections that it needs, and makes others when it must", "[node]") {
  const Seen seen = tell(kNodes - 1);
  CHECK(seen.connections == kNeeded);
  CHECK(seen.set == "+OK\r\n");
  CHECK(seen.got == "$1\r\nv\r\n");
  CHECK(seen.after_death == "$1\r\nv\r\n");
}

TEST_CASE("in a small cluster every node keeps connections to all others", "[node]") {
  const Seen seen = tell(kNodes);
  CHECK(seen.connections == kAll);
  CHECK(seen.after_death == "$1\r\nv\r\n");
}
