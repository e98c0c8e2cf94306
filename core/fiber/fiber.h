// Fibers, the scheduler that runs them on one thread, and the tree along which they are cancelled.
//
// A fiber runs until it parks. The scheduler has no stack of its own: a parking fiber switches straight to the next
// ready one and, when there is none, calls Idle on its own stack, which waits for the kernel (real) or advances the
// world (simulated) until somebody is ready. So the same code runs in both, and only Idle differs.
//
// Cancellation is the only exception. Cancelling a CancelContext wakes every fiber parked under it in a cancellable
// wait; there, and at every later suspension point, Cancelled is thrown, up to the call that made the context. A wait
// that was satisfied before its fiber ran again returns normally: both branches of a race may win. Destructors never
// suspend.
//
// C++ keeps the exceptions being handled per thread; every switch saves and restores them (Itanium C++ ABI,
// __cxa_get_globals), so a fiber may park inside a catch block. Switches are annotated for AddressSanitizer.
//
// Nothing here is thread-safe and nothing is global: a process may run many schedulers, each on its own thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "core/base/check.h"
#include "core/fiber/stack.h"

namespace mneme::fiber {

struct Cancelled {};

class Fiber;
class Scheduler;

// A node of the cancellation tree. Lives on the stack of the call that made it (with_scope, with_deadline).
class CancelContext {
 public:
  // Becomes the current fiber's innermost context until leave().
  explicit CancelContext(Scheduler& scheduler);
  ~CancelContext();
  CancelContext(const CancelContext&) = delete;
  CancelContext& operator=(const CancelContext&) = delete;

  void leave();
  // Cancels this and everything below. Callable from anywhere on the scheduler's thread, event handlers included.
  void cancel();
  bool cancelled() const { return cancelled_; }
  bool parent_cancelled() const { return parent_ && parent_->cancelled_; }

 private:
  friend class Fiber;
  friend class Scheduler;
  CancelContext() = default;  // the root's
  void add(Fiber* fiber);
  void drop(Fiber* fiber);

  Scheduler* scheduler_ = nullptr;
  CancelContext* parent_ = nullptr;
  CancelContext* first_child_ = nullptr;
  CancelContext* next_sibling_ = nullptr;
  CancelContext* previous_sibling_ = nullptr;
  Fiber* first_fiber_ = nullptr;
  Fiber* owner_ = nullptr;  // entered by; nullptr after leave()
  bool cancelled_ = false;
};

class Fiber {
 public:
  const char* name() const { return name_; }
  uint64_t id() const { return id_; }        // dense, in order of creation
  uint32_t actor() const { return actor_; }  // inherited from the creator; see Scheduler::set_actor
  // What it is, by its ancestors: "the 3rd fiber spawned by the 1st fiber of actor 2", hashed. Unlike id() it does not
  // depend on what others spawn, and it is the same in the next life of the actor.
  uint64_t lineage() const { return lineage_; }
  uint64_t turns() const { return turns_; }  // how many times it has become ready

 private:
  friend class Scheduler;
  friend class CancelContext;
  friend class Shield;
  enum class State : uint8_t { kReady, kRunning, kParked, kDone };

  void* context_ = nullptr;
  State state_ = State::kReady;
  bool wake_on_cancel_ = false;
  uint32_t shields_ = 0;
  uint32_t actor_ = 0;
  uint64_t id_ = 0;
  uint64_t lineage_ = 0;
  uint64_t spawned_ = 0;
  uint64_t turns_ = 0;
  const char* name_ = "main";
  CancelContext* cancel_ = nullptr;
  Fiber* next_in_context_ = nullptr;
  Fiber* previous_in_context_ = nullptr;
  struct {
    void* caught = nullptr;
    unsigned int uncaught = 0;
  } exceptions_;
  [[maybe_unused]] void* fake_stack_ = nullptr;  // AddressSanitizer's
  Stack stack_;
  std::move_only_function<void()> entry_;
};

class Idle {
 public:
  virtual ~Idle() = default;
  // Called when no fiber may run. Returns when that may have changed; false: nothing can ever happen again.
  virtual bool wait() = 0;
  // Called now and then while fibers are ready: wakes those whose time has come, without waiting. A simulated world has
  // nothing to do here, because its time moves only in wait().
  virtual void poll() {}
};

// Chooses which of the ready fibers (at least one) runs next; without one they run first in, first out.
class Order {
 public:
  static constexpr size_t kNobody = SIZE_MAX;  // none of them may run now

