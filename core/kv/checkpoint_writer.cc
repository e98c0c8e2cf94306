#include "core/base/check.h"
#include "core/kv/checkpoint.h"
#include "core/kv/checkpoint_format.h"

namespace mneme::kv {

namespace {

constexpr size_t kHeldOverhead = 128;  // what a map's node adds to a copy

void append_record(std::string& block, std::string_view key, const Value& value) {
  Writer out(block);
  out.i64(value.expire_at_ms);
  out.u8(static_cast<uint8_t>(value.kind));
  out.u16(static_cast<uint16_t>(key.size()));
  out.u32(static_cast<uint32_t>(value.bytes.size()));
  out.raw(key);
  out.raw(value.bytes);
}

}  // namespace

CheckpointWriter::CheckpointWriter(StateMachine& machine, Term term)
    : machine_(machine), index_(machine.applied()), term_(term) {
  write_header();
  machine_.table_.observe(this);
  machine_.sessions_.observe(this);
}

CheckpointWriter::~CheckpointWriter() {
  if (phase_ != Phase::kDone) stop();
}

void CheckpointWriter::stop() {
  phase_ = Phase::kDone;
  machine_.table_.observe(nullptr);
  machine_.sessions_.observe(nullptr);
}

// In either function the first change counts; later ones find the copy there.
void CheckpointWriter::before_change(std::string_view key, const Record* record) {
  if (phase_ != Phase::kRecords || key < next_key_ || old_records_.contains(key)) return;
  std::optional<OldRecord> old;
  if (record != nullptr) old = OldRecord{record->kind, record->expire_at_ms, record->value};
  held_bytes_ += kHeldOverhead + key.size() + (record != nullptr ? record->value.size() : 0);
  old_records_.emplace(key, std::move(old));
}

void CheckpointWriter::before_change(SessionId id, const Session* session) {
  if (phase_ > Phase::kSessions || id.value < next_session_ || old_sessions_.contains(id.value)) return;
  held_bytes_ += kHeldOverhead + (session != nullptr ? session->kept_bytes : 0);
  old_sessions_.emplace(id.value, session != nullptr ? std::optional(*session) : std::nullopt);
}

void CheckpointWriter::write_block(uint8_t type, std::string_view payload) {
  size_t at = pending_.size();
  Writer out(pending_);
  out.u32(static_cast<uint32_t>(payload.size()));
  out.u8(type);
  out.u8(0);
  out.u16(0);
  out.u64(block_checksum(identity_, block_, std::string_view(pending_).substr(at, 8), payload));
  out.raw(payload);
  ++block_;
}

void CheckpointWriter::write_header() {
  std::string payload;
  Writer out(payload);
  out.raw(kCheckpointMagic);
  out.u32(kCheckpointVersion);
  out.u32(0);
  out.id(index_);
  out.id(term_);
  out.i64(machine_.log_time_ms());
  out.u64(machine_.table_.record_count());
  out.u64(machine_.sessions_.size());
  out.u64(machine_.digest());
  out.blob(machine_.configuration());
  out.id(machine_.shard().epoch);
  out.id(machine_.shard().slots_epoch);
  out.id(machine_.sessions_.forgotten());
  if (machine_.map_.cluster()) machine_.map_.encode(map_);
  held_bytes_ += map_.size();
  out.u64(map_.size());
  machine_.shard().slots.encode(payload);
  write_block(kHeaderBlock, payload);
  identity_ = xxh3(payload);
}

// Merges the table, as it is now, with the copies: where there is a copy it is what counts.
void CheckpointWriter::write_records() {
  std::string block;
  auto full = [&] { return block.size() >= kCheckpointBlockBytes; };
  // The smallest key above `key`.
  auto wrote = [&](std::string_view key) { (next_key_ = key) += '\0'; };
  auto old = old_records_.begin();
  auto write_old_below = [&](const std::string_view* bound) {
    while (!full() && old != old_records_.end() && (bound == nullptr || old->first < *bound)) {
      wrote(old->first);
      if (old->second)
        append_record(block, old->first, {old->second->kind, old->second->value, old->second->expire_at_ms});
      held_bytes_ -= kHeldOverhead + old->first.size() + (old->second ? old->second->value.size() : 0);
      old = old_records_.erase(old);
    }
  };
  machine_.table_.for_each_record(std::string(next_key_), [&](const Record& record) {
    std::string_view key = record.key();
    write_old_below(&key);
    if (full()) return false;
    if (old != old_records_.end() && old->first == key) return true;  // the copy comes next
    wrote(key);
    append_record(block, key, record.view());
    return !full();
  });
  write_old_below(nullptr);
  if (!full()) phase_ = Phase::kSessions;
  if (!block.empty()) write_block(kRecordsBlock, block);
}

// Goes on until a block is full and a session complete; what then is over waits in session_block_ for the next block.
void CheckpointWriter::write_sessions() {
  Writer out(session_block_);
  bool full = false;
  auto end_item = [&] {
    if (session_block_.size() < kCheckpointBlockBytes) return;
    write_block(kSessionsBlock, session_block_);
    session_block_.clear();
    full = true;
  };
  auto write = [&](uint64_t id, const Session& session) {
    out.u8(kSessionItem);
    out.u64(id);
    out.i64(session.last_used_ms);
    out.u64(session.acknowledged);
    end_item();
    for (const KeptReplies& kept : session.kept) {
      out.u8(kReplyItem);
      out.u64(kept.sequence);
      out.u16(kept.slot);
      out.blob(kept.replies);
      end_item();
    }
  };
  const auto& sessions = machine_.sessions_.all();
  auto now = sessions.lower_bound(next_session_);
  while (!full) {
    auto old = old_sessions_.begin();
    if (old != old_sessions_.end() && (now == sessions.end() || old->first <= now->first)) {
      if (now != sessions.end() && now->first == old->first) ++now;
      next_session_ = old->first + 1;
      if (old->second) write(old->first, *old->second);
      held_bytes_ -= kHeldOverhead + (old->second ? old->second->kept_bytes : 0);
      old_sessions_.erase(old);
    } else if (now != sessions.end()) {
      next_session_ = now->first + 1;
      write(now->first, now->second);
      ++now;
    } else {
      if (!session_block_.empty()) write_block(kSessionsBlock, session_block_);
      session_block_.clear();
      phase_ = Phase::kMap;
      return;
    }
  }
}

void CheckpointWriter::write_map() {
  const std::string_view block = std::string_view(map_).substr(map_written_, kCheckpointBlockBytes);
  if (block.empty()) {
    held_bytes_ -= map_.size();
    map_ = {};
    phase_ = Phase::kEnd;
    return;
  }
  write_block(kMapBlock, block);
  map_written_ += block.size();
}

std::string CheckpointWriter::next_chunk(size_t max_bytes) {
  CHECK(max_bytes > 0);
  while (phase_ != Phase::kDone && pending_.size() - given_ < max_bytes) {
    if (phase_ == Phase::kRecords) {
      write_records();
    } else if (phase_ == Phase::kSessions) {
      write_sessions();
    } else if (phase_ == Phase::kMap) {
      write_map();
    } else {
      write_block(kEndBlock, {});
      stop();
    }
  }
  std::string chunk = pending_.substr(given_, max_bytes);
  given_ += chunk.size();
  if (given_ == pending_.size()) {
    pending_.clear();
    given_ = 0;
    if (pending_.capacity() > 4 * kCheckpointBlockBytes) pending_.shrink_to_fit();
  }
  return chunk;
}

}  // namespace mneme::kv
