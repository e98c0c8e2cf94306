// Which connections are kept.
//
// An entry of another node, once made, stays; the connection to it, and the fiber that keeps it, come and go. One that
// is needed and not there is made by use(), so what is sent at that moment is lost, which whoever sends expects. The
// other side takes the connection for a use as well and makes its own, since nothing comes back on one that was made.
#include <fmt/format.h>

#include <algorithm>

#include "core/node/groups.h"
#include "core/node/peer_link.h"

namespace mneme::node {

namespace {

constexpr Duration kLooksAgain = 5s;
constexpr Duration kKeptUnused = 60s;  // what is needed now and then is not made each time

}  // namespace

Peers::Link* Peers::find(NodeId peer) {
  auto at =
      std::lower_bound(links_.begin(), links_.end(), peer, [](const auto& link, NodeId id) { return link->node < id; });
  return at != links_.end() && (*at)->node == peer ? at->get() : nullptr;
}

const Peers::Link* Peers::find(NodeId peer) const { return const_cast<Peers*>(this)->find(peer); }

Peers::Link& Peers::entry(NodeId peer) {
  auto at =
      std::lower_bound(links_.begin(), links_.end(), peer, [](const auto& link, NodeId id) { return link->node < id; });
  if (at != links_.end() && (*at)->node == peer) return **at;
  return **links_.insert(at, std::make_unique<Link>(env_.scheduler, peer));
}

std::optional<shard::Node> Peers::node_of(NodeId id) const {
  if (const shard::Node* node = map_.map().node(id)) return *node;
  if (!groups_) return std::nullopt;
  auto node = groups_->logged_node(id);
  if (node) env_.trace.reached(Probe::node_known_from_log);
  return node;
}

// The entry of a node of the cluster; null: there is no such node, or not any more.
Peers::Link* Peers::known(NodeId peer) {
  const auto node = node_of(peer);
  if (!node || node->state == shard::NodeState::kRemoved || peer == identity_.node) return nullptr;
  return &entry(peer);
}

// Looked up each time: what a log says of a node that the map does not have yet may be replaced, and its id given to
// another node.
Result<env::Address> Peers::address_of(NodeId peer) const {
  if (const auto node = node_of(peer)) return env::parse_address(node->peer_address);
  for (const Member& member : config_.cluster)
    if (member.id == peer) return member.address;
  return fail(ErrorCode::kNotFound, fmt::format("node {} is not known here", peer.value));
}

// The link to a node for which there is something to be done; null: there is no such node.
Peers::Link* Peers::use(NodeId peer) {
  Link* link = find(peer);
  if (!link || !link->kept) {
    if (!link) link = known(peer);
    if (!link) return nullptr;
    keep(*link);
  }
  link->used_at = env_.clock.now();
  return link;
}

void Peers::keep(Link& link) {
  if (link.kept) return;
  link.kept = true;
  link.heard_at = link.map_sent_at = link.used_at = env_.clock.now();
  connect_soon(link);
}

void Peers::connect_soon(Link& link) {
  if (!scope_ || link.running) return;
  link.running = true;
  scope_->spawn("link", [this, &link] { return keep_connected(link); });
}

bool Peers::has_all_for_neighbours() const {
  const shard::Map& map = map_.map();
  if (map.nodes().size() <= config_.link_all_up_to) return true;
  const shard::Shard* meta = map.shard(shard::kMetaGroup);
  return meta && (member_on(meta->configuration(), identity_.node) || (groups_ && groups_->find(shard::kMetaGroup)));
}

std::set<NodeId> Peers::neighbours() const {
  const shard::Map& map = map_.map();
  std::set<NodeId> nodes;
  if (has_all_for_neighbours()) {
    for (const auto& [id, node] : map.nodes()) nodes.insert(id);
    return nodes;
  }
  auto add = [&](GroupId group) {
    const shard::Shard* shard = map.shard(group);
    if (!shard) return;
    for (const shard::Member& member : shard->configuration()) nodes.insert(member.replica.node);
    if (const shard::Operation* operation = shard->pending(); operation && operation->target)
      nodes.insert(operation->target.node);
  };
  add(shard::kMetaGroup);
  if (!groups_) return nodes;
  for (const auto& [group, replica] : groups_->all()) {
    add(group);
    // It may be ahead of the map.
    for (ReplicaId id : replica->raft().configuration().members()) nodes.insert(id.node());
  }
  return nodes;
}

// One that was removed is refused, and tried for as long as it is an entry: it may not know yet.
void Peers::update_links() {
  const std::set<NodeId> wanted = neighbours();
  for (NodeId id : wanted)
    if (Link* link = known(id)) keep(*link);
  if (map_.map().nodes().size() <= config_.link_all_up_to) return;
  for (auto& link : links_) {
    if (!link->kept || wanted.contains(link->node) || env_.clock.now() < link->used_at + kKeptUnused) continue;
    link->kept = false;
    link->filled.notify_one();
  }
}

// In a large cluster the map changes all the time, and what is needed at once is used.
Result<void> Peers::keep_links() {
  for (;;) {
    const uint64_t version = map_.version();
    if (identity_.founded()) update_links();
    if (map_.map().nodes().size() <= config_.link_all_up_to)
      map_.wait_for_change(version);
    else
      env_.clock.sleep_for(env_.scheduler, kLooksAgain);
  }
}

}  // namespace mneme::node
