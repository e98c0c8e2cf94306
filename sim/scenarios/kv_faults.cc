#include "sim/scenarios/kv_faults.h"

#include <algorithm>

#include "sim/network.h"

namespace mneme::sim {

namespace {
// Bytes per second, divided by the factor by which a link is slow: so that the slowest is usable, just.
constexpr uint64_t kSlowLinkBandwidth = 4'000'000;
// How long silent rollback waits for a moment when it may begin or strike, and how often it looks.
constexpr WorldTime kRollbackPatience = 3000 * kMillisecond;
constexpr WorldTime kRollbackLook = kMillisecond;
}  // namespace

KvFaults::KvFaults(World& world, KvCluster& cluster, const Options& options, std::function<void(uint32_t)> start_client,
                   std::function<void(const Fault&)> operate)
    : world_(world),
      cluster_(cluster),
      options_(options),
      start_client_(std::move(start_client)),
      operate_(std::move(operate)),
      ambushed_(world.scheduler()) {
  world_.after_probe = [this](Probe probe, uint32_t actor) { look_for_ambush(probe, actor); };
}

void KvFaults::run(fiber::Scope& scope, std::vector<Fault> faults, WorldTime end) {
  scope_ = &scope;
  scope.spawn("ambush", [this] { strike_from_ambush(); });
  planned_ = std::move(faults);
  do {
    replaced_ = false;
    auto struck = fiber::with_scope(world_.scheduler(), [&](fiber::Scope& striking) {
      striking_ = &striking;
      striking.on_release([this] { striking_ = nullptr; });
      for (const Fault& fault : std::exchange(planned_, {})) {
        if (fault.at >= end || ended_) break;
        world_.sleep_until(fault.at);
        apply(fault);
      }
      world_.sleep_until(end);
    });
    CHECK(struck.has_value());
  } while (replaced_);
}

void KvFaults::replace(std::vector<Fault> faults) {
  if (!striking_) return;
  ambushes_.clear();
  planned_.clear();
  for (Fault& fault : faults) {
    if (fault.at > world_.now())
      planned_.push_back(fault);
    else if (fault.kind == FaultKind::kAmbush)
      ambushes_.push_back(fault);
  }
  replaced_ = true;
  striking_->cancel();
}

void KvFaults::end() {
  ended_ = true;
  world_.network().heal();
  for (uint32_t n = 1; n <= cluster_.size(); ++n) {
    Machine& machine = cluster_.machine(n);
    machine.disk().cancel_failures();
    machine.set_drift(0);
    set_usual_compute(n);
    machine.go_on();
  }
}

void KvFaults::set_usual_compute(uint32_t node) {
  cluster_.machine(node).set_compute(options_[Option::compute] * 1000);
}

void KvFaults::cut_off(uint64_t set, WorldTime until) {
  for (uint32_t a = 1; a <= cluster_.size(); ++a)
    for (uint32_t b = 1; b <= cluster_.size(); ++b)
      if ((set >> a & 1) != (set >> b & 1)) world_.network().block(a, b, until);
}

void KvFaults::apply(const Fault& fault) {
  if (ended_) return;
  applied_ += fault.kind != FaultKind::kAmbush;  // counted when it strikes
  world_.record(0, "fault", fault.text().substr(11));
  const WorldTime until = world_.now() + fault.duration;
  Network& network = world_.network();
  auto machine = [&]() -> Machine& { return cluster_.machine(fault.a); };
  switch (fault.kind) {
    case FaultKind::kKill:
      cluster_.crash_for(fault.a, CrashKind::kKill, fault.duration);
      if (fault.torn_too) cluster_.crash(fault.a, CrashKind::kPowerLoss);
      break;
    case FaultKind::kPowerLoss: cluster_.crash_for(fault.a, CrashKind::kPowerLoss, fault.duration); break;
    case FaultKind::kBlackout:
      for (uint32_t n = 1; n <= cluster_.size(); ++n)
        if (fault.set >> n & 1) cluster_.crash_for(n, CrashKind::kPowerLoss, down_for(world_.fate(), fault, n));
      break;
    case FaultKind::kOverthrow:
      cut_off(uint64_t{1} << fault.a, until);
      for (uint32_t n = 1; n <= cluster_.size(); ++n)
        if (n != fault.a) cluster_.crash_for(n, CrashKind::kPowerLoss, down_for(world_.fate(), fault, n) / 4);
      break;
    case FaultKind::kRestartStorm: restart_storm(fault, 0); break;
    case FaultKind::kRollingRestart: rolling_restart(fault, 0); break;
    case FaultKind::kAmbush: ambushes_.push_back(fault); break;
    case FaultKind::kPause: machine().pause_until(until); break;
    case FaultKind::kPartition: cut_off(fault.set, until); break;
    case FaultKind::kBlock: network.block(fault.a, fault.b, until); break;
    case FaultKind::kClog: network.clog(fault.a, fault.b, until); break;
    case FaultKind::kReset: network.reset(fault.a, fault.b); break;
    case FaultKind::kSlowLink: {
      const auto factor = static_cast<uint32_t>(fault.amount);
      network.slow(fault.a, fault.b, until, factor, kSlowLinkBandwidth / factor);
      break;
    }
    case FaultKind::kStall: network.stall(fault.a, fault.b, until); break;
    case FaultKind::kHalfOpen:
      if (fault.amount == 0)
        network.swallow(fault.a, fault.b);
      else
        network.reset_end(fault.a, fault.b);
      break;
    case FaultKind::kSlowCpu:
      machine().set_compute(fault.amount * 1000);
      later(fault.duration, [this, a = fault.a] { set_usual_compute(a); });
      break;
    case FaultKind::kFailSync: machine().disk().fail_next_sync(); break;
    case FaultKind::kRot:
      if (!cluster_.may_damage(fault.a)) break;
      cluster_.damage(fault.a);
      world_.record(fault.a, "fault", machine().disk().rot(fault.item));
      break;
    case FaultKind::kReadError:
      if (!cluster_.may_damage(fault.a)) break;
      cluster_.damage(fault.a);
      world_.record(fault.a, "fault", machine().disk().make_unreadable(fault.item));
      break;
    case FaultKind::kTailRot:
      if (!cluster_.may_damage(fault.a)) break;
      cluster_.damage(fault.a);
      cluster_.crash_for(fault.a, CrashKind::kPowerLoss, fault.duration);
      world_.record(fault.a, "fault", machine().disk().rot_last_written(fault.item));
      break;
    case FaultKind::kWipe:
      // A cluster that is still being founded may count the empty disk in, as it should.
      if (cluster_.founded() && cluster_.may_damage(fault.a)) cluster_.wipe(fault.a, fault.duration);
      break;
    case FaultKind::kFullDisk:
      machine().disk().set_full(true);
      later(fault.duration, [this, a = fault.a] { cluster_.machine(a).disk().set_full(false); });
      break;
    case FaultKind::kHungDisk:
      machine().disk().set_hung(true);
      later(fault.duration, [this, a = fault.a] { cluster_.machine(a).disk().set_hung(false); });
      break;
    case FaultKind::kOldCopy: put_back_copy(fault); break;
    case FaultKind::kLyingDisk: lie(fault); break;
    case FaultKind::kLostWrite:
    case FaultKind::kMisdirectedWrite: stray_write(fault); break;
    case FaultKind::kEvict:
      if (cluster_.doubted(fault.a)) break;
      world_.record(fault.a, "fault", machine().disk().evict());
      break;
    case FaultKind::kSlowDisk:
      machine().disk().set_slowness(static_cast<uint32_t>(fault.amount));
      later(fault.duration, [this, a = fault.a] { cluster_.machine(a).disk().set_slowness(1); });
      break;
    case FaultKind::kDrift: drift(fault, static_cast<int32_t>(fault.amount)); break;
    case FaultKind::kDelude:
      cut_off(uint64_t{1} << fault.a, until);
      drift(fault, slowest_clock(options_));
      break;
    case FaultKind::kExile: {
      cut_off(uint64_t{1} << fault.a, until);
      if (fault.amount == 1) drift(fault, slowest_clock(options_));
      Fault reunion = fault;
      reunion.kind = FaultKind::kAmbush;
      reunion.trigger = Probe::checkpoint_completed;
      reunion.strike = FaultKind::kReunite;
      reunion.nth = 1;
      ambushes_.push_back(reunion);
      break;
    }
    case FaultKind::kReplace:
      if (cluster_.founded() && cluster_.may_damage(fault.a)) cluster_.replace(fault.a, fault.duration);
      break;
    case FaultKind::kJoin: cluster_.join(fault.a); break;
    case FaultKind::kSplit:
    case FaultKind::kMove:
    case FaultKind::kAdd:
    case FaultKind::kTake:
    case FaultKind::kTransfer:
    case FaultKind::kDrain:
    case FaultKind::kRemove: operate_(fault); break;
    case FaultKind::kHunt:
    case FaultKind::kMetaHunt: break;  // are ambushes
    case FaultKind::kStop: cluster_.stop_for(fault.a, fault.duration); break;
    case FaultKind::kReunite: network.heal(); break;
    case FaultKind::kWallJump: machine().jump_wall(fault.amount); break;
    case FaultKind::kClientVanishes: {
      const uint32_t client = fault.a + 1;
      world_.machine(cluster_.size() + client).crash(CrashKind::kPowerLoss);
      world_.later(*scope_, fault.duration, [this, client] { start_client_(client); });
      break;
    }
  }
}

void KvFaults::drift(const Fault& fault, int32_t ppm) {
  Machine& machine = cluster_.machine(fault.a);
  const int32_t usual = std::max(machine.options().drift_ppm, -1000);
  machine.set_drift(ppm);
  later(fault.duration, [&machine, usual] { machine.set_drift(usual); });
}

// Loses power or is killed, comes back, and is struck again while it recovers or soon after.
void KvFaults::restart_storm(const Fault& fault, int64_t nth) {
  auto draw = [&](uint64_t low, uint64_t high, uint64_t what) {
    return static_cast<WorldTime>(
        world_.fate().between(low, high, Choice::kPlan, fault.item, 40 + what, static_cast<uint64_t>(nth)));
  };
  const bool kill = draw(0, 3, 0) == 0;
  const WorldTime down = draw(1, 300'000, 1) * 1000;
  const WorldTime up = draw(0, static_cast<uint64_t>(draw(1, 400'000, 2)), 3) * 1000;  // short ones being likelier
  cluster_.crash_for(fault.a, kill ? CrashKind::kKill : CrashKind::kPowerLoss, down);
  if (nth + 1 < fault.amount) later(down + up, [this, fault, nth] { restart_storm(fault, nth + 1); });
}

void KvFaults::rolling_restart(const Fault& fault, uint32_t nth) {
  if (nth == cluster_.size()) return;
  const uint32_t node = (fault.a - 1 + nth) % cluster_.size() + 1;
  if (fault.amount == 1)
    cluster_.stop_for(node, fault.duration);
  else
    cluster_.crash_for(node, CrashKind::kKill, fault.duration);
  later(fault.duration + fault.delay, [this, fault, nth] { rolling_restart(fault, nth + 1); });
}

void KvFaults::when_it_may_forget(uint32_t node, WorldTime until, std::function<void()> then,
                                  std::function<void()> otherwise) {
  if (cluster_.may_forget(node)) return then();
  if (world_.now() >= until) return otherwise();
  later(kRollbackLook, [this, node, until, then = std::move(then), otherwise = std::move(otherwise)] {
    when_it_may_forget(node, until, then, otherwise);
  });
}

void KvFaults::put_back_copy(const Fault& fault) {
  auto nothing = [] {};
  auto strike = [this, fault] { cluster_.put_back_copy(fault.a, fault.duration); };
  auto copy = [this, fault, strike, nothing] {
    if (cluster_.doubted(fault.a)) return;
    world_.record(fault.a, "fault", "copied: " + cluster_.machine(fault.a).disk().take_copy());
    later(fault.delay, [this, fault, strike, nothing] {
      when_it_may_forget(fault.a, world_.now() + kRollbackPatience, strike, nothing);
    });
  };
  when_it_may_forget(fault.a, world_.now() + kRollbackPatience, copy, nothing);
}

void KvFaults::lie(const Fault& fault) {
  auto strike = [this, fault] {
    if (cluster_.doubted(fault.a)) cluster_.crash_for(fault.a, CrashKind::kPowerLoss, fault.duration);
  };
  auto redeem = [this, fault] {
    if (cluster_.doubted(fault.a)) cluster_.redeem(fault.a);
  };
  auto begin = [this, fault, strike, redeem] {
    if (cluster_.doubted(fault.a)) return;
    cluster_.doubt(fault.a);
    cluster_.machine(fault.a).disk().set_lying(true);
    later(fault.delay, [this, fault, strike, redeem] {
      when_it_may_forget(fault.a, world_.now() + kRollbackPatience, strike, redeem);
    });
  };
  when_it_may_forget(fault.a, world_.now() + kRollbackPatience, begin, [] {});
}

// What was lost cannot be made good: until it may show, nothing takes the page cache away that hides it.
void KvFaults::stray_write(const Fault& fault) {
  auto strike = [this, fault] {
    if (cluster_.doubted(fault.a)) cluster_.crash_for(fault.a, CrashKind::kPowerLoss, fault.duration);
  };
  auto begin = [this, fault, strike] {
    if (cluster_.doubted(fault.a)) return;
    cluster_.doubt(fault.a);
    DiskState& disk = cluster_.machine(fault.a).disk();
    if (fault.kind == FaultKind::kLostWrite)
      disk.lose_next_write(fault.item);
    else
      disk.misdirect_next_write(fault.item);
    later(fault.delay,
          [this, fault, strike] { when_it_may_forget(fault.a, world_.now() + kRollbackPatience, strike, [] {}); });
  };
  when_it_may_forget(fault.a, world_.now() + kRollbackPatience, begin, [] {});
}

// Called in the middle of a process's work; what strikes does so from a fiber of the world's.
void KvFaults::look_for_ambush(Probe probe, uint32_t actor) {
  if (actor > cluster_.size()) return;
  for (size_t i = 0; i < ambushes_.size(); ++i) {
    if (ambushes_[i].trigger != probe || ambushes_[i].prey != Prey::kActor) continue;
    if (ambushes_[i].strike == FaultKind::kReunite && ambushes_[i].a == actor) continue;  // of another node
    if (--ambushes_[i].nth > 0) continue;
    sprung_.push_back(ambushes_[i].sprung_on(actor, cluster_.size()));
    ambushes_.erase(ambushes_.begin() + static_cast<ptrdiff_t>(i--));
  }
  if (!sprung_.empty()) ambushed_.notify_one();
}

uint32_t KvFaults::prey_of(const Fault& hunt, const shard::Shard& shard) const {
  if (hunt.prey == Prey::kMetaLeader) return cluster_.leader_of(shard::kMetaGroup);
  if (hunt.prey == Prey::kTarget && shard.operation && shard.operation->target)
    return cluster_.machine_of(shard.operation->target.node);
  return cluster_.leader_of(shard.group());
}

// Called in the middle of a process's work, too.
void KvFaults::stepped(const shard::Shard& shard) {
  for (size_t i = 0; i < ambushes_.size(); ++i) {
    if (ambushes_[i].prey == Prey::kActor || (ambushes_[i].nth > 1 && --ambushes_[i].nth > 0)) continue;
    const uint32_t prey = prey_of(ambushes_[i], shard);
    if (prey == 0) continue;
    sprung_.push_back(ambushes_[i].sprung_on(prey, cluster_.size()));
    ambushes_.erase(ambushes_.begin() + static_cast<ptrdiff_t>(i--));
  }
  if (!sprung_.empty()) ambushed_.notify_one();
}

void KvFaults::strike_from_ambush() {
  for (;;) {
    ambushed_.wait_until([this] { return !sprung_.empty(); });
    for (Fault& fault : std::exchange(sprung_, {})) later(fault.delay, [this, fault] { apply(fault); });
  }
}

}  // namespace mneme::sim
