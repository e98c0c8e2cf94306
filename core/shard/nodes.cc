// The commands about the cluster and its nodes.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>

#include "core/base/limits.h"
#include "core/shard/map.h"

namespace mneme::shard {

namespace {

Result<void> check_texts(const std::string& peer, const std::string& client, const std::string& rack) {
  if (peer.empty() || client.empty())
    return fail(ErrorCode::kInvalid, "a node needs an address for its peers and one for clients");
  if (std::max(peer.size(), client.size()) > limits::kMaxAddressBytes)
    return fail(ErrorCode::kTooLarge, fmt::format("an address has more than {} bytes", limits::kMaxAddressBytes));
  if (rack.size() > limits::kMaxRackBytes)
    return fail(ErrorCode::kTooLarge, fmt::format("a rack's name has more than {} bytes", limits::kMaxRackBytes));
  return {};
}

Result<void> check_founders(const std::vector<Founder>& nodes) {
  if (nodes.empty()) return fail(ErrorCode::kInvalid, "a cluster is founded with one node at least");
  if (nodes.size() > limits::kMaxMembers)
    return fail(ErrorCode::kTooLarge, fmt::format("a cluster has at most {} nodes", limits::kMaxMembers));
  std::vector<Incarnation> incarnations;
  std::vector<std::string> addresses;
  for (size_t i = 0; i < nodes.size(); ++i) {
    const Founder& node = nodes[i];
    if (!node.id || !node.incarnation || node.id.value >= UINT64_MAX - limits::kMaxMembersEver)
      return fail(ErrorCode::kInvalid, "every founding node needs an id from 1 on and an incarnation");
    if (i > 0 && node.id <= nodes[i - 1].id)
      return fail(ErrorCode::kInvalid, fmt::format("founding nodes are not sorted by id at node {}", node.id.value));
    TRY(check_texts(node.peer_address, node.client_address, node.rack));
    incarnations.push_back(node.incarnation);
    addresses.push_back(node.peer_address);
  }
  std::sort(incarnations.begin(), incarnations.end());
  std::sort(addresses.begin(), addresses.end());
  if (std::adjacent_find(incarnations.begin(), incarnations.end()) != incarnations.end())
    return fail(ErrorCode::kInvalid, "two founding nodes have the same incarnation: give each a directory of its own");
  if (auto twice = std::adjacent_find(addresses.begin(), addresses.end()); twice != addresses.end())
    return fail(ErrorCode::kInvalid, fmt::format("two founding nodes have the address {}", *twice));
  return {};
}

// The nodes in an order in which neighbours are in different racks as far as possible: the first of every rack, then
// the second of every rack, and so on.
std::vector<NodeId> across_racks(const std::vector<Founder>& nodes) {
  std::map<std::string_view, size_t> in_rack;
  std::vector<std::tuple<size_t, std::string_view, NodeId>> order;
  for (const Founder& node : nodes)
    order.emplace_back(node.rack.empty() ? 0 : in_rack[node.rack]++, node.rack, node.id);
  std::sort(order.begin(), order.end());
  std::vector<NodeId> ids;
  for (const auto& [rank, rack, id] : order) ids.push_back(id);
  return ids;
}

// Shard after shard takes the next `copies` nodes of the circle. When all nodes have got equally many it begins one
// node later, so that the shards of a node have their other copies on different nodes.
Configuration initial_configuration(const std::vector<NodeId>& circle, size_t shard, size_t copies) {
  const size_t begin = shard * copies + shard / (circle.size() / std::gcd(circle.size(), copies));
  Configuration configuration;
  for (size_t i = 0; i < copies; ++i) configuration.push_back({{circle[(begin + i) % circle.size()], 1}, Role::kVoter});
  std::sort(configuration.begin(), configuration.end(),
            [](const Member& a, const Member& b) { return a.replica < b.replica; });
  return configuration;
}

}  // namespace

Result<Answer> Map::on(const FoundCluster& command) {
  std::string bytes;
  shard::encode(Command(command), bytes);
  const uint64_t founding = xxh3(bytes);
  if (cluster_) {
    if (founding_ == founding) return Answer{.group = kFirstDataGroup};
    return fail(ErrorCode::kExists, fmt::format("cluster {:016x} is founded already; a node that is to be added to it "
                                                "joins with `mneme node --join`",
                                                cluster_.value));
  }
  if (!command.cluster) return fail(ErrorCode::kInvalid, "a cluster needs an id other than 0");
  TRY(check_founders(command.nodes));
  if (command.copies < 1 || command.copies >= limits::kMaxReplicas || command.copies > command.nodes.size())
    return fail(ErrorCode::kInvalid,
                fmt::format("{} nodes cannot hold {} copies of every shard: ask for 1 to {}", command.nodes.size(),
                            command.copies, std::min(command.nodes.size(), limits::kMaxReplicas - 1)));
  if (command.shards < 1 || command.shards > kSlots)
    return fail(ErrorCode::kInvalid,
                fmt::format("a cluster is founded with 1 to {} shards, not {}", kSlots, command.shards));

  owners_.edit().resize(kSlots);
  cluster_ = command.cluster;
  founding_ = founding;
  cluster_version_ = command.cluster_version;
  copies_ = command.copies;
  for (const Founder& f : command.nodes)
    nodes_.set(f.id, {f.id, f.incarnation, f.peer_address, f.client_address, f.rack, NodeState::kUp, 0});
  next_node_ = command.nodes.back().id.next();

  const std::vector<NodeId> circle = across_racks(command.nodes);
  for (uint32_t i = 0; i <= command.shards; ++i) {  // the meta group, then the data groups
    Shard shard;
    if (i > 0)
      shard.slots = SlotSet({static_cast<uint16_t>((i - 1) * kSlots / command.shards),
                             static_cast<uint16_t>(i * kSlots / command.shards)});
    shard.last.group = GroupId(kMetaGroup.value + i);
    shard.last.epoch = Epoch(1);
    shard.last.configuration = initial_configuration(circle, i, command.copies);
    shard.last.next_generation = 2;
    give_slots(shard.slots, shard.group());
    shards_.set(shard.group(), shard);
  }
  next_group_ = GroupId(kFirstDataGroup.value + command.shards);
  ++version_;
  return Answer{.group = kFirstDataGroup};
}

void Map::give_slots(const SlotSet& slots, GroupId owner) {
  std::vector<GroupId>& owners = owners_.edit();
  for (SlotRange range : slots.ranges()) std::fill(owners.begin() + range.begin, owners.begin() + range.end, owner);
}

void Map::change_state(Node node, NodeState state) {
  node.state = state;
  ++node.revision;
  ++version_;
  nodes_.set(node.id, std::move(node));
}

Result<const Node*> Map::known_node(NodeId id) {
  if (const Node* found = nodes_.find(id)) return found;
  return fail(ErrorCode::kNotFound,
              fmt::format("node {} is unknown; `mneme cluster status` lists the nodes", id.value));
}

size_t Map::nodes_up() const {
  return static_cast<size_t>(
      std::count_if(nodes_.begin(), nodes_.end(), [](const auto& n) { return n.second.state == NodeState::kUp; }));
}

FoundCluster Map::founding() const {
  FoundCluster command{.cluster = cluster_,
                       .cluster_version = cluster_version_,
                       .copies = copies_,
                       .shards = static_cast<uint32_t>(shards_.size() - 1)};
  for (const auto& [id, node] : nodes_)
    command.nodes.push_back({id, node.incarnation, node.peer_address, node.client_address, node.rack});
  return command;
}

Result<Answer> Map::on(const AddNode& command) {
  if (!command.incarnation) return fail(ErrorCode::kInvalid, "a node that joins needs an incarnation");
  TRY(check_texts(command.peer_address, command.client_address, command.rack));
  size_t members = 0;
  const Node* at_address = nullptr;
  for (const auto& [id, node] : nodes_) {
    if (node.incarnation == command.incarnation) {
      if (node.state != NodeState::kRemoved) return Answer{.node = id};
      return fail(ErrorCode::kRefused, fmt::format("this data directory belonged to node {}, which was removed; start "
                                                   "the node with an empty one",
                                                   id.value));
    }
    if (node.state == NodeState::kRemoved) continue;
    ++members;
    if (node.peer_address == command.peer_address) at_address = &node;
  }
  if (at_address)
    return fail(ErrorCode::kExists,
                fmt::format("{} is the address of node {}, whose data directory is another one; use another address, "
                            "or drain and remove node {} first",
                            command.peer_address, at_address->id.value, at_address->id.value));
  if (members >= limits::kMaxMembers || nodes_.size() >= limits::kMaxMembersEver)
    return fail(ErrorCode::kTooLarge, fmt::format("the cluster has {} nodes and remembers {} more; it takes no others",
                                                  members, nodes_.size() - members));
  NodeId id = next_node_;
  next_node_ = next_node_.next();
  nodes_.set(id, {id, command.incarnation, command.peer_address, command.client_address, command.rack,
                  NodeState::kJoining, 0});
  ++version_;
  return Answer{.node = id};
}

Result<Answer> Map::on(const NodeUp& command) {
  const Node& node = *TRY(known_node(command.node));
  if (node.incarnation != command.incarnation)
    return fail(ErrorCode::kRefused,
                fmt::format("node {} is known with another data directory; a node that lost its own joins anew with "
                            "`mneme node --join`",
                            node.id.value));
  if (node.state == NodeState::kRemoved)
    return fail(ErrorCode::kRefused, fmt::format("node {} was removed; start it with an empty data directory to join "
                                                 "again under a new id",
                                                 node.id.value));
  if (node.state == NodeState::kJoining) {
    change_state(node, NodeState::kUp);
  }
  return Answer{.node = command.node};
}

Result<Answer> Map::on(const DrainNode& command) {
  const Node& node = *TRY(known_node(command.node));
  const NodeState from = command.drain ? NodeState::kUp : NodeState::kDraining;
  const NodeState to = command.drain ? NodeState::kDraining : NodeState::kUp;
  if (node.state == to) return Answer{.node = node.id};
  if (node.state != from)
    return fail(ErrorCode::kRefused,
                fmt::format("node {} is {}, so there is nothing to drain", node.id.value, name_of(node.state)));
  if (node.revision != command.revision)
    return fail(ErrorCode::kRefused, fmt::format("node {} has changed since this was asked; look at `mneme cluster "
                                                 "status` and ask again",
                                                 node.id.value));
  if (command.drain && nodes_up() - 1 < copies_)
    return fail(ErrorCode::kRefused, fmt::format("without node {} only {} nodes are up for {} copies; add a node first",
                                                 node.id.value, nodes_up() - 1, copies_));
  change_state(node, to);
  return Answer{.node = command.node};
}

Result<Answer> Map::on(const RemoveNode& command) {
  const Node& node = *TRY(known_node(command.node));
  if (node.state == NodeState::kRemoved) return Answer{.node = node.id};
  size_t held = 0;
  for (const auto& [group, shard] : shards_) {
    if (member_on(shard.configuration(), node.id)) ++held;
    const Operation* operation = shard.pending();
    if (operation && (operation->source.node == node.id || operation->target.node == node.id))
      return fail(ErrorCode::kRefused,
                  fmt::format("operation {} on shard {} ({}) needs node {}; wait until it has ended",
                              operation->id.value, group.value, text_of(operation->action), node.id.value));
  }
  if (held > 0)
    return fail(ErrorCode::kRefused,
                fmt::format("node {} holds {} replicas; `mneme cluster drain` moves them away", node.id.value, held));
  if (node.state == NodeState::kUp && nodes_up() - 1 < copies_)
    return fail(ErrorCode::kRefused, fmt::format("without node {} only {} nodes are up for {} copies; add a node first",
                                                 node.id.value, nodes_up() - 1, copies_));
  change_state(node, NodeState::kRemoved);
  return Answer{.node = command.node};
}

Result<Answer> Map::on(const SetCopies& command) {
  if (copies_ == command.to) return Answer{};
  if (copies_ != command.from)
    return fail(ErrorCode::kRefused, fmt::format("{} copies are wanted by now, not {}; look at `mneme cluster status` "
                                                 "and ask again",
                                                 copies_, command.from));
  if (command.to < 1 || command.to >= limits::kMaxReplicas)
    return fail(ErrorCode::kInvalid,
                fmt::format("a shard has 1 to {} copies, not {}", limits::kMaxReplicas - 1, command.to));
  if (command.to > nodes_up())
    return fail(ErrorCode::kRefused,
                fmt::format("{} nodes are up, too few for {} copies; add nodes first", nodes_up(), command.to));
  copies_ = command.to;
  ++version_;
  return Answer{};
}

Result<Answer> Map::on(const RaiseClusterVersion& command) {
  if (command.to > cluster_version_) {
    cluster_version_ = command.to;
    ++version_;
  }
  return Answer{};
}

}  // namespace mneme::shard
