// Schedule search in the world: fibers of a process, and events of several.
#include <fmt/format.h>

#include <set>
#include <string>

#include "core/fiber/sync.h"
#include "sim/schedule.h"
#include "tests/one_machine.h"
#include "tests/test.h"
#include "tests/unit/sim/two_machines.h"

using namespace mneme;
using namespace mneme::sim;
using mneme::testing::OneMachine;
using namespace mneme::sim::testing;

namespace {

WorldOptions searched(Strategy strategy, int64_t window_ns = 0) {
  WorldOptions options = TwoMachines::calm();
  options.latency_base_ns = 1000;
  options.schedule = {.strategy = strategy, .depth = 2, .stretch = 40, .window_ns = window_ns};
  return options;
}

constexpr Strategy kSearching[] = {Strategy::kRandom, Strategy::kPct, Strategy::kDelayBounded};

std::string name(Strategy strategy) {
  static const char* const names[] = {"FIFO", "random", "PCT", "delay-bounded"};
  return names[static_cast<size_t>(strategy)];
}

struct Outcome {
  bool wrong = false;
  uint64_t hash = 0;
};

// A lost update: two fibers add to a number that they read before they suspend, but one begins when the other has ended
// unless its fiber is overtaken.
Outcome lost_update(Strategy strategy, uint64_t seed) {
  OneMachine one(seed, {}, searched(strategy));
  int number = 0;
  one.run([&] {
    CHECK(one.process([&](Env& env) {
               return fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
                 auto add = [&] {
                   const int read = number;
                   env.scheduler.yield();
                   number = read + 1;
                 };
                 scope.spawn("early", add);
                 scope.spawn("late", [&, add] {
                   for (int i = 0; i < 4; ++i) env.scheduler.yield();
                   add();
                 });
               });
             })
              .has_value());
  });
  return {number != 2, one.world().trace_hash()};
}

// The second message, on another connection, is sent 100 us after the first, which nothing but the schedule delays.
// Wrong: it arrives first.
Outcome overtaken(Strategy strategy, uint64_t seed, int64_t window_ns) {
  TwoMachines two(searched(strategy, window_ns), seed);
  bool wrong = false;
  two.run([&] {
    two.connect();
    two.connect();
    const WorldTime begin = two.world.now();
    two.at_client([&](Env& env) {
      (void)two.near[0].stream->write(as_bytes("1"));
      env.clock.sleep_for(env.scheduler, 100us);
      (void)two.near[1].stream->write(as_bytes("2"));
      env.clock.sleep_for(env.scheduler, 100us);
      (void)two.near[0].stream->write(as_bytes("3"));
    });
    two.world.sleep_for(10 * kMs);
    CHECK(two.far[0].text() == "13");
    CHECK(two.far[1].text() == "2");
    // Never early; late by no more than a window for each of the fiber that is called, the fiber that writes, the
    // delivery and the fiber that reads.
    CHECK(two.far[0].at.front() >= begin + 1000);
    CHECK(two.far[0].at.front() <= begin + 2000 + 4 * window_ns);
    wrong = two.far[1].at.front() < two.far[0].at.front();
  });
  return {wrong, two.world.trace_hash()};
}

}  // namespace

TEST_CASE("each strategy finds an order of fibers that FIFO never takes, reproducibly", "[schedule]") {
  for (uint64_t seed = 1; seed <= 200; ++seed) CHECK_FALSE(lost_update(Strategy::kFifo, seed).wrong);
  for (Strategy strategy : kSearching) {
    INFO(name(strategy));
    int found = 0;
    std::set<uint64_t> hashes;
    for (uint64_t seed = 1; seed <= 200; ++seed) {
      const Outcome outcome = lost_update(strategy, seed);
      found += outcome.wrong;
      hashes.insert(outcome.hash);
      CHECK(lost_update(strategy, seed).hash == outcome.hash);
    }
    CHECK(found > 0);
    CHECK(found < 200);
    CHECK(hashes.size() == 200);
  }
}

TEST_CASE("a window lets what is due later overtake, FIFO and no window do not", "[schedule]") {
  constexpr int kSeeds = 100;
  for (Strategy strategy : kSearching) {
    INFO(name(strategy));
    int found = 0;
    for (uint64_t seed = 1; seed <= uint64_t{kSeeds}; ++seed) {
      CHECK_FALSE(overtaken(strategy, seed, 0).wrong);
      CHECK_FALSE(overtaken(strategy, seed, 10'000).wrong);  // it comes later than that
      const Outcome outcome = overtaken(strategy, seed, kMs);
      CHECK(overtaken(strategy, seed, kMs).hash == outcome.hash);
      found += outcome.wrong;
    }
    CHECK(found > 0);
    CHECK(found < kSeeds);
  }
  for (uint64_t seed = 1; seed <= uint64_t{kSeeds}; ++seed) CHECK_FALSE(overtaken(Strategy::kFifo, seed, kMs).wrong);
}

TEST_CASE("the world's own events and a crash's unwinding are exact whatever is searched", "[schedule]") {
  for (Strategy strategy : kSearching) {
    INFO(name(strategy));
    TwoMachines two(searched(strategy, 10 * kMs));
    two.run([&] {
      two.connect();
      for (int i = 0; i < 50; ++i) {
        two.write(two.near, 0, "x");
        two.write(two.far, 0, "y");
        const WorldTime wanted = two.world.now() + 100'000;
        two.world.sleep_until(wanted);
        CHECK(two.world.now() == wanted);
      }
      two.write(two.near, 0, "x");
      two.server.crash(CrashKind::kKill);
      two.world.sleep_for(1);
      CHECK_FALSE(two.server.running());
    });
  }
}

TEST_CASE("a fiber that others yield to in a circle gets its turn", "[schedule]") {
  for (Strategy strategy : kSearching) {
    for (uint64_t seed = 1; seed <= 10; ++seed) {
      INFO(name(strategy) << " seed " << seed);
      OneMachine one(seed, {}, searched(strategy));
      bool go = false;
      one.run([&] {
        CHECK(one.process([&](Env& env) {
                   return fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
                     for (int i = 0; i < 3; ++i)
                       scope.spawn("spins", [&] {
                         while (!go) env.scheduler.yield();
                       });
                     scope.spawn("goes", [&] { go = true; });
                   });
                 })
                  .has_value());
      });
      CHECK(go);
    }
  }
}
