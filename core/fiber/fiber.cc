#include "core/fiber/fiber.h"

#include <cxxabi.h>

#include <boost/context/detail/fcontext.hpp>
#include <cstring>
#include <utility>

#include "core/base/hash.h"

#if MNEME_ADDRESS_SANITIZER
#include <pthread.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace __cxxabiv1 {
struct __cxa_eh_globals {
  void* caughtExceptions;
  unsigned int uncaughtExceptions;
};
}  // namespace __cxxabiv1

namespace mneme::fiber {

namespace context = boost::context::detail;

struct FiberEntry {
  static void enter(context::transfer_t transfer) {
    auto* scheduler = static_cast<Scheduler*>(transfer.data);
    scheduler->after_switch(transfer.fctx);
    scheduler->run_entry();
  }
};

// --- CancelContext

CancelContext::CancelContext(Scheduler& scheduler) : scheduler_(&scheduler), owner_(scheduler.current_) {
  parent_ = owner_->cancel_;
  cancelled_ = parent_->cancelled_;
  next_sibling_ = parent_->first_child_;
  if (next_sibling_) next_sibling_->previous_sibling_ = this;
  parent_->first_child_ = this;
  parent_->drop(owner_);
  add(owner_);
}

void CancelContext::leave() {
  if (!owner_) return;
  CHECK(owner_ == scheduler_->current_);
  CHECK(owner_->cancel_ == this);
  CHECK(!first_child_);
  drop(owner_);
  CHECK(!first_fiber_);  // a fiber that outlives its scope would run in a dead context
  parent_->add(owner_);
  owner_ = nullptr;
  if (next_sibling_) next_sibling_->previous_sibling_ = previous_sibling_;
  (previous_sibling_ ? previous_sibling_->next_sibling_ : parent_->first_child_) = next_sibling_;
}

CancelContext::~CancelContext() {
  if (parent_) leave();
}

void CancelContext::cancel() {
  if (cancelled_) return;
  cancelled_ = true;
  for (Fiber* fiber = first_fiber_; fiber; fiber = fiber->next_in_context_)
    if (fiber->wake_on_cancel_ && fiber->shields_ == 0) scheduler_->wake(*fiber);
  for (CancelContext* child = first_child_; child; child = child->next_sibling_) child->cancel();
}

void CancelContext::add(Fiber* fiber) {
  fiber->cancel_ = this;
  fiber->previous_in_context_ = nullptr;
  fiber->next_in_context_ = first_fiber_;
  if (first_fiber_) first_fiber_->previous_in_context_ = fiber;
  first_fiber_ = fiber;
}

void CancelContext::drop(Fiber* fiber) {
  if (fiber->next_in_context_) fiber->next_in_context_->previous_in_context_ = fiber->previous_in_context_;
  (fiber->previous_in_context_ ? fiber->previous_in_context_->next_in_context_ : first_fiber_) =
      fiber->next_in_context_;
  fiber->next_in_context_ = fiber->previous_in_context_ = nullptr;
}

// --- Scheduler

Scheduler::Scheduler(size_t stack_bytes) : stacks_(stack_bytes) { root_.scheduler_ = this; }
Scheduler::~Scheduler() { CHECK(live_ == 0); }

void Scheduler::begin(Idle& idle, Order* order) {
  CHECK(!current_);
  idle_ = &idle;
  order_ = order;
  current_ = &main_;
  main_.state_ = Fiber::State::kRunning;
  main_.id_ = spawned_++;
  root_.add(&main_);
#if MNEME_ADDRESS_SANITIZER
  pthread_attr_t attributes;
  void* base = nullptr;
  size_t size = 0;
  CHECK(pthread_getattr_np(pthread_self(), &attributes) == 0);
  pthread_attr_getstack(&attributes, &base, &size);
  pthread_attr_destroy(&attributes);
  main_.stack_ = {static_cast<std::byte*>(base), size};
#endif
}

void Scheduler::end() {
  CHECK(current_ == &main_);
  CHECK(live_ == 0);
  root_.drop(&main_);
  current_ = nullptr;
}

void Scheduler::spawn(const char* name, CancelContext& cancel, std::move_only_function<void()> entry) {
  Stack stack = stacks_.take();
  // The Fiber itself lives at the top of its stack: one allocation less, and it goes when the stack goes.
  static_assert(alignof(Fiber) <= 64);
  std::byte* place = stack.top() - ((sizeof(Fiber) + 63) / 64) * 64;
  Fiber* fiber = new (place) Fiber();
  fiber->stack_ = stack;
  fiber->name_ = name;
  fiber->id_ = spawned_++;
  fiber->actor_ = current_->actor_;
  fiber->entry_ = std::move(entry);
  fiber->context_ = context::make_fcontext(place, static_cast<size_t>(place - stack.base), &FiberEntry::enter);
  cancel.add(fiber);
  fiber->lineage_ = fold(current_->lineage_, ++current_->spawned_);
  ++live_;
  make_ready(*fiber);
}

void Scheduler::make_ready(Fiber& fiber) {
  fiber.state_ = Fiber::State::kReady;
  ++fiber.turns_;
  ready_.push_back(&fiber);
}

void Scheduler::set_actor(uint32_t actor) {
  current_->actor_ = actor;
  current_->lineage_ = mix(actor);
  current_->spawned_ = 0;
}

void Scheduler::wake(Fiber& fiber) {
  if (fiber.state_ != Fiber::State::kParked) return;
  make_ready(fiber);
}

void Scheduler::park(bool cancellable) {
  if (cancellable && cancelled()) return;
  current_->state_ = Fiber::State::kParked;
  current_->wake_on_cancel_ = cancellable;
  switch_to_next();
  current_->wake_on_cancel_ = false;
}

void Scheduler::yield() {
  runs_since_poll_ = 0;
  idle_->poll();
  make_ready(*current_);
  switch_to_next();
}

Fiber* Scheduler::wait_for_ready() {
  if (++runs_since_poll_ >= kRunsBetweenPolls) {
    runs_since_poll_ = 0;
    idle_->poll();
  }
  for (;;) {
    if (!ready_.empty()) {
      size_t choice = order_ ? order_->choose(ready_) : 0;
      if (choice == 0) {
        Fiber* next = ready_.front();
        ready_.pop_front();
        return next;
      }
      if (choice != Order::kNobody) {
        Fiber* next = ready_[choice];
        ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(choice));
        return next;
      }
    }
    runs_since_poll_ = 0;
    bool alive = idle_->wait();
    CHECK(alive);  // every fiber waits and nothing can wake one: a deadlock
  }
}

