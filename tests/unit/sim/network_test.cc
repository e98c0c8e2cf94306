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

TEST_CASE("a reactor that its disk held finds all that came meanwhile, not one message after each sync") {
  constexpr int kConnections = 20;
  const auto strategy = GENERATE(Strategy::kFifo, Strategy::kRandom, Strategy::kPct, Strategy::kDelayBounded);
  INFO("strategy " << static_cast<int>(strategy));
  World world(1, {.schedule = {.strategy = strategy, .window_ns = 100'000}}, nullptr);
  Machine& server = world.add_machine("server", {.disk_blocks = true, .disk = {.sync_ns = 10'000'000}});
  Machine& client = world.add_machine("client", {});
  int connected = 0, arrived = 0, durable = 0, syncs = 0;
  // A log as the store has one: what comes while a sync is under way shares the next.
  auto serve = [&](Env& env) -> Result<void> {
    auto file = TRY(env.disk.open("log", env::OpenMode::kCreate));
    auto listener = TRY(env.network.listen({"server", 1}));
    fiber::Condition came(env.scheduler);
    std::vector<std::unique_ptr<env::Stream>> streams;
    return fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) -> Result<void> {
      scope.spawn_daemon("log", [&]() -> Result<void> {
        while (true) {
          while (durable == arrived) came.wait();
          const int covered = arrived;
          TRY(file->write_and_sync(0, Bytes(static_cast<size_t>(covered), 'x')));
          durable = covered;
          ++syncs;
        }
      });
      for (int i = 0; i < kConnections; ++i) {
        streams.push_back(TRY(listener->accept()));
        scope.spawn("connection", [&, stream = streams.back().get()]() -> Result<void> {
          uint8_t byte = 0;
          while (TRY(stream->read({&byte, 1})) == 1) {
            ++arrived;
            came.notify_one();
          }
          return {};
        });
      }
      return {};
    });
  };
  auto send = [&](Env& env) -> Result<void> {
    std::vector<std::unique_ptr<env::Stream>> streams;
    for (; connected < kConnections; ++connected) streams.push_back(TRY(env.network.connect({"server", 1})));
    for (auto& stream : streams) {
      TRY(stream->write(as_bytes(".")));
      env.clock.sleep_for(env.scheduler, 1ms);
    }
    while (durable < kConnections) env.clock.sleep_for(env.scheduler, 1ms);
    return {};
  };
  world.run([&] {
    auto ended = fiber::with_scope(world.scheduler(), [&](fiber::Scope& scope) {
      server.boot(scope, serve, [](Result<void>) {});
      world.sleep_for(100'000'000);
      bool sent = false;
      client.boot(scope, send, [&](Result<void> result) { sent = result.has_value(); });
      for (int i = 0; i < 2000 && !sent; ++i) world.sleep_for(1'000'000);
      CHECK(sent);
      server.crash(CrashKind::kKill);
    });
    CHECK(ended.has_value());
  });
  CHECK(durable == kConnections);
  CHECK(syncs >= 2);
  CHECK(syncs <= kConnections / 2);
}

}  // namespace mneme::sim
