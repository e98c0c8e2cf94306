#include "sim/machine.h"

#include <algorithm>

#include "sim/network.h"

namespace mneme::sim {

namespace {

constexpr int64_t kEpochMs = 1'700'000'000'000;  // the wall clock's time at the beginning of every run
constexpr int64_t kPpm = 1'000'000;
constexpr int64_t kEternity = INT64_MAX / 4;  // of world time: no run lasts so long

// Whether a draw must differ from boot to boot; the others are better named without, because boots shift when a crash
// is taken out of the plan.
bool names_a_process(Site site) {
  return site == Site::kRequestNumbers || site == Site::kRestoreNonce || site == Site::kScanCursors ||
         site == Site::kIncarnation || site == Site::kClusterId || site == Site::kProcessLife;
}

class MachineRandom final : public env::Random {
 public:
  explicit MachineRandom(Machine& machine) : machine_(machine) {}
  uint64_t draw(Site site, uint64_t a, uint64_t b) override {
    machine_.life()->check_alive();
    const uint64_t boot = names_a_process(site) ? machine_.boots() << 56 : 0;
    return machine_.world().choose(Choice::kCore, key(site) ^ boot, a, b);
  }
  bool rarely(Site site, uint64_t cause) override {
    World& world = machine_.world();
    const WorldOptions& options = world.options();
    if (!world.fate().chance(options.rarely_enabled_ppm, Choice::kCoreRarelyEnabled, static_cast<uint64_t>(site)))
      return false;
    return world.chance(options.rarely_fires_ppm * weight_of(site), Choice::kCoreRarelyFires, key(site), cause,
                        machine_.boots());
  }

 private:
  // Sites that are asked only now and then fire more often.
  static uint32_t weight_of(Site site) {
    if (site == Site::kSnapshotFirst || site == Site::kEagerRewrite) return 25;
    return site == Site::kSlowCheckpoint ? 10 : 1;
  }
  uint64_t key(Site site) const { return (static_cast<uint64_t>(site) << 32) + machine_.actor(); }
  Machine& machine_;
};

class MachineTrace final : public env::Trace {
 public:
  explicit MachineTrace(Machine& machine) : machine_(machine) {}
  bool wants(env::Level) const override { return machine_.world().recording(); }
  void line(env::Level level, std::string_view area, std::string_view text) override {
    machine_.world().record(machine_.actor(), area, text, level);
  }
  void reached(Probe probe) override { machine_.world().reached(probe, machine_.actor()); }

