#include "core/node/topology.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <vector>

#include "core/kv/text.h"
#include "core/protocol/reply.h"

namespace mneme::node {

using namespace protocol;
using shard::Map;
using shard::Member;
using shard::Node;
using shard::NodeState;
using shard::Shard;
using shard::SlotRange;

namespace {

// Redis writes the host without the brackets of an IPv6 address; clients split at the last colon.
struct Endpoint {
  std::string_view host;
  uint16_t port = 0;
};

// Nothing for what a client could not use, or what would break a line of NODES.
std::optional<Endpoint> endpoint_of(std::string_view address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string_view::npos) return {};
  std::string_view host = address.substr(0, colon);
  auto port = kv::parse_integer(address.substr(colon + 1));
  if (!port || *port < 1 || *port > UINT16_MAX) return {};
  if (host.size() > 2 && host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  const bool usable = !host.empty() && std::all_of(host.begin(), host.end(), [](char c) {
    return c > ' ' && c <= '~' && c != '@' && c != ',' && c != '[' && c != ']';
  });
  if (!usable) return {};
  return Endpoint{host, static_cast<uint16_t>(*port)};
}

std::string id_of(const Node& node) { return cluster_node_id(node.id, node.incarnation); }

bool is_alive(const Topology& topology, NodeId node) { return node == topology.self || topology.alive(node); }

// Null while it is not known, or not to be reached by clients.
const Node* leader_of(const Map& map, const Shard& shard) {
  if (!shard.last.leader) return nullptr;
  const Node* leader = map.node(shard.last.leader);
  return leader != nullptr && endpoint_of(leader->client_address) ? leader : nullptr;
}

// Slots with the same leader, or its stand-in, and replicas.
struct Run {
  SlotRange slots;
  std::vector<const Node*> nodes;  // as nodes_of() has them
};

// Whom clients are sent to for the shard's slots, then who answers reads as well. Without a known leader the first
// voter stands in, the same on every node that believes the same nodes to be alive.
std::vector<const Node*> nodes_of(const Topology& topology, const Shard& shard) {
  std::vector<const Node*> nodes;
  const Node* leader = leader_of(topology.map, shard);
  if (leader != nullptr) nodes.push_back(leader);
  for (const Member& member : shard.configuration()) {
    if (!nodes.empty() && !topology.replicas) break;
    const Node* node = topology.map.node(member.replica.node);
    if (member.role == shard::Role::kVoter && node != nullptr && node != leader && endpoint_of(node->client_address) &&
        is_alive(topology, node->id))
      nodes.push_back(node);
  }
  return nodes;
}

// In the order of slots, as long as can be.
std::vector<Run> runs_of(const Topology& topology) {
  std::vector<Run> runs;
  for (const auto& [group, shard] : topology.map.shards()) {
    const std::vector<const Node*> nodes = nodes_of(topology, shard);
    if (nodes.empty()) continue;
    for (SlotRange range : shard.slots.ranges()) runs.push_back({range, nodes});
  }
  std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.slots.begin < b.slots.begin; });
  std::vector<Run> merged;
  for (Run& run : runs) {
    if (!merged.empty() && merged.back().nodes == run.nodes && merged.back().slots.end == run.slots.begin)
      merged.back().slots.end = run.slots.end;
    else
      merged.push_back(std::move(run));
  }
  return merged;
}

// Those that clients are told of.
std::vector<const Node*> known_nodes(const Map& map) {
  std::vector<const Node*> nodes;
  for (const auto& [id, node] : map.nodes())
    if (node.state != NodeState::kRemoved) nodes.push_back(&node);
  return nodes;
}

// The greatest epoch of the shards that each leads: like Redis's configuration epoch it rises when slots change hands.
std::map<NodeId, uint64_t> epochs_of(const Map& map) {
  std::map<NodeId, uint64_t> epochs;
  for (const auto& [group, shard] : map.shards()) {
    if (shard.slots.empty()) continue;
    uint64_t& epoch = epochs[shard.last.leader];
    epoch = std::max(epoch, shard.epoch().value);
  }
  return epochs;
}

void put_shard_node(const Topology& topology, const Node& node, bool master, std::string& out) {
  const Endpoint endpoint = endpoint_of(node.client_address).value_or(Endpoint{});
  put_map(out, 7);
  put_bulk(out, "id");
  put_bulk(out, id_of(node));
  put_bulk(out, "port");
  put_integer(out, endpoint.port);
  put_bulk(out, "ip");
  put_bulk(out, endpoint.host);
  put_bulk(out, "endpoint");
  put_bulk(out, endpoint.host);
  put_bulk(out, "role");
  put_bulk(out, master ? "master" : "replica");
  put_bulk(out, "replication-offset");
  put_integer(out, 0);
  put_bulk(out, "health");
  put_bulk(out, is_alive(topology, node.id) ? "online" : "fail");
}

std::string flags_of(const Topology& topology, const Node& node) {
  std::string flags = node.id == topology.self ? "myself," : "";
  flags += node.state == NodeState::kJoining ? "handshake" : "master";
  if (!is_alive(topology, node.id)) flags += ",fail?";
  if (!endpoint_of(node.client_address)) flags += ",noaddr";
  return flags;
}

}  // namespace

