#include "sim/scenarios/plan.h"

#include <algorithm>
#include <tuple>

namespace mneme::sim {

namespace {

// What a clock gains at most, in ppm: beyond it keys could expire earlier than the checker believes (kv_history.h).
constexpr int64_t kFastestClock = 50'000;

struct Drawer {
  const Fate& fate;
  const Options& options;
  Plan& plan;
  const Removals& removals;

  uint64_t between(uint64_t low, uint64_t high, uint64_t item, uint64_t what) const {
    return fate.between(low, high, Choice::kPlan, item, what);
  }
  uint32_t node(uint64_t item, uint64_t what) const {
    return static_cast<uint32_t>(between(1, static_cast<uint64_t>(nodes()), item, what));
  }

  // Store machines, those that join later included.
  int64_t nodes() const { return options[Option::nodes] + options[Option::joins]; }
  uint64_t all_nodes() const { return ((uint64_t{1} << nodes()) - 1) << 1; }

  template <class F>
  void add(FaultKind kind, Option count, F&& fill) const {
    for (int64_t nth = 0; nth < options[count]; ++nth) {
      Fault fault{.item = static_cast<uint64_t>(kind) * 1000 + static_cast<uint64_t>(nth), .kind = kind};
      // The first second is quiet, so that there is something to lose.
      const auto end = static_cast<uint64_t>(options[Option::duration]);
      fault.at =
          static_cast<WorldTime>(between(std::min<uint64_t>(1000, end / 10), end, fault.item, 0)) * kMillisecond +
          static_cast<WorldTime>(between(0, 999'999, fault.item, 10));
      fault.a = node(fault.item, 1);
      if (!fill(fault) || removals.faults.contains(fault.item)) continue;
      plan.faults.push_back(fault);
    }
  }
  // Milliseconds, short ones being likelier.
  WorldTime lasting(uint64_t low, uint64_t high, uint64_t item) const {
    uint64_t most = between(low, high, item, 2);
    return static_cast<WorldTime>(between(low, most, item, 3)) * kMillisecond;
  }
  bool other(Fault& fault) const {
    fault.b = node(fault.item, 4);
    return fault.a != fault.b;
  }
  // The same, clients' machines included.
  bool anybody_else(Fault& fault) const {
    const auto machines = static_cast<uint64_t>(nodes() + options[Option::clients]);
    fault.b = static_cast<uint32_t>(between(1, machines, fault.item, 4));
    return fault.a != fault.b;
  }
  // What an ambush does when it is sprung.
  void strike(Fault& fault) const {
    static constexpr FaultKind kStrikes[] = {FaultKind::kKill,      FaultKind::kPowerLoss, FaultKind::kPowerLoss,
                                             FaultKind::kPartition, FaultKind::kPause,     FaultKind::kBlackout,
                                             FaultKind::kOverthrow, FaultKind::kOverthrow};
    fault.strike = kStrikes[between(0, std::size(kStrikes) - 1, fault.item, 6)];
    fault.delay = static_cast<WorldTime>(between(0, between(0, 50'000'000, fault.item, 8), fault.item, 9));
    fault.duration = lasting(1, 3000, fault.item);
  }
  // Moves the fault to a machine whose disk may be damaged.
  bool damage(Fault& fault) const {
    for (uint32_t step = 0; step < 64; ++step) {
      const uint32_t machine = (fault.a + step - 1) % static_cast<uint32_t>(nodes()) + 1;
      if ((plan.damageable >> machine & 1) == 0) continue;
      fault.a = machine;
      return true;
    }
    return false;
  }
};

// What an operator asks for. Whose turn it is, and where a shard is split, is chosen when the time has come, among what
// there is.
void draw_operations(const Drawer& d) {
  auto choose = [&](Fault& f) {
    f.choice = d.between(0, ~uint64_t{0}, f.item, 5);
    return true;
  };
  auto hunt = [&](Fault& f) {
    f.kind = FaultKind::kAmbush;
    f.nth = static_cast<uint32_t>(d.between(1, 4, f.item, 7));
    d.strike(f);
    return true;
  };
  for (auto [kind, option] : {std::pair(FaultKind::kSplit, Option::splits), std::pair(FaultKind::kMove, Option::moves),
                              std::pair(FaultKind::kAdd, Option::adds), std::pair(FaultKind::kTake, Option::takes),
                              std::pair(FaultKind::kTransfer, Option::transfers)})
    d.add(kind, option, choose);
  d.add(FaultKind::kDrain, Option::drains, [&](Fault& f) { return f.duration = d.lasting(500, 8000, f.item), true; });
  d.add(FaultKind::kJoin, Option::joins, [&](Fault& f) {
    f.a = static_cast<uint32_t>(d.options[Option::nodes] + 1 + static_cast<int64_t>(f.item % 1000));
    f.at = f.at / 3 + 1000 * kMillisecond;  // early, so that something comes of it
    return true;
  });
  d.add(FaultKind::kRemove, Option::removals, [](Fault&) { return true; });
  d.add(FaultKind::kReplace, Option::replacements,
        [&](Fault& f) { return f.duration = d.lasting(1, 4000, f.item), d.damage(f); });
  d.add(FaultKind::kHunt, Option::hunts, [&](Fault& f) {
    f.prey = d.between(0, 2, f.item, 5) == 0 ? Prey::kTarget : Prey::kLeader;
    return hunt(f);
  });
  d.add(FaultKind::kMetaHunt, Option::meta_hunts, [&](Fault& f) { return f.prey = Prey::kMetaLeader, hunt(f); });
}

void draw_faults(Drawer d) {
  const Options& options = d.options;
  draw_operations(d);
  d.add(FaultKind::kKill, Option::kills, [&](Fault& f) {
    f.duration = d.lasting(1, 4000, f.item);
    f.torn_too = d.fate.chance(250'000, Choice::kPlan, f.item, 5);
    return true;
  });
  d.add(FaultKind::kPowerLoss, Option::power_losses,
        [&](Fault& f) { return f.duration = d.lasting(1, 5000, f.item), true; });
  d.add(FaultKind::kBlackout, Option::blackouts, [&](Fault& f) {
    f.duration = d.lasting(1, 3000, f.item);
    f.set = d.all_nodes();
    if (d.fate.chance(400'000, Choice::kPlan, f.item, 6)) {  // all but some: a majority still
      const auto nodes = static_cast<uint32_t>(d.nodes());
      for (uint32_t spared = 0; spared < (nodes - 1) / 2; ++spared)
        f.set &= ~(uint64_t{1} << d.node(f.item, 11 + spared));
    }
    return true;
  });
  d.add(FaultKind::kPause, Option::pauses, [&](Fault& f) { return f.duration = d.lasting(10, 4000, f.item), true; });
  d.add(FaultKind::kPartition, Option::partitions, [&](Fault& f) {
    f.duration = d.lasting(100, 7000, f.item);
    const uint64_t all = d.all_nodes();
    f.set = d.between(0, ~uint64_t{0}, f.item, 6) & all;
    if (d.fate.chance(500'000, Choice::kPlan, f.item, 7)) f.set = uint64_t{1} << f.a;  // one alone, often
    return f.set != 0 && f.set != all;
  });
  d.add(FaultKind::kBlock, Option::one_way_blocks,
        [&](Fault& f) { return f.duration = d.lasting(50, 6000, f.item), d.other(f); });
  d.add(FaultKind::kClog, Option::clogs,
        [&](Fault& f) { return f.duration = d.lasting(10, 3000, f.item), d.other(f); });
  d.add(FaultKind::kReset, Option::resets, [&](Fault& f) { return d.anybody_else(f); });
  d.add(FaultKind::kSlowLink, Option::slow_links, [&](Fault& f) {
    f.duration = d.lasting(100, 6000, f.item);
    f.amount = static_cast<int64_t>(d.between(2, 50, f.item, 5));
    return d.other(f);
  });
  d.add(FaultKind::kStall, Option::stalls,
        [&](Fault& f) { return f.duration = d.lasting(10, 4000, f.item), d.other(f); });
  d.add(FaultKind::kHalfOpen, Option::half_opens, [&](Fault& f) {
    f.amount = static_cast<int64_t>(d.between(0, 1, f.item, 5));
    return d.anybody_else(f);
  });
  d.add(FaultKind::kSlowCpu, Option::slow_cpus, [&](Fault& f) {
    f.duration = d.lasting(100, 4000, f.item);
    f.amount = static_cast<int64_t>(d.between(5, d.between(5, 1000, f.item, 5), f.item, 6));
    return true;
  });
  d.add(FaultKind::kFailSync, Option::failed_syncs, [](Fault&) { return true; });
  d.add(FaultKind::kRot, Option::rots, [&](Fault& f) { return d.damage(f); });
  d.add(FaultKind::kReadError, Option::read_errors, [&](Fault& f) { return d.damage(f); });
  d.add(FaultKind::kTailRot, Option::tail_rots,
        [&](Fault& f) { return f.duration = d.lasting(1, 4000, f.item), d.damage(f); });
  d.add(FaultKind::kWipe, Option::wipes,
        [&](Fault& f) { return f.duration = d.lasting(1, 4000, f.item), d.damage(f); });
  d.add(FaultKind::kRestartStorm, Option::restart_storms,
        [&](Fault& f) { return f.amount = static_cast<int64_t>(d.between(2, 10, f.item, 5)), true; });
  d.add(FaultKind::kRollingRestart, Option::rolling_restarts, [&](Fault& f) {
    f.duration = d.lasting(1, 2000, f.item);
    f.delay = static_cast<WorldTime>(d.between(0, d.between(1, 3000, f.item, 5), f.item, 6)) * kMillisecond;
    f.amount = static_cast<int64_t>(d.between(0, 1, f.item, 7));
    return true;
  });
  d.add(FaultKind::kStop, Option::stops, [&](Fault& f) { return f.duration = d.lasting(1, 2000, f.item), true; });
  d.add(FaultKind::kFullDisk, Option::full_disks,
        [&](Fault& f) { return f.duration = d.lasting(100, 6000, f.item), true; });
  d.add(FaultKind::kSlowDisk, Option::slow_disks, [&](Fault& f) {
    f.duration = d.lasting(100, 5000, f.item);
    f.amount = static_cast<int64_t>(d.between(3, 40, f.item, 5));
    return true;
  });
  d.add(FaultKind::kHungDisk, Option::hung_disks,
        [&](Fault& f) { return f.duration = d.lasting(10, 4000, f.item), true; });
  d.add(FaultKind::kEvict, Option::evictions, [](Fault&) { return true; });
  d.add(FaultKind::kDrift, Option::clock_drifts, [&](Fault& f) {
    f.duration = d.lasting(500, 10'000, f.item);
    const int64_t loses = options[Option::drift];
    const int64_t gains = std::min(loses, kFastestClock);
    f.amount = static_cast<int64_t>(d.between(0, static_cast<uint64_t>(loses + gains), f.item, 5)) - loses;
    // Now and then it is as slow as it may be.
    if (d.fate.chance(150'000, Choice::kPlan, f.item, 6)) f.amount = slowest_clock(options);
    return true;
  });
  d.add(FaultKind::kWallJump, Option::clock_jumps, [&](Fault& f) {
    const int64_t seconds = static_cast<int64_t>(d.between(1, 100'000, f.item, 5));
    f.amount = (d.fate.chance(500'000, Choice::kPlan, f.item, 6) ? seconds : -seconds) * 1000;
    return true;
  });
  d.add(FaultKind::kAmbush, Option::ambushes, [&](Fault& f) {
    static constexpr Probe kTriggers[] = {Probe::election_won,
                                          Probe::election_won,
                                          Probe::vote_given,
                                          Probe::vote_given,
                                          Probe::append_rejected,
                                          Probe::uncommitted_overwritten,
                                          Probe::snapshot_installed,
                                          Probe::check_quorum_stepped_down,
                                          Probe::checkpoint_completed,
                                          Probe::segment_rotated,
                                          Probe::checkpoint_written,
                                          Probe::checkpoint_loaded,
                                          Probe::sync_failed_node_ended};
    f.trigger = kTriggers[d.between(0, std::size(kTriggers) - 1, f.item, 5)];
    f.nth = static_cast<uint32_t>(d.between(1, 3, f.item, 7));
    d.strike(f);
    return true;
  });
  // While a leader asks whether it still leads, or believes it, and is told late that the time to ask has passed.
  d.add(FaultKind::kDelude, Option::delusions, [&](Fault& f) {
    f.kind = FaultKind::kAmbush;
    static constexpr Probe kTriggers[] = {Probe::read_round_begun, Probe::read_round_begun, Probe::lease_read_answered,
                                          Probe::leadership_handed_over};
    f.trigger = kTriggers[options[Option::leases] == 0 ? 0 : d.between(0, std::size(kTriggers) - 1, f.item, 5)];
    f.strike = FaultKind::kDelude;
    f.nth = 1;
    f.delay = static_cast<WorldTime>(d.between(0, static_cast<uint64_t>(options[Option::latency]) * 4000, f.item, 9));
    f.duration = d.lasting(500, 6000, f.item);
    return true;
  });
  // Its successor may take a checkpoint within the reach of what it has in its log and nobody else has.
  d.add(FaultKind::kExile, Option::exiles, [&](Fault& f) {
    f.kind = FaultKind::kAmbush;
    f.trigger = Probe::read_round_begun;
    f.strike = FaultKind::kExile;
    f.nth = 1;
    f.amount = static_cast<int64_t>(d.between(0, 1, f.item, 5));
    f.delay = static_cast<WorldTime>(d.between(0, static_cast<uint64_t>(options[Option::latency]) * 4000, f.item, 9));
    f.duration = d.lasting(1000, 8000, f.item);
    return true;
  });
  for (auto [kind, option, longest_ms] : {std::tuple(FaultKind::kOldCopy, Option::old_copies, 15'000),
                                          std::tuple(FaultKind::kLyingDisk, Option::lying_disks, 4'000),
                                          std::tuple(FaultKind::kLostWrite, Option::lost_writes, 100),
                                          std::tuple(FaultKind::kMisdirectedWrite, Option::misdirected_writes, 100)})
    d.add(kind, option, [&](Fault& f) {
      f.duration = d.lasting(1, 4000, f.item);
      f.delay =
          static_cast<WorldTime>(d.between(0, d.between(0, static_cast<uint64_t>(longest_ms), f.item, 5), f.item, 6)) *
          kMillisecond;
      return d.damage(f);
    });
  d.add(FaultKind::kClientVanishes, Option::vanishing_clients, [&](Fault& f) {
    f.duration = d.lasting(1, static_cast<uint64_t>(options[Option::vanish_for]), f.item);
    f.a = static_cast<uint32_t>(d.between(0, static_cast<uint64_t>(options[Option::clients]) - 1, f.item, 4));
    return true;
  });
}

PlannedOp draw_operation(const Fate& fate, const Options& options, uint64_t client, uint64_t nth,
                         uint64_t mean_think_ns) {
  auto between = [&](uint64_t low, uint64_t high, uint64_t what) {
    return fate.between(low, high, Choice::kOperation, client, nth, what);
  };
  constexpr std::pair<Option, OpKind> kMix[] = {
      {Option::mix_get, OpKind::kGet},      {Option::mix_set, OpKind::kSet},
      {Option::mix_del, OpKind::kDel},      {Option::mix_cas, OpKind::kCas},
      {Option::mix_incr, OpKind::kIncr},    {Option::mix_append, OpKind::kAppend},
      {Option::mix_expire, OpKind::kSetPx}, {Option::mix_getset, OpKind::kGetSet},
  };
  uint64_t total = 0;
  for (auto& [option, kind] : kMix) total += static_cast<uint64_t>(options[option]);
  uint64_t at = between(0, total - 1, 0);
  PlannedOp op{.nth = static_cast<uint32_t>(nth)};
  for (auto& [option, kind] : kMix) {
    const auto weight = static_cast<uint64_t>(options[option]);
    if (at < weight) {
      op.kind = kind;
      break;
    }
    at -= weight;
  }
  if (op.kind == OpKind::kSetPx && between(0, 3, 1) == 0) op.kind = OpKind::kPexpire;
  if (op.kind == OpKind::kGetSet && between(0, 1, 1) == 0) op.kind = OpKind::kSetNx;
  op.key = static_cast<uint32_t>(between(0, static_cast<uint64_t>(options[Option::keys]) - 1, 2));
  if (static_cast<int64_t>(between(0, 99, 8)) < options[Option::hot_key]) op.key = 0;
  // Keys with a time to live are a third of the keys, and what keeps a time to live while it changes the value is not
  // done to them: then what may expire is known exactly, which is what makes such histories cheap to check.
  const bool expiring = op.key % 3 == 2;
  if (expiring && (op.kind == OpKind::kAppend || op.kind == OpKind::kIncr || op.kind == OpKind::kCas))
    op.kind = OpKind::kSetPx;
  if (!expiring && (op.kind == OpKind::kSetPx || op.kind == OpKind::kPexpire)) op.kind = OpKind::kSet;
  // Bursts and pauses: half of the operations follow at once.
  op.think = between(0, 1, 3) == 0 ? static_cast<WorldTime>(between(0, 200'000, 4))
                                   : static_cast<WorldTime>(between(0, 4 * mean_think_ns, 4));
  op.amount = op.kind == OpKind::kIncr                                   ? static_cast<int64_t>(between(1, 9, 5))
              : op.kind == OpKind::kSetPx || op.kind == OpKind::kPexpire ? static_cast<int64_t>(between(100, 5000, 5))
                                                                         : 0;
  const bool large = static_cast<int64_t>(between(0, 999'999, 6)) < options[Option::large_values];
  op.padding = static_cast<uint32_t>(options[Option::value_bytes] * (large ? 100 : 1));
  op.guess = between(0, 3, 7) == 0;
  op.burst = static_cast<uint32_t>(between(1, static_cast<uint64_t>(options[Option::pipeline]), 9));
  return op;
}

void sort_by_time(std::vector<Fault>& faults) {
  std::stable_sort(faults.begin(), faults.end(), [](const Fault& a, const Fault& b) { return a.at < b.at; });
}

}  // namespace

void branch_plan(Plan& plan, WorldTime now, const Fate& fate, const Options& options, const Removals& removals) {
  plan.faults.clear();
  const Drawer drawer{fate, options, plan, removals};
  draw_faults(drawer);
  Fault fault{.item = kStrikeAtBranch, .kind = FaultKind::kAmbush, .at = now};
  if (fate.chance(500'000, Choice::kPlan, fault.item, 0) && !removals.faults.contains(fault.item)) {
    drawer.strike(fault);
    fault.at += 1 + fault.delay;
    plan.faults.push_back(fault.sprung_on(drawer.node(fault.item, 1), static_cast<uint32_t>(drawer.nodes())));
  }
  sort_by_time(plan.faults);
}

Plan make_plan(const Fate& fate, const Options& options, const Removals& removals) {
  Plan plan;
  const auto nodes = static_cast<uint64_t>(options[Option::nodes] + options[Option::joins]);
  // So few that no group, wherever its replicas are, has a majority on them.
  const int64_t copies = std::min(options[Option::nodes], options[Option::copies]);
  for (uint64_t i = 0; i < static_cast<uint64_t>(copies - 1) / 2; ++i)
    plan.damageable |= uint64_t{1} << fate.between(1, nodes, Choice::kPlan, 1, i);
  if (options[Option::regime] == static_cast<int64_t>(Regime::kUnrestricted))
    plan.damageable = ((uint64_t{1} << nodes) - 1) << 1;
  draw_faults(Drawer{fate, options, plan, removals});
  sort_by_time(plan.faults);

  const auto clients = static_cast<uint32_t>(options[Option::clients]);
  const uint64_t each = (static_cast<uint64_t>(options[Option::operations]) + clients - 1) / clients;
  const uint64_t mean_think = static_cast<uint64_t>(options[Option::duration] * kMillisecond) / each;
  for (uint32_t c = 0; c < clients; ++c) {
    PlannedClient client;
    const auto percent = static_cast<int64_t>(fate.between(0, 99, Choice::kClient, c, 0));
    if (percent < options[Option::retrying])
      client.style = ClientStyle::kRetrying;
    else if (percent < options[Option::retrying] + options[Option::sessions])
      client.style = ClientStyle::kSession;
    auto drawn = [&](Option share, uint64_t what) {
      return static_cast<int64_t>(fate.between(0, 99, Choice::kClient, c, what)) < options[share];
    };
    const bool transfers = drawn(Option::transferring, 6);
    if (drawn(Option::library, 3) || transfers) {
      const bool session = client.style == ClientStyle::kSession;
      client.style = transfers ? ClientStyle::kTransfers
                     : session ? ClientStyle::kLibrarySession
                               : ClientStyle::kLibrary;
      client.patience = static_cast<uint32_t>(fate.between(1, 8, Choice::kClient, c, 4));
      constexpr uint32_t kRoom[] = {1, 3, 1024, 1024};
      client.max_requests = kRoom[fate.between(0, std::size(kRoom) - 1, Choice::kClient, c, 5)];
    }
    client.pipelines = client.style != ClientStyle::kRetrying &&
                       static_cast<int64_t>(fate.between(0, 99, Choice::kClient, c, 2)) < options[Option::pipelining];
    for (uint32_t n = 0; n < each; ++n)
      if (!removals.operations.contains({c, n}))
        client.operations.push_back(draw_operation(fate, options, c, n, mean_think * 3 / 4));
    plan.clients.push_back(std::move(client));
  }
  return plan;
}

}  // namespace mneme::sim
