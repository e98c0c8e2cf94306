#include "core/fiber/fiber.h"

#include <memory>
#include <set>
#include <stdexcept>
#include <string>

#include "core/fiber/scope.h"
#include "core/fiber/sync.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::fiber;

namespace {

// Time that jumps to the next timer whenever nobody is ready.
struct JumpingTime : Idle {
  bool wait() override {
    if (timers.empty()) return false;
    now = timers.next();
    timers.fire_due(now);
    return true;
  }
  void sleep(Scheduler& scheduler, Duration duration) {
    struct Sleep : Timer {
      explicit Sleep(Scheduler& s)
          : Timer([](Timer& t) {
              auto& self = static_cast<Sleep&>(t);
              self.scheduler.wake(self.fiber);
            }),
            scheduler(s),
            fiber(s.current()) {}
      Scheduler& scheduler;
      Fiber& fiber;
    } sleep(scheduler);
    scheduler.throw_if_cancelled();
    timers.arm(sleep, now + duration);
    scheduler.park(true);
    if (sleep.armed()) throw Cancelled{};
  }
  TimerQueue timers;
  Instant now;
};

struct Fixture {
  template <class F>
  void run(F fn) {
    scheduler.run(time, nullptr, fn);
    CHECK(scheduler.live_count() == 0);
  }
  void sleep(Duration d) { time.sleep(scheduler, d); }
  JumpingTime time;
  Scheduler scheduler;
  std::string log;
};

}  // namespace

