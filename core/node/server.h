// What the connections of one node share: who serves them, who is connected, what is counted.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "core/env/env.h"
#include "core/kv/command.h"
#include "core/node/config.h"
#include "core/node/groups.h"
#include "core/node/identity.h"
#include "core/node/map_cache.h"
#include "core/node/peers.h"
#include "core/node/router.h"

namespace mneme::node {

class Conductor;

// What clients are told who ask for more than a node that starts can do.
inline constexpr std::string_view kStarting = "LOADING the node is starting, or its cluster is being formed";

// One client's connection, as CLIENT LIST shows it.
struct Client {
  uint64_t id = 0;
  env::Stream* stream = nullptr;
  Instant since;
  std::string name;
  std::string library;
  std::string library_version;
  int protocol = 2;         // RESP version
  bool redirected = false;  // it has asked for the slot map: is told MOVED instead of being forwarded
  bool readonly = false;    // READONLY: reads may be answered by a follower here
  uint64_t commands = 0;
  std::string_view last_command = "NULL";
};

struct Stats {
  uint64_t connections = 0;
  uint64_t rejected_connections = 0;
  uint64_t commands = 0;
  uint64_t keyspace_hits = 0;
  uint64_t keyspace_misses = 0;
  uint64_t unknown_outcomes = 0;
  std::map<std::string, uint64_t, std::less<>> errors;  // by prefix, at most kMaxErrorPrefixes
  static constexpr size_t kMaxErrorPrefixes = 128;
};

struct Server {
  Env& env;
  const Config& config;
  const Identity& identity;
  Peers* peers = nullptr;  // null until its data directory was read
  // Null until the node can serve.
  Router* router = nullptr;
  Groups* groups = nullptr;
  MapCache* map = nullptr;  // a node that was here before has its last one from the start
  Conductor* conductor = nullptr;
  std::function<bool(NodeId)> alive;  // whether this node believes so, of a node of the map
  // The map that cluster clients are shown; null where there is nothing to find one's way in: one node, one shard.
  const shard::Map* shards() const {
    return map && (map->map().nodes().size() > 1 || map->map().shards().size() > 2) ? &map->map() : nullptr;
  }
  // Whether cluster clients are in the right place. A node that starts for the first time has no map to show yet, and
  // must not say that it is none of a cluster: clients believe it and give up.
  bool clustered() const {
    return map ? shards() != nullptr : config.cluster.size() > 1 || config.shards > 1 || !config.join.empty();
  }
  size_t max_memory_bytes = 0;  // CONFIG SET maxmemory
  Instant started;
  std::map<uint64_t, Client*> clients;  // by id
  uint64_t clients_made = 0;
  Stats stats;
};

// Executes a command that the connection itself answers (kv::kLocal), other than those that change how it reads what
// follows (MULTI, EXEC, DISCARD, SESSION, QUIT, RESET). Appends one canonical reply.
void execute_local(Server& server, Client& client, const kv::CommandSpec& spec, kv::Args args, std::string& out);

// INFO's text, of one section or of all ("", "all", "default", "everything").
std::string info_text(const Server& server, std::string_view section);

}  // namespace mneme::node
