#include "core/shard/placement.h"

#include <algorithm>
#include <map>
#include <string_view>

#include "core/base/check.h"

namespace mneme::shard {

namespace {

constexpr uint64_t kUnit = 1000;             // the weight of being there, and of mean size, and of mean load
constexpr uint64_t kMostOfOne = 4000;        // that size or load adds, so that a weight stays comparable
constexpr uint64_t kMostBytes = 1ull << 48;  // more than any shard has; keeps sums far from overflow
constexpr uint64_t kIgnoredPart = 64;        // below this part of the limit for splitting, the mean does not matter

uint64_t relative(uint64_t value, uint64_t mean) {
  return std::min(kMostOfOne, std::min(value, kMostBytes) * kUnit / std::max<uint64_t>(mean, 1));
}

}  // namespace

Placement::Placement(const Map& map, std::span<const Liveness> liveness, const PlanOptions& options)
    : map_(map), options_(options) {
  add_nodes(liveness);
  add_shards();
  weigh();
  for (size_t i = 0; i < shards_.size(); ++i) {
    for (size_t node : shards_[i].voters) {
      nodes_[node].shards.push_back(i);
      nodes_[node].weight += shards_[i].weight;
    }
    // One that is not heard of leads no more, or not for long.
    std::optional<size_t> leader = number_of(shards_[i].shard->last.leader);
    if (leader && nodes_[*leader].reachable) lead(i, leader);
  }
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].up) up_in_rack_[nodes_[i].rack].push_back(i);
    enlist(i);
  }
  for (size_t i = 0; i < shards_.size(); ++i)
    if (const Operation* operation = shards_[i].shard->pending()) assume(i, operation->action);
}

void Placement::add_nodes(std::span<const Liveness> liveness) {
  std::map<std::string_view, size_t> racks{{"", 0}};
  for (const auto& [id, node] : map_.nodes()) {
    if (node.state == NodeState::kRemoved) continue;
    NodeView view;
    view.id = id;
    view.rack = racks.emplace(node.rack, racks.size()).first->second;
    view.draining = node.state == NodeState::kDraining;
    nodes_.push_back(std::move(view));
  }
  racks_.resize(racks.size());
  up_in_rack_.resize(racks.size());
  for (const Liveness& heard : liveness) {
    std::optional<size_t> number = number_of(heard.node);
    if (!number) continue;
    NodeView& node = nodes_[*number];
    node.reachable = heard.silent_ms <= options_.suspect_after_ms;
    node.lost = heard.silent_ms > std::max(options_.lost_after_ms, options_.suspect_after_ms);
    node.up = node.reachable && map_.node(node.id)->state == NodeState::kUp;
  }
}

void Placement::add_shards() {
  for (const auto& [group, shard] : map_.shards()) {
    ShardView view;
    view.shard = &shard;
    size_t reachable = 0;
    for (const Member& member : shard.configuration()) {
      if (member.role == Role::kLearner || member.role == Role::kOutgoing) continue;
      std::optional<size_t> node = number_of(member.replica.node);
      CHECK(node.has_value());
      view.voters.push_back(*node);
      if (nodes_[*node].reachable) ++reachable;
    }
    view.has_majority = reachable > view.voters.size() / 2;
    view.changeable = view.has_majority && !is_joint(shard.configuration());
    shards_.push_back(std::move(view));
  }
}

void Placement::weigh() {
  uint64_t bytes = 0;
  uint64_t writes = 0;
  for (const ShardView& view : shards_) {
    bytes += std::min(view.shard->last.bytes, kMostBytes);
    writes += std::min(view.shard->last.writes_per_second, kMostBytes);
  }
  const uint64_t mean_bytes = std::max(bytes / shards_.size(), options_.split_bytes / kIgnoredPart);
  const uint64_t mean_writes = std::max(writes / shards_.size(), options_.split_writes_per_second / kIgnoredPart);
  for (ShardView& view : shards_) {
    view.leader_weight = kUnit + relative(view.shard->last.writes_per_second, mean_writes);
    view.weight = view.leader_weight + relative(view.shard->last.bytes, mean_bytes);
  }
}

std::optional<size_t> Placement::number_of(NodeId id) const {
  auto found = std::lower_bound(nodes_.begin(), nodes_.end(), id,
                                [](const NodeView& n, NodeId wanted) { return n.id < wanted; });
  if (found == nodes_.end() || found->id != id) return {};
  return static_cast<size_t>(found - nodes_.begin());
}

// The margin is at least half of what is moved on average: less cannot be mended.
Mean Placement::mean_of(uint64_t NodeView::*weight, uint64_t average_item) const {
  uint64_t sum = 0;
  uint64_t up = 0;
  for (const NodeView& node : nodes_) {
    if (!node.up) continue;
    sum += node.*weight;
    ++up;
  }
  if (up == 0) return {};
  return {sum / up, std::max(sum / up * options_.band_permille / 1000, average_item / 2)};
}

