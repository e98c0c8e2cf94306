// The two clocks of a node.
#pragma once

#include "core/base/time.h"
#include "core/fiber/fiber.h"
#include "core/fiber/timer.h"

namespace mneme::env {

class Clock {
 public:
  virtual ~Clock() = default;

  // Monotonic: drifts, may stand still, never goes back. For timers and leases.
  virtual Instant now() const = 0;
  // Milliseconds since the Unix epoch as this node believes; jumps both ways. For log time only.
  virtual WallTime wall() const = 0;
  // Timers by the monotonic clock. A timer never fires before its time by now().
  virtual fiber::TimerQueue& timers() = 0;

  // Suspends until now() >= at; at least lets everything else that is due happen first. Cancellable.
  void sleep_until(fiber::Scheduler& scheduler, Instant at);
  void sleep_for(fiber::Scheduler& scheduler, Duration duration) { sleep_until(scheduler, now() + duration); }
};

}  // namespace mneme::env
