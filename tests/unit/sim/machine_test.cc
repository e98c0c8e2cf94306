// Slow processors and clocks of simulated machines.
#include "sim/machine.h"

#include <algorithm>
#include <vector>

#include "core/fiber/sync.h"
#include "tests/one_machine.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::sim;
using mneme::testing::OneMachine;

namespace {

constexpr WorldTime kMs = 1'000'000;

// Takes so many turns, and says in world time how long they took.
Result<void> take_turns(World& world, Env& env, int turns, WorldTime& took) {
  env.scheduler.yield();  // a process begins before its processor is busy
  const WorldTime begin = world.now();
  for (int i = 0; i < turns; ++i) env.scheduler.yield();
  took = world.now() - begin;
  return {};
}

}  // namespace

TEST_CASE("computing takes no time unless the processor is slow", "[machine]") {
  for (const int64_t cost : {int64_t{0}, kMs}) {
    OneMachine one(1, {.compute_ns = cost});
    WorldTime took = -1;
    one.run([&] {
      CHECK(one.process([&](Env& env) { return take_turns(one.world(), env, 10, took); }).has_value());
      CHECK(took == 10 * cost);
    });
  }
}

TEST_CASE("a slow processor runs one fiber after the other, and what arrives waits for it", "[machine]") {
  OneMachine one(1, {.compute_ns = kMs});
  std::vector<WorldTime> turns;
  WorldTime slept = 0;
  one.run([&] {
    CHECK(one.process([&](Env& env) {
               return fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
                 for (int i = 0; i < 5; ++i) scope.spawn("turn", [&] { turns.push_back(one.world().now()); });
                 scope.spawn("timer", [&] {
                   const WorldTime begin = one.world().now();
                   env.clock.sleep_for(env.scheduler, 1ns);
                   slept = one.world().now() - begin;
                 });
                 scope.spawn("turn", [&] { turns.push_back(one.world().now()); });
               });
             })
              .has_value());
  });
  CHECK(turns.size() == 6);
  for (size_t i = 1; i < turns.size(); ++i) CHECK(turns[i] - turns[i - 1] >= kMs);
  CHECK(slept >= kMs);
}

TEST_CASE("a processor may become slow and fast again while its process runs", "[machine]") {
  OneMachine one;
  WorldTime slow = 0, fast = 0;
  one.run([&] {
    one.start([&](Env& env) -> Result<void> {
      env.clock.sleep_for(env.scheduler, 10ms);
      TRY(take_turns(one.world(), env, 10, slow));
      env.clock.sleep_for(env.scheduler, 1s);
      return take_turns(one.world(), env, 10, fast);
    });
    one.machine().set_compute(kMs);
    one.world().sleep_for(500 * kMs);
    one.machine().set_compute(0);
    one.wait_until([] { return false; });
    CHECK(one.ended());
  });
  CHECK(slow == 10 * kMs);
  CHECK(fast == 0);
}

TEST_CASE("a process on a slow processor is gone at once when it crashes", "[machine]") {
  OneMachine one(1, {.compute_ns = 10'000 * kMs});
  one.run([&] {
    one.start([&](Env& env) -> Result<void> {
      return fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
        for (int i = 0; i < 20; ++i) scope.spawn("waits", [&] { env.clock.sleep_for(env.scheduler, 1h); });
        env.clock.sleep_for(env.scheduler, 1h);
      });
    });
    one.world().sleep_for(1);
    const WorldTime begin = one.world().now();
    one.crash(CrashKind::kKill);
    CHECK_FALSE(one.machine().running());
    CHECK(one.world().now() == begin + 1);
  });
}

