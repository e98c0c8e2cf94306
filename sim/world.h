// The simulated world: virtual time, machines, the network between them, and the hash of everything that happened.
//
// One World is one run: it lives on one thread, in one scheduler, and everything in it is a function of its Fate and
// its Options and of the programs that run on its machines. It knows nothing of what those programs do.
//
// The trace hash folds every event with its time and process, every resumption of a fiber, every choice and every byte
// of I/O. Observation never steers: a Recorder sees what happens and the hash is the same without it.
//
// In what order fibers go on that are ready at once, and events happen that are due at once, is the Schedule's choice.
// FIFO: time passes only when no fiber is ready, and events happen at their times. Since hardly any two events are due
// in the same nanosecond, the other strategies take as simultaneous what is due within ScheduleOptions::window_ns:
// while something waits for its turn, what becomes due up to so much later may overtake it. So an event may happen, and
// a fiber go on, up to that much later than it could, as if the network, the disk, the timer or the processor had been
// so much slower, and never earlier. What has an order by its nature keeps it, because only its first is an event at a
// time: the bytes of one direction of a connection, the timers of a clock. Exempt are the world's own fibers and
// events, which are exact and overtaken by nothing, and the unwinding of a crash.
//
// Computing takes no time, unless a machine's disk blocks its reactor or its processor is slow (see MachineOptions), or
// a fault pauses it.
#pragma once

#include <fmt/format.h>

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/chance.h"
#include "core/env/env.h"
#include "core/fiber/fiber.h"
#include "core/fiber/scope.h"
#include "sim/event.h"
#include "sim/fate.h"
#include "sim/schedule.h"

namespace mneme::sim {

class Machine;
class Network;

// What happens, for people; called only when somebody listens.
class Recorder {
 public:
  virtual ~Recorder() = default;
  // `actor` 0 is the world itself. `area` is a short literal.
  virtual void line(WorldTime at, uint32_t actor, env::Level level, std::string_view area, std::string_view text) = 0;
};

struct WorldOptions {
  // Network, in nanoseconds. A segment takes base to 2 * base, now and then (tail_ppm) up to tail.
  int64_t latency_base_ns = 200'000;
  int64_t latency_tail_ns = 5'000'000;
  uint32_t latency_tail_ppm = 10'000;
  uint32_t split_ppm = 20'000;       // segments that arrive in two pieces
  uint32_t crumble_ppm = 0;          // segments whose first bytes arrive one at a time
  uint32_t coalesce_ppm = 0;         // segments for which the one before them waits, to arrive as one
  uint64_t bandwidth = 0;            // of each directed link between two machines, bytes per second; 0: no limit
  size_t window_bytes = 256 * 1024;  // sent and not yet read, per direction of a connection
  int64_t connect_timeout_ns = 3'000'000'000;
  ScheduleOptions schedule;
  // BUGGIFY: parts per million of sites enabled in this run, and of calls that fire at an enabled site.
  uint32_t rarely_enabled_ppm = 0;
  uint32_t rarely_fires_ppm = 0;
};

class World final : private fiber::Idle, private fiber::Order {
 public:
  World(uint64_t seed, WorldOptions options, Recorder* recorder);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // Runs `main` as the world's own first fiber (actor 0). `main` gets a scope in which machines live.
  void run(const std::function<void()>& main);

  // Machines are made once, in a fixed order, and numbered from 1.
  Machine& add_machine(std::string name, const struct MachineOptions& options);
  Machine* find_machine(std::string_view name);  // nullptr: none
  Machine& machine(uint32_t actor) { return *machines_[actor - 1]; }
  size_t machine_count() const { return machines_.size(); }

  WorldTime now() const { return now_; }
  const Fate& fate() const { return fate_; }
  const WorldOptions& options() const { return options_; }
  Network& network() { return *network_; }
  fiber::Scheduler& scheduler() { return scheduler_; }
  EventQueue& events() { return events_; }

  // A choice that happens now: drawn, and folded into the trace.
  uint64_t choose(Choice choice, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0) {
    uint64_t drawn = fate_.draw(choice, a, b, c);
    hash_ = fold(hash_, drawn);
    return drawn;
  }
  bool chance(uint32_t ppm, Choice choice, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0) {
    return ppm != 0 && Fate::scale(choose(choice, a, b, c), 1'000'000) < ppm;
  }

