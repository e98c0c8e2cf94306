#include "sim/network.h"

#include "sim/machine.h"
#include "sim/world.h"
#include "tests/test.h"

namespace mneme::sim {

TEST_CASE("both machines may lose power while a connection between them is being made") {
  // The server has it already, the client has not been answered yet.
  World world(1, {}, nullptr);
  Machine& server = world.add_machine("server", {});
  Machine& client = world.add_machine("client", {});
  bool connected = false;
  world.run([&] {
    auto ended = fiber::with_scope(world.scheduler(), [&](fiber::Scope& scope) {
      server.boot(
          scope,
          [](Env& env) -> Result<void> {
            auto listener = TRY(env.network.listen({"server", 1}));
            auto first = TRY(listener->accept());
            auto second = TRY(listener->accept());
            return {};
          },
          [](Result<void>) {});
      world.sleep_for(1'000'000);
      client.boot(
          scope,
          [&](Env& env) -> Result<void> {
            auto stream = TRY(env.network.connect({"server", 1}));
            connected = true;
            return {};
          },
          [](Result<void>) {});
      while (world.network().connection_count() == 0) world.sleep_for(10'000);
      server.crash(CrashKind::kPowerLoss);
      client.crash(CrashKind::kPowerLoss);
      CHECK(world.network().connection_count() == 0);
    });
    CHECK(ended.has_value());
  });
  CHECK_FALSE(connected);
  CHECK(world.network().open_streams(client.actor()) == 0);
}

}  // namespace mneme::sim
