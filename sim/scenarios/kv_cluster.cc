#include "sim/scenarios/kv_cluster.h"

#include <fmt/format.h>

#include "core/node/node.h"

namespace mneme::sim {

KvCluster::KvCluster(World& world, const Options& options, KvOracle* oracle, std::function<void(Finding)> found)
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

    node::Config& config = nodes_[n - 1].config;
    config.id = NodeId(n);
    config.listen = {fmt::format("n{}", n), kKvPort};
    if (size() > 1)
      for (uint32_t m = 1; m <= size(); ++m) config.cluster.push_back({NodeId(m), {fmt::format("n{}", m), kKvPort}});
    config.election_timeout = std::chrono::milliseconds(options_[Option::election_timeout]);
    config.heartbeat_interval = std::chrono::milliseconds(options_[Option::heartbeat]);
    config.request_timeout = std::chrono::milliseconds(options_[Option::request_timeout]);
    config.segment_bytes = static_cast<size_t>(options_[Option::segment]) * limits::kKiB;
    config.checkpoint_log_bytes = static_cast<size_t>(options_[Option::checkpoint]) * limits::kKiB;
    config.keep_entries = static_cast<uint64_t>(options_[Option::keep_entries]);
    config.max_append_bytes = static_cast<size_t>(options_[Option::max_append]);
    config.max_inflight_appends = static_cast<size_t>(options_[Option::max_inflight]);
    config.snapshot_chunk_bytes = 4096;
    config.max_memory_bytes = static_cast<size_t>(options_[Option::memory]) * limits::kKiB;
    config.observer = oracle_;
  }
}

void KvCluster::boot(uint32_t n) {
  const Node& node = nodes_[n - 1];
  if (stopping_ || node.lost || node.held || machine(n).running()) return;
  if (oracle_) oracle_->stopped(NodeId(n));
  machine(n).boot(
      *scope_, [this, n](Env& env) { return node::run_node(env, nodes_[n - 1].config); },
      [this, n](Result<void> result) { ended(n, std::move(result)); });
}

void KvCluster::crash(uint32_t n, CrashKind kind) {
  machine(n).crash(kind);
  if (oracle_) oracle_->stopped(NodeId(n));
}

void KvCluster::crash_for(uint32_t n, CrashKind kind, WorldTime down) {
  crash(n, kind);
  world_.later(*scope_, down, [this, n] { boot(n); });
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
  if (oracle_) oracle_->stopped(NodeId(n));
  const ErrorCode code = result ? ErrorCode::kInvalid : result.error().code;
  node.last_end = result ? "it ended without an error" : result.error().message;
  if (code == ErrorCode::kIo || code == ErrorCode::kNoSpace) {
    const uint64_t pause = world_.fate().between(50, 2000, Choice::kMachine, n, machine(n).boots(), 1);
    world_.later(*scope_, static_cast<WorldTime>(pause) * kMillisecond, [this, n] { boot(n); });
  } else if ((code == ErrorCode::kCorrupt && node.damaged) || (code == ErrorCode::kRefused && node.wiped)) {
    node.lost = true;
  } else {
    found_({"node ended", fmt::format("n{}: {}", n, node.last_end)});
  }
}

void KvCluster::damage(uint32_t n) {
  nodes_[n - 1].damaged = true;
  if (oracle_) oracle_->damaged(NodeId(n));
}

bool KvCluster::founded() {
  for (uint32_t n = 1; n <= size(); ++n)
    if (!machine(n).disk().contains("group-1")) return false;
  return true;
}

void KvCluster::wipe(uint32_t n, WorldTime down) {
  crash(n, CrashKind::kPowerLoss);
  machine(n).disk().wipe();
  damage(n);
  nodes_[n - 1].wiped = true;
  world_.later(*scope_, down, [this, n] { boot(n); });
}

uint32_t KvCluster::sound() const {
  uint32_t count = 0;
  for (uint32_t n = 1; n <= size(); ++n) {
    const raft::View* seen = oracle_ ? oracle_->last_seen(NodeId(n)) : nullptr;
    count += !nodes_[n - 1].lost && (!nodes_[n - 1].damaged || (seen && !seen->suspect));
  }
  return count;
}

std::string KvCluster::account() {
  std::string out;
  for (uint32_t n = 1; n <= size(); ++n) {
    const Node& node = nodes_[n - 1];
    const raft::View* seen = oracle_ ? oracle_->last_seen(NodeId(n)) : nullptr;
    out += fmt::format("n{}  ", n);
    if (node.lost)
      out += "lost: " + node.last_end;
    else if (!machine(n).running())
      out += node.held ? "held down" : "down" + (node.last_end.empty() ? "" : ": " + node.last_end);
    else if (!seen)
      out += "runs, and its replica has not started yet";
    else
      out += fmt::format("{} of term {}{}, leader {}, commit {}, applied {}, durable to {}, log {} to {}/{}",
                         raft::name_of(seen->role), seen->term.value, seen->suspect ? ", suspect" : "",
                         seen->leader ? fmt::format("n{}", seen->leader.value) : "unknown", seen->commit.value,
                         seen->applied.value, seen->persisted.value, seen->first.value, seen->last.value,
                         seen->last_term.value);
    out += '\n';
  }
  return out;
}

}  // namespace mneme::sim
