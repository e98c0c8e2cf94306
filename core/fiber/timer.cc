#include "core/fiber/timer.h"

#include "core/base/check.h"

namespace mneme::fiber {

Timer::~Timer() {
  if (queue_) queue_->disarm(*this);
}

TimerQueue::~TimerQueue() {
  for (Timer* timer : heap_) timer->queue_ = nullptr;
}

void TimerQueue::place(Timer* timer, size_t position) {
  heap_[position] = timer;
  timer->position_ = position;
}

void TimerQueue::sift_up(size_t position) {
  Timer* timer = heap_[position];
  while (position > 0) {
    size_t parent = (position - 1) / 2;
    if (!before(timer, heap_[parent])) break;
    place(heap_[parent], position);
    position = parent;
  }
  place(timer, position);
}

void TimerQueue::sift_down(size_t position) {
  Timer* timer = heap_[position];
  for (;;) {
    size_t child = 2 * position + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && before(heap_[child + 1], heap_[child])) ++child;
    if (!before(heap_[child], timer)) break;
    place(heap_[child], position);
    position = child;
  }
  place(timer, position);
}

void TimerQueue::remove(Timer& timer) {
  CHECK(timer.queue_ == this);
  size_t position = timer.position_;
  Timer* last = heap_.back();
  heap_.pop_back();
  timer.queue_ = nullptr;
  if (last == &timer) return;
  place(last, position);
  sift_up(position);
  sift_down(last->position_);
}

void TimerQueue::arm(Timer& timer, Instant at) {
  Instant was = next();
  if (timer.queue_) remove(timer);
  timer.queue_ = this;
  timer.at_ = at;
  timer.order_ = ++armed_count_;
  heap_.push_back(&timer);
  sift_up(heap_.size() - 1);
  if (next() != was) next_changed();
}

void TimerQueue::disarm(Timer& timer) {
  if (!timer.queue_) return;
  Instant was = next();
  remove(timer);
  if (next() != was) next_changed();
}

void TimerQueue::fire_due(Instant now) {
  const uint64_t last = armed_count_;
  while (!heap_.empty() && heap_.front()->at_ <= now && heap_.front()->order_ <= last) {
    Timer& timer = *heap_.front();
    remove(timer);
    timer.fire_(timer);
  }
  next_changed();
}

}  // namespace mneme::fiber