TEST_CASE_METHOD(Fixture, "a scope returns only when its fibers have ended", "[fiber]") {
  run([&] {
    auto result = with_scope(scheduler, [&](Scope& scope) {
      scope.spawn("slow", [&] {
        sleep(2s);
        log += "slow ";
      });
      scope.spawn("fast", [&] {
        sleep(1s);
        log += "fast ";
      });
      log += "body ";
    });
    CHECK(result.has_value());
    CHECK(log == "body fast slow ");
    CHECK(time.now.ns == 2'000'000'000);
  });
}

TEST_CASE_METHOD(Fixture, "the first error cancels siblings and body and is returned after they unwound", "[fiber]") {
  run([&] {
    auto result = with_scope(scheduler, [&](Scope& scope) {
      struct Unwound {
        std::string& log;
        const char* name;
        ~Unwound() { log += name; }
      };
      scope.spawn("sibling", [&] {
        Unwound unwound{log, "sibling "};
        sleep(10s);
        log += "never ";
      });
      scope.spawn("failing", [&]() -> Result<void> {
        sleep(1s);
        return fail(ErrorCode::kIo, "first");
      });
      scope.spawn("failing later", [&]() -> Result<void> {
        sleep(2s);
        return fail(ErrorCode::kIo, "second");
      });
      Unwound unwound{log, "body "};
      sleep(20s);
      log += "never ";
    });
    REQUIRE_FALSE(result.has_value());
    CHECK(result.error().message == "first");
    CHECK(log.find("never") == std::string::npos);
    CHECK(log.find("sibling") != std::string::npos);
    CHECK(log.find("body") != std::string::npos);
    CHECK(time.now.ns == 1'000'000'000);
  });
}

TEST_CASE_METHOD(Fixture, "a child that is cancelled before its first turn never has one, and its scope ends",
                 "[fiber]") {
  run([&] {
    auto held = std::make_shared<int>();
    auto result = with_scope(scheduler, [&](Scope& scope) -> Result<void> {
      scope.spawn("child", [this, held] { log += "child "; });
      scope.spawn_daemon("daemon", [this, held] { log += "daemon "; });
      return mneme::fail(ErrorCode::kIo, "the body fails before anybody else runs");
    });
    CHECK_FALSE(result.has_value());
    CHECK(log == "");
    CHECK(held.use_count() == 1);  // what the children held is gone when the scope is
  });
}

TEST_CASE_METHOD(Fixture, "daemons end when the work has, and releases run last-in-first-out after them", "[fiber]") {
  run([&] {
    auto result = with_scope(scheduler, [&](Scope& scope) {
      scope.on_release([&] { log += "r1"; });
      scope.on_release([&] { log += "r2 "; });
      scope.spawn_daemon("daemon", [&] {
        try {
          for (;;) sleep(1s);
        } catch (const Cancelled&) {
          log += "daemon ";
          throw;
        }
      });
      scope.spawn("work", [&] { sleep(3500ms); });
    });
    CHECK(result.has_value());
    CHECK(log == "daemon r2 r1");
    CHECK(time.now.ns == 3'500'000'000);
  });
}

TEST_CASE_METHOD(Fixture, "a deadline cancels what is below it and nothing else", "[fiber]") {
  run([&] {
    auto late = with_deadline(scheduler, time.timers, time.now + 1s, [&]() -> Result<int> {
      sleep(5s);
      return 1;
    });
    REQUIRE_FALSE(late.has_value());
    CHECK(late.error().code == ErrorCode::kTimeout);
    auto early = with_deadline(scheduler, time.timers, time.now + 5s, [&]() -> Result<int> {
      sleep(1s);
      return 2;
    });
    REQUIRE(early.has_value());
    CHECK(*early == 2);
    CHECK_FALSE(scheduler.cancelled());
    CHECK(time.timers.empty());
  });
}

TEST_CASE_METHOD(Fixture, "of two nested deadlines the outer one passes through the inner", "[fiber]") {
  run([&] {
    bool inner_returned = false;
    auto outer = with_deadline(scheduler, time.timers, time.now + 1s, [&]() -> Result<int> {
      auto inner = with_deadline(scheduler, time.timers, time.now + 2s, [&]() -> Result<int> {
        sleep(5s);
        return 1;
      });
      inner_returned = true;
      return inner;
    });
    CHECK(outer.error().code == ErrorCode::kTimeout);
    CHECK_FALSE(inner_returned);
  });
}

TEST_CASE_METHOD(Fixture, "both branches of a race between a value and a cancellation may win", "[fiber]") {
  run([&] {
    for (bool value_first : {true, false}) {
      Promise<int> promise(scheduler);
      log.clear();
      auto result = with_scope(scheduler, [&](Scope& scope) {
        scope.spawn("waiter", [&] {
          log += "got " + std::to_string(promise.wait());
          sleep(1s);
          log += " never";
        });
        sleep(1s);
        if (value_first) promise.set(7);
        scope.cancel();
      });
      CHECK(result.has_value());
      CHECK(log == (value_first ? "got 7" : ""));
    }
  });
}

TEST_CASE_METHOD(Fixture, "a fiber may suspend inside a catch block while others throw", "[fiber]") {
  run([&] {
    auto thrower = [&](const char* what, Duration pause) {
      try {
        throw std::runtime_error(what);
      } catch (const std::runtime_error& error) {
        sleep(pause);
        log += error.what();
        try {
          throw;
        } catch (const std::runtime_error& again) {
          log += again.what();
        }
      }
      CHECK(std::uncaught_exceptions() == 0);
    };
    auto result = with_scope(scheduler, [&](Scope& scope) {
      scope.spawn("a", [&] { thrower("a", 3s); });
      scope.spawn("b", [&] { thrower("b", 1s); });
      scope.spawn("c", [&] { thrower("c", 2s); });
    });
    CHECK(result.has_value());
    CHECK(log == "bbccaa");
  });
}

TEST_CASE_METHOD(Fixture, "a channel holds back its sender, keeps order and drains after closing", "[fiber]") {
  run([&] {
    Channel<int> channel(scheduler, 2);
    auto result = with_scope(scheduler, [&](Scope& scope) {
      scope.spawn("sender", [&] {
        for (int i = 0; i < 5; ++i) {
          CHECK(channel.send(i));
          CHECK(channel.size() <= 2);
        }
        channel.close();
        CHECK_FALSE(channel.send(9));
      });
      while (auto value = channel.receive()) {
        log += std::to_string(*value);
        sleep(1s);
      }
    });
    CHECK(result.has_value());
    CHECK(log == "01234");
  });
}

TEST_CASE_METHOD(Fixture, "a semaphore lets in as many as it has permits", "[fiber]") {
  run([&] {
    Semaphore semaphore(scheduler, 2);
    int inside = 0;
    int most = 0;
    auto result = with_scope(scheduler, [&](Scope& scope) {
      for (int i = 0; i < 6; ++i)
        scope.spawn("user", [&] {
          semaphore.acquire();
          most = std::max(most, ++inside);
          sleep(1s);
          --inside;
          semaphore.release();
        });
    });
    CHECK(result.has_value());
    CHECK(most == 2);
    CHECK(time.now.ns == 3'000'000'000);
  });
}

TEST_CASE_METHOD(Fixture, "a scope cancelled from above joins its children before the cancellation goes on",
                 "[fiber]") {
  run([&] {
    auto result = with_scope(scheduler, [&](Scope& outer) {
      outer.spawn("inner", [&] {
        auto inner = with_scope(scheduler, [&](Scope& scope) {
          scope.spawn("stubborn", [&] {
            Shield shield(scheduler);
            sleep(2s);
            log += "stubborn ";
          });
          sleep(10s);
        });
        (void)inner;
        log += "never";
      });
      sleep(1s);
      outer.cancel();
    });
    CHECK(result.has_value());
    CHECK(log == "stubborn ");
    CHECK(time.now.ns == 2'000'000'000);
  });
}

TEST_CASE_METHOD(Fixture, "a fiber's lineage is that of its ancestors, whatever others spawn", "[fiber]") {
  // Of two fibers of an actor, the second with two children; others are spawned before and after the actor.
  auto lineages = [this](int others) {
    std::vector<uint64_t> found;
    auto note = [&] { found.push_back(scheduler.current().lineage()); };
    auto family = [&](Scope& scope) {
      scheduler.set_actor(7);
      scope.spawn("first", note);
      scope.spawn("second", [&] {
        note();
        (void)with_scope(scheduler, [&](Scope& inner) {
          inner.spawn("child", note);
          inner.spawn("child", note);
        });
      });
    };
    run([&] {
      (void)with_scope(scheduler, [&](Scope& scope) {
        for (int i = 0; i < others; ++i) scope.spawn("other", [] {});
        scope.spawn("family", [&] { (void)with_scope(scheduler, [&](Scope& inner) { family(inner); }); });
        for (int i = 0; i < others; ++i) scope.spawn("other", [] {});
      });
    });
    return found;
  };
  const auto found = lineages(0);
  CHECK(found.size() == 4);
  CHECK(std::set<uint64_t>(found.begin(), found.end()).size() == 4);
  CHECK((lineages(3) == found));
}

TEST_CASE_METHOD(Fixture, "fibers reuse stacks", "[fiber]") {
  run([&] {
    for (int round = 0; round < 1000; ++round) {
      auto result = with_scope(scheduler, [&](Scope& scope) {
        for (int i = 0; i < 10; ++i) scope.spawn("short", [&] { sleep(1ms); });
      });
      CHECK(result.has_value());
    }
  });
}

TEST_CASE_METHOD(Fixture, "timers fire in the order of time, then of arming, and can be moved and disarmed",
                 "[fiber]") {
  struct Named : Timer {
    Named(std::string& l, char n)
        : Timer([](Timer& t) { static_cast<Named&>(t).log += static_cast<Named&>(t).name; }), log(l), name(n) {}
    std::string& log;
    char name;
  };
  TimerQueue queue;
  Named a(log, 'a'), b(log, 'b'), c(log, 'c'), d(log, 'd');
  queue.arm(a, Instant{5});
  queue.arm(b, Instant{3});
  queue.arm(c, Instant{5});
  queue.arm(d, Instant{4});
  queue.arm(a, Instant{6});
  queue.disarm(d);
  CHECK(queue.next() == Instant{3});
  queue.fire_due(Instant{5});
  CHECK(log == "bc");
  queue.fire_due(Instant{9});
  CHECK(log == "bca");
  CHECK(queue.next() == kNever);
}

TEST_CASE_METHOD(Fixture, "switching between fibers", "[.bench]") {
  run([&] {
    Condition ping(scheduler), pong(scheduler);
    int turn = 0;
    constexpr int kRounds = 10'000'000;
    auto begin = std::chrono::steady_clock::now();
    auto result = with_scope(scheduler, [&](Scope& scope) {
      scope.spawn("pong", [&] {
        for (int i = 0; i < kRounds; ++i) {
          ping.wait_until([&] { return turn == 1; });
          turn = 0;
          pong.notify_one();
        }
      });
      for (int i = 0; i < kRounds; ++i) {
        turn = 1;
        ping.notify_one();
        pong.wait_until([&] { return turn == 0; });
      }
    });
    CHECK(result.has_value());
    auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - begin).count();
    WARN("round trip: " << ns / kRounds << " ns");
  });
}
