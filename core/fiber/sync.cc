#include "core/fiber/sync.h"

namespace mneme::fiber {

void Condition::unlink(Waiter& waiter) {
  (waiter.previous ? waiter.previous->next : first_) = waiter.next;
  (waiter.next ? waiter.next->previous : last_) = waiter.previous;
}

void Condition::wait() {
  scheduler_.throw_if_cancelled();
  Waiter waiter{&scheduler_.current()};
  waiter.previous = last_;
  (last_ ? last_->next : first_) = &waiter;
  last_ = &waiter;
  scheduler_.park(true);
  if (waiter.notified) return;
  unlink(waiter);
  throw Cancelled{};
}

void Condition::notify_one() {
  Waiter* waiter = first_;
  if (!waiter) return;
  unlink(*waiter);
  waiter->notified = true;
  scheduler_.wake(*waiter->fiber);
}

void Condition::notify_all() {
  while (first_) notify_one();
}

}  // namespace mneme::fiber
