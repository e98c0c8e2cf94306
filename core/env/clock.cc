#include "core/env/clock.h"

namespace mneme::env {

void Clock::sleep_until(fiber::Scheduler& scheduler, Instant at) {
  struct Sleep : fiber::Timer {
    explicit Sleep(fiber::Scheduler& s)
        : Timer([](Timer& timer) {
            auto& self = static_cast<Sleep&>(timer);
            self.scheduler.wake(self.fiber);
          }),
          scheduler(s),
          fiber(s.current()) {}
    fiber::Scheduler& scheduler;
    fiber::Fiber& fiber;
  } sleep(scheduler);
  scheduler.throw_if_cancelled();
  timers().arm(sleep, at);
  scheduler.park(true);
  if (sleep.armed()) throw fiber::Cancelled{};
}

}  // namespace mneme::env
