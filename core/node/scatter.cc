#include "core/node/scatter.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/base/limits.h"
#include "core/kv/errors.h"
#include "core/node/gather.h"

namespace mneme::node {

using kv::Args;
using kv::CommandId;
using kv::CommandSpec;
using replica::Outcome;

namespace {

bool is_divisible(CommandId id, size_t args) {
  switch (id) {
    // One that lacks its last value is refused as a whole, none of its parts is to be executed.
    case CommandId::kMset: return args % 2 == 1;
    case CommandId::kMget:
    case CommandId::kDel:
    case CommandId::kUnlink:
    case CommandId::kExists:
    case CommandId::kTouch: return true;
    default: return false;
  }
}

// CLUSTER COUNTKEYSINSLOT names a slot instead of a key. What is no slot is an error wherever it is executed.
uint16_t named_slot(std::string_view word) {
  auto slot = kv::parse_integer(word);
  return slot && *slot >= 0 && *slot < kSlots ? static_cast<uint16_t>(*slot) : uint16_t{0};
}

Route route_without_keys(const CommandSpec& spec, Args args) {
  switch (spec.id) {
    case CommandId::kDbsize:
    case CommandId::kFlushall:
    case CommandId::kFlushdb:
    case CommandId::kKeys:
    case CommandId::kRandomkey:
    case CommandId::kRange: return {.spread = Spread::kShards};
    case CommandId::kScan: return {.spread = Spread::kScan};
    case CommandId::kSessionClose:
    case CommandId::kSessionOpen:
    case CommandId::kSessionTouch: return {.spread = Spread::kMeta};
    case CommandId::kClusterCountkeysinslot:
    case CommandId::kClusterGetkeysinslot: return {.spread = Spread::kSlot, .slot = named_slot(args[2])};
    default: break;
  }
  CHECK(!"a command that clients may send and that no shard is known for");
  return {};
}

// RANGE's last LIMIT; its syntax is examined by the parts.
uint64_t limit_of_range(Args args) {
  uint64_t limit = UINT64_MAX;
  for (size_t i = 3; i + 1 < args.size(); ++i) {
    if (!kv::equals_ignoring_case(args[i], "limit")) continue;
    auto number = kv::parse_integer(args[++i]);
    if (number && *number >= 0) limit = static_cast<uint64_t>(*number);
  }
  return limit;
}

}  // namespace

Route route_of(const CommandSpec& spec, Args args) {
  CHECK(!spec.is(kv::kLocal));
  if (spec.first_key == 0) return route_without_keys(spec, args);
  Route route;
  bool crossed = false;
  kv::for_each_key(spec, args, [&](std::string_view key) {
    if (crossed) return;
    const uint16_t slot = slot_of(key);
    if (route.slot == kv::kNoSlot) route.slot = slot;
    crossed = slot != route.slot;
  });
  if (crossed) route.spread = is_divisible(spec.id, args.size()) ? Spread::kSlots : Spread::kCrossed;
  return route;
}

std::optional<std::string_view> refuse_in_transaction(const CommandSpec& spec, Args args, size_t shards,
                                                      uint16_t& slot) {
  const Route route = route_of(spec, args);
  switch (route.spread) {
    case Spread::kSlot:
      if (slot != kv::kNoSlot && slot != route.slot) return kCrossSlot;
      slot = route.slot;
      return {};
    case Spread::kSlots:
    case Spread::kCrossed: return kCrossSlot;
    case Spread::kShards:
      if (shards <= 1) return {};
      return "ERR Command not allowed inside a transaction: it concerns all shards, and a transaction is executed by "
             "one";
    case Spread::kScan:
    case Spread::kMeta: return kv::kNotInTransaction;
  }
  return {};
}

Outcome whole_of(std::span<const Outcome> parts, bool writes) {
  size_t done = 0;
  for (Outcome outcome : parts) {
    CHECK(outcome != Outcome::kPending);
    if (outcome == Outcome::kUnknown) return Outcome::kUnknown;
    done += outcome == Outcome::kDone;
  }
  if (done == parts.size()) return Outcome::kDone;
  return writes && done > 0 ? Outcome::kUnknown : Outcome::kNotDone;
}

Scatter Scatter::over_slots(const CommandSpec& spec, Args args) {
  CHECK(is_divisible(spec.id, args.size()));
  CHECK(spec.first_key == 1);  // so that a part is the name and its keys
  struct Key {
    uint16_t slot;
    uint32_t at;
  };
  const auto step = static_cast<size_t>(spec.key_step);
  std::vector<Key> keys;
  keys.reserve(args.size() / step);
  for (size_t at = 1; at < args.size(); at += step) keys.push_back({slot_of(args[at]), static_cast<uint32_t>(at)});
  // Within a slot the order stays: of a key that MSET names twice the last value counts.
  std::sort(keys.begin(), keys.end(),
            [](const Key& a, const Key& b) { return std::tie(a.slot, a.at) < std::tie(b.slot, b.at); });

  Scatter scatter(spec);
  if (spec.id == CommandId::kMget) scatter.part_of_key_.resize(keys.size());
  for (const Key& key : keys) {
    if (scatter.parts_.empty() || scatter.parts_.back().slot != key.slot) {
      scatter.parts_.push_back({.slot = key.slot, .first = scatter.words_.size(), .count = 1});
      scatter.words_.push_back(args[0]);
    }
    for (std::string_view word : args.subspan(key.at, step)) scatter.words_.push_back(word);
    scatter.parts_.back().count += step;
    if (spec.id == CommandId::kMget)
      scatter.part_of_key_[key.at - 1] = static_cast<uint32_t>(scatter.parts_.size() - 1);
  }
  return scatter;
}

Scatter Scatter::over_shards(const CommandSpec& spec, Args args, const shard::Map& map) {
  CHECK(map.cluster());
  Scatter scatter(spec);
  scatter.words_.assign(args.begin(), args.end());
  if (spec.id == CommandId::kRange) scatter.limit_ = limit_of_range(args);
  for (const auto& [group, shard] : map.shards())
    if (!shard.slots.empty())
      scatter.parts_.push_back({.group = group, .slots = shard.slots, .first = 0, .count = args.size()});
  return scatter;
}

void Scatter::follow_split(size_t part, const shard::Map& map) {
  CHECK(parts_[part].group);
  // A shard only ever gives slots to new shards, so each that owns some of these owns no others.
  const Part old = parts_[part];
  std::vector<GroupId> owners;
  for (shard::SlotRange range : old.slots.ranges())
    for (uint16_t slot = range.begin; slot < range.end; ++slot)
      if (owners.empty() || owners.back() != map.owner_of(slot)) owners.push_back(map.owner_of(slot));
  std::sort(owners.begin(), owners.end());
  owners.erase(std::unique(owners.begin(), owners.end()), owners.end());
  for (GroupId group : owners) {
    const shard::Shard* shard = map.shard(group);
    CHECK(shard != nullptr);
    Part& changed = group == owners.front() ? parts_[part] : parts_.emplace_back(old);
    changed.group = group;
    changed.slots = shard->slots;
  }
}

Result<void> Scatter::gather(std::span<const std::string_view> replies, uint64_t pick, std::string& out) const {
  CHECK(replies.size() == parts_.size());
  for (std::string_view reply : replies) {
    if (!reply.starts_with('-') && !reply.starts_with('!')) continue;
    out += reply;
    return {};
  }
  const size_t begin = out.size();
  auto gathered = [&]() -> Result<void> {
    switch (spec_->id) {
      case CommandId::kMget: return gather_in_order(replies, part_of_key_, out);
      case CommandId::kMset:
      case CommandId::kFlushall:
      case CommandId::kFlushdb: return gather_oks(replies, out);
      case CommandId::kRandomkey: return gather_pick(replies, pick, out);
      case CommandId::kKeys: return gather_concatenated(replies, out);
      case CommandId::kRange: return gather_by_key(replies, limit_, out);
      default: return gather_sum(replies, out);
    }
  }();
  if (!gathered) {
    out.resize(begin);
    return fail(ErrorCode::kCorrupt, fmt::format("a shard's reply to {} is malformed: {}; the nodes may be of builds "
                                                 "that do not fit together, compare `mneme --version` on each",
                                                 spec_->name, gathered.error().message));
  }
  if (out.size() - begin > limits::kMaxReplyBytes) {
    out.resize(begin);
    protocol::put_error(out, kv::kReplyTooLong);
  }
  return {};
}

}  // namespace mneme::node
