// What fibers wait on: Condition, Promise, Semaphore, Channel. All waits are cancellable and throw Cancelled; a wait
// that was satisfied first returns normally. Waiters are served first in, first out.
//
// Each object belongs to one scheduler and must outlive its waiters.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <utility>

#include "core/base/check.h"
#include "core/fiber/fiber.h"

namespace mneme::fiber {

class Condition {
 public:
  explicit Condition(Scheduler& scheduler) : scheduler_(scheduler) {}
  ~Condition() { CHECK(!first_); }
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;

  // Suspends until notified.
  void wait();
  // Suspends until `ready()` holds, asking first and after every notification.
  template <class Predicate>
  void wait_until(Predicate&& ready) {
    scheduler_.throw_if_cancelled();
    while (!ready()) wait();
  }
  void notify_one();
  void notify_all();
  bool has_waiters() const { return first_ != nullptr; }
  Scheduler& scheduler() { return scheduler_; }

 private:
  struct Waiter {
    Fiber* fiber;
    Waiter* next = nullptr;
    Waiter* previous = nullptr;
    bool notified = false;
  };
  void unlink(Waiter& waiter);

  Scheduler& scheduler_;
  Waiter* first_ = nullptr;
  Waiter* last_ = nullptr;
};

// A value that is set once and may be awaited by several.
template <class T>
class Promise {
 public:
  explicit Promise(Scheduler& scheduler) : set_(scheduler) {}

  void set(T value) {
    CHECK(!value_);
    value_.emplace(std::move(value));
    set_.notify_all();
  }
  bool is_set() const { return value_.has_value(); }
  T& wait() {
    set_.wait_until([this] { return value_.has_value(); });
    return *value_;
  }

 private:
  Condition set_;
  std::optional<T> value_;
};

class Semaphore {
 public:
  Semaphore(Scheduler& scheduler, size_t permits) : freed_(scheduler), permits_(permits) {}

  void acquire() {
    freed_.wait_until([this] { return permits_ > 0; });
    --permits_;
  }
  void release() {
    ++permits_;
    freed_.notify_one();
  }

 private:
  Condition freed_;
  size_t permits_;
};

// A bounded queue. After close(), sends fail and receives drain what is left.
template <class T>
class Channel {
 public:
  Channel(Scheduler& scheduler, size_t capacity) : not_full_(scheduler), not_empty_(scheduler), capacity_(capacity) {
    CHECK(capacity > 0);
  }

  // Suspends while full; false when closed.
  bool send(T value) {
    not_full_.wait_until([this] { return closed_ || queue_.size() < capacity_; });
    return try_send(std::move(value));
  }
  bool try_send(T value) {
    if (closed_ || queue_.size() >= capacity_) return false;
    queue_.push_back(std::move(value));
    not_empty_.notify_one();
    return true;
  }
  // Suspends while empty; nullopt when closed and drained.
  std::optional<T> receive() {
    not_empty_.wait_until([this] { return closed_ || !queue_.empty(); });
    return try_receive();
  }
  std::optional<T> try_receive() {
    if (queue_.empty()) return std::nullopt;
    std::optional<T> value(std::move(queue_.front()));
    queue_.pop_front();
    not_full_.notify_one();
    return value;
  }
  void close() {
    closed_ = true;
    not_full_.notify_all();
    not_empty_.notify_all();
  }
  bool closed() const { return closed_; }
  size_t size() const { return queue_.size(); }

 private:
  Condition not_full_;
  Condition not_empty_;
  size_t capacity_;
  bool closed_ = false;
  std::deque<T> queue_;
};

}  // namespace mneme::fiber