Mean Placement::mean_weight() const {
  uint64_t sum = 0;
  for (const ShardView& view : shards_) sum += view.weight;
  return mean_of(&NodeView::weight, sum / shards_.size());
}

Mean Placement::mean_leader_weight() const {
  uint64_t sum = 0;
  for (const ShardView& view : shards_) sum += view.leader_weight;
  return mean_of(&NodeView::leader_weight, sum / shards_.size());
}

size_t Placement::mean_replicas() const {
  size_t sum = 0;
  size_t up = 0;
  for (const NodeView& node : nodes_)
    if (node.up) sum += node.shards.size(), ++up;
  return up == 0 ? 0 : sum / up;
}

size_t Placement::mean_leads() const {
  size_t sum = 0;
  size_t up = 0;
  for (const NodeView& node : nodes_)
    if (node.up) sum += node.leads, ++up;
  return up == 0 ? 0 : sum / up;
}

size_t Placement::same_rack(size_t shard, std::optional<size_t> except, size_t rack) const {
  if (rack == 0) return 0;
  const auto& voters = shards_[shard].voters;
  return static_cast<size_t>(
      std::count_if(voters.begin(), voters.end(), [&](size_t n) { return n != except && nodes_[n].rack == rack; }));
}

std::optional<size_t> Placement::lightest(size_t shard, std::optional<size_t> except, size_t limit) const {
  std::optional<std::pair<uint64_t, size_t>> best;
  for (const auto& [weight, rack] : by_lightest_) {
    if (best && weight > best->first) break;
    if (same_rack(shard, except, rack) > limit) continue;
    for (const auto& candidate : racks_[rack]) {
      if (best && candidate > *best) break;
      if (member_on(shards_[shard].shard->configuration(), nodes_[candidate.second].id)) continue;
      best = candidate;
      break;
    }
  }
  if (!best) return {};
  return best->second;
}

uint64_t Placement::least_weight() const { return by_lightest_.empty() ? UINT64_MAX : by_lightest_.begin()->first; }

bool Placement::has_room(size_t shard, std::optional<size_t> except, size_t limit) const {
  const Configuration& configuration = shards_[shard].shard->configuration();
  for (size_t rack = 0; rack < up_in_rack_.size(); ++rack) {
    if (up_in_rack_[rack].empty() || same_rack(shard, except, rack) > limit) continue;
    for (size_t node : up_in_rack_[rack])
      if (!member_on(configuration, nodes_[node].id)) return true;
  }
  return false;
}

void Placement::assume(size_t shard, const Action& action) {
  ShardView& view = shards_[shard];
  view.changeable = false;
  if (view.has_majority) ++pending_;
  const std::optional<size_t> source = number_of(action.source);
  const std::optional<size_t> target = number_of(action.target);
  // What costs a node something: sending a copy or getting one, and the pause of a split or a new leader.
  if (action.kind != ActionKind::kRemove) {
    if (view.leader) occupy(*view.leader);
    if (target && target != view.leader) occupy(*target);
  }
  if (action.kind == ActionKind::kTransfer) return lead(shard, target);
  if (source) release(*source, shard);
  if (target) hold(*target, shard);
}

void Placement::occupy(size_t node) {
  ++nodes_[node].busy;
  if (!free(node)) strike(node);
}

void Placement::hold(size_t node, size_t shard) {
  NodeView& view = nodes_[node];
  if (std::find(view.shards.begin(), view.shards.end(), shard) != view.shards.end()) return;
  strike(node);
  view.shards.push_back(shard);
  view.weight += shards_[shard].weight;
  enlist(node);
}

void Placement::release(size_t node, size_t shard) {
  NodeView& view = nodes_[node];
  if (std::erase(view.shards, shard) == 0) return;
  strike(node);
  view.weight -= shards_[shard].weight;
  enlist(node);
}

void Placement::lead(size_t shard, std::optional<size_t> node) {
  ShardView& view = shards_[shard];
  if (view.leader) {
    --nodes_[*view.leader].leads;
    nodes_[*view.leader].leader_weight -= view.leader_weight;
  }
  view.leader = node;
  if (!node) return;
  ++nodes_[*node].leads;
  nodes_[*node].leader_weight += view.leader_weight;
}

void Placement::enlist(size_t node) {
  const NodeView& view = nodes_[node];
  if (!view.up || !free(node)) return;
  auto& rack = racks_[view.rack];
  if (!rack.empty()) by_lightest_.erase({rack.begin()->first, view.rack});
  rack.emplace(view.weight, node);
  by_lightest_.emplace(rack.begin()->first, view.rack);
}

void Placement::strike(size_t node) {
  const NodeView& view = nodes_[node];
  auto& rack = racks_[view.rack];
  auto found = rack.find({view.weight, node});
  if (found == rack.end()) return;
  by_lightest_.erase({rack.begin()->first, view.rack});
  rack.erase(found);
  if (!rack.empty()) by_lightest_.emplace(rack.begin()->first, view.rack);
}

}  // namespace mneme::shard
