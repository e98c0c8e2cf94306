#include "core/shard/map.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/limits.h"
#include "core/shard/codec.h"

namespace mneme::shard {

namespace {

constexpr std::string_view kWhat = "the shard map";

bool sorted_by_node(const Configuration& configuration) {
  return std::adjacent_find(configuration.begin(), configuration.end(), [](const Member& a, const Member& b) {
           return a.replica.node >= b.replica.node;
         }) == configuration.end();
}

// That an operation's step, ids and fields are of its kind.
bool well_formed(const Operation& operation) {
  const Action& action = operation.action;
  const Step step = operation.step;
  const bool moves = action.kind == ActionKind::kMove;
  const bool source = moves || action.kind == ActionKind::kRemove;
  const bool split = action.kind == ActionKind::kSplit;
  const bool target = !split && action.kind != ActionKind::kRemove;
  bool step_fits = false;
  switch (action.kind) {
    case ActionKind::kSplit: step_fits = step == Step::kSplit; break;
    case ActionKind::kMove: step_fits = step == Step::kAddLearner || step == Step::kSwap; break;
    case ActionKind::kAdd: step_fits = step == Step::kAddLearner || step == Step::kPromote; break;
    case ActionKind::kRemove: step_fits = step == Step::kRemove; break;
    case ActionKind::kTransfer: step_fits = step == Step::kTransfer; break;
  }
  return step_fits && operation.after < operation.id && operation.planned <= operation.epoch &&
         operation.source.node == action.source && operation.target.node == action.target &&
         static_cast<bool>(operation.source) == source && static_cast<bool>(operation.target) == target &&
         static_cast<bool>(operation.child) == split && (split ? action.at < kSlots : action.at == 0);
}

}  // namespace

Result<Answer> Map::apply(const Command& command) {
  if (!cluster_ && !std::holds_alternative<FoundCluster>(command))
    return fail(ErrorCode::kUnavailable, "there is no cluster yet; it is being founded, ask again in a moment");
  return std::visit([&](const auto& alternative) { return on(alternative); }, command);
}

std::optional<std::string> Map::check() const {
  if (!cluster_) {
    if (*this != Map()) return "the map has content, but no cluster";
    return {};
  }
  if (auto wrong = check_nodes()) return wrong;
  if (!shards_.contains(kMetaGroup)) return "there is no meta group";
  size_t slots = 0;
  std::set<OperationId> operations;
  std::set<GroupId> children;
  for (const auto& [group, shard] : shards_) {
    if (auto wrong = check_shard(group, shard)) return wrong;
    slots += shard.slots.size();
    for (SlotRange range : shard.slots.ranges())
      for (uint16_t slot = range.begin; slot < range.end; ++slot)
        if ((*owners_)[slot] != group)
          return fmt::format("slot {} is owned by shard {} and by shard {}", slot, group.value, (*owners_)[slot].value);
    if (!shard.operation) continue;
    if (auto wrong = check_operation(shard, *shard.operation)) return wrong;
    if (!operations.insert(shard.operation->id).second)
      return fmt::format("operation {} is on two shards", shard.operation->id.value);
    if (shard.operation->child && !children.insert(shard.operation->child).second)
      return fmt::format("shard {} is to be made by two operations", shard.operation->child.value);
  }
  if (slots != kSlots) return fmt::format("{} slots have an owner, and there are {}", slots, kSlots);
  return {};
}

std::optional<std::string> Map::check_nodes() const {
  std::set<Incarnation> incarnations;
  size_t members = 0;
  for (const auto& [id, node] : nodes_) {
    if (!id || node.id != id) return fmt::format("node {} is listed as node {}", node.id.value, id.value);
    if (id >= next_node_) return fmt::format("node {} is not below the next id {}", id.value, next_node_.value);
    if (!node.incarnation || !incarnations.insert(node.incarnation).second)
      return fmt::format("node {} has no incarnation of its own", id.value);
    if (node.peer_address.empty() || node.client_address.empty())
      return fmt::format("node {} lacks an address", id.value);
    if (node.state != NodeState::kRemoved) ++members;
  }
  if (members > limits::kMaxMembers) return fmt::format("{} nodes are too many", members);
  if (copies_ < 1 || copies_ >= limits::kMaxReplicas) return fmt::format("{} copies are wanted", copies_);
  if (nodes_up() < copies_) return fmt::format("{} nodes are up for {} copies", nodes_up(), copies_);
  return {};
}

std::optional<std::string> Map::check_shard(GroupId group, const Shard& shard) const {
  if (shard.group() != group) return fmt::format("shard {} is listed as shard {}", shard.group().value, group.value);
  if (group < kMetaGroup || group >= next_group_)
    return fmt::format("shard {} is not below the next id {}", group.value, next_group_.value);
  if (shard.slots.empty() != (group == kMetaGroup))
    return fmt::format("shard {} has the slots {}", group.value, shard.slots.text());
  if (!shard.last.slots.empty()) return fmt::format("shard {} keeps its slots twice", group.value);
  if (!sorted_by_node(shard.configuration())) return fmt::format("shard {} has two replicas on a node", group.value);
  if (auto report = check_report(shard.last); !report) return report.error().message;
  return {};
}

std::optional<std::string> Map::check_operation(const Shard& shard, const Operation& operation) const {
  const uint64_t id = operation.id.value;
  if (!operation.id || operation.id >= next_operation_)
    return fmt::format("operation {} is not below the next id {}", id, next_operation_.value);
  if (!well_formed(operation)) return fmt::format("operation {} has fields that do not go together", id);
  if (operation.epoch > shard.epoch()) return fmt::format("operation {} is of an epoch to come", id);
  if (operation.child && (operation.child < kFirstDataGroup || operation.child >= next_group_))
    return fmt::format("operation {} makes shard {}, whose id was not given out", id, operation.child.value);
  if (operation.target.generation >= shard.last.next_generation)
    return fmt::format("operation {} makes a replica whose generation was not given out", id);
  if (!operation.pending()) return {};
  for (NodeId node_id : {operation.source.node, operation.target.node}) {
    const Node* node = this->node(node_id);
    if (node_id && (!node || node->state == NodeState::kRemoved))
      return fmt::format("operation {} needs node {}, which is not there", id, node_id.value);
  }
  if (operation.child && shards_.contains(operation.child))
    return fmt::format("operation {} is to make shard {}, which is there", id, operation.child.value);
  SlotSet kept = shard.slots;
  if (operation.child && (kept.split_at(operation.action.at).empty() || kept.empty()))
    return fmt::format("operation {} leaves a half of shard {} without slots", id, shard.group().value);
  return {};
}

void Map::encode(std::string& out) const {
  Encoder c(out);
  c.number(kMapVersion);
  c.id(cluster_);
  c.number(founding_);
  c.number(cluster_version_);
  c.number(copies_);
  c.number(version_);
  c.id(next_node_);
  c.id(next_group_);
  c.id(next_operation_);
  c.number(static_cast<uint32_t>(nodes_.size()));
  for (const auto& [id, node] : nodes_) fields(c, node);
  c.number(static_cast<uint32_t>(shards_.size()));
  for (const auto& [id, shard] : shards_) fields(c, shard);
}

Result<Map> Map::decode(std::string_view bytes) {
  if (bytes.size() > limits::kMaxMapBytes)
    return fail(ErrorCode::kTooLarge, fmt::format("{} has {} bytes", kWhat, bytes.size()));
  Decoder c(bytes);
  uint8_t version = 0;
  c.number(version);
  if (c.ok() && version != kMapVersion)
    return fail(ErrorCode::kUnsupported,
                fmt::format("{} has version {}; this build reads version {}", kWhat, version, kMapVersion));
  Map map;
  c.id(map.cluster_);
  c.number(map.founding_);
  c.number(map.cluster_version_);
  c.number(map.copies_);
  c.number(map.version_);
  c.id(map.next_node_);
  c.id(map.next_group_);
  c.id(map.next_operation_);
  list_of_nodes(c, [&](NodeId id, Node node) { map.nodes_.set(id, std::move(node)); });
  if (map.cluster_) map.owners_.edit().resize(kSlots);
  list_of_shards(c, [&](GroupId group, Shard shard) {
    if (map.owners_->empty() && !shard.slots.empty())
      return c.refuse(ErrorCode::kCorrupt, "there are shards and no cluster");
    map.give_slots(shard.slots, group);
    map.shards_.set(group, std::move(shard));
  });
  TRY(c.finish(kWhat));
  if (auto wrong = map.check()) return fail(ErrorCode::kCorrupt, fmt::format("{}: {}", kWhat, *wrong));
  return map;
}

uint64_t Map::digest() const {
  std::string bytes;
  encode(bytes);
  return xxh3(bytes);
}

}  // namespace mneme::shard
