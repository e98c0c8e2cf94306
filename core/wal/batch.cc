#include "core/wal/batch.h"

#include "core/base/check.h"

namespace mneme::wal {

void Batch::entries(GroupId group, uint32_t generation, std::span<const raft::Entry> entries) {
  CHECK(group);
  for (const raft::Entry& entry : entries) encode_entry(frame_, group, generation, entry);
  records_ += static_cast<uint32_t>(entries.size());
}

void Batch::state(const Record& record) {
  const size_t begin = frame_.size();
  encode_state(frame_, record);
  state_.insert(state_.end(), frame_.begin() + static_cast<ptrdiff_t>(begin), frame_.end());
  ++records_;
}

void Batch::hard_state(GroupId group, const raft::HardState& hard_state) {
  CHECK(group);
  state({.type = RecordType::kHardState, .group = group, .hard_state = hard_state});
}

void Batch::checkpoint(GroupId group, const raft::LogPosition& position, uint64_t id) {
  CHECK(group);
  state({.type = RecordType::kCheckpoint, .group = group, .checkpoint = position, .checkpoint_id = id});
}

void Batch::restart(GroupId group, const raft::LogPosition& position, uint64_t id) {
  CHECK(group);
  state(
      {.type = RecordType::kCheckpoint, .group = group, .restart = true, .checkpoint = position, .checkpoint_id = id});
}

void Batch::split_off(GroupId group, const raft::LogPosition& position, const Origin& origin) {
  CHECK(group > origin.parent && origin);
  state({.type = RecordType::kSplitOff, .group = group, .checkpoint = position, .origin = origin});
}

void Batch::suspect(GroupId group, bool on) { state({.type = RecordType::kSuspect, .group = group, .suspect = on}); }

void Batch::begin_replica(GroupId group, uint32_t generation) {
  CHECK(group);
  state({.type = RecordType::kBegun, .group = group, .generation = generation});
}

void Batch::remove_replica(GroupId group, uint32_t generation) {
  CHECK(group);
  state({.type = RecordType::kRemoved, .group = group, .generation = generation, .has_generation = true});
}

void Batch::clear() {
  frame_.resize(kFrameHeaderBytes);
  state_.clear();
  records_ = 0;
  whole_ = false;
}

}  // namespace mneme::wal
