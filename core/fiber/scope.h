// Structured concurrency: a Scope owns its fibers and resources, and with_scope() returns only when all of them are
// gone.
//
// A scope is entered by a call, because joining suspends and destructors must not. Leaving it, in this order: waits for
// the children (an error in the body or in a child, or a cancellation from above, cancels them first), cancels and
// joins the daemons, then releases resources last-in-first-out. The first error wins and is returned; a cancellation
// from above goes on as Cancelled once everything is released. After Eio's Switch (lib_eio/core/switch.ml).
#pragma once

#include <functional>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/fiber/fiber.h"
#include "core/fiber/timer.h"

namespace mneme::fiber {

class Scope {
 public:
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

  // Starts a fiber that the scope waits for. `fn` returns void or Result<void>; an error cancels its siblings and the
  // body. `name` is a literal.
  template <class F>
  void spawn(const char* name, F fn) {
    start(name, false, std::move(fn));
  }
  // The same, but it is cancelled when the body and the ordinary children have ended: a loop that serves them.
  template <class F>
  void spawn_daemon(const char* name, F fn) {
    start(name, true, std::move(fn));
  }
  // Runs when the scope is left, after all fibers have ended, last registered first, shielded from cancellation.
  void on_release(std::move_only_function<void()> release) { releases_.push_back(std::move(release)); }
  // Ends the scope's fibers, the body included, at their next suspension; without another error with_scope returns
  // success.
  void cancel() { context_.cancel(); }
  // The same, and with_scope returns `error` unless an earlier one won.
  void fail(Error error);
  Scheduler& scheduler() { return scheduler_; }
  CancelContext& context() { return context_; }

 private:
  template <class F>
  friend Result<void> with_scope(Scheduler&, F&&);

  explicit Scope(Scheduler& scheduler) : scheduler_(scheduler), context_(scheduler), owner_(scheduler.current()) {}
  template <class F>
  void start(const char* name, bool daemon, F fn);
  void started(bool daemon) { ++(daemon ? daemons_ : children_); }
  void ended(bool daemon);
  void body_ended(bool cancelled);  // suspends until the children are gone
  void release();
  Result<void> outcome();

  Scheduler& scheduler_;
  CancelContext context_;
  Fiber& owner_;
  size_t children_ = 0;
  size_t daemons_ = 0;
  bool joining_ = false;
  std::optional<Error> error_;
  std::vector<std::move_only_function<void()>> releases_;
};

template <class F>
void Scope::start(const char* name, bool daemon, F fn) {
  started(daemon);
  // Belongs to the entry, not to its frame: a fiber that is cancelled before its first turn never has one.
  struct Ended {
    Scope* scope;
    bool daemon;
    Ended(Scope* s, bool d) : scope(s), daemon(d) {}
    Ended(Ended&& other) noexcept : scope(std::exchange(other.scope, nullptr)), daemon(other.daemon) {}
    ~Ended() {
      if (scope) scope->ended(daemon);
    }
  };
  scheduler_.spawn(name, context_, [ended = Ended(this, daemon), fn = std::move(fn)]() mutable {
    if constexpr (std::is_void_v<std::invoke_result_t<F&>>) {
      fn();
    } else {
      Result<void> result = fn();
      if (!result) ended.scope->fail(std::move(result).error());
    }
  });
}

// Calls fn(Scope&), which returns void or Result<void>. Suspends.
template <class F>
Result<void> with_scope(Scheduler& scheduler, F&& fn) {
  Scope scope(scheduler);
  bool cancelled = false;
  try {
    if constexpr (std::is_void_v<std::invoke_result_t<F&, Scope&>>) {
      fn(scope);
    } else {
      Result<void> result = fn(scope);
      if (!result) scope.fail(std::move(result).error());
    }
  } catch (const Cancelled&) {
    cancelled = true;
  }
  scope.body_ended(cancelled);
  scope.release();
  return scope.outcome();
}

// Calls fn(), which returns Result<T>; when `at` comes first, its suspension points are cancelled and the result is
// kTimeout. Suspends. `timers` is the clock's by which `at` is meant.
template <class F>
auto with_deadline(Scheduler& scheduler, TimerQueue& timers, Instant at, F&& fn) -> std::invoke_result_t<F&> {
  struct Deadline : Timer {
    explicit Deadline(Scheduler& s) : Timer([](Timer& t) { static_cast<Deadline&>(t).context.cancel(); }), context(s) {}
    CancelContext context;
  } deadline(scheduler);
  timers.arm(deadline, at);
  try {
    auto result = fn();
    deadline.context.leave();
    return result;
  } catch (const Cancelled&) {
    if (deadline.context.parent_cancelled()) throw;
    deadline.context.leave();
    return fail(ErrorCode::kTimeout, "the deadline passed");
  }
}

}  // namespace mneme::fiber
