#include <fmt/format.h>

#include "core/node/server.h"

namespace mneme::node {

namespace {

std::string human(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "K", "M", "G", "T"};
  size_t unit = 0;
  uint64_t whole = bytes;
  uint64_t rest = 0;
  while (whole >= 1024 && unit + 1 < std::size(kUnits)) {
    rest = whole % 1024;
    whole /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{}B", whole) : fmt::format("{}.{:02}{}", whole, rest * 100 / 1024, kUnits[unit]);
}

}  // namespace

std::string info_text(const Server& server, std::string_view section) {
  std::string lower(section);
  for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  const bool all = lower.empty() || lower == "all" || lower == "default" || lower == "everything";
  std::string out;
  auto begin = [&](std::string_view name, std::string_view title) {
    if (!all && lower != name) return false;
    if (!out.empty()) out += "\r\n";
    out += fmt::format("# {}\r\n", title);
    return true;
  };
  auto field = [&](std::string_view name, const auto& value) { out += fmt::format("{}:{}\r\n", name, value); };

  const std::map<GroupId, std::shared_ptr<replica::Replica>> none;
  const auto& groups = server.groups ? server.groups->all() : none;
  size_t led = 0;
  size_t sessions = 0;
  size_t keys = 0;
  uint64_t expired = 0;
  for (const auto& [group, replica] : groups) {
    const kv::StateMachine& machine = replica->machine();
    expired += machine.expired_keys();
    if (group == shard::kMetaGroup) sessions = machine.sessions().size();
    if (replica->raft().role() != raft::Role::kLeader) continue;
    ++led;
    keys += machine.table().size();
  }
  if (begin("server", "Server")) {
    field("redis_version", "7.2.4");
    field("mneme_version", "0.1.0");
    field("redis_mode", server.clustered() ? "cluster" : "standalone");
    field("run_id", fmt::format("{:016x}{:016x}{:08x}", server.identity.cluster.value,
                                server.identity.incarnation.value, server.identity.node.value));
    field("tcp_port", server.config.listen.port);
    field("uptime_in_seconds", (server.env.clock.now() - server.started) / 1s);
  }
  if (begin("clients", "Clients")) {
    field("connected_clients", server.clients.size());
    field("maxclients", server.config.max_clients);
    field("blocked_clients", 0);
  }
  if (begin("memory", "Memory")) {
    const uint64_t used = server.groups ? server.groups->bytes_used() : 0;
    field("used_memory", used);
    field("used_memory_human", human(used));
    field("maxmemory", server.max_memory_bytes);
    field("maxmemory_human", human(server.max_memory_bytes));
    field("maxmemory_policy", "noeviction");
  }
  if (begin("persistence", "Persistence")) {
    field("loading", server.router ? 0 : 1);
    field("aof_enabled", 1);
  }
  if (begin("stats", "Stats")) {
    field("total_connections_received", server.stats.connections);
    field("total_commands_processed", server.stats.commands);
    field("instantaneous_ops_per_sec", 0);
    field("rejected_connections", server.stats.rejected_connections);
    field("expired_keys", expired);
    field("keyspace_hits", server.stats.keyspace_hits);
    field("keyspace_misses", server.stats.keyspace_misses);
    field("unknown_outcomes", server.stats.unknown_outcomes);
  }
  if (begin("replication", "Replication")) {
    field("role", led > 0 ? "master" : "slave");
    field("connected_slaves", 0);
  }
  if (begin("consensus", "Consensus")) {
    field("cluster_id", fmt::format("{:016x}", server.identity.cluster.value));
    field("node_id", server.identity.node.value);
    field("incarnation", fmt::format("{:016x}", server.identity.incarnation.value));
    if (server.map) {
      field("map_version", server.map->version());
      field("shards", server.map->map().shards().size() - (server.map->map().cluster() ? 1 : 0));
    }
    field("groups", groups.size());
    field("groups_led", led);
    field("sessions", sessions);
    for (const auto& [group, replica] : groups) {
      const raft::Raft& raft = replica->raft();
      field(
          fmt::format("group{}", group.value),
          fmt::format("role={},term={},leader={},suspect={},epoch={},commit={},applied={},last={},persisted={},"
                      "digest={:016x}",
                      raft::name_of(raft.role()), raft.term().value, raft.leader().node().value, raft.suspect() ? 1 : 0,
                      replica->machine().shard().epoch.value, raft.commit().value, replica->machine().applied().value,
                      raft.last_index().value, raft.persisted_index().value, replica->machine().digest()));
    }
  }
  if (begin("errorstats", "Errorstats"))
    for (auto& [prefix, count] : server.stats.errors) field("errorstat_" + prefix, fmt::format("count={}", count));
  if (begin("cluster", "Cluster")) field("cluster_enabled", server.clustered() ? 1 : 0);
  if (begin("keyspace", "Keyspace") && keys > 0) field("db0", fmt::format("keys={},expires=0,avg_ttl=0", keys));
  return out;
}

}  // namespace mneme::node
