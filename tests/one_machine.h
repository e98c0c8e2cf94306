// One simulated machine that runs processes one after the other, for tests of what a process leaves on its disk.
//
// run() enters the world; everything else is called from its body, which is a fiber of the world's and so outlives
// every crash. A process must not use REQUIRE: it would throw where nobody catches.
#pragma once

#include <exception>
#include <optional>
#include <utility>

#include "core/base/check.h"
#include "core/fiber/scope.h"
#include "sim/machine.h"
#include "sim/world.h"

namespace mneme::testing {

class OneMachine {
 public:
  explicit OneMachine(uint64_t seed = 1, const sim::MachineOptions& options = {}, const sim::WorldOptions& world = {})
      : world_(seed, world, nullptr), machine_(world_.add_machine("m", options)) {}

  template <class F>
  void run(F&& body) {
    std::exception_ptr thrown;
    world_.run([&] {
      auto ended = fiber::with_scope(world_.scheduler(), [&](fiber::Scope& scope) {
        scope_ = &scope;
        try {
          body();
        } catch (const fiber::Cancelled&) {
          throw;
        } catch (...) {
          thrown = std::current_exception();  // a failed REQUIRE: only the test's own stack may see it
        }
        crash(sim::CrashKind::kKill);
      });
      CHECK(ended.has_value());
    });
    if (thrown) std::rethrow_exception(thrown);
  }

  sim::World& world() { return world_; }
  sim::Machine& machine() { return machine_; }

  void start(sim::Machine::Program program) {
    result_.reset();
    machine_.boot(*scope_, std::move(program), [this](Result<void> result) { result_ = std::move(result); });
  }
  // Whether the process has ended by itself, and then how.
  bool ended() const { return result_.has_value(); }
  const Result<void>& result() const { return *result_; }
  // Lets time pass until `fn()`, which is asked often, or the process ends; false when neither comes in a minute.
  template <class F>
  bool wait_until(F&& fn) {
    for (const sim::WorldTime limit = world_.now() + 60'000'000'000; !ended() && !fn(); world_.sleep_for(100'000))
      if (world_.now() > limit) return false;
    return true;
  }
  // A process from its beginning to its end.
  Result<void> process(sim::Machine::Program program) {
    start(std::move(program));
    if (!wait_until([] { return false; })) return fail(ErrorCode::kTimeout, "the process does not end");
    return result();
  }
  // Whatever runs is gone on return.
  void crash(sim::CrashKind kind) {
    machine_.crash(kind);
    world_.sleep_for(1);
  }

 private:
  sim::World world_;
  sim::Machine& machine_;
  fiber::Scope* scope_ = nullptr;
  std::optional<Result<void>> result_;
};

}  // namespace mneme::testing
