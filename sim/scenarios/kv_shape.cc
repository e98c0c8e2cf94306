#include "sim/scenarios/kv_shape.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/check.h"
#include "core/kv/internal.h"

namespace mneme::sim {

namespace {

bool contains(const std::vector<ReplicaId>& ids, ReplicaId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

// As the map writes it down.
shard::Configuration in_the_map(const raft::Configuration& configuration) {
  shard::Configuration out;
  for (ReplicaId id : configuration.members()) {
    const bool incoming = contains(configuration.voters, id);
    const bool outgoing = contains(configuration.outgoing, id);
    shard::Role role = shard::Role::kVoter;
    if (contains(configuration.learners, id))
      role = shard::Role::kLearner;
    else if (configuration.joint() && incoming != outgoing)
      role = incoming ? shard::Role::kIncoming : shard::Role::kOutgoing;
    out.push_back({{id.node(), id.generation()}, role});
  }
  std::sort(out.begin(), out.end(),
            [](const shard::Member& a, const shard::Member& b) { return a.replica < b.replica; });
  return out;
}

std::string text_of(const shard::Configuration& configuration) {
  std::string out;
  for (const shard::Member& member : configuration)
    out += fmt::format("{}n{}.{}{}", out.empty() ? "" : " ", member.replica.node.value, member.replica.generation,
                       member.role == shard::Role::kVoter ? "" : fmt::format("/{}", static_cast<int>(member.role)));
  return out;
}

// What the map may never take back, to be compared with after a command.
struct Before {
  explicit Before(const shard::Map& map)
      : version(map.version()),
        next_node(map.next_node()),
        next_group(map.next_group()),
        next_operation(map.next_operation()) {
    for (const auto& [group, shard] : map.shards())
      shards[group] = {shard.epoch(), shard.last_operation(), shard.pending() != nullptr,
                       shard.operation ? shard.operation->step : shard::Step{}};
  }
  struct One {
    Epoch epoch;
    shard::OperationId operation;
    bool pending = false;
    shard::Step step{};
  };
  uint64_t version;
  NodeId next_node;
  GroupId next_group;
  shard::OperationId next_operation;
  std::map<GroupId, One> shards;
};

}  // namespace

std::vector<GroupId> KvShape::groups() const {
  std::vector<GroupId> ids;
  for (const auto& [id, group] : groups_) ids.push_back(id);
  return ids;
}

const std::vector<raft::Configuration>& KvShape::configurations(GroupId group) const {
  static const std::vector<raft::Configuration> none;
  auto found = groups_.find(group);
  return found == groups_.end() ? none : found->second.live;
}

void KvShape::in_force(GroupId id, LogIndex index, const raft::Configuration& configuration) {
  Group& group = groups_[id];
  // Of a replica that knows nothing yet, or that is behind.
  if (configuration.voters.empty() || index < group.committed) return;
  for (size_t i = 0; i < group.live.size(); ++i)
    if (group.configured[i] == index && (index == group.committed || group.live[i] == configuration)) return;
  group.configured.push_back(index);
  group.live.push_back(configuration);
}

std::optional<std::string> KvShape::applied(GroupId id, const raft::Entry& entry) {
  Group& group = groups_[id];
  if (entry.index <= group.last) return {};
  if (entry.index != group.last.next())
    return fmt::format("group {} applies index {}, and nobody has applied what follows {}", id.value, entry.index.value,
                       group.last.value);
  group.last = entry.index;
  if (entry.kind == raft::EntryKind::kConfig) return configure(id, group, entry);
  if (entry.kind != raft::EntryKind::kData) return {};
  auto reader = kv::BatchReader::open(*entry.payload);
  if (!reader) return fmt::format("index {} of group {} is no batch", entry.index.value, id.value);
  kv::CommandMeta meta;
  std::vector<std::string_view> args;
  while (reader->next(meta, args)) {
    if (!args[0].starts_with("mneme.")) continue;
    if (auto wrong = execute(id, entry.index, args)) return wrong;
  }
  return {};
}

std::optional<std::string> KvShape::configure(GroupId id, Group& group, const raft::Entry& entry) {
  auto next = raft::decode_configuration(*entry.payload);
  if (!next) return fmt::format("index {} of group {} is no configuration", entry.index.value, id.value);
  Since since = now(group);
  const std::vector<ReplicaId> before = since.configuration.members();
  const std::vector<ReplicaId> after = next->members();
  for (ReplicaId member : after)
    if (group.removed.contains(member))
      return fmt::format("n{}'s replica of group {} with generation {} was removed, and is a member again at index {}",
                         member.node().value, id.value, member.generation(), entry.index.value);
  for (ReplicaId member : before)
    if (!contains(after, member)) group.removed.insert(member);
  since.index = entry.index;
  since.configuration = *next;
  if (since.state.begun()) since.state.epoch = since.state.epoch.next();
  group.history.push_back(since);
  group.committed = entry.index;
  std::vector<LogIndex> configured{entry.index};
  std::vector<raft::Configuration> live{*next};
  for (size_t i = 0; i < group.live.size(); ++i) {
    if (group.configured[i] <= entry.index) continue;
    configured.push_back(group.configured[i]);
    live.push_back(std::move(group.live[i]));
  }
  group.configured = std::move(configured);
  group.live = std::move(live);
  return {};
}

std::optional<std::string> KvShape::execute(GroupId id, LogIndex index, const std::vector<std::string_view>& args) {
  if (args[0] == "mneme.alter") return id == shard::kMetaGroup ? change_map(args[1]) : std::nullopt;
  if (args[0] == "mneme.divide") return split(id, index, args[1]);
  Group& group = groups_[id];
  Since since = now(group);
  since.index = index;
  const auto epoch = args.size() > 1 ? kv::decode_number(args[1]) : Result<uint64_t>(0);
  if (args[0] == "mneme.begin" && !since.state.begun()) {
    const auto slots = kv::decode_slots(args[2]);
    if (!epoch || !slots) return fmt::format("group {} begins with no slots at index {}", id.value, index.value);
    since.state = {Epoch(*epoch), Epoch(*epoch), *slots};
    group.history.push_back(since);
    return check_slots();
  }
  if (args[0] == "mneme.raise" && epoch && since.state.begun() && since.state.epoch == Epoch(*epoch)) {
    since.state.epoch = since.state.epoch.next();
    group.history.push_back(since);
  }
  return {};
}

std::optional<std::string> KvShape::split(GroupId id, LogIndex index, std::string_view bytes) {
  const auto request = kv::SplitRequest::decode(bytes);
  if (!request) return {};
  Since since = now(groups_[id]);
  if (since.state.epoch != request->epoch) return {};
  Since child;
  child.state.slots = since.state.slots.split_at(request->at);
  // Refused where it does not divide.
  if (child.state.slots.empty() || since.state.slots.empty()) return {};
  const auto configuration = raft::decode_configuration(request->configuration);
  if (!configuration) return fmt::format("the split of group {} has no configuration for its child", id.value);
  if (auto there = groups_.find(request->child); there != groups_.end() && there->second.last)
    return fmt::format("group {} is split off group {}, and was there before", request->child.value, id.value);
  since.index = index;
  since.state.epoch = since.state.slots_epoch = since.state.epoch.next();
  child.index = LogIndex(1);
  child.state.epoch = child.state.slots_epoch = since.state.epoch;
  child.configuration = *configuration;
  groups_[id].history.push_back(since);
  Group& born = groups_[request->child];
  born.last = born.committed = LogIndex(1);
  born.history.push_back(child);
  born.configured = {LogIndex(1)};
  born.live = {*configuration};
  return check_slots();
}

std::optional<std::string> KvShape::check_slots() {
  shard::SlotSet all;
  size_t slots = 0;
  uint32_t begun = 0;
  for (const auto& [id, group] : groups_) {
    const kv::ShardState state = now(group).state;
    all.add(state.slots);
    slots += state.slots.size();
    begun += id >= shard::kFirstDataGroup && id.value < shard::kFirstDataGroup.value + founding_ && state.begun();
    if (all.size() != slots)
      return fmt::format("group {} has slots that another group has, too: {}", id.value, state.slots.text());
  }
  whole_ = whole_ || begun == founding_;
  if (whole_ && slots != kSlots) return fmt::format("of {} slots, {} have no group any more", kSlots, kSlots - slots);
  return {};
}

const KvShape::Since* KvShape::at_epoch(const Group& group, Epoch epoch) const {
  for (auto since = group.history.rbegin(); since != group.history.rend(); ++since)
    if (since->state.epoch == epoch) return &*since;
  return nullptr;
}

std::optional<std::string> KvShape::check_shard(const shard::Shard& shard) const {
  const uint64_t id = shard.group().value;
  auto found = groups_.find(shard.group());
  const Since* since = found == groups_.end() ? nullptr : at_epoch(found->second, shard.epoch());
  if (!since) {
    if (shard.epoch() == Epoch(1)) return {};  // founded, and not begun yet
    return fmt::format("the map has shard {} at epoch {}, which its log has not", id, shard.epoch().value);
  }
  if (since->state.slots != shard.slots)
    return fmt::format("the map gives shard {} the slots {} at epoch {}, its log {}", id, shard.slots.text(),
                       shard.epoch().value, since->state.slots.text());
  const shard::Configuration members = in_the_map(since->configuration);
  if (shard.epoch() != Epoch(1) && members != shard.configuration())
    return fmt::format("the map says that shard {} consists of {} at epoch {}, its log {}", id,
                       text_of(shard.configuration()), shard.epoch().value, text_of(members));
  return {};
}

std::optional<std::string> KvShape::change_map(std::string_view bytes) {
  auto command = shard::decode_command(bytes);
  if (!command) return {};  // refused
  const Before before(map_);
  (void)map_.apply(*command);
  if (map_.version() < before.version || map_.next_node() < before.next_node || map_.next_group() < before.next_group ||
      map_.next_operation() < before.next_operation)
    return fmt::format("a counter of the map fell with version {}", map_.version());
  if (map_.version() == before.version) return {};
  if (auto wrong = map_.check()) return fmt::format("the map: {}", *wrong);
  for (const auto& [group, shard] : map_.shards()) {
    auto known = before.shards.find(group);
    if (known != before.shards.end()) {
      const auto& [epoch, operation, pending, step] = known->second;
      if (shard.epoch() < epoch)
        return fmt::format("the map's epoch of shard {} fell from {} to {}", group.value, epoch.value,
                           shard.epoch().value);
      if (pending && shard.last_operation() != operation)
        return fmt::format("operation {} on shard {} was begun before operation {} had ended",
                           shard.last_operation().value, group.value, operation.value);
      if (after_step && shard.operation &&
          (shard.last_operation() != operation || shard.operation->step != step ||
           shard.operation->pending() != pending))
        after_step(shard);
    }
    if (auto wrong = check_shard(shard)) return wrong;
  }
  return {};
}

std::optional<std::string> KvShape::shown(NodeId node, GroupId id, LogIndex applied,
                                          const kv::ShardState& state) const {
  auto group = groups_.find(id);
  kv::ShardState expected;
  if (group != groups_.end())
    for (const Since& since : group->second.history)
      if (since.index <= applied) expected = since.state;
  if (state == expected) return {};
  return fmt::format(
      "n{} at index {} of group {} has the slots {} at epoch {} (since {}), its log gives {} at epoch {} "
      "(since {})",
      node.value, applied.value, id.value, state.slots.text(), state.epoch.value, state.slots_epoch.value,
      expected.slots.text(), expected.epoch.value, expected.slots_epoch.value);
}

}  // namespace mneme::sim