TEST_CASE("a pause that is ended early leaves nothing for its old end", "[machine]") {
  OneMachine one;
  WorldTime begin = 0, woke = 0, slept_on = 0;
  std::vector<WorldTime> events;
  one.world().after_event = [&](uint64_t, uint64_t) { events.push_back(one.world().now()); };
  one.run([&] {
    one.start([&](Env& env) -> Result<void> {
      begin = one.world().now();
      env.clock.sleep_for(env.scheduler, 1s);
      woke = one.world().now() - begin;
      env.clock.sleep_for(env.scheduler, 1s);
      slept_on = one.world().now() - begin;
      return {};
    });
    one.world().sleep_for(1);
    one.machine().pause_until(begin + 10'000 * kMs);
    one.world().sleep_until(begin + 1500 * kMs);
    CHECK(woke == 0);
    one.machine().go_on();
    one.world().sleep_until(begin + 20'000 * kMs);
  });
  CHECK(woke == 1500 * kMs);
  CHECK(slept_on == 2500 * kMs);
  CHECK(std::ranges::count(events, begin + 10'000 * kMs) == 0);
}

TEST_CASE("the end of a pause does not end what else holds the processor", "[machine]") {
  OneMachine one(1, {.compute_ns = 3000 * kMs});
  WorldTime second = 0;
  one.run([&] {
    WorldTime begin = 0;
    one.start([&](Env& env) -> Result<void> {
      begin = one.world().now();
      env.scheduler.yield();
      env.scheduler.yield();
      second = one.world().now() - begin;
      return {};
    });
    one.world().sleep_for(1);
    one.machine().pause_until(begin + 10'000 * kMs);
    one.world().sleep_until(begin + 1000 * kMs);
    one.machine().go_on();
    one.world().sleep_until(begin + 20'000 * kMs);
  });
  CHECK(second == 3000 * kMs);
}

TEST_CASE("a monotonic clock that stands still and then runs faster loses no timer and never goes back", "[machine]") {
  OneMachine one;
  WorldTime fired = 0;
  bool early = false, back = false;
  one.run([&] {
    WorldTime begin = 0;
    one.start([&](Env& env) -> Result<void> {
      begin = one.world().now();
      const Instant until = env.clock.now() + 1s;
      env.clock.sleep_until(env.scheduler, until);
      early = env.clock.now() < until;
      fired = one.world().now() - begin;
      return {};
    });
    one.world().sleep_for(1);
    env::Clock& clock = one.machine().life()->clock;
    one.world().sleep_until(begin + 200 * kMs);
    one.machine().set_drift(-1'000'000);
    const Instant stood = clock.now();
    for (int i = 0; i < 80; ++i) {
      one.world().sleep_for(10 * kMs);
      back |= clock.now() != stood;
    }
    CHECK(fired == 0);
    one.machine().set_drift(1'000'000);  // twice as fast
    back |= clock.now() != stood;
    one.wait_until([] { return false; });
  });
  CHECK_FALSE(early);
  CHECK_FALSE(back);
  CHECK(fired == 1400 * kMs);  // 200 ms, 800 ms of nothing, 800 ms of its time in 400 ms
}

TEST_CASE("what is due already happens although the clock stands still", "[machine]") {
  OneMachine one(1, {.drift_ppm = -1'000'000});
  one.run([&] {
    CHECK(one.process([&](Env& env) -> Result<void> {
               env.clock.sleep_for(env.scheduler, 0ns);
               return {};
             })
              .has_value());
  });
}

TEST_CASE("a timer far ahead of a clock that hardly moves waits", "[machine]") {
  OneMachine one(1, {.drift_ppm = -999'999});
  one.run([&] {
    one.start([&](Env& env) -> Result<void> {
      env.clock.sleep_for(env.scheduler, std::chrono::hours(24 * 365));
      return {};
    });
    one.world().sleep_for(3'600'000 * kMs);
    CHECK_FALSE(one.ended());
    CHECK(one.world().event_count() < 100);
    one.machine().set_drift(0);
    one.world().sleep_for(WorldTime{366} * 86'400'000 * kMs);
    CHECK(one.ended());
  });
}

TEST_CASE("a wall clock jumps both ways, a monotonic one does not notice", "[machine]") {
  OneMachine one;
  one.run([&] {
    one.start([&](Env& env) -> Result<void> {
      env.clock.sleep_until(env.scheduler, kNever);
      return {};
    });
    one.world().sleep_for(1);
    const env::Clock& clock = one.machine().life()->clock;
    const WallTime wall = clock.wall();
    const Instant now = clock.now();
    one.machine().jump_wall(3'600'000);
    CHECK(clock.wall().ms == wall.ms + 3'600'000);
    one.machine().jump_wall(-7'200'000);
    CHECK(clock.wall().ms == wall.ms - 3'600'000);
    CHECK(clock.now() == now);
  });
}

TEST_CASE("what names a process differs from one life of a machine to the next, and nothing else does", "[machine]") {
  OneMachine one;
  one.run([&] {
    auto draw = [&](Site site) {
      uint64_t drawn = 0;
      auto done = one.process([&](Env& env) -> Result<void> {
        drawn = env.random.draw(site, 1, 0);
        return {};
      });
      CHECK(done.has_value());
      return drawn;
    };
    for (const Site site : {Site::kProcessLife, Site::kRequestNumbers, Site::kRestoreNonce, Site::kScanCursors,
                            Site::kIncarnation, Site::kClusterId})
      CHECK(draw(site) != draw(site));
    for (const Site site : {Site::kElectionTimeout, Site::kReconnectDelay}) CHECK(draw(site) == draw(site));
  });
}
