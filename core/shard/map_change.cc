// What changes from one version of the shard map to a later one, as bytes.
#include <fmt/format.h>

#include "core/base/limits.h"
#include "core/shard/codec.h"
#include "core/shard/map.h"

namespace mneme::shard {

namespace {

constexpr std::string_view kWhat = "a change of the shard map";

template <class Id, class Value>
std::vector<const Value*> changes(const Table<Id, Value>& before, const Table<Id, Value>& after) {
  std::vector<const Value*> changed;
  after.for_changes_since(before, [&](Id, const Value& value) { changed.push_back(&value); });
  return changed;
}

template <class Value>
void put_list(Encoder& c, const std::vector<const Value*>& values) {
  c.number(static_cast<uint32_t>(values.size()));
  for (const Value* value : values) fields(c, *value);
}

}  // namespace

void Map::encode_change_since(const Map& before, std::string& out) const {
  Encoder c(out);
  c.number(kMapVersion);
  c.id(before.cluster_);
  c.number(before.version_);
  c.number(cluster_version_);
  c.number(copies_);
  c.number(version_);
  c.id(next_node_);
  c.id(next_group_);
  c.id(next_operation_);
  put_list(c, changes(before.nodes_, nodes_));
  put_list(c, changes(before.shards_, shards_));
}

Result<Map> Map::with_change(std::string_view bytes) const {
  if (bytes.size() > limits::kMaxMapBytes)
    return fail(ErrorCode::kTooLarge, fmt::format("{} has {} bytes", kWhat, bytes.size()));
  Decoder c(bytes);
  uint8_t format = 0;
  c.number(format);
  if (c.ok() && format != kMapVersion)
    return fail(ErrorCode::kUnsupported,
                fmt::format("{} has version {}; this build reads version {}", kWhat, format, kMapVersion));
  ClusterId cluster;
  uint64_t from = 0;
  c.id(cluster);
  c.number(from);
  if (c.ok() && (!cluster_ || cluster != cluster_ || from != version_))
    return fail(ErrorCode::kRefused, fmt::format("{} is one of version {} of cluster {:016x}; here is version {} of "
                                                 "{:016x}",
                                                 kWhat, from, cluster.value, version_, cluster_.value));
  Map map = *this;
  c.number(map.cluster_version_);
  c.number(map.copies_);
  c.number(map.version_);
  c.id(map.next_node_);
  c.id(map.next_group_);
  c.id(map.next_operation_);
  if (c.ok() && (map.version_ <= version_ || map.next_node_ < next_node_ || map.next_group_ < next_group_ ||
                 map.next_operation_ < next_operation_))
    c.refuse(ErrorCode::kCorrupt, "it leads back");

  bool nodes = false;
  bool removes = false;
  list_of_nodes(c, [&](NodeId id, Node node) {
    nodes = true;
    removes |= node.state == NodeState::kRemoved;
    map.nodes_.set(id, std::move(node));
  });
  std::vector<GroupId> changed;
  list_of_shards(c, [&](GroupId group, Shard shard) {
    changed.push_back(group);
    map.shards_.set(group, std::move(shard));
  });
  TRY(c.finish(kWhat));

  auto corrupt = [](std::string_view why) { return fail(ErrorCode::kCorrupt, fmt::format("{}: {}", kWhat, why)); };
  TRY(map.take_slots(shards_, changed));
  if (nodes || map.copies_ != copies_)
    if (auto wrong = map.check_nodes()) return corrupt(*wrong);
  for (GroupId group : changed) {
    const Shard& shard = map.shards_.at(group);
    if (auto wrong = map.check_shard(group, shard)) return corrupt(*wrong);
    if (!shard.operation) continue;
    if (auto wrong = map.check_operation(shard, *shard.operation)) return corrupt(*wrong);
  }
  // Any shard may name it.
  if (removes)
    if (auto wrong = map.check()) return corrupt(*wrong);
  return map;
}

// Every slot that one of the changed shards had goes to one of them, and no other does.
Result<void> Map::take_slots(const Table<GroupId, Shard>& before, const std::vector<GroupId>& changed) {
  std::vector<GroupId> moved;
  for (GroupId group : changed) {
    const Shard* old = before.find(group);
    if (!old || old->slots != shards_.at(group).slots) moved.push_back(group);
  }
  if (moved.empty()) return {};
  size_t given = 0;
  size_t taken = 0;
  for (GroupId group : moved) {
    const Shard* old = before.find(group);
    if (!old) continue;
    given += old->slots.size();
    give_slots(old->slots, GroupId());
  }
  for (GroupId group : moved) {
    const SlotSet& slots = shards_.at(group).slots;
    taken += slots.size();
    for (SlotRange range : slots.ranges())
      for (uint16_t slot = range.begin; slot < range.end; ++slot)
        if ((*owners_)[slot]) return fail(ErrorCode::kCorrupt, fmt::format("{}: slot {} has two owners", kWhat, slot));
    give_slots(slots, group);
  }
  if (given == taken) return {};
  return fail(ErrorCode::kCorrupt, fmt::format("{}: {} slots become {}", kWhat, given, taken));
}

}  // namespace mneme::shard