 private:
  Machine& machine_;
};

}  // namespace

// --- MachineClock

MachineClock::MachineClock(World& world, uint32_t actor, int32_t drift_ppm, int64_t wall_offset_ms)
    : world_(world),
      due_(*this, actor),
      drift_ppm_(drift_ppm),
      wall_offset_ms_(wall_offset_ms),
      base_world_(world.now()) {
  // Monotonic clocks of different boots and machines have nothing in common.
  base_local_ =
      Instant{static_cast<int64_t>(world.fate().between(0, 1'000'000'000'000, Choice::kClockDrift, actor, 1))};
}

Instant MachineClock::local(WorldTime at) const {
  const int64_t elapsed = at - base_world_;
  const int64_t speed = kPpm + drift_ppm_;
  if (int64_t product = 0; !__builtin_mul_overflow(elapsed, speed, &product))  // for the first hours: much cheaper
    return base_local_ + Duration(product / kPpm);
  return base_local_ + Duration(static_cast<int64_t>(static_cast<__int128>(elapsed) * speed / kPpm));
}

WallTime MachineClock::wall() const { return {kEpochMs + world_.now() / 1'000'000 + wall_offset_ms_}; }

void MachineClock::set_drift(int32_t ppm) {
  CHECK(ppm >= -kPpm);
  base_local_ = local(world_.now());
  base_world_ = world_.now();
  drift_ppm_ = ppm;
  next_changed();
}

void MachineClock::next_changed() {
  // The first world time at which local() reaches next(): rounded up, so that no timer is early. A clock that stands
  // still, or nearly, reaches only what is due already.
  const int64_t wanted = (next() - base_local_).count();
  const int64_t speed = kPpm + drift_ppm_;
  WorldTime at = world_.now();
  if (wanted > 0) {
    const __int128 elapsed = speed > 0 ? (static_cast<__int128>(wanted) * kPpm + speed - 1) / speed : kEternity;
    if (next() == kNever || elapsed >= kEternity) {
      world_.events().cancel(due_);
      return;
    }
    at = std::max(at, base_world_ + static_cast<int64_t>(elapsed));
  }
  // Lazily re-armed: a later time is looked at when the earlier one comes.
  if (due_.scheduled() && due_.at() <= at) return;
  world_.events().schedule(due_, at);
}

void MachineClock::due() { fire_due(now()); }

// --- Machine

Machine::Life::Life(Machine& m)
    : machine(m),
      clock(m.world(), m.actor(), m.options_.drift_ppm, m.options_.wall_offset_ms),
      network(m.world().network().attach(m)),
      disk(std::make_unique<MachineDisk>(m, m.disk_)),
      random(std::make_unique<MachineRandom>(m)),
      trace(std::make_unique<MachineTrace>(m)),
      env{m.world().scheduler(), clock, *network, *disk, *random, *trace} {}

Machine::Life::~Life() = default;

Machine::Machine(World& world, uint32_t actor, std::string name, const MachineOptions& options)
    : world_(world),
      actor_(actor),
      name_(std::move(name)),
      options_(options),
      disk_(world, actor, options.disk),
      release_(actor) {
  set_compute(options.compute_ns);
}

Machine::~Machine() { CHECK(!life_); }

void Machine::boot(fiber::Scope& scope, Program program, OnExit on_exit) {
  CHECK(!life_ && !booting_);
  powered_ = true;
  booting_ = true;
  ++boots_;
  scope.spawn("process", [this, program = std::move(program), on_exit = std::move(on_exit)] {
    if (!std::exchange(booting_, false)) return;  // crashed before it could start
    world_.scheduler().set_actor(actor_);
    auto life = std::make_unique<Life>(*this);
    life_ = life.get();
    world_.record(actor_, "process", "starts");
    Result<void> result = fiber::with_scope(world_.scheduler(), [&](fiber::Scope& inner) -> Result<void> {
      life->scope = &inner;
      return program(life->env);
    });
    const bool crashed = life->dead;
    life->dead = true;
    world_.network().process_ended(*this, CrashKind::kKill);
    leaked_files_ += life->disk->open_files();
    life_ = nullptr;
    life.reset();
    world_.scheduler().set_actor(0);
    if (crashed) return;
    if (world_.recording())
      world_.record(actor_, "process", result ? "ends" : fmt::format("ends: {}", result.error().message));
    on_exit(std::move(result));
  });
}

void Machine::crash(CrashKind kind) {
  if (kind == CrashKind::kPowerLoss) powered_ = false;
  booting_ = false;
  if (life_ && !life_->dead) {
    life_->dead = true;
    world_.network().process_ended(*this, kind);
    life_->disk->crashed();
    if (life_->scope) life_->scope->cancel();
    // A held reactor must still unwind.
    busy_until_ = paused_until_ = world_.now();
  }
  if (kind == CrashKind::kPowerLoss) disk_.power_loss();
}

Instant Machine::monotonic() const { return life_ ? life_->clock.now() : kNever; }

bool Machine::unwinding() const { return life_ && life_->dead; }

void Machine::hold_until(WorldTime until) { hold(busy_until_, until); }

void Machine::hold(WorldTime& hold, WorldTime until) {
  const bool longer = until > held_until();
  hold = std::max(hold, until);
  if (!longer) return;
  world_.hold(until);
}

void Machine::expect_release() {
  if (!release_.scheduled() || release_.at() != held_until()) world_.events().schedule(release_, held_until());
}

void Machine::turn_begins() {
  // What a crash unwinds takes no time.
  if (options_.compute_ns > 0 && life_ && !life_->dead) hold_until(world_.now() + options_.compute_ns);
}

void Machine::set_compute(int64_t ns) {
  options_.compute_ns = ns;
  if (ns > 0) world_.computing_takes_time_ = true;
}

void Machine::pause_until(WorldTime until) {
  world_.record(actor_, "fault", "pauses");
  hold(paused_until_, until);
}

void Machine::go_on() {
  const WorldTime old_end = held_until();
  paused_until_ = std::min(paused_until_, world_.now());
  const WorldTime end = std::max(held_until(), world_.now());
  // What became due during the pause was put off to its end.
  if (end < old_end) world_.events().move(actor_, old_end, end);
}

void Machine::set_drift(int32_t ppm) {
  options_.drift_ppm = ppm;
  if (life_) life_->clock.set_drift(ppm);
}

void Machine::jump_wall(int64_t ms) {
  options_.wall_offset_ms += ms;
  if (life_) life_->clock.jump_wall(ms);
}

}  // namespace mneme::sim
