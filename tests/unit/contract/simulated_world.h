// The simulated world as contract tests want it: two machines without faults, whose clocks run at different speeds.
#pragma once

#include <exception>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/env/env.h"
#include "sim/machine.h"
#include "sim/world.h"

namespace mneme::contract {

// kDiskBlocks: disk operations hold the machine's whole reactor, as blocking system calls do.
template <bool kDiskBlocks>
class SimulatedWorld {
 public:
  const char* unavailable() const { return nullptr; }
  Env& here() { return *here_; }
  Env& there() { return *there_; }
  std::string there_host() const { return "there"; }

  template <class F>
  void run(F&& fn) {
    // A failed REQUIRE throws, which only the test's own stack may see.
    std::exception_ptr thrown;
    bool ended = false;
    world_.run([&] {
      auto result = fiber::with_scope(world_.scheduler(), [&](fiber::Scope& scope) {
        there_machine_.boot(
            scope,
            [&](Env& env) -> Result<void> {
              there_ = &env;
              env.clock.sleep_until(env.scheduler, kNever);
              return {};
            },
            [](Result<void>) {});
        here_machine_.boot(
            scope,
            [&](Env& env) -> Result<void> {
              here_ = &env;
              try {
                fn();
              } catch (const fiber::Cancelled&) {
                throw;
              } catch (...) {
                thrown = std::current_exception();
              }
              return {};
            },
            [&](Result<void>) { ended = true; });
        while (!ended) world_.sleep_for(1'000'000);
        there_machine_.crash(sim::CrashKind::kKill);
      });
      if (!result && !thrown) thrown = std::make_exception_ptr(std::runtime_error(result.error().message));
    });
    if (thrown) std::rethrow_exception(thrown);
  }

 private:
  static sim::MachineOptions options(int32_t drift_ppm) {
    sim::MachineOptions options;
    options.disk_blocks = kDiskBlocks;
    options.drift_ppm = drift_ppm;
    return options;
  }

  sim::World world_{1, {}, nullptr};
  sim::Machine& there_machine_ = world_.add_machine("there", options(-400));
  sim::Machine& here_machine_ = world_.add_machine("here", options(700));
  Env* here_ = nullptr;
  Env* there_ = nullptr;
};

}  // namespace mneme::contract
