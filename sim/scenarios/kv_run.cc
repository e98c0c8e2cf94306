#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "sim/network.h"
#include "sim/scenarios/kv_client.h"
#include "sim/scenarios/kv_faults.h"
#include "sim/scenarios/kv_growth.h"
#include "sim/scenarios/kv_library_client.h"
#include "sim/scenarios/kv_operator.h"
#include "sim/scenarios/kv_transfer_client.h"
#include "sim/scenarios/kv_verdict.h"
#include "sim/scenarios/run.h"

namespace mneme::sim {

namespace {

constexpr int64_t kLeastOperations = 1000;
constexpr WorldTime kGrowthInterval = 100 * kMillisecond;

class KvRun {
 public:
  KvRun(const Recipe& recipe, const Options& options, const RunHooks& hooks)
      : recipe_(recipe),
        options_(options),
        hooks_(hooks),
        world_(recipe.seed, world_options(options), hooks.recorder),
        plan_(make_plan(world_.fate(), options, recipe.removals)),
        oracle_(
            hooks.white_box ? [this](Finding finding) { found(std::move(finding)); } : std::function<void(Finding)>(),
            static_cast<uint32_t>(options[Option::shards])),
        cluster_(world_, options, oracle_, [this](Finding finding) { found(std::move(finding)); }),
        operator_(world_, cluster_, oracle_.shape(), options_, cluster_.size() + client_count() + 2),
        faults_(
            world_, cluster_, options, [this](uint32_t client) { start_client(client); },
            [this](const Fault& operation) { operator_.begin(operation); }),
        growth_(options) {
    oracle_.shape().after_step = [this](const shard::Shard& shard) { faults_.stepped(shard); };
    oracle_.after_apply = [this](GroupId group, const raft::Entry& entry) { growth_.applied(group, entry); };
    if (options[Option::leases] != 0)
      oracle_.watch_leases([this](NodeId node) {
        const uint32_t n = cluster_.machine_of(node);
        return n == 0 ? kNever : cluster_.machine(n).monotonic();
      });
    oracle_.after_step = [this] {
      if (world_.now() >= growth_due_) look_for_growth();
    };
    observe();
    auditor_plan_.style = ClientStyle::kPlain;
  }

  RunResult run();

 private:
  static WorldOptions world_options(const Options& o) {
    WorldOptions world;
    world.latency_base_ns = o[Option::latency] * 1000;
    world.latency_tail_ns = o[Option::latency_tail] * 1000;
    world.latency_tail_ppm = o[Option::latency_tail] > 0 ? 10'000 : 0;
    world.split_ppm = static_cast<uint32_t>(o[Option::split]);
    world.crumble_ppm = static_cast<uint32_t>(o[Option::crumble]);
    world.coalesce_ppm = static_cast<uint32_t>(o[Option::coalesce]);
    world.bandwidth = static_cast<uint64_t>(o[Option::bandwidth]) * limits::kKiB;
    world.schedule.strategy = static_cast<Strategy>(o[Option::strategy]);
    world.schedule.depth = static_cast<uint32_t>(o[Option::depth]);
    world.schedule.stretch = static_cast<uint64_t>(o[Option::stretch]);
    world.schedule.window_ns = o[Option::window] * 1000;
    world.rarely_enabled_ppm = static_cast<uint32_t>(o[Option::rarely]);
    world.rarely_fires_ppm = 20'000;
    return world;
  }

  void observe();
  void event_begins(uint64_t number, uint64_t hash);
  void branch(const Branch& branch);
  std::unique_ptr<KvClient> speaks_itself(const PlannedClient& plan, uint32_t client);
  std::unique_ptr<KvClientProcess> make_client(const PlannedClient& plan, uint32_t client);
  void make_clients();
  void start_client(uint32_t client);
  void main(fiber::Scope& scope);
  uint64_t quorum_to_heal();
  void heal();
  bool audit(std::string_view after, uint64_t machines = ~uint64_t{0});
  std::optional<std::string> unsettled() const;
  void settle();
  void look_for_growth();
  void look_for_leaks();
  void found(Finding finding);
  uint32_t client_count() const { return static_cast<uint32_t>(options_[Option::clients]); }
  Machine& client_machine(uint32_t client) { return world_.machine(cluster_.size() + client); }

