// Timers of one clock: an intrusive binary heap ordered by (time, order of arming).
//
// A Timer is a member of whoever waits and must be disarmed (its destructor does) before it dies. What advances the
// queue is the owner of the clock: the real event loop or the simulated world, which are told when the earliest time
// changes and call fire_due() when it has come.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/base/time.h"

namespace mneme::fiber {

class TimerQueue;

class Timer {
 public:
  using Fire = void (*)(Timer&);  // must not suspend; the timer is disarmed when it is called and may be armed again

  explicit Timer(Fire fire) : fire_(fire) {}
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  bool armed() const { return queue_ != nullptr; }
  Instant at() const { return at_; }

 private:
  friend class TimerQueue;
  Fire fire_;
  TimerQueue* queue_ = nullptr;
  Instant at_;
  uint64_t order_ = 0;
  size_t position_ = 0;
};

class TimerQueue {
 public:
  TimerQueue() = default;
  virtual ~TimerQueue();
  TimerQueue(const TimerQueue&) = delete;
  TimerQueue& operator=(const TimerQueue&) = delete;

  void arm(Timer& timer, Instant at);  // moves it when it is armed already
  void disarm(Timer& timer);
  Instant next() const { return heap_.empty() ? kNever : heap_.front()->at_; }
  bool empty() const { return heap_.empty(); }
  // Fires, in order, all timers due at `now`, but none that is armed meanwhile: a timer re-armed for `now` fires at the
  // next call, so that zero-length sleeps let the rest of the world go on.
  void fire_due(Instant now);

 protected:
  // The earliest time may have changed; it is next().
  virtual void next_changed() {}

 private:
  bool before(const Timer* a, const Timer* b) const {
    return a->at_ != b->at_ ? a->at_ < b->at_ : a->order_ < b->order_;
  }
  void place(Timer* timer, size_t position);
  void sift_up(size_t position);
  void sift_down(size_t position);
  void remove(Timer& timer);

  std::vector<Timer*> heap_;
  uint64_t armed_count_ = 0;
};

}  // namespace mneme::fiber
