#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "core/node/node.h"
#include "sim/check/checker.h"
#include "sim/machine.h"
#include "sim/network.h"
#include "sim/scenarios/kv_client.h"
#include "sim/scenarios/kv_oracle.h"
#include "sim/scenarios/run.h"

namespace mneme::sim {

namespace {

constexpr uint16_t kPort = 6399;
constexpr WorldTime kMs = 1'000'000;
constexpr int64_t kLeastOperations = 1000;

std::string seconds(int64_t ns) { return fmt::format("{}.{:03} s", ns / 1'000'000'000, ns / kMs % 1000); }

// The operations that are impossible together, with their times.
std::string describe(const check::Violation& violation, const check::History& history) {
  std::string out;
  for (const check::Operation& op : violation.core.operations) {
    const std::string who = op.client == check::kNoClient ? "--" : fmt::format("c{}", op.client);
    const std::string when = op.ret == check::kForever
                                 ? fmt::format("{} ..", seconds(op.call_ns))
                                 : fmt::format("{} .. {}", seconds(op.call_ns), seconds(op.return_ns));
    out += fmt::format("{:<4} {:<50} {:<24} {}\n", who, check::describe_call(op, history.values), when,
                       check::describe_reply(op, history.values));
  }
  return out;
}

std::string describe(const std::vector<OpRecord>& records) {
  std::string out;
  for (const OpRecord& record : records) {
    const std::string when = record.returned < record.called
                                 ? fmt::format("{} ..", seconds(record.called))
                                 : fmt::format("{} .. {}", seconds(record.called), seconds(record.returned));
    std::string reply;
    for (char c : record.reply)
      if (c != '\r') reply += c == '\n' ? ' ' : c;
    out += fmt::format("{:<40} {:<24} {}\n", record.text(), when, reply.substr(0, 40));
  }
  return out;
}

class KvRun {
 public:
  KvRun(const Recipe& recipe, const Options& options, const RunHooks& hooks)
      : options_(options),
        hooks_(hooks),
        world_(recipe.seed, world_options(options), hooks.recorder),
        plan_(make_plan(world_.fate(), options, recipe.removals)),
        oracle_([this](Finding finding) { found(std::move(finding)); }),
        ambushed_(world_.scheduler()) {
    world_.after_event = hooks.after_event;
    world_.after_probe = [this](Probe probe, uint32_t actor) { look_for_ambush(probe, actor); };
    auditor_plan_.style = ClientStyle::kPlain;
  }

  RunResult run();

 private:
  struct StoreNode {
    node::Config config;
    bool lost = false;  // ended with damage that it may not repair itself
  };

  static WorldOptions world_options(const Options& o) {
    WorldOptions world;
    world.latency_base_ns = o[Option::latency] * 1000;
    world.latency_tail_ns = o[Option::latency_tail] * 1000;
    world.latency_tail_ppm = o[Option::latency_tail] > 0 ? 10'000 : 0;
    world.split_ppm = static_cast<uint32_t>(o[Option::split]);
    world.random_order = o[Option::random_order] != 0;
    world.rarely_enabled_ppm = static_cast<uint32_t>(o[Option::rarely]);
    world.rarely_fires_ppm = 20'000;
    return world;
  }

  void make_machines();
  void boot(uint32_t node);
  void node_ended(uint32_t node, Result<void> result);
  void start_client(uint32_t client);
  void apply(const Fault& fault);
  void look_for_ambush(Probe probe, uint32_t actor);
  void strike_from_ambush();
  void main(fiber::Scope& scope);
  void heal();
  void audit();
  void shut_down();
  void look_for_leaks();
  void judge(RunResult& result);
  void found(Finding finding);
  Machine& machine(uint32_t actor) { return world_.machine(actor); }
  uint32_t node_count() const { return static_cast<uint32_t>(options_[Option::nodes]); }
  uint32_t client_count() const { return static_cast<uint32_t>(options_[Option::clients]); }
  // Runs `then` at a time of its own, in the world's scope.
  template <class F>
  void later(WorldTime at, F then) {
    scope_->spawn("later", [this, at, then = std::move(then)] {
      world_.sleep_until(at);
      then();
    });
  }

  const Options& options_;
  const RunHooks& hooks_;
  World world_;
  Plan plan_;
  KvOracle oracle_;
  KvLog log_;
  std::vector<StoreNode> nodes_;
  std::vector<std::unique_ptr<KvClient>> clients_;
  PlannedClient auditor_plan_;
  fiber::Scope* scope_ = nullptr;
  fiber::Scope* faults_ = nullptr;
  bool stopping_ = false;  // nothing is booted any more
  bool healed_ = false;
  std::optional<Finding> finding_;
  uint64_t applied_faults_ = 0;
  std::vector<Fault> ambushes_;  // laid
  std::vector<Fault> sprung_;    // about to strike
  fiber::Condition ambushed_;
};

void KvRun::found(Finding finding) {
  if (finding_) return;
  world_.record(0, "verdict", fmt::format("{}: {}", finding.property, finding.summary));
  finding_ = std::move(finding);
  if (faults_) faults_->cancel();
}

void KvRun::make_machines() {
  auto drift = [&](uint32_t actor) {
    return static_cast<int32_t>(world_.fate().between(0, 2000, Choice::kClockDrift, actor, 2)) - 1000;
  };
  for (uint32_t n = 1; n <= node_count(); ++n) {
    MachineOptions machine;
    machine.disk_blocks = options_[Option::disk_blocks] != 0;
    machine.drift_ppm = drift(n);
    machine.wall_offset_ms = static_cast<int64_t>(world_.fate().between(0, 2000, Choice::kWallOffset, n)) - 1000;
    const auto slower = world_.fate().between(0, static_cast<uint64_t>(options_[Option::sync_spread]), Choice::kSwarm,
                                              static_cast<uint64_t>(Option::sync_spread), 3, n);
    machine.disk.sync_ns = options_[Option::sync_latency] * 1000 * static_cast<int64_t>(1 + slower);
    machine.disk.write_ns = machine.disk.sync_ns / 10;
    world_.add_machine(fmt::format("n{}", n), machine);
    nodes_.emplace_back();
  }
  for (uint32_t c = 1; c <= client_count() + 1; ++c)
    world_.add_machine(c <= client_count() ? fmt::format("c{}", c) : "auditor", {.drift_ppm = drift(node_count() + c)});

  for (uint32_t n = 1; n <= node_count(); ++n) {
    node::Config& config = nodes_[n - 1].config;
    config.id = NodeId(n);
    config.listen = {fmt::format("n{}", n), kPort};
    if (node_count() > 1)
      for (uint32_t m = 1; m <= node_count(); ++m)
        config.cluster.push_back({NodeId(m), {fmt::format("n{}", m), kPort}});
    config.election_timeout = std::chrono::milliseconds(options_[Option::election_timeout]);
    config.heartbeat_interval = std::chrono::milliseconds(options_[Option::heartbeat]);
    config.request_timeout = std::chrono::milliseconds(options_[Option::request_timeout]);
    config.segment_bytes = static_cast<size_t>(options_[Option::segment]) * limits::kKiB;
    config.checkpoint_log_bytes = static_cast<size_t>(options_[Option::checkpoint]) * limits::kKiB;
    config.keep_entries = static_cast<uint64_t>(options_[Option::keep_entries]);
    config.max_append_bytes = static_cast<size_t>(options_[Option::max_append]);
    config.max_inflight_appends = static_cast<size_t>(options_[Option::max_inflight]);
    config.snapshot_chunk_bytes = 4096;
    if (hooks_.white_box) config.observer = &oracle_;
  }
  for (uint32_t c = 1; c <= client_count() + 1; ++c)
    clients_.push_back(
        std::make_unique<KvClient>(world_, log_, c <= client_count() ? plan_.clients[c - 1] : auditor_plan_, c,
                                   node_count(), kPort, std::chrono::milliseconds(options_[Option::client_timeout])));
}

void KvRun::boot(uint32_t n) {
  if (stopping_ || nodes_[n - 1].lost || machine(n).running()) return;
  oracle_.stopped(NodeId(n));
  machine(n).boot(
      *scope_, [this, n](Env& env) { return node::run_node(env, nodes_[n - 1].config); },
      [this, n](Result<void> result) { node_ended(n, std::move(result)); });
}

// A node ends by itself only for a reason; which ones are legitimate is part of what is checked.
void KvRun::node_ended(uint32_t n, Result<void> result) {
  oracle_.stopped(NodeId(n));
  const bool damageable = plan_.damageable >> n & 1;
  const ErrorCode code = result ? ErrorCode::kInvalid : result.error().code;
  const std::string why = result ? "it ended without an error" : result.error().message;
  if (code == ErrorCode::kIo || code == ErrorCode::kNoSpace) {
    const auto pause =
        static_cast<WorldTime>(world_.fate().between(50, 2000, Choice::kPlan, n, machine(n).boots(), 77)) * kMs;
    later(world_.now() + pause, [this, n] { boot(n); });
  } else if (code == ErrorCode::kCorrupt && damageable) {
    nodes_[n - 1].lost = true;
  } else {
    found({"node ended", fmt::format("n{}: {}", n, why)});
  }
}

void KvRun::start_client(uint32_t c) {
  Machine& m = machine(node_count() + c);
  if (stopping_ || m.running() || clients_[c - 1]->finished()) return;
  m.boot(
      *scope_, [this, c](Env& env) { return clients_[c - 1]->run(env); }, [](Result<void>) {});
}

void KvRun::apply(const Fault& fault) {
  applied_faults_ += fault.kind != FaultKind::kAmbush;  // counted when it strikes
  world_.record(0, "fault", fault.text().substr(11));
  const WorldTime until = world_.now() + fault.duration;
  Network& network = world_.network();
  auto crash = [&](uint32_t n, CrashKind kind, WorldTime down) {
    machine(n).crash(kind);
    oracle_.stopped(NodeId(n));
    later(world_.now() + down, [this, n] { boot(n); });
  };
  auto cut_off = [&](uint64_t set) {
    for (uint32_t a = 1; a <= node_count(); ++a)
      for (uint32_t b = 1; b <= node_count(); ++b)
        if ((set >> a & 1) != (set >> b & 1)) network.block(a, b, until);
  };
  switch (fault.kind) {
    case FaultKind::kKill:
      crash(fault.a, CrashKind::kKill, fault.duration);
      if (fault.torn_too) machine(fault.a).crash(CrashKind::kPowerLoss);
      break;
    case FaultKind::kPowerLoss: crash(fault.a, CrashKind::kPowerLoss, fault.duration); break;
    case FaultKind::kBlackout:
      for (uint32_t n = 1; n <= node_count(); ++n)
        if (fault.set >> n & 1) crash(n, CrashKind::kPowerLoss, down_for(world_.fate(), fault, n));
      break;
    case FaultKind::kOverthrow:
      cut_off(uint64_t{1} << fault.a);
      for (uint32_t n = 1; n <= node_count(); ++n)
        if (n != fault.a) crash(n, CrashKind::kPowerLoss, down_for(world_.fate(), fault, n) / 4);
      break;
    case FaultKind::kAmbush: ambushes_.push_back(fault); break;
    case FaultKind::kPause: machine(fault.a).pause_until(until); break;
    case FaultKind::kPartition: cut_off(fault.set); break;
    case FaultKind::kBlock: network.block(fault.a, fault.b, until); break;
    case FaultKind::kClog: network.clog(fault.a, fault.b, until); break;
    case FaultKind::kReset: network.reset(fault.a, fault.b); break;
    case FaultKind::kFailSync: machine(fault.a).disk().fail_next_sync(); break;
    case FaultKind::kRot: world_.record(fault.a, "fault", machine(fault.a).disk().rot(fault.item)); break;
    case FaultKind::kReadError:
      world_.record(fault.a, "fault", machine(fault.a).disk().make_unreadable(fault.item));
      break;
    case FaultKind::kFullDisk:
      machine(fault.a).disk().set_full(true);
      later(until, [this, a = fault.a] { machine(a).disk().set_full(false); });
      break;
    case FaultKind::kSlowDisk:
      machine(fault.a).disk().set_slowness(static_cast<uint32_t>(fault.amount));
      later(until, [this, a = fault.a] { machine(a).disk().set_slowness(1); });
      break;
    case FaultKind::kDrift: {
      const int32_t usual = machine(fault.a).options().drift_ppm;
      machine(fault.a).set_drift(static_cast<int32_t>(fault.amount));
      later(until, [this, a = fault.a, usual] { machine(a).set_drift(std::max(usual, -1000)); });
      break;
    }
    case FaultKind::kWallJump: machine(fault.a).jump_wall(fault.amount); break;
    case FaultKind::kClientVanishes: {
      const uint32_t c = fault.a + 1;
      machine(node_count() + c).crash(CrashKind::kPowerLoss);
      later(until, [this, c] { start_client(c); });
      break;
    }
  }
}

// Called in the middle of a process's work; what strikes does so from a fiber of the world's.
void KvRun::look_for_ambush(Probe probe, uint32_t actor) {
  if (actor > node_count()) return;
  for (size_t i = 0; i < ambushes_.size(); ++i) {
    if (ambushes_[i].trigger != probe || --ambushes_[i].nth > 0) continue;
    sprung_.push_back(ambushes_[i].sprung_on(actor, node_count()));
    sprung_.back().at = world_.now() + sprung_.back().delay;
    ambushes_.erase(ambushes_.begin() + static_cast<ptrdiff_t>(i--));
  }
  if (!sprung_.empty()) ambushed_.notify_one();
}

void KvRun::strike_from_ambush() {
  for (;;) {
    ambushed_.wait_until([this] { return !sprung_.empty(); });
    for (Fault& fault : std::exchange(sprung_, {})) {
      later(fault.at, [this, fault] {
        if (faults_) apply(fault);
      });
    }
  }
}

void KvRun::heal() {
  healed_ = true;
  world_.record(0, "world", "everything is healed");
  world_.network().heal();
  for (uint32_t n = 1; n <= node_count(); ++n) {
    machine(n).disk().set_full(false);
    machine(n).disk().set_slowness(1);
    machine(n).disk().cancel_failures();
    machine(n).set_drift(0);
    machine(n).go_on();
    boot(n);
  }
}

void KvRun::audit() {
  const WorldTime deadline = world_.now() + options_[Option::heal_timeout] * kMs;
  KvClient& auditor = *clients_.back();
  bool done = false;
  Result<void> result;
  machine(node_count() + client_count() + 1)
      .boot(
          *scope_,
          [&](Env& env) -> Result<void> {
            for (int64_t key = 0; key < options_[Option::keys]; ++key)
              TRY(auditor.read_surely(env, fmt::format("k{}", key), deadline));
            return {};
          },
          [&](Result<void> r) {
            result = std::move(r);
            done = true;
          });
  while (!done) world_.sleep_for(10 * kMs);
  if (result) return;
  std::string stuck;
  for (uint32_t n = 1; n <= node_count(); ++n)
    stuck += fmt::format("{}n{} {}", stuck.empty() ? "" : ", ", n,
                         nodes_[n - 1].lost     ? "is lost to damage"
                         : machine(n).running() ? "runs"
                                                : "is down");
  found({"liveness", fmt::format("{} ms after everything was healed: {} ({})", options_[Option::heal_timeout],
                                 result.error().message, stuck)});
}

void KvRun::shut_down() {
  stopping_ = true;
  for (uint32_t m = 1; m <= world_.machine_count(); ++m) machine(m).crash(CrashKind::kKill);
}

void KvRun::look_for_leaks() {
  if (finding_) return;
  for (uint32_t m = 1; m <= world_.machine_count(); ++m) {
    const Machine& one = machine(m);
    if (one.leaked_files() > 0)
      return found({"leak", fmt::format("{} left {} files open", one.name(), one.leaked_files())});
    if (size_t streams = world_.network().open_streams(m); streams > 0)
      return found({"leak", fmt::format("{} left {} connections open", one.name(), streams)});
    if (size_t listeners = world_.network().open_listeners(m); listeners > 0)
      return found({"leak", fmt::format("{} left {} listeners open", one.name(), listeners)});
  }
}

void KvRun::main(fiber::Scope& scope) {
  scope_ = &scope;
  make_machines();
  scope.spawn("ambush", [this] { strike_from_ambush(); });
  for (uint32_t n = 1; n <= node_count(); ++n) boot(n);
  for (uint32_t c = 1; c <= client_count(); ++c) start_client(c);
  const WorldTime end = std::min<WorldTime>(options_[Option::duration] * kMs, hooks_.until);
  auto faults = fiber::with_scope(world_.scheduler(), [&](fiber::Scope& inner) {
    faults_ = &inner;
    for (const Fault& fault : plan_.faults) {
      if (fault.at >= end) break;
      world_.sleep_until(fault.at);
      apply(fault);
    }
    world_.sleep_until(end);
  });
  faults_ = nullptr;
  CHECK(faults.has_value());
  if (!finding_ && hooks_.until == INT64_MAX) {
    heal();
    // A run that stood still for long goes on until there is something to check.
    const WorldTime patience = world_.now() + options_[Option::heal_timeout] * kMs;
    const auto enough = static_cast<size_t>(std::min<int64_t>(options_[Option::operations] * 5 / 8, kLeastOperations));
    while (!finding_ && log_.records.size() < enough && world_.now() < patience) world_.sleep_for(10 * kMs);
    audit();
  }
  shut_down();
  world_.sleep_for(20'000 * kMs);  // until the last connections have noticed
  scope.cancel();                  // restarts still waiting
}

void KvRun::judge(RunResult& result) {
  for (const OpRecord& record : log_.records) {
    ++result.operations;
    result.unknown += record.outcome == ClientOutcome::kUnknown || record.outcome == ClientOutcome::kOpen;
  }
  if (hooks_.until != INT64_MAX) return;
  if (!finding_ && hooks_.white_box)
    if (auto wrong = oracle_.judge(log_.records)) found(std::move(*wrong));
  if (finding_ && hooks_.white_box) {
    result.verdict = RunVerdict::kFailed;
    result.property = finding_->property;
    result.summary = finding_->summary;
    result.details = describe(finding_->operations);
    return;
  }
  if (finding_ && finding_->property != "liveness" && finding_->property != "node ended" &&
      finding_->property != "leak")
    return;
  if (!hooks_.black_box) return;
  std::vector<check::OpId> ids;
  check::History history = to_history(log_.records, &ids);
  check::CheckOptions how;
  std::vector<check::OpId> order;
  if (hooks_.white_box) {
    // Where a search would take minutes, the replicas' own order of commands is a witness that is there already. Not on
    // keys whose values expired, of which the order says nothing; they are easy, or the verdict is inconclusive.
    how.budget = {.steps = 4'000'000, .memory_bytes = 24 * limits::kMiB};
    for (size_t record : oracle_.order())
      if (ids[record] != kNoOperation) order.push_back(ids[record]);
    how.candidate = &order;
  }
  check::Verdict verdict = check::check(history, how);
  if (verdict.answer == check::Answer::kLinearizable) {
    if (!finding_) return;
    result.verdict = RunVerdict::kFailed;
    result.property = finding_->property;
    result.summary = finding_->summary;
    return;
  }
  result.property = "linearizable";
  if (verdict.answer == check::Answer::kInconclusive) {
    result.verdict = RunVerdict::kInconclusive;
    result.summary =
        fmt::format("the checker ran out of its budget on key \"{}\"", history.keys.text(verdict.inconclusive));
    return;
  }
  result.verdict = RunVerdict::kFailed;
  const check::Operation& failing = history.operations[verdict.violation.failing];
  result.summary = fmt::format(
      "key \"{}\": no order of the operations explains c{} {} {}", history.keys.text(verdict.violation.key),
      failing.client, check::describe_call(failing, history.values), check::describe_reply(failing, history.values));
  result.details = describe(verdict.violation, history);
}

RunResult KvRun::run() {
  world_.run([&] {
    auto ended = fiber::with_scope(world_.scheduler(), [&](fiber::Scope& scope) { main(scope); });
    CHECK(ended.has_value());
  });
  look_for_leaks();
  RunResult result;
  judge(result);
  result.events = world_.event_count();
  result.faults = applied_faults_;
  result.virtual_ns = world_.now();
  result.trace_hash = world_.trace_hash();
  result.probes = world_.probes();
  return result;
}

}  // namespace

Result<RunResult> run_kv(const Recipe& recipe, const RunHooks& hooks) {
  const Options options = TRY(recipe.options.expand(Fate(recipe.seed)));
  auto run = std::make_unique<KvRun>(recipe, options, hooks);
  return run->run();
}

}  // namespace mneme::sim
