// Applies planned faults to a kv run, and springs ambushes: faults that wait for a process to reach a probe.
//
// What each fault does to a machine or the network is stated where that is simulated (sim/network.h, sim/disk.h,
// sim/machine.h); here is who is struck, for how long, and in what sequence.
//
// Silent rollback: a disk goes back to an earlier state (a copy of it is put back; power is lost after flushes that did
// nothing, or after the last write was lost or landed elsewhere). It may take back what its node acknowledged, the term
// that it knew and the vote that it gave, and the node cannot tell: no log can show that its own tail is gone. Whatever
// is not a prefix of what there was can be told, and must be: then it is ordinary damage. The limit, within which all
// that is promised still holds:
//   When the disk goes back, in each group of the victim its log is durable and ends with an entry of its term, and a
//   majority of the replicas without it, all in good standing and in that term, hold durably all that it holds. What it
//   goes back to is a state in which the same was true: of any term when it is a copy, of this term when it is what
//   flushes and writes left.
// Then the victim's word was not needed. What it acknowledged is on a majority without it, so that who is elected later
// has it. Nobody of that majority gives a vote of this term or an earlier one to somebody without its last entry, so
// that neither a forgotten vote that is given again elects anybody nor an old leader finds a majority. And the old log
// is a prefix of every later leader's, so that a leader who remembers what the victim acknowledged, and tells it how
// far that is committed, is not misunderstood. It is tight: with one holder less, those that hold an acknowledged write
// are too few to stop an election without it (tests/golden/raft/rollback_beyond_limit.txt). To keep the limit, each of
// these faults waits until it may begin, and then until it may strike (KvCluster::may_forget); what may not strike in
// time is taken back. Between the two, a loss of power by another fault shows what the disk lacks if it may strike
// then, and otherwise only kills the machine; its page cache is not evicted. With limit = lifted nothing waits, and
// violations are to be expected.
#pragma once

#include <functional>
#include <vector>

#include "core/fiber/sync.h"
#include "sim/scenarios/kv_cluster.h"
#include "sim/scenarios/plan.h"

namespace mneme::sim {

class KvFaults {
 public:
  // `start_client(n)` starts client process n, from 1, again; `operate` begins an operation that was planned. All
  // references outlive this.
  KvFaults(World& world, KvCluster& cluster, const Options& options, std::function<void(uint32_t)> start_client,
           std::function<void(const Fault&)> operate);

  // Strikes at each fault's time until `end`; suspends until then. Spawns in `scope`, the world's.
  void run(fiber::Scope& scope, std::vector<Fault> faults, WorldTime end);
  // From now on these strike, of those times that are still to come, instead of what was planned; and these ambushes
  // are laid, those of earlier times at once, instead of all that have not been sprung. Callable from anywhere; once
  // run() has returned nothing happens.
  void replace(std::vector<Fault> faults);
  // An operation on the shard has made a step, or was begun, or has ended.
  void stepped(const shard::Shard& shard);
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
  void put_back_copy(const Fault& fault);
  void lie(const Fault& fault);
  void stray_write(const Fault& fault);
  void when_it_may_forget(uint32_t node, WorldTime until, std::function<void()> then, std::function<void()> otherwise);
  void look_for_ambush(Probe probe, uint32_t actor);
  uint32_t prey_of(const Fault& hunt, const shard::Shard& shard) const;
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
  std::function<void(const Fault&)> operate_;
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