  const Recipe& recipe_;
  const Options& options_;
  const RunHooks& hooks_;
  World world_;
  Plan plan_;
  KvOracle oracle_;
  KvCluster cluster_;
  KvOperator operator_;
  KvFaults faults_;
  KvGrowth growth_;
  WorldTime growth_due_ = 0;  // when to look next
  KvLog log_;
  std::vector<std::unique_ptr<KvClientProcess>> clients_;
  PlannedClient auditor_plan_;
  std::unique_ptr<KvClient> auditor_;
  fiber::Scope* scope_ = nullptr;
  fiber::Scope* striking_ = nullptr;  // while faults strike
  size_t branched_ = 0;               // of the recipe's
  std::vector<Probe> first_;          // reached for the first time since the last event began; for hooks.branch
  bool stopping_ = false;             // nothing is booted any more
  std::optional<Finding> finding_;
};

void KvRun::found(Finding finding) {
  if (finding_) return;
  world_.record(0, "verdict", fmt::format("{}: {}", finding.property, finding.summary));
  finding_ = std::move(finding);
  if (striking_) striking_->cancel();
}

// Puts up only what somebody asks for: it is in the way of every event.
void KvRun::observe() {
  world_.after_event = hooks_.after_event;
  if (!recipe_.branches.empty() || hooks_.branch)
    world_.after_event = [this](uint64_t number, uint64_t hash) { event_begins(number, hash); };
  if (hooks_.branch)
    world_.after_probe = [this, others = std::move(world_.after_probe)](Probe probe, uint32_t actor) {
      others(probe, actor);
      if (world_.probes()[static_cast<size_t>(probe)] == 1) first_.push_back(probe);
    };
}

void KvRun::event_begins(uint64_t number, uint64_t hash) {
  if (hooks_.after_event) hooks_.after_event(number, hash);
  if (branched_ < recipe_.branches.size()) {
    first_.clear();
    if (recipe_.branches[branched_].event == number) branch(recipe_.branches[branched_++]);
  } else if (!first_.empty()) {
    const std::vector<Probe> first = std::exchange(first_, {});
    if (!striking_ || finding_) return;
    if (const uint64_t nth = hooks_.branch(number, first); nth != 0) branch({number, nth});
  }
}

void KvRun::branch(const Branch& branch) {
  world_.record(0, "world", fmt::format("branch {}.{}", branch.event, branch.nth));
  world_.branch(branch.event, branch.nth);
  branch_plan(plan_, world_.now(), world_.fate(), options_, recipe_.removals);
  faults_.replace(plan_.faults);
}

std::unique_ptr<KvClient> KvRun::speaks_itself(const PlannedClient& plan, uint32_t c) {
  return std::make_unique<KvClient>(
      world_, log_, plan, c, cluster_.size(), [this](uint32_t node) { return cluster_.address(node); },
      std::chrono::milliseconds(options_[Option::client_timeout]));
}

std::unique_ptr<KvClientProcess> KvRun::make_client(const PlannedClient& plan, uint32_t c) {
  const auto timeout = std::chrono::milliseconds(options_[Option::client_timeout]);
  auto nodes = [this] {
    std::vector<env::Address> addresses;
    for (uint32_t n = 1; n <= cluster_.size(); ++n) addresses.push_back(cluster_.address(n));
    return addresses;
  };
  switch (plan.style) {
    case ClientStyle::kPlain:
    case ClientStyle::kRetrying:
    case ClientStyle::kSession: break;
    case ClientStyle::kLibrary:
    case ClientStyle::kLibrarySession:
      return std::make_unique<KvLibraryClient>(world_, log_, plan, c, std::move(nodes), timeout);
    case ClientStyle::kTransfers:
      return std::make_unique<KvTransferClient>(world_, plan, c, std::move(nodes), timeout, [this](std::string wrong) {
        found({"conservation", std::move(wrong)});
      });
  }
  return speaks_itself(plan, c);
}

void KvRun::make_clients() {
  // The last one is the auditor.
  for (uint32_t c = 1; c <= client_count() + 1; ++c) {
    const bool auditor = c > client_count();
    const uint64_t drift = world_.fate().between(0, 2000, Choice::kClockDrift, cluster_.size() + c, 2);
    world_.add_machine(auditor ? "auditor" : fmt::format("c{}", c), {.drift_ppm = static_cast<int32_t>(drift) - 1000});
    if (auditor)
      auditor_ = speaks_itself(auditor_plan_, c);
    else
      clients_.push_back(make_client(plan_.clients[c - 1], c));
  }
  world_.add_machine("operator", {})
      .boot(
          *scope_, [this](Env& env) { return operator_.run(env); }, [](Result<void>) {});
}

void KvRun::start_client(uint32_t c) {
  Machine& m = client_machine(c);
  if (stopping_ || m.running() || clients_[c - 1]->finished()) return;
  m.boot(
      *scope_, [this, c](Env& env) { return clients_[c - 1]->run(env); }, [](Result<void>) {});
}

// Which machines are healed first: of those whose disks nothing was done to, a random set with which each group can
// decide something, and not without any of them; all, when there is none or it is not asked for.
uint64_t KvRun::quorum_to_heal() {
  if (!cluster_.founded() || options_[Option::heal] == static_cast<int64_t>(Heal::kAll)) return ~uint64_t{0};
  uint64_t set = cluster_.whole();
  if (!cluster_.able(set)) return ~uint64_t{0};
  std::vector<uint32_t> left;
  for (uint32_t n = 1; n <= cluster_.size(); ++n)
    if (set >> n & 1) left.push_back(n);
  for (uint32_t i = 0; !left.empty(); ++i) {
    const auto at =
        left.begin() + static_cast<ptrdiff_t>(world_.fate().between(0, left.size() - 1, Choice::kPlan, 2, i));
    if (cluster_.able(set & ~(uint64_t{1} << *at))) set &= ~(uint64_t{1} << *at);
    left.erase(at);
  }
  return set;
}

// Progress must resume with a quorum, and the rest must find its way back afterwards.
void KvRun::heal() {
  const uint64_t first = quorum_to_heal();
  faults_.end();
  operator_.end();
  std::string names;
  for (uint32_t n = 1; n <= cluster_.size(); ++n) {
    if ((first >> n & 1) == 0)
      cluster_.hold_down(n);
    else
      names += fmt::format("{}n{}", names.empty() ? "" : ",", n);
    cluster_.boot(n);
  }
  world_.record(0, "world", fmt::format("healed: {}", names));
  // A run that stood still for long goes on until there is something to check.
  const WorldTime patience = world_.now() + options_[Option::heal_timeout] * kMillisecond;
  const auto enough = static_cast<size_t>(std::min<int64_t>(options_[Option::operations] * 5 / 8, kLeastOperations));
  while (!finding_ && log_.records.size() < enough && world_.now() < patience) world_.sleep_for(10 * kMillisecond);
  if (first == ~uint64_t{0}) {
    (void)audit("everything was healed");
    return;
  }
  if (!audit(names + " were healed", first)) return;
  world_.record(0, "world", "healed: everything");
  for (uint32_t n = 1; n <= cluster_.size(); ++n) cluster_.let_go(n);
  world_.sleep_for(options_[Option::election_timeout] * kMillisecond);
  if (audit("everything was healed")) settle();
}

// What the operators, or the cluster itself, have begun and not ended, or is not as it should be; nothing: all is done.
std::optional<std::string> KvRun::unsettled() const {
  const shard::Map& map = oracle_.shape().map();
  const bool balances = options_[Option::balance] != 0;
  size_t up = 0;
  for (const auto& [id, node] : map.nodes()) up += node.state == shard::NodeState::kUp && cluster_.alive(id);
  for (const auto& [group, shard] : map.shards()) {
    const shard::Operation* pending = shard.pending();
    // Only who balances gives up what has lost its target.
    const bool possible = pending && (!pending->target || cluster_.alive(pending->target.node));
    if (pending && (possible || balances))
      return fmt::format("operation {} on shard {} ({}) is at the step '{}'", pending->id.value, group.value,
                         text_of(pending->action), name_of(pending->step));
    if (is_joint(shard.configuration())) return fmt::format("shard {} is between two configurations", group.value);
    if (!balances || up < map.copies()) continue;
    size_t alive = 0;
    for (const shard::Member& member : shard.configuration()) {
      if (member.role == shard::Role::kLearner) return fmt::format("shard {} has a learner", group.value);
      alive += cluster_.alive(member.replica.node);
    }
    if (alive < map.copies() || shard.configuration().size() > map.copies())
      return fmt::format("shard {} has {} replicas, {} of them on nodes that are there, where {} are wanted",
                         group.value, shard.configuration().size(), alive, map.copies());
  }
  return {};
}

// Nobody asks for anything any more: what was begun must end, and every shard have its copies.
void KvRun::settle() {
  if (finding_ || !oracle_.shape().map().cluster() || !cluster_.sound()) return;
  const WorldTime patience = (options_[Option::heal_timeout] + 3 * options_[Option::lost_after]) * kMillisecond;
  const WorldTime deadline = world_.now() + patience;
  std::optional<std::string> left;
  while (!finding_ && (left = unsettled()) && world_.now() < deadline) world_.sleep_for(100 * kMillisecond);
  if (!left || finding_) return;
  found({"settling",
         fmt::format("{} ms after everything was healed: {}", patience / kMillisecond, *left),
         {},
         cluster_.account()});
}

// A last read of every key. False when the run is over: the cluster cannot answer. With `machines` only it need not, if
// the cluster has made a change of membership since that needs another one: what was on its way from that one when it
// was held down made it look alive.
bool KvRun::audit(std::string_view after, uint64_t machines) {
  if (finding_) return false;
  const WorldTime deadline = world_.now() + options_[Option::heal_timeout] * kMillisecond;
  bool done = false;
  Result<void> result;
  client_machine(client_count() + 1)
      .boot(
          *scope_, [&](Env& env) { return auditor_->read_all(env, options_[Option::keys], deadline); },
          [&](Result<void> r) {
            result = std::move(r);
            done = true;
          });
  while (!done) world_.sleep_for(10 * kMillisecond);
  if (result) return true;
  // With too many disks damaged it may stand still; that is no violation, and the end of the run.
  if (!cluster_.sound() && options_[Option::regime] == static_cast<int64_t>(Regime::kUnrestricted)) {
    world_.record(0, "world", "it stands still, as it may: too many disks are damaged");
    return false;
  }
  if (!cluster_.able(machines)) {
    world_.record(0, "world", "it stands still, as it may: it has come to need a machine that was held down");
    return true;
  }
  found({"liveness",
         fmt::format("{} ms after {}: {}", options_[Option::heal_timeout], after, result.error().message),
         {},
         cluster_.account()});
  return false;
}

void KvRun::look_for_growth() {
  growth_due_ = world_.now() + kGrowthInterval;
  for (uint32_t n = 1; n <= cluster_.size(); ++n) {
    const DiskState& disk = world_.machine(n).disk();
    if (auto grown = growth_.check_log(n, disk.contents("wal").bytes)) return found(std::move(*grown));
    for (GroupId group : oracle_.groups()) {
      const uint64_t files = disk.contents(fmt::format("group-{}", group.value)).files;
      if (auto grown = growth_.check(n, group, files, oracle_.last_seen(cluster_.id(n), group)))
        return found(std::move(*grown));
    }
  }
}

void KvRun::look_for_leaks() {
  if (finding_) return;
  for (uint32_t m = 1; m <= world_.machine_count(); ++m) {
    const Machine& one = world_.machine(m);
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
  cluster_.make_machines(scope);
  make_clients();
  for (uint32_t n = 1; n <= cluster_.size(); ++n) cluster_.boot(n);
  for (uint32_t c = 1; c <= client_count(); ++c) start_client(c);
  const WorldTime end = std::min<WorldTime>(options_[Option::duration] * kMillisecond, hooks_.until);
  auto faults = fiber::with_scope(world_.scheduler(), [&](fiber::Scope& inner) {
    striking_ = &inner;
    faults_.run(scope, plan_.faults, end);
  });
  striking_ = nullptr;
  CHECK(faults.has_value());
  if (!finding_ && hooks_.until == INT64_MAX) heal();
  if (hooks_.white_box) look_for_growth();
  stopping_ = true;
  cluster_.stop();
  for (uint32_t m = 1; m <= world_.machine_count(); ++m) world_.machine(m).crash(CrashKind::kKill);
  world_.sleep_for(20'000 * kMillisecond);  // until the last connections have noticed
  scope.cancel();                           // restarts still waiting
}

RunResult KvRun::run() {
  world_.run([&] {
    auto ended = fiber::with_scope(world_.scheduler(), [&](fiber::Scope& scope) { main(scope); });
    CHECK(ended.has_value());
  });
  look_for_leaks();
  RunResult result;
  for (const OpRecord& record : log_.records) {
    ++result.operations;
    result.unknown += record.outcome == ClientOutcome::kUnknown || record.outcome == ClientOutcome::kOpen;
  }
  if (hooks_.until == INT64_MAX) judge(log_, oracle_, std::move(finding_), hooks_, result);
  result.events = world_.event_count();
  result.faults = faults_.applied();
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
