// A simulated machine: a disk that survives, two clocks, and at most one running process with an Env of its own.
//
// Fault model of processes:
//   kill        the process is gone at once; its page cache stays, so the next one may read bytes that were never
//               synced; its connections are closed by the operating system, what it had written to them still leaves
//   power loss  the process, the page cache and everything in flight are gone (see disk.h for what the disk keeps);
//               peers are told nothing and find out by silence, or by a reset once the machine is up again
//   pause       no fiber of the process runs and no event reaches it until it goes on; clocks do not pause
//   slow CPU    every turn of a fiber keeps the process busy for a while: its next one, and all that reaches it, waits
//   clocks      monotonic: runs faster or slower by a drift that may change, stands still at worst, never goes back
//               wall: offset and jumps both ways, runs at the world's speed
//
// A crash first marks the process's environment dead, then unwinds its fibers: every call into a dead environment
// throws Cancelled, so no destructor can improve the crash.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>

#include "core/env/env.h"
#include "core/fiber/scope.h"
#include "sim/disk.h"
#include "sim/world.h"

namespace mneme::sim {

struct MachineOptions {
  bool disk_blocks = false;  // disk operations hold the whole reactor, as blocking system calls do
  int64_t compute_ns = 0;    // what a turn of a fiber, from one suspension to the next, takes
  int32_t drift_ppm = 0;
  int64_t wall_offset_ms = 0;
  DiskOptions disk;
};

enum class CrashKind : uint8_t { kKill, kPowerLoss };

// The node's view of time. Piecewise linear in world time.
class MachineClock final : public env::Clock, private fiber::TimerQueue {
 public:
  MachineClock(World& world, uint32_t actor, int32_t drift_ppm, int64_t wall_offset_ms);
  Instant now() const override { return local(world_.now()); }
  WallTime wall() const override;
  fiber::TimerQueue& timers() override { return *this; }

  void set_drift(int32_t ppm);  // at least -1,000,000: stands still
  void jump_wall(int64_t ms) { wall_offset_ms_ += ms; }
  int32_t drift_ppm() const { return drift_ppm_; }

 private:
  struct Due : Event {
    explicit Due(MachineClock& c, uint32_t actor) : Event(EventKind::kTimer, actor), clock(c) {}
    void happen() override { clock.due(); }
    MachineClock& clock;
  };
  Instant local(WorldTime at) const;
  void due();
  void next_changed() override;

  World& world_;
  Due due_;
  int32_t drift_ppm_;
  int64_t wall_offset_ms_;
  WorldTime base_world_ = 0;
  Instant base_local_;
};

class Machine {
 public:
  using Program = std::function<Result<void>(Env&)>;
  // The process ended by itself, not by a crash; called from the world's side after everything of it is gone.
  using OnExit = std::function<void(Result<void>)>;

  Machine(World& world, uint32_t actor, std::string name, const MachineOptions& options);
  ~Machine();

  // Starts a process in `scope`, a scope of the world's. No other may be running.
  void boot(fiber::Scope& scope, Program program, OnExit on_exit);
  // Ends the running process, if any. It is gone once the scheduler has run its fibers, before time passes.
  void crash(CrashKind kind);
  void pause_until(WorldTime until);
  // Ends a pause: what was due meanwhile happens now.
  void go_on();

  bool running() const { return life_ != nullptr || booting_; }
  bool powered() const { return powered_; }
  bool unwinding() const;  // its process has crashed and is not gone yet
  WorldTime held_until() const { return std::max(busy_until_, paused_until_); }
  World& world() { return world_; }
  uint32_t actor() const { return actor_; }
  const std::string& name() const { return name_; }
  const MachineOptions& options() const { return options_; }
  DiskState& disk() { return disk_; }
  uint64_t boots() const { return boots_; }
  // What its monotonic clock shows to its process; kNever when there is none.
  Instant monotonic() const;
  // Files that a process had not closed when all of its fibers were gone; of all its processes.
  size_t leaked_files() const { return leaked_files_; }

  // Faults that outlive a process.
  void set_drift(int32_t ppm);
  void jump_wall(int64_t ms);
  void set_compute(int64_t ns);

  // For the parts of a process's environment.
  struct Life;
  Life* life() { return life_; }
  void hold_until(WorldTime until);
  void turn_begins();  // of one of its fibers
  // One of its fibers is ready and held: when it may go on becomes an event of the schedule that is searched.
  void expect_release();

 private:
  void hold(WorldTime& hold, WorldTime until);
  World& world_;
  uint32_t actor_;
  std::string name_;
  MachineOptions options_;
  DiskState disk_;
  Life* life_ = nullptr;
  bool powered_ = true;
  bool booting_ = false;
  WorldTime busy_until_ = 0;
  WorldTime paused_until_ = 0;
  uint64_t boots_ = 0;
  size_t leaked_files_ = 0;
  struct Release : Event {
    explicit Release(uint32_t actor) : Event(EventKind::kTimer, actor) {}
    void happen() override {}
  } release_;
};

// What one process sees of the world; dies with it.
struct Machine::Life {
  explicit Life(Machine& machine);
  ~Life();

  // Throws Cancelled in a process that has crashed.
  void check_alive() const {
    if (dead) throw fiber::Cancelled{};
  }

  Machine& machine;
  bool dead = false;
  fiber::Scope* scope = nullptr;
  MachineClock clock;
  std::unique_ptr<env::Network> network;
  std::unique_ptr<MachineDisk> disk;
  std::unique_ptr<env::Random> random;
  std::unique_ptr<env::Trace> trace;
  Env env;
};

}  // namespace mneme::sim