  // Draws every later choice from another seed, which is itself a choice: the nth of those that this event has. What
  // was drawn before stays, and the hash up to here.
  void branch(uint64_t event, uint64_t nth) { fate_ = Fate(choose(Choice::kBranch, event, nth)); }

  // Observation.
  // `zeros`: how many more follow `bytes`. Files are mostly zeros, which need no hashing.
  void fold_bytes(EventKind kind, uint32_t actor, ByteView bytes, size_t zeros = 0) {
    hash_ = fold(hash_ + (static_cast<uint64_t>(kind) << 56) + (zeros << 16) + actor,
                 is_zero(bytes) ? bytes.size() : xxh3(bytes));
  }
  uint64_t trace_hash() const { return hash_; }
  uint64_t event_count() const { return event_count_; }
  bool recording() const { return recorder_ != nullptr; }
  void record(uint32_t actor, std::string_view area, std::string_view text, env::Level level = env::Level::kInfo) {
    if (recorder_) recorder_->line(now_, actor, level, area, text);
  }
  // What happens all the time; formatted only when somebody listens.
  template <class... Args>
  void detail(uint32_t actor, std::string_view area, fmt::format_string<Args...> format, Args&&... args) {
    if (recorder_) record(actor, area, fmt::format(format, std::forward<Args>(args)...), env::Level::kDebug);
  }
  // Called after every event, with the number of the event; for --verify and --break.
  std::function<void(uint64_t number, uint64_t hash)> after_event;
  void reached(Probe probe, uint32_t actor) {
    ++probes_[static_cast<size_t>(probe)];
    if (after_probe) after_probe(probe, actor);
  }
  // Called when a process reaches a probe, in the middle of its work: faults that wait for one take note of it here and
  // strike in an event of their own.
  std::function<void(Probe probe, uint32_t actor)> after_probe;
  const std::array<uint64_t, kProbeCount>& probes() const { return probes_; }

  // For fibers of the world itself.
  void sleep_until(WorldTime at);
  void sleep_for(WorldTime duration) { sleep_until(now_ + duration); }
  // Runs `then` after `delay`, in a fiber of its own in `scope`.
  template <class F>
  void later(fiber::Scope& scope, WorldTime delay, F then) {
    scope.spawn("later", [this, at = now_ + delay, then = std::move(then)] {
      sleep_until(at);
      then();
    });
  }

 private:
  friend class Machine;
  void hold(WorldTime until);                                      // a machine is held until then
  bool wait() override;                                            // fiber::Idle
  size_t choose(const std::deque<fiber::Fiber*>& ready) override;  // fiber::Order
  bool may_run(const fiber::Fiber& fiber);
  size_t first(const std::deque<fiber::Fiber*>& ready);
  // Schedule search.
  size_t search(const std::deque<fiber::Fiber*>& ready);
  void line_up_events();
  bool wait_searching();
  void happen(Event& event);
  void note_event(EventKind kind, uint32_t actor, uint64_t detail) {
    hash_ = fold(hash_ ^ static_cast<uint64_t>(now_), (static_cast<uint64_t>(kind) << 56) + (detail << 24) + actor);
    ++event_count_;
    if (after_event) after_event(event_count_, hash_);
  }

  Fate fate_;
  WorldOptions options_;
  Recorder* recorder_;
  WorldTime now_ = 0;
  uint64_t hash_ = 0;
  uint64_t event_count_ = 0;
  WorldTime some_machine_held_until_ = 0;
  static constexpr WorldTime kNoRelease = INT64_MAX;
  WorldTime release_ = kNoRelease;     // when the first of the ready fibers, all of which are held, may go on
  bool computing_takes_time_ = false;  // or did, on some machine
  std::array<uint64_t, kProbeCount> probes_{};
  EventQueue events_;
  fiber::Scheduler scheduler_;
  // Schedule search. The line is of fibers and then of events.
  Schedule schedule_;
  const bool searching_;
  std::vector<Schedule::Task> line_;
  std::vector<size_t> fibers_;   // in the line, by their places among the ready ones
  std::vector<Event*> due_;      // in the line
  Event* next_event_ = nullptr;  // picked
  const std::deque<fiber::Fiber*> nobody_;
  WorldTime since_ = 0;         // what is in the line became ready then or later
  uint64_t crowded_picks_ = 0;  // since no fiber was ready
  std::unique_ptr<Network> network_;
  std::vector<std::unique_ptr<Machine>> machines_;
};

}  // namespace mneme::sim
