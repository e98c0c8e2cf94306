// What one append makes durable together, encoded as it is filled: a payload is copied once, into the buffer that is
// written. Records keep the order of the calls.
#pragma once

#include <span>

#include "core/base/bytes.h"
#include "core/raft/types.h"
#include "core/wal/format.h"
#include "core/wal/record.h"

namespace mneme::wal {

class Batch {
 public:
  Batch() { clear(); }

  // Consecutive indices, of which the first replaces everything from there on.
  void entries(GroupId group, uint32_t generation, std::span<const raft::Entry> entries);
  void hard_state(GroupId group, const raft::HardState& hard_state);
  // This node's own checkpoint `id`, durable already, covers the log up to there.
  void checkpoint(GroupId group, const raft::LogPosition& position, uint64_t id);
  // The same for a snapshot that came from another node: the group's log is emptied and restarts after it.
  void restart(GroupId group, const raft::LogPosition& position, uint64_t id);
  // The group's log begins after that position, with the state that a split gave it (record.h).
  void split_off(GroupId group, const raft::LogPosition& position, const Origin& origin);
  // Group 0 stands for all groups that the log has no other record of; see Log::unknown_groups_suspect().
  void suspect(GroupId group, bool on);
  // The node has a replica of that generation from here on; there was none, or it was removed. Not needed for one of
  // generation 0, which is there with its first record.
  void begin_replica(GroupId group, uint32_t generation);
  // The replica is gone, and neither it nor one of an earlier generation begins again.
  void remove_replica(GroupId group, uint32_t generation);

  // One frame however large, at most limits::kMaxFrameBytes, so that a crash leaves all of it or nothing. For entries
  // that replace what the log has of the same: half of it would lose the other half.
  void keep_whole() { whole_ = true; }

  bool empty() const { return records_ == 0; }
  size_t bytes() const { return frame_.size() - kFrameHeaderBytes + state_.size(); }
  // Keeps the memory.
  void clear();

 private:
  friend class Log;
  void state(const Record& record);

  Bytes frame_;  // room for the frame's header, then the records
  Bytes state_;  // the state records again
  uint32_t records_ = 0;
  bool whole_ = false;
};

}  // namespace mneme::wal