  virtual ~Order() = default;
  virtual size_t choose(const std::deque<Fiber*>& ready) = 0;
};

class Scheduler {
 public:
  explicit Scheduler(size_t stack_bytes = kDefaultStackBytes);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Runs `main` on the caller's stack as the first fiber; every fiber that it spawned has ended when it returns,
  // because every scope has. `idle`, and `order` if given, must outlive the call.
  template <class F>
  void run(Idle& idle, Order* order, F&& main) {
    begin(idle, order);
    std::forward<F>(main)();
    end();
  }

  // Suspends the current fiber until wake(). Cancellable: also wakes when its context is cancelled; the caller asks
  // cancelled() to tell. Spurious wakes do not occur.
  void park(bool cancellable);
  // Makes a parked fiber ready; no effect on one that is ready or running.
  void wake(Fiber& fiber);
  // Lets the others go first, those included that Idle::poll() wakes. Does not notice cancellation.
  void yield();
  // To be called before every operation that may be done without parking: yields after many of them in a row, because a
  // peer or a file that is always ready would otherwise give its fiber the thread for ever.
  void take_turns() {
    if (++operations_since_switch_ > kOperationsInARow) yield();
  }

  Fiber& current() { return *current_; }
  // The current fiber's context is cancelled and no Shield protects it.
  bool cancelled() const { return current_->cancel_->cancelled_ && current_->shields_ == 0; }
  void throw_if_cancelled() const {
    if (cancelled()) throw Cancelled{};
  }
  size_t ready_count() const { return ready_.size(); }
  size_t live_count() const { return live_; }  // fibers spawned and not ended
  uint64_t switches() const { return switches_; }
  // Who the current fiber, and those it spawns from now on, work for: a simulated process, a real node's reactor.
  // Lineages begin anew.
  void set_actor(uint32_t actor);

  // For Scope only: a fiber not tied to a scope would be detached. `context` is where it runs.
  void spawn(const char* name, CancelContext& context, std::move_only_function<void()> entry);

#if MNEME_ADDRESS_SANITIZER
  static constexpr size_t kDefaultStackBytes = 512 * 1024;
#else
  static constexpr size_t kDefaultStackBytes = 128 * 1024;
#endif
  // Fibers that wake each other could keep Idle from being asked for ever: it is, after so many that ran in a row.
  static constexpr uint32_t kRunsBetweenPolls = 128;
  static constexpr uint32_t kOperationsInARow = 16;

 private:
  friend class CancelContext;
  friend struct FiberEntry;
  void begin(Idle& idle, Order* order);
  void end();
  void make_ready(Fiber& fiber);
  void switch_to_next();
  void switch_to(Fiber* next);
  void after_switch(void* previous_context);
  [[noreturn]] void run_entry();
  Fiber* wait_for_ready();

  StackPool stacks_;
  Fiber main_;
  CancelContext root_;
  Fiber* current_ = nullptr;
  Fiber* previous_ = nullptr;  // the one that just switched away
  Idle* idle_ = nullptr;
  Order* order_ = nullptr;
  std::deque<Fiber*> ready_;
  uint64_t spawned_ = 0;
  uint64_t switches_ = 0;
  uint32_t runs_since_poll_ = 0;
  uint32_t operations_since_switch_ = 0;
  size_t live_ = 0;
};

// While one lives, the current fiber does not notice cancellation: for joining and releasing.
class Shield {
 public:
  explicit Shield(Scheduler& scheduler) : fiber_(scheduler.current()) { ++fiber_.shields_; }
  ~Shield() { --fiber_.shields_; }
  Shield(const Shield&) = delete;
  Shield& operator=(const Shield&) = delete;

 private:
  Fiber& fiber_;
};

}  // namespace mneme::fiber
