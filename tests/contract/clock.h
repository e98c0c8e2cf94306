// The contract of env::Clock and its timers. Include it last.
#pragma once

#include "tests/contract/world.h"
#include "tests/test.h"

namespace mneme::contract {

template <class World>
void time_never_goes_back(World& world) {
  world.run([&] {
    Env& env = world.here();
    Instant last = env.clock.now();
    bool back = false;
    for (int i = 0; i < 2000; ++i) {
      if (i % 500 == 0) env.clock.sleep_for(env.scheduler, 100us);
      Instant now = env.clock.now();
      back |= now < last;
      last = now;
    }
    CHECK_FALSE(back);
  });
}

template <class World>
void sleep_is_never_short(World& world) {
  world.run([&] {
    Env& env = world.here();
    for (Duration wanted :
         {Duration(0), Duration(1), Duration(999), Duration(100us), Duration(1'000'001), Duration(3ms)}) {
      Instant begun = env.clock.now();
      env.clock.sleep_for(env.scheduler, wanted);
      CHECK(env.clock.now() - begun >= wanted);
    }
    Instant begun = env.clock.now();
    env.clock.sleep_until(env.scheduler, begun - 1s);
    CHECK(env.clock.now() >= begun);
  });
}

template <class World>
void sleepers_wake_in_order(World& world) {
  world.run([&] {
    Env& env = world.here();
    std::string order;
    const Instant begun = env.clock.now();
    auto result = fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
      auto sleeper = [&](char name, Duration until) {
        scope.spawn("sleeper", [&, name, until] {
          env.clock.sleep_until(env.scheduler, begun + until);
          order += name;
        });
      };
      sleeper('d', 3ms);
      sleeper('a', 1ms);
      sleeper('b', 2ms);
      sleeper('e', 3ms);
      sleeper('c', 2ms);
    });
    CHECK(result.has_value());
    CHECK(order == "abcde");
  });
}

template <class World>
void zero_sleep_lets_others_go(World& world) {
  world.run([&] {
    Env& env = world.here();
    std::string order;
    auto result = fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
      scope.spawn("other", [&] { order += "other "; });
      env.clock.sleep_for(env.scheduler, Duration(0));
      order += "body";
    });
    CHECK(result.has_value());
    CHECK(order == "other body");
  });
}

template <class World>
void cancelled_sleep_ends_at_once(World& world) {
  world.run([&] {
    Env& env = world.here();
    const Instant begun = env.clock.now();
    bool slept = false;
    auto result = fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
      scope.spawn("sleeper", [&] {
        env.clock.sleep_for(env.scheduler, 1h);
        slept = true;
      });
      scope.spawn("sleeper without end", [&] {
        env.clock.sleep_until(env.scheduler, kNever);
        slept = true;
      });
      env.clock.sleep_for(env.scheduler, 1ms);
      scope.cancel();
    });
    CHECK(result.has_value());
    CHECK_FALSE(slept);
    CHECK(env.clock.now() - begun < 1min);
    CHECK(env.clock.timers().empty());
  });
}

template <class World>
void deadline_cuts_a_wait_short(World& world) {
  world.run([&] {
    Env& env = world.here();
    const Instant at = env.clock.now() + 2ms;
    auto late = fiber::with_deadline(env.scheduler, env.clock.timers(), at, [&]() -> Result<int> {
      env.clock.sleep_for(env.scheduler, 1h);
      return 1;
    });
    CHECK(is(late, ErrorCode::kTimeout));
    CHECK(env.clock.now() >= at);
    auto early = fiber::with_deadline(env.scheduler, env.clock.timers(), env.clock.now() + 1min, [&]() -> Result<int> {
      env.clock.sleep_for(env.scheduler, 1ms);
      return 2;
    });
    CHECK(early.value_or(0) == 2);
    CHECK(env.clock.timers().empty());
  });
}

template <class World>
void clock_contract(World& world) {
  SECTION("time never goes back") { time_never_goes_back(world); }
  SECTION("a sleep is never short") { sleep_is_never_short(world); }
  SECTION("sleepers wake in the order of their times, then of falling asleep") { sleepers_wake_in_order(world); }
  SECTION("a sleep of no length lets the others go first") { zero_sleep_lets_others_go(world); }
  SECTION("a cancelled sleep ends at once and leaves no timer") { cancelled_sleep_ends_at_once(world); }
  SECTION("a deadline cuts a wait short, not before its time, and nothing else") { deadline_cuts_a_wait_short(world); }
}

}  // namespace mneme::contract
