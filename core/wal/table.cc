#include "core/wal/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/check.h"

namespace mneme::wal {

namespace {

// The bytes of those from `from` to `to`.
uint64_t share(const Group::Held& held, LogIndex from, LogIndex to) {
  from = std::max(from, held.first);
  to = std::min(to, held.last);
  if (to < from) return 0;
  // The factors are bounded by a segment's size and by how many records it can have.
  return held.bytes * (to.value - from.value + 1) / (held.last.value - held.first.value + 1);
}

}  // namespace

Group& Table::group_of(GroupId id) {
  if (cached_ && cached_id_ == id) return *cached_;
  auto [it, created] = groups_.try_emplace(id);
  if (created) it->second.suspect = unknown_suspect_;
  cached_id_ = id;
  cached_ = &it->second;
  return *cached_;
}

Result<void> Table::apply(ByteView records, uint64_t segment) {
  for (Reader reader(records); !reader.at_end();) TRY(apply(TRY(decode_record(reader)), segment));
  return {};
}

std::optional<uint32_t> Table::removed(GroupId id) const {
  auto it = removed_.find(id);
  return it == removed_.end() ? std::nullopt : std::optional(it->second);
}

// What says something of a replica that was removed came too late, or from nowhere.
Result<void> Table::check_known(const Record& record) const {
  if (removed_.empty() || !record.group || (cached_ && cached_id_ == record.group)) return {};
  if (groups_.contains(record.group) || !removed_.contains(record.group)) return {};
  return fail(ErrorCode::kCorrupt,
              fmt::format("group {} has a record after its replica was removed", record.group.value));
}

Result<void> Table::begin(const Record& record) {
  if (groups_.contains(record.group))
    return fail(ErrorCode::kCorrupt, fmt::format("group {} has a replica and begins another", record.group.value));
  if (auto gone = removed(record.group); gone && record.generation <= *gone)
    return fail(ErrorCode::kCorrupt, fmt::format("group {} begins a replica of generation {}, which was removed",
                                                 record.group.value, record.generation));
  group_of(record.group).generation = record.generation;
  return {};
}

void Table::remove(const Record& record) {
  cached_ = nullptr;
  groups_.erase(record.group);
  if (!record.has_generation) return;
  auto [at, first] = removed_.try_emplace(record.group, record.generation);
  at->second = std::max(at->second, record.generation);
}

Result<void> Table::apply(const Record& record, uint64_t segment) {
  if (record.type != RecordType::kBegun && record.type != RecordType::kRemoved) TRY(check_known(record));
  switch (record.type) {
    case RecordType::kEntry: return apply_entry(record, segment);
    case RecordType::kHardState: {
      raft::HardState& now = group_of(record.group).hard_state;
      const raft::HardState& next = record.hard_state;
      if (next.term < now.term || (next.term == now.term && now.vote && next.vote != now.vote))
        return fail(ErrorCode::kCorrupt,
                    fmt::format("group {} goes back from term {} and vote {} to term {} and vote {}",
                                record.group.value, now.term.value, now.vote.value, next.term.value, next.vote.value));
      now = next;
      return {};
    }
    case RecordType::kCheckpoint: return apply_checkpoint(record, true);
    case RecordType::kSplitOff: return apply_split_off(record, true);
    case RecordType::kSuspect:
      (record.group ? group_of(record.group).suspect : unknown_suspect_) = record.suspect;
      return {};
    case RecordType::kRemoved: {
      auto known = groups_.find(record.group);
      if (record.has_generation && known != groups_.end() && known->second.generation != record.generation)
        return fail(ErrorCode::kCorrupt, fmt::format("group {} removes a replica of generation {} and has one of {}",
                                                     record.group.value, record.generation, known->second.generation));
      remove(record);
      return {};
    }
    case RecordType::kBegun: return begin(record);
    case RecordType::kSummary: break;
  }
  return fail(ErrorCode::kCorrupt, "a summary record stands in a frame that is not a summary");
}

Result<void> Table::apply_entry(const Record& record, uint64_t segment) {
  Group& group = group_of(record.group);
  const LogIndex index = record.position.index;
  if (record.generation != group.generation)
    return fail(ErrorCode::kCorrupt, fmt::format("group {} has an entry of generation {}, its replica is of {}",
                                                 record.group.value, record.generation, group.generation));
  if (index > group.last.index.next())
    return fail(ErrorCode::kCorrupt, fmt::format("group {} has entry {} after entry {}", record.group.value,
                                                 index.value, group.last.index.value));
  if (index <= group.checkpoint.index)
    return fail(ErrorCode::kCorrupt, fmt::format("group {} has entry {} after its checkpoint at {}", record.group.value,
                                                 index.value, group.checkpoint.index.value));
  if (index <= group.last.index) cut_after(group, index.prev());
  group.last = record.position;
  if (group.held.empty() || group.held.back().segment != segment) group.held.push_back({segment, index, index, 0});
  Group::Held& held = group.held.back();
  held.first = std::min(held.first, index);
  held.last = index;
  held.bytes += kEntryRecordBytes + record.payload.size();
  if (keep_ == Keep::kEntries) group.entries.push_back(entry_of(record));
  return {};
}

void Table::cut_after(Group& group, LogIndex last) {
  group.last.index = last;  // its term is not known; an entry follows at once, or the caller sets it
  group.first_held = std::min(group.first_held, last.next());
  for (Group::Held& held : group.held) {
    held.bytes = share(held, held.first, last);
    held.last = std::min(held.last, last);
  }
  while (!group.entries.empty() && group.entries.back().index > last) group.entries.pop_back();
}

void Table::restart(Group& group, const raft::LogPosition& position) {
  group.last = position;
  group.first_held = position.index.next();
  group.held.clear();
  group.entries.clear();
}

Result<void> Table::apply_checkpoint(const Record& record, bool strict) {
  Group& group = group_of(record.group);
  const raft::LogPosition& position = record.checkpoint;
  if (position.index < group.checkpoint.index) {
    if (!strict) return {};
    return fail(ErrorCode::kCorrupt,
                fmt::format("group {} goes back from a checkpoint at {} to one at {}", record.group.value,
                            group.checkpoint.index.value, position.index.value));
  }
  group.checkpoint = position;
  group.checkpoint_id = record.checkpoint_id;
  if (record.checkpoint_id != 0) group.origin = {};
  if (record.restart || position.index > group.last.index) {
    restart(group, position);
    return {};
  }
  auto& entries = group.entries;
  auto at = std::lower_bound(entries.begin(), entries.end(), position.index,
                             [](const raft::Entry& entry, LogIndex index) { return entry.index < index; });
  if (at != entries.end() && at->index == position.index && at->term != position.term) {
    if (strict)
      return fail(ErrorCode::kCorrupt,
                  fmt::format("group {} has a checkpoint at {} of term {}, but that entry is of term {}",
                              record.group.value, position.index.value, position.term.value, at->term.value));
    restart(group, position);
    return {};
  }
  if (at != entries.end() && at->index == position.index) ++at;
  entries.erase(entries.begin(), at);
  return {};
}

Result<void> Table::apply_split_off(const Record& record, bool strict) {
  Group& group = group_of(record.group);
  // Once more: what it was given was lost in damage.
  const bool again = strict && group.origin == record.origin;
  if (group.last.index && !again) {
    if (!strict) return {};
    return fail(ErrorCode::kCorrupt, fmt::format("group {} is split off group {} and has something already",
                                                 record.group.value, record.origin.parent.value));
  }
  group.checkpoint = record.checkpoint;
  group.origin = record.origin;
  restart(group, record.checkpoint);
  return {};
}

Result<void> Table::apply_summary(ByteView records, SummaryRole role) {
  if (role == SummaryRole::kRepeat) {
    const Bytes known = summary();
    if (!std::equal(known.begin(), known.end(), records.begin(), records.end()))
      return fail(ErrorCode::kCorrupt, "the summary contradicts the segments before");
    return {};
  }
  std::set<GroupId> present;
  std::map<GroupId, uint32_t> begun;
  std::map<GroupId, Origin> origins;
  unknown_suspect_ = false;
  for (Reader reader(records); !reader.at_end();) {
    const Record record = TRY(decode_record(reader));
    if (record.type == RecordType::kSuspect && !record.group) {
      unknown_suspect_ = record.suspect;
      continue;
    }
    if (record.type == RecordType::kRemoved && record.has_generation) {
      removed_[record.group] = record.generation;
      continue;
    }
    if (record.type == RecordType::kBegun) {
      begun[record.group] = record.generation;
      continue;
    }
    if (record.type == RecordType::kSplitOff) {
      origins[record.group] = record.origin;
      continue;
    }
    if (record.type != RecordType::kSummary || !present.insert(record.group).second)
      return fail(ErrorCode::kCorrupt, "a record stands in a summary where it does not belong");
    // Of a replica that was removed meanwhile nothing counts, nor of one that came after it.
    const uint32_t generation = begun.contains(record.group) ? begun[record.group] : 0;
    if (auto known = groups_.find(record.group); known != groups_.end() && known->second.generation != generation) {
      cached_ = nullptr;
      groups_.erase(known);
    }
    group_of(record.group).generation = generation;
    apply_repair(record);
    group_of(record.group).origin = origins[record.group];
  }
  cached_ = nullptr;
  std::erase_if(groups_, [&](const auto& group) { return !present.contains(group.first); });
  return {};
}

void Table::apply_repair(const Record& record) {
  Group& group = group_of(record.group);
  group.hard_state = record.hard_state;
  group.suspect = record.suspect;
  group.checkpoint = record.checkpoint;
  group.checkpoint_id = record.checkpoint_id;
  if (record.last.index > group.last.index) {
    restart(group, record.last);
  } else {
    cut_after(group, record.last.index);
    group.last = record.last;
  }
  std::erase_if(group.entries, [&](const raft::Entry& entry) { return entry.index <= group.checkpoint.index; });
}

Result<void> Table::salvage(ByteView records, bool summary) {
  std::set<GroupId> present;
  for (Reader reader(records); !reader.at_end();) {
    const Record record = TRY(decode_record(reader));
    if (record.type == RecordType::kBegun) {
      auto known = groups_.find(record.group);
      if (known != groups_.end() && known->second.generation != record.generation) groups_.erase(known);
      cached_ = nullptr;
      group_of(record.group).generation = record.generation;
    }
    if (record.type == RecordType::kHardState || record.type == RecordType::kSummary) {
      raft::HardState& now = group_of(record.group).hard_state;
      if (record.hard_state.term >= now.term) now = record.hard_state;
    }
    // A summary of checkpoint 0 says that there is none.
    if (record.type == RecordType::kCheckpoint || (record.type == RecordType::kSummary && record.checkpoint.index))
      TRY(apply_checkpoint(record, false));
    if (record.type == RecordType::kSplitOff) TRY(apply_split_off(record, false));
    if (record.type == RecordType::kSummary) present.insert(record.group);
    // In a summary it may be of a replica before the one that is there.
    if (record.type == RecordType::kRemoved) {
      auto known = groups_.find(record.group);
      if (known == groups_.end() || !record.has_generation || known->second.generation <= record.generation)
        remove(record);
      else
        removed_[record.group] = record.generation;
    }
  }
  if (summary) {
    cached_ = nullptr;
    std::erase_if(groups_, [&](const auto& group) { return !present.contains(group.first); });
  }
  return {};
}

void Table::mark_suspect() {
  for (auto& [id, group] : groups_) group.suspect = true;
  unknown_suspect_ = true;
}

Result<void> Table::check() const {
  for (const auto& [id, group] : groups_)
    if (group.first_held > group.checkpoint.index.next())
      return fail(ErrorCode::kCorrupt,
                  fmt::format("group {} lacks its entries {} to {}: segments that are still needed are missing",
                              id.value, group.checkpoint.index.value + 1, group.first_held.value - 1));
  return {};
}

void Table::drop_incomplete() {
  for (auto& [id, group] : groups_)
    if (group.first_held > group.checkpoint.index.next()) {
      CHECK(group.suspect);
      restart(group, group.checkpoint);
    }
}

uint32_t Table::summary_records() const {
  const auto begun =
      std::count_if(groups_.begin(), groups_.end(), [](const auto& g) { return g.second.generation > 0; });
  const auto split_off =
      std::count_if(groups_.begin(), groups_.end(), [](const auto& g) { return bool(g.second.origin); });
  return static_cast<uint32_t>(groups_.size() + removed_.size() + static_cast<size_t>(begun + split_off)) +
         (unknown_suspect_ ? 1 : 0);
}

Bytes Table::summary() const {
  Bytes records;
  if (unknown_suspect_) encode_state(records, {.type = RecordType::kSuspect, .suspect = true});
  for (const auto& [id, generation] : removed_)
    encode_state(records,
                 {.type = RecordType::kRemoved, .group = id, .generation = generation, .has_generation = true});
  for (const auto& [id, group] : groups_) {
    if (group.generation > 0)
      encode_state(records, {.type = RecordType::kBegun, .group = id, .generation = group.generation});
    if (group.origin)
      encode_state(
          records,
          {.type = RecordType::kSplitOff, .group = id, .checkpoint = group.checkpoint, .origin = group.origin});
    encode_state(records, {.type = RecordType::kSummary,
                           .group = id,
                           .suspect = group.suspect,
                           .hard_state = group.hard_state,
                           .checkpoint = group.checkpoint,
                           .checkpoint_id = group.checkpoint_id,
                           .last = group.last});
  }
  return records;
}

void Table::covered(GroupId id, LogIndex up_to) {
  auto it = groups_.find(id);
  if (it == groups_.end()) return;
  CHECK(up_to <= it->second.checkpoint.index);
  it->second.covered = std::max(it->second.covered, up_to);
}

uint64_t Table::oldest_needed(uint64_t none) const {
  uint64_t oldest = none;
  for (const auto& [id, group] : groups_)
    for (const Group::Held& held : group.held)
      if (held.last > group.covered) {
        oldest = std::min(oldest, held.segment);
        break;
      }
  return oldest;
}

std::vector<Table::Need> Table::needs() const {
  std::vector<Need> needs;
  for (const auto& [id, group] : groups_) {
    Need need{id, 0, 0};
    for (const Group::Held& held : group.held) {
      if (held.last <= group.covered) continue;
      if (need.oldest_segment == 0) need.oldest_segment = held.segment;
      need.bytes += share(held, group.covered.next(), held.last);
    }
    if (need.oldest_segment != 0) needs.push_back(need);
  }
  return needs;
}

void Table::freed(uint64_t segment) {
  for (auto& [id, group] : groups_)
    std::erase_if(group.held, [&](const Group::Held& held) { return held.segment <= segment; });
}

void Table::forget_entries() {
  keep_ = Keep::kNothing;
  for (auto& [id, group] : groups_) {
    group.covered = std::max(group.covered, group.checkpoint.index);
    group.entries = {};
  }
}

}  // namespace mneme::wal
