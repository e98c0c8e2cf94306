#include "sim/scenarios/kv_cluster.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/node/node.h"

namespace mneme::sim {

namespace {
// How long a node may take to end in good order, in election timeouts: more than the two that it waits for others.
constexpr int64_t kEndingPatience = 5;
// Of the file identity before it has members (core/node/identity.h).
constexpr uint64_t kFoundingIdentityBytes = 56;
}  // namespace

KvCluster::KvCluster(World& world, const Options& options, KvOracle& oracle, std::function<void(Finding)> found)
    : world_(world), options_(options), oracle_(oracle), found_(std::move(found)), nodes_(size()) {}

void KvCluster::make_machines(fiber::Scope& scope) {
  scope_ = &scope;
  for (uint32_t n = 1; n <= size(); ++n) {
    MachineOptions machine;
    machine.disk_blocks = options_[Option::disk_blocks] != 0;
    machine.compute_ns = options_[Option::compute] * 1000;
    machine.drift_ppm = static_cast<int32_t>(world_.fate().between(0, 2000, Choice::kClockDrift, n, 2)) - 1000;
    machine.wall_offset_ms = static_cast<int64_t>(world_.fate().between(0, 2000, Choice::kWallOffset, n)) - 1000;
    const auto slower =
        world_.fate().between(0, static_cast<uint64_t>(options_[Option::sync_spread]), Choice::kMachine, n, 0);
    machine.disk.sync_ns = options_[Option::sync_latency] * 1000 * static_cast<int64_t>(1 + slower);
    machine.disk.write_ns = machine.disk.sync_ns / 10;
    world_.add_machine(fmt::format("n{}", n), machine)
        .disk()
        .set_short_reads(static_cast<uint32_t>(options_[Option::short_reads]));
    make_config(n);
  }
}

void KvCluster::make_config(uint32_t n) {
  nodes_[n - 1].off = n > founders();
  node::Config& config = nodes_[n - 1].config;
  config.listen = {fmt::format("n{}", n), kKvPort};
  config.id = NodeId(n <= founders() ? n : 0);
  if (n <= founders() && founders() > 1)
    for (uint32_t m = 1; m <= founders(); ++m) config.cluster.push_back({NodeId(m), {fmt::format("n{}", m), kKvPort}});
  config.election_timeout = std::chrono::milliseconds(options_[Option::election_timeout]);
  config.heartbeat_interval = std::chrono::milliseconds(options_[Option::heartbeat]);
  config.request_timeout = std::chrono::milliseconds(options_[Option::request_timeout]);
  if (options_[Option::leases] != 0) {
    config.lease = config.election_timeout * options_[Option::lease] / 100;
    config.drift_ppm = static_cast<uint32_t>(options_[Option::max_drift]);
  }
  config.segment_bytes = static_cast<size_t>(options_[Option::segment]) * limits::kKiB;
  config.checkpoint_log_bytes = static_cast<size_t>(options_[Option::checkpoint]) * limits::kKiB;
  config.keep_entries = static_cast<uint64_t>(options_[Option::keep_entries]);
  config.max_append_bytes = static_cast<size_t>(options_[Option::max_append]);
  config.max_inflight_appends = static_cast<size_t>(options_[Option::max_inflight]);
  config.snapshot_chunk_bytes = 4096;
  config.max_memory_bytes = static_cast<size_t>(options_[Option::memory]) * limits::kKiB;
  config.observer = &oracle_;
  config.shards = static_cast<uint32_t>(options_[Option::shards]);
  config.copies = static_cast<uint32_t>(std::min(options_[Option::copies], options_[Option::nodes]));
  config.balance = options_[Option::balance] != 0;
  config.lost_after = std::chrono::milliseconds(options_[Option::lost_after]);
}

NodeId KvCluster::id(uint32_t n) const {
  if (n <= founders() && !nodes_[n - 1].replaced) return NodeId(n);
  const std::string address = env::to_string(this->address(n));
  NodeId id;
  for (const auto& [known, node] : oracle_.shape().map().nodes())
    if (node.peer_address == address) id = known;
  return id;
}

uint32_t KvCluster::machine_of(NodeId id) const {
  for (uint32_t n = 1; n <= size(); ++n)
    if (this->id(n) == id) return n;
  return 0;
}

std::vector<env::Address> KvCluster::others(uint32_t n) const {
  std::vector<env::Address> addresses;
  for (uint32_t m = 1; m <= size(); ++m)
    if (m != n && !nodes_[m - 1].off) addresses.push_back(address(m));
  return addresses;
}

void KvCluster::join(uint32_t n) {
  Node& node = nodes_[n - 1];
  if (!node.off || others(n).empty()) return;
  node.off = false;
  node.config.join = others(n);
  boot(n);
}

void KvCluster::replace(uint32_t n, WorldTime down) {
  Node& node = nodes_[n - 1];
  if (node.off || others(n).empty()) return;
  crash(n, CrashKind::kPowerLoss);
  machine(n).disk().wipe();
  node.replaced = true;
  node.damaged = node.wiped = node.lost = node.doubted = false;
  node.config.id = NodeId();
  node.config.cluster.clear();
  ++node.config.listen.port;
  node.config.join = others(n);
  world_.later(*scope_, down, [this, n] { boot(n); });
}

void KvCluster::retire(uint32_t n) {
  Node& node = nodes_[n - 1];
  node.last_end = "it was removed from the cluster";
  crash(n, CrashKind::kKill);
  node.lost = true;
}

bool KvCluster::removed(uint32_t n) const {
  const shard::Node* node = oracle_.shape().map().node(id(n));
  return node && node->state == shard::NodeState::kRemoved;
}

void KvCluster::boot(uint32_t n) {
  const Node& node = nodes_[n - 1];
  if (stopping_ || node.off || node.lost || node.held || machine(n).running()) return;
  oracle_.stopped(id(n));
  nodes_[n - 1].asked = false;
  machine(n).boot(
      *scope_,
      [this, n](Env& env) {
        node::Ending ending(env.scheduler);
        struct Known {
          node::Ending*& place;
          Known(node::Ending*& p, node::Ending& e) : place(p) { place = &e; }
          ~Known() { place = nullptr; }
        } known(nodes_[n - 1].ending, ending);
        return node::run_node(env, nodes_[n - 1].config, {}, &ending);
      },
      [this, n](Result<void> result) { ended(n, std::move(result)); });
}

void KvCluster::crash(uint32_t n, CrashKind kind) {
  if (kind == CrashKind::kPowerLoss && nodes_[n - 1].doubted) {
    if (may_forget(n))
      forgets(n);
    else
      kind = CrashKind::kKill;
  }
  machine(n).crash(kind);
  oracle_.stopped(id(n));
}

void KvCluster::crash_for(uint32_t n, CrashKind kind, WorldTime down) {
  crash(n, kind);
  world_.later(*scope_, down, [this, n] { boot(n); });
}

void KvCluster::stop_for(uint32_t n, WorldTime down) {
  Node& node = nodes_[n - 1];
  if (!machine(n).running() || !node.ending) return crash_for(n, CrashKind::kKill, down);
  node.down = down;
  node.asked = true;
  node.ending->ask();
  const uint64_t boots = machine(n).boots();
  world_.later(*scope_, kEndingPatience * options_[Option::election_timeout] * kMillisecond, [this, n, boots, down] {
    if (machine(n).running() && machine(n).boots() == boots) crash_for(n, CrashKind::kKill, down);
  });
}

void KvCluster::hold_down(uint32_t n) {
  nodes_[n - 1].held = true;
  crash(n, CrashKind::kPowerLoss);
}

void KvCluster::let_go(uint32_t n) {
  nodes_[n - 1].held = false;
  boot(n);
}

void KvCluster::ended(uint32_t n, Result<void> result) {
  Node& node = nodes_[n - 1];
  oracle_.stopped(id(n));
  if (result && node.asked) {
    world_.later(*scope_, node.down, [this, n] { boot(n); });
    return;
  }
  const ErrorCode code = result ? ErrorCode::kInvalid : result.error().code;
  node.last_end = result ? "it ended without an error" : result.error().message;
  if (code == ErrorCode::kIo || code == ErrorCode::kNoSpace) {
    const uint64_t pause = world_.fate().between(50, 2000, Choice::kMachine, n, machine(n).boots(), 1);
    world_.later(*scope_, static_cast<WorldTime>(pause) * kMillisecond, [this, n] { boot(n); });
  } else if ((code == ErrorCode::kCorrupt && node.damaged) ||
             (code == ErrorCode::kRefused && (node.wiped || removed(n)))) {
    node.lost = true;
  } else {
    found_({"node ended", fmt::format("n{}: {}", n, node.last_end)});
  }
}

void KvCluster::damage(uint32_t n) {
  nodes_[n - 1].damaged = true;
  oracle_.damaged(id(n));
}

bool KvCluster::may_damage(uint32_t n) const {
  if (nodes_[n - 1].off) return false;
  if (options_[Option::regime] == static_cast<int64_t>(Regime::kUnrestricted) || !nodes_[n - 1].replaced) return true;
  auto is_here = [&](ReplicaId replica) { return machine_of(replica.node()) != 0; };
  for (GroupId group : oracle_.groups())
    for (const raft::Configuration& configuration : oracle_.shape().configurations(group)) {
      const auto members = configuration.members();
      if (!std::all_of(members.begin(), members.end(), is_here)) return false;
    }
  return true;
}

bool KvCluster::founded() {
  for (uint32_t n = 1; n <= founders(); ++n) {
    const Node& node = nodes_[n - 1];
    if (!node.replaced && !node.wiped && machine(n).disk().size("identity") <= kFoundingIdentityBytes) return false;
  }
  return true;
}

void KvCluster::wipe(uint32_t n, WorldTime down) {
  crash(n, CrashKind::kPowerLoss);
  machine(n).disk().wipe();
  damage(n);
  nodes_[n - 1].wiped = true;
  world_.later(*scope_, down, [this, n] { boot(n); });
}

// Of each of its groups, a majority without it holds durably all that it does, an entry of its term among it. Its own
// log is durable too: what is not may be about to replace entries that its disk still has, and that no other has. While
// it starts, it has groups that nobody has seen yet.
bool KvCluster::dispensable(uint32_t n) const {
  bool has_any = false;
  for (GroupId group : oracle_.groups()) {
    const raft::View* own = last_seen(n, group);
    if (!own && is_member(n, group)) return false;
    if (!own) continue;
    has_any = true;
    if (own->suspect || own->last_term != own->term || own->persisted != own->last) return false;
    auto holds = [&](ReplicaId replica) {
      const uint32_t m = machine_of(replica.node());
      const raft::View* seen = m == 0 ? nullptr : last_seen(m, group);
      if (m == n || !seen || seen->id != replica || seen->suspect || nodes_[m - 1].doubted) return false;
      return seen->term == own->term && seen->last_term == own->term && seen->persisted >= own->last;
    };
    if (!oracle_.shape().has_majority(group, holds)) return false;
  }
  return has_any;
}

bool KvCluster::is_member(uint32_t n, GroupId group) const {
  for (const raft::Configuration& configuration : oracle_.shape().configurations(group))
    for (ReplicaId member : configuration.members())
      if (member.node() == id(n)) return true;
  return false;
}

const raft::View* KvCluster::last_seen(uint32_t n, GroupId group) const { return oracle_.last_seen(id(n), group); }

std::map<GroupId, Term> KvCluster::terms(uint32_t n) const {
  std::map<GroupId, Term> terms;
  for (GroupId group : oracle_.groups())
    if (const raft::View* seen = last_seen(n, group)) terms[group] = seen->term;
  return terms;
}

bool KvCluster::may_forget(uint32_t n) const {
  if (options_[Option::limit] == static_cast<int64_t>(Limit::kLifted)) return true;
  return dispensable(n) && (!nodes_[n - 1].doubted || terms(n) == nodes_[n - 1].doubted_in);
}

void KvCluster::doubt(uint32_t n) {
  damage(n);
  nodes_[n - 1].doubted = true;
  nodes_[n - 1].doubted_in = terms(n);
}

void KvCluster::redeem(uint32_t n) {
  machine(n).disk().set_lying(false);
  machine(n).disk().keep_promises();
  nodes_[n - 1].doubted = false;
}

void KvCluster::forgets(uint32_t n) {
  machine(n).disk().set_lying(false);
  machine(n).disk().cancel_stray_writes();
  nodes_[n - 1].doubted = false;
  damage(n);
  oracle_.rolled_back(id(n));
  world_.record(n, "fault", "goes back to an earlier state");
}

void KvCluster::put_back_copy(uint32_t n, WorldTime down) {
  forgets(n);
  crash(n, CrashKind::kPowerLoss);
  world_.record(n, "fault", "the old copy is put back: " + machine(n).disk().restore_copy());
  world_.later(*scope_, down, [this, n] { boot(n); });
}

uint64_t KvCluster::whole() const {
  uint64_t machines = 0;
  for (uint32_t n = 1; n <= size(); ++n) {
    const Node& node = nodes_[n - 1];
    if (!node.off && !node.lost && !node.damaged) machines |= uint64_t{1} << n;
  }
  return machines;
}

uint32_t KvCluster::leader_of(GroupId group) const {
  uint32_t leader = 0;
  Term term;
  for (uint32_t n = 1; n <= size(); ++n) {
    const raft::View* seen = last_seen(n, group);
    if (!seen || seen->role != raft::Role::kLeader || seen->term < term) continue;
    leader = n;
    term = seen->term;
  }
  return leader;
}

bool KvCluster::able(uint64_t machines) const {
  for (GroupId group : oracle_.groups())
    if (!oracle_.shape().has_majority(
            group, [&](ReplicaId replica) { return (machines >> machine_of(replica.node()) & 1) != 0; }))
      return false;
  for (const auto& [group, shard] : oracle_.shape().map().shards())
    if (!able(machines, shard)) return false;
  return true;
}

bool KvCluster::able(uint64_t machines, const shard::Shard& shard) const {
  const shard::Operation* operation = shard.pending();
  if (!operation || operation->step == shard::Step::kTransfer || operation->step == shard::Step::kSplit) return true;
  size_t voters = 0;
  size_t up = 0;
  auto count = [&](NodeId node) {
    ++voters;
    up += machines >> machine_of(node) & 1;
  };
  for (const shard::Member& member : shard.configuration())
    if (member.role != shard::Role::kLearner && member.replica != operation->source &&
        member.replica != operation->target)
      count(member.replica.node);
  if (operation->target) count(operation->target.node);
  return up > voters / 2;
}

bool KvCluster::sound() const {
  for (GroupId group : oracle_.groups())
    if (!oracle_.shape().has_majority(group, [&](ReplicaId replica) {
          const uint32_t n = machine_of(replica.node());
          if (n == 0 || nodes_[n - 1].lost) return false;
          const raft::View* seen = last_seen(n, group);
          return !nodes_[n - 1].damaged || (seen && !seen->suspect);
        }))
      return false;
  return true;
}

std::string KvCluster::account() {
  std::string out;
  for (uint32_t n = 1; n <= size(); ++n) {
    const Node& node = nodes_[n - 1];
    if (node.off) continue;
    out += id(n) == NodeId(n) ? fmt::format("n{}  ", n) : fmt::format("n{} (node {})  ", n, id(n).value);
    if (node.lost)
      out += "lost: " + node.last_end;
    else if (!machine(n).running())
      out += node.held ? "held down" : "down" + (node.last_end.empty() ? "" : ": " + node.last_end);
    else
      out += "runs";
    out += '\n';
    for (GroupId group : oracle_.groups())
      if (const raft::View* seen = last_seen(n, group))
        out += fmt::format(
            "  group {}: {} of term {}{}, leader {}, commit {}, applied {}, durable to {}, log {} to "
            "{}/{}\n",
            group.value, raft::name_of(seen->role), seen->term.value, seen->suspect ? ", suspect" : "",
            seen->leader ? fmt::format("n{}", seen->leader.node().value) : "unknown", seen->commit.value,
            seen->applied.value, seen->persisted.value, seen->first.value, seen->last.value, seen->last_term.value);
  }
  return out;
}

}  // namespace mneme::sim
