// The world with a system in it that knows nothing of Raft and keys: toy_lock.h.
#include "tests/unit/sim/toy_lock.h"

#include <fmt/format.h>

#include <string>

#include "core/fiber/scope.h"
#include "sim/machine.h"
#include "sim/network.h"
#include "sim/world.h"

using namespace mneme;
using namespace mneme::sim;
using mneme::sim::testing::LockService;

namespace {

struct Toy {
  World world;
  LockService lock{world, "server"};

  explicit Toy(uint64_t seed, Recorder* recorder = nullptr, WorldOptions options = {})
      : world(seed, options, recorder) {}

  // Runs to the end; server crashes `crashes` times, half of them power losses.
  void run(int clients, uint64_t times, int crashes) {
    Machine& server = world.add_machine("server", {});
    for (int i = 0; i < clients; ++i) world.add_machine(fmt::format("client{}", i), {});
    world.run([&] {
      int finished = 0;
      auto result = fiber::with_scope(world.scheduler(), [&](fiber::Scope& scope) {
        auto boot = [&] {
          server.boot(
              scope, [&](Env& env) { return lock.serve(env); }, [](Result<void>) {});
        };
        boot();
        for (int i = 0; i < clients; ++i)
          world.machine(static_cast<uint32_t>(2 + i))
              .boot(
                  scope, [&](Env& env) { return lock.use(env, times); }, [&](Result<void>) { ++finished; });
        for (int i = 0; i < crashes; ++i) {
          world.sleep_for(
              static_cast<WorldTime>(world.fate().between(50, 400, Choice::kPlan, static_cast<uint64_t>(i))) *
              1'000'000);
          server.crash(i % 2 ? CrashKind::kPowerLoss : CrashKind::kKill);
          if (i % 3 == 0) world.network().block(2, 1, world.now() + 1'500'000'000);
          world.sleep_for(100'000'000);
          boot();
        }
        while (finished < clients) world.sleep_for(10'000'000);
        server.crash(CrashKind::kKill);
      });
      CHECK(result.has_value());
    });
  }
};

struct Lines : Recorder {
  void line(WorldTime at, uint32_t actor, env::Level, std::string_view area, std::string_view text) override {
    all += fmt::format("{} {} {} {}\n", at, actor, area, text);
  }
  std::string all;
};

}  // namespace

TEST_CASE("without faults no two clients hold the lock, and every one gets its turns", "[sim]") {
  Toy toy(1);
  toy.run(5, 20, 0);
  CHECK(toy.lock.grants == 100);
  CHECK(toy.lock.reconnects == 5);
  CHECK_FALSE(toy.lock.overlapped);
  CHECK(toy.world.network().connection_count() == 0);
}

TEST_CASE("with crashes and partitions clients find their way back, and nothing is left open", "[sim]") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Toy toy(seed);
    toy.run(4, 50, 6);
    CHECK(toy.lock.grants == 200);
    CHECK(toy.lock.reconnects > 4);
    CHECK(toy.world.network().open_streams(1) == 0);
    CHECK(toy.world.network().open_listeners(1) == 0);
  }
}

TEST_CASE("the same seed gives the same hash, another seed another", "[sim]") {
  auto hash = [](uint64_t seed) {
    Toy toy(seed);
    toy.run(4, 30, 4);
    return toy.world.trace_hash();
  };
  CHECK(hash(7) == hash(7));
  CHECK(hash(7) != hash(8));
}

TEST_CASE("observation never steers: recording changes neither hash nor event count", "[sim]") {
  Toy silent(3);
  silent.run(3, 30, 4);
  Lines lines;
  Toy recorded(3, &lines);
  recorded.run(3, 30, 4);
  CHECK(silent.world.trace_hash() == recorded.world.trace_hash());
  CHECK(silent.world.event_count() == recorded.world.event_count());
  CHECK_FALSE(lines.all.empty());
}

TEST_CASE("searching for other orders gives other runs, each reproducible", "[sim]") {
  for (Strategy strategy : {Strategy::kRandom, Strategy::kPct, Strategy::kDelayBounded}) {
    WorldOptions options;
    options.schedule = {.strategy = strategy, .depth = 3, .stretch = 100, .window_ns = 200'000};
    auto hash = [&](uint64_t seed) {
      Toy toy(seed, nullptr, options);
      toy.run(4, 30, 4);
      CHECK(toy.lock.grants == 120);
      CHECK(toy.world.network().open_streams(1) == 0);
      return toy.world.trace_hash();
    };
    CHECK(hash(7) == hash(7));
    Toy fifo(7);
    fifo.run(4, 30, 4);
    CHECK(hash(7) != fifo.world.trace_hash());
  }
}