std::string cluster_node_id(NodeId node, Incarnation incarnation) {
  return fmt::format("{:016x}{:024x}", incarnation.value, node.value);
}

void put_cluster_slots(const Topology& topology, std::string& out) {
  const std::vector<Run> runs = runs_of(topology);
  put_array(out, runs.size());
  for (const Run& run : runs) {
    put_array(out, 2 + run.nodes.size());
    put_integer(out, run.slots.begin);
    put_integer(out, run.slots.end - 1);
    for (const Node* node : run.nodes) {
      const Endpoint endpoint = *endpoint_of(node->client_address);
      put_array(out, 4);
      put_bulk(out, endpoint.host);
      put_integer(out, endpoint.port);
      put_bulk(out, id_of(*node));
      put_map(out, 0);
    }
  }
}

void put_cluster_shards(const Topology& topology, std::string& out) {
  // By ids, the leader's first: Redis's shard is the nodes that have the same slots.
  std::map<std::vector<NodeId>, std::vector<SlotRange>> shards;
  std::set<NodeId> listed;
  for (const Run& run : runs_of(topology)) {
    std::vector<NodeId> ids;
    for (const Node* node : run.nodes) ids.push_back(node->id);
    listed.insert(ids.begin(), ids.end());
    shards[ids].push_back(run.slots);
  }
  for (const Node* node : known_nodes(topology.map))
    if (node->state != NodeState::kJoining && !listed.contains(node->id)) shards[{node->id}];
  put_array(out, shards.size());
  for (const auto& [ids, slots] : shards) {
    put_map(out, 2);
    put_bulk(out, "slots");
    put_array(out, 2 * slots.size());
    for (SlotRange range : slots) {
      put_integer(out, range.begin);
      put_integer(out, range.end - 1);
    }
    put_bulk(out, "nodes");
    put_array(out, ids.size());
    for (NodeId id : ids) put_shard_node(topology, *topology.map.node(id), id == ids.front(), out);
  }
}

void put_cluster_nodes(const Topology& topology, std::string& out) {
  std::map<NodeId, std::string> slots;
  for (const Run& run : runs_of(topology)) {
    const SlotRange range = run.slots;
    slots[run.nodes.front()->id] +=
        range.size() == 1 ? fmt::format(" {}", range.begin) : fmt::format(" {}-{}", range.begin, range.end - 1);
  }
  std::map<NodeId, uint64_t> epochs = epochs_of(topology.map);
  std::string text;
  for (const Node* node : known_nodes(topology.map)) {
    const Endpoint client = endpoint_of(node->client_address).value_or(Endpoint{});
    const Endpoint peer = endpoint_of(node->peer_address).value_or(Endpoint{});
    text += fmt::format("{} {}:{}@{} {} - 0 0 {} {}{}\n", id_of(*node), client.host, client.port, peer.port,
                        flags_of(topology, *node), epochs[node->id],
                        is_alive(topology, node->id) ? "connected" : "disconnected", slots[node->id]);
  }
  put_verbatim(out, "txt", text);
}

void put_cluster_info(const Topology& topology, std::string& out) {
  size_t ok = 0;
  size_t suspected = 0;  // their leader seems to be dead
  size_t failed = 0;     // nobody is known to lead them
  std::set<NodeId> leaders;
  for (const auto& [group, shard] : topology.map.shards()) {
    const Node* leader = leader_of(topology.map, shard);
    if (shard.slots.empty()) continue;
    (leader == nullptr ? failed : is_alive(topology, leader->id) ? ok : suspected) += shard.slots.size();
    if (leader != nullptr) leaders.insert(leader->id);
  }
  std::string text;
  auto field = [&](std::string_view name, const auto& value) { text += fmt::format("{}:{}\r\n", name, value); };
  field("cluster_state", ok + suspected == kSlots ? "ok" : "fail");
  field("cluster_slots_assigned", ok + suspected + failed);
  field("cluster_slots_ok", ok);
  field("cluster_slots_pfail", suspected);
  field("cluster_slots_fail", failed);
  field("cluster_known_nodes", known_nodes(topology.map).size());
  field("cluster_size", leaders.size());
  field("cluster_current_epoch", topology.map.version());
  field("cluster_my_epoch", epochs_of(topology.map)[topology.self]);
  field("cluster_stats_messages_sent", 0);
  field("cluster_stats_messages_received", 0);
  field("total_cluster_links_buffer_limit_exceeded", 0);
  put_verbatim(out, "txt", text);
}

std::optional<std::string> moved_text(const Topology& topology, uint16_t slot) {
  const Shard* shard = topology.map.shard(topology.map.owner_of(slot));
  const Node* leader = shard == nullptr ? nullptr : leader_of(topology.map, *shard);
  if (leader == nullptr) return {};
  const Endpoint endpoint = *endpoint_of(leader->client_address);
  return fmt::format("MOVED {} {}:{}", slot, endpoint.host, endpoint.port);
}

}  // namespace mneme::node
