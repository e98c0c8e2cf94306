// The real reactor: waits in the kernel (epoll) for descriptors, timers, signals and helper threads, and wakes fibers.
//
// One per thread. Everything but post() belongs to the thread that runs the scheduler. Constructing one aborts when the
// kernel grants no descriptors for it.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <functional>
#include <initializer_list>
#include <memory>
#include <vector>

#include "core/env/clock.h"
#include "core/env/completions.h"
#include "core/fiber/fiber.h"

namespace mneme::net {

class EventLoop final : public fiber::Idle, public env::Clock, public env::Completions {
 public:
  explicit EventLoop(fiber::Scheduler& scheduler);
  ~EventLoop() override;
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Read afresh at every call, about 25 ns: a reading kept for a whole turn of the loop would be old by as long as the
  // fibers of that turn ran, or a sync blocked, and a lease would be believed for that much longer than it is held.
  Instant now() const override;
  WallTime wall() const override;
  fiber::TimerQueue& timers() override { return timers_; }

  bool wait() override;
  void poll() override;

  void post(std::move_only_function<void()> fn) override;
  Result<void> watch(int descriptor, Source& source) override;
  void unwatch(int descriptor) override;

  // Registers a socket once, for both directions, edge-triggered, until unwatch().
  Result<void> watch_socket(int descriptor, Source& source);
  // From now on these signals no longer end the process: they call `fn` between two fibers, where it must not suspend.
  // To be called once. Threads that are not ours must block them too, or be started later: they inherit that.
  void on_signals(std::initializer_list<int> signals, std::move_only_function<void(int)> fn);
  // What helper threads hold: posting through it is harmless even when the loop is gone.
  class Mailbox;
  const std::shared_ptr<Mailbox>& mailbox() const { return mailbox_; }

  fiber::Scheduler& scheduler() { return scheduler_; }

 private:
  class Signals;
  void turn(bool may_wait);
  int ask_kernel(bool may_wait);

  static constexpr int kEventsAtATime = 256;

  fiber::Scheduler& scheduler_;
  fiber::TimerQueue timers_;
  int epoll_ = -1;
  bool nanosecond_timeouts_ = true;  // epoll_pwait2, since Linux 5.11; some sandboxes forbid it
  std::array<epoll_event, kEventsAtATime> events_;
  std::shared_ptr<Mailbox> mailbox_;
  std::unique_ptr<Signals> signals_;
};

}  // namespace mneme::net