void Scheduler::switch_to_next() {
  operations_since_switch_ = 0;
  Fiber* next = wait_for_ready();
  next->state_ = Fiber::State::kRunning;
  if (next != current_) switch_to(next);
}

void Scheduler::switch_to(Fiber* next) {
  previous_ = current_;
  current_ = next;
  ++switches_;
  auto* globals = reinterpret_cast<__cxxabiv1::__cxa_eh_globals*>(__cxxabiv1::__cxa_get_globals());
  previous_->exceptions_ = {globals->caughtExceptions, globals->uncaughtExceptions};
  globals->caughtExceptions = next->exceptions_.caught;
  globals->uncaughtExceptions = next->exceptions_.uncaught;
#if MNEME_ADDRESS_SANITIZER
  bool ending = previous_->state_ == Fiber::State::kDone;
  __sanitizer_start_switch_fiber(ending ? nullptr : &previous_->fake_stack_, next->stack_.base, next->stack_.size);
#endif
  context::transfer_t transfer = context::jump_fcontext(next->context_, this);
  after_switch(transfer.fctx);
}

// Runs first thing on the stack switched to.
void Scheduler::after_switch(void* previous_context) {
#if MNEME_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(current_->fake_stack_, nullptr, nullptr);
#endif
  Fiber* previous = std::exchange(previous_, nullptr);
  if (previous->state_ == Fiber::State::kDone) {
    Stack stack = previous->stack_;
    previous->~Fiber();
    stacks_.give_back(stack);
  } else {
    previous->context_ = previous_context;
  }
}

void Scheduler::run_entry() {
  // Anything but Cancelled that gets here is a bug; there is no frame above, so it ends the process by terminate().
  [this]() noexcept {
    try {
      throw_if_cancelled();
      current_->entry_();
    } catch (const Cancelled&) {
    }
    current_->entry_ = nullptr;
  }();
  current_->cancel_->drop(current_);
  current_->state_ = Fiber::State::kDone;
  --live_;
  switch_to_next();
  __builtin_unreachable();
}

}  // namespace mneme::fiber
