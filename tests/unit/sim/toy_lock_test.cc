// A toy system of two kinds of processes, to keep the world free of Raft and keys: a lock server that logs its grants
// to its disk, and clients that take the lock, hold it for a while and release it.
#include <fmt/format.h>

#include <map>
#include <string>

#include "core/env/env.h"
#include "core/fiber/scope.h"
#include "sim/machine.h"
#include "sim/network.h"
#include "sim/world.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::sim;

namespace {

constexpr uint16_t kPort = 7;

struct Toy {
  World world;
  int holders = 0;  // seen from outside: clients that believe they hold the lock
  int grants = 0;
  int reconnects = 0;
  bool overlapped = false;

  explicit Toy(uint64_t seed, Recorder* recorder = nullptr, WorldOptions options = {})
      : world(seed, options, recorder) {}

  // Silence may be a connection whose other end is gone.
  static Result<size_t> read_in_time(Env& env, env::Stream& stream, uint8_t& byte) {
    return fiber::with_deadline(env.scheduler, env.clock.timers(), env.clock.now() + 5s, [&] {
      return stream.read({&byte, 1});
    });
  }

  // One lock; a connection that breaks releases it.
  Result<void> serve(Env& env) {
    if (auto made = env.disk.make_dir("lock"); !made) return made;
    auto file = env.disk.open("lock/log", env::OpenMode::kReadWrite);
    if (!file) file = env.disk.open("lock/log", env::OpenMode::kCreate);
    if (!file) return std::unexpected(file.error());
    TRY(env.disk.sync_dir("lock"));
    TRY(env.disk.sync_dir(""));
    uint64_t at = TRY((*file)->size());
    fiber::Semaphore lock(env.scheduler, 1);
    auto listener = TRY(env.network.listen({"server", kPort}));
    return fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) -> Result<void> {
      for (;;) {
        std::shared_ptr<env::Stream> stream = TRY(listener->accept());
        scope.spawn("session", [&, stream] {
          uint8_t byte;
          bool held = false;
          for (;;) {
            auto got = read_in_time(env, *stream, byte);
            if (!got || *got == 0) break;
            if (byte == 'L') {
              lock.acquire();
              held = true;
              std::string line = fmt::format("grant {}\n", at);
              if (!(*file)->write_and_sync(at, as_bytes(line))) break;
              at += line.size();
              if (!stream->write(as_bytes("G"))) break;
            } else {
              held = false;
              lock.release();
            }
          }
          if (held) lock.release();
        });
      }
    });
  }

  Result<void> use(Env& env, uint64_t times) {
    while (times > 0) {
      auto stream = env.network.connect({"server", kPort});
      if (!stream) {
        env.clock.sleep_for(env.scheduler, 50ms);
        continue;
      }
      ++reconnects;
      while (times > 0) {
        uint8_t reply;
        if (!(*stream)->write(as_bytes("L"))) break;
        auto got = read_in_time(env, **stream, reply);
        if (!got || *got == 0) break;
        overlapped |= ++holders > 1;
        ++grants;
        env.clock.sleep_for(env.scheduler, 3ms);
        --holders;
        --times;
        if (!(*stream)->write(as_bytes("U"))) break;
      }
      env.clock.sleep_for(env.scheduler, 10ms);
    }
    return {};
  }

  // Runs to the end; server crashes `crashes` times, half of them power losses.
  void run(int clients, uint64_t times, int crashes) {
    Machine& server = world.add_machine("server", {});
    for (int i = 0; i < clients; ++i) world.add_machine(fmt::format("client{}", i), {});
    world.run([&] {
      int finished = 0;
      auto result = fiber::with_scope(world.scheduler(), [&](fiber::Scope& scope) {
        auto boot = [&] {
          server.boot(
              scope, [&](Env& env) { return serve(env); }, [](Result<void>) {});
        };
        boot();
        for (int i = 0; i < clients; ++i)
          world.machine(static_cast<uint32_t>(2 + i))
              .boot(
                  scope, [&](Env& env) { return use(env, times); }, [&](Result<void>) { ++finished; });
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
  CHECK(toy.grants == 100);
  CHECK(toy.reconnects == 5);
  CHECK_FALSE(toy.overlapped);
  CHECK(toy.world.network().connection_count() == 0);
}

TEST_CASE("with crashes and partitions clients find their way back, and nothing is left open", "[sim]") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Toy toy(seed);
    toy.run(4, 50, 6);
    CHECK(toy.grants == 200);
    CHECK(toy.reconnects > 4);
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

TEST_CASE("drawing the order of fibers gives other runs, each reproducible", "[sim]") {
  WorldOptions options;
  options.random_order = true;
  auto hash = [&](uint64_t seed) {
    Toy toy(seed, nullptr, options);
    toy.run(4, 30, 4);
    CHECK(toy.grants == 120);
    return toy.world.trace_hash();
  };
  CHECK(hash(7) == hash(7));
  Toy fifo(7);
  fifo.run(4, 30, 4);
  CHECK(hash(7) != fifo.world.trace_hash());
}
