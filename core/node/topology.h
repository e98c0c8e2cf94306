// The cluster as Redis clients know it: what CLUSTER SLOTS, SHARDS, NODES, INFO and MYID answer, and where MOVED sends.
//
// Pure functions of the shard map and of which nodes this one believes to be alive. Formats are those of Redis 7.2
// (redis.io/commands, "cluster-nodes" and its neighbours; checked against a server).
//
// Redis has nodes with slots, here shards have. So each node is shown as the master of the slots whose shards it leads,
// as far as the map knows; a node that leads nothing is a master without slots.
//
// While a slot's leader is not known, as right after a split, or has no address that a client could use, a voter that
// is alive stands in for it, and forwards what it is asked. To leave the slot out would do harm: redis-py takes it for
// a slot that nobody serves, and refuses its keys until something else makes it ask again. MOVED names leaders only:
// the map has what they said of themselves.
//
// Liveness is one node's opinion, which Redis calls PFAIL ("fail?"): it is shown, and changes no slot's owner.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "core/base/ids.h"
#include "core/shard/map.h"

namespace mneme::node {

struct Topology {
  const shard::Map& map;
  NodeId self;
  const std::function<bool(NodeId)>& alive;  // not asked of `self`
  // Followers answer reads as the leader would: then SLOTS and SHARDS list the voters that are alive as replicas. NODES
  // never does, for there a node is either master or replica.
  bool replicas = false;
};

// 40 hexadecimal digits, as Redis names nodes. The incarnation, which is drawn by chance, comes first, because people
// are shown no more than the beginning.
[[nodiscard]] std::string cluster_node_id(NodeId node, Incarnation incarnation);

// Each appends one canonical reply.
void put_cluster_slots(const Topology& topology, std::string& out);
void put_cluster_shards(const Topology& topology, std::string& out);
void put_cluster_nodes(const Topology& topology, std::string& out);
void put_cluster_info(const Topology& topology, std::string& out);

// "MOVED 12182 host:port", an error's text; nothing while the slot's leader is not known.
[[nodiscard]] std::optional<std::string> moved_text(const Topology& topology, uint16_t slot);

}  // namespace mneme::node
