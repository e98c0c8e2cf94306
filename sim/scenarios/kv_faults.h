// Applies planned faults to a kv run, and springs ambushes: faults that wait for a process to reach a probe.
//
// What each fault does to a machine or the network is stated where that is simulated (sim/network.h, sim/disk.h,
// sim/machine.h); here is who is struck, for how long, and in what sequence.
#pragma once

#include <functional>
#include <vector>

#include "core/fiber/sync.h"
#include "sim/scenarios/kv_cluster.h"
#include "sim/scenarios/plan.h"

namespace mneme::sim {

class KvFaults {
 public:
  // `start_client(n)` starts client process n, from 1, again. All references outlive this.
  KvFaults(World& world, KvCluster& cluster, const Options& options, std::function<void(uint32_t)> start_client);

  // Strikes at each fault's time until `end`; suspends until then. Spawns in `scope`, the world's.
  void run(fiber::Scope& scope, std::vector<Fault> faults, WorldTime end);
  // From now on these strike, of those times that are still to come, instead of what was planned; and these ambushes
  // are laid, those of earlier times at once, instead of all that have not been sprung. Callable from anywhere; once
  // run() has returned nothing happens.
  void replace(std::vector<Fault> faults);
  // Everything but damage and crashes is taken back, and nothing strikes any more. run() returns at its next wake.
  void end();
  // How many struck.
  uint64_t applied() const { return applied_; }

 private:
  void apply(const Fault& fault);
  void cut_off(uint64_t set, WorldTime until);
  void set_usual_compute(uint32_t node);
  void restart_storm(const Fault& fault, int64_t nth);
  void drift(const Fault& fault, int32_t ppm);
  void rolling_restart(const Fault& fault, uint32_t nth);
  void look_for_ambush(Probe probe, uint32_t actor);
  void strike_from_ambush();
  // Runs `then` after `delay`, unless faults have ended by then.
  template <class F>
  void later(WorldTime delay, F then) {
    world_.later(*scope_, delay, [this, then = std::move(then)] {
      if (!ended_) then();
    });
  }

  World& world_;
  KvCluster& cluster_;
  const Options& options_;
  std::function<void(uint32_t)> start_client_;
  fiber::Scope* scope_ = nullptr;
  bool ended_ = false;
  uint64_t applied_ = 0;
  std::vector<Fault> planned_;
  fiber::Scope* striking_ = nullptr;  // run() goes through them in it
  bool replaced_ = false;
  std::vector<Fault> ambushes_;  // laid
  std::vector<Fault> sprung_;    // about to strike
  fiber::Condition ambushed_;
};

}  // namespace mneme::sim
