// One write-ahead log, shared by all Raft groups of a reactor; format.h has the bytes and the rules.
//
// One fiber appends. Others may prepare the next segment and free old ones meanwhile; which are not needed any more
// follows from covered() and from what is appended. Calls that suspend are not cancellable in the middle of disk
// operations, and waiting for one another they are: nothing has happened then.
//
// A write or sync that fails leaves the file's content unknown: that call fails with kIo, so do all later ones, and the
// owner must end the node. Recovery in the next life rewrites what it keeps, so that nothing is believed because it was
// in the page cache.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/env/env.h"
#include "core/fiber/sync.h"
#include "core/raft/types.h"
#include "core/wal/batch.h"
#include "core/wal/format.h"
#include "core/wal/table.h"

namespace mneme::wal {

struct Options {
  std::string directory;  // made when it is not there; its parent must be
  size_t segment_bytes = limits::kSegmentBytes;
  // A frame grows no larger, unless by one record. A batch that needs more becomes several frames, each synced: after
  // a crash any number of them may be there, from the first on. Not so one that is to be kept whole.
  size_t max_frame_bytes = limits::kMaxFrameBytes;
  // Whether others hold copies, from which a part that may have been acknowledged can be restored. Without, a damaged
  // last frame counts as torn.
  bool has_peers = false;
  // The owner knows that there was a log: not finding it is an error instead of a reason to create one.
  bool must_exist = false;
};

struct GroupState {
  GroupId group;
  uint32_t generation = 0;  // of the replica
  raft::HardState hard_state;
  raft::LogPosition checkpoint;
  uint64_t checkpoint_id = 0;        // 0: none
  Origin origin;                     // of the state at `checkpoint` while there is none
  std::vector<raft::Entry> entries;  // follow the checkpoint without a gap
  bool suspect = false;
};

// A group that keeps the oldest segment from being freed.
struct Laggard {
  GroupId group;
  uint64_t bytes = 0;  // of the entries that it needs, in all segments; about, see Group::Held
};

struct SegmentInfo {
  uint64_t number = 0;
  uint64_t bytes = 0;
};

class Log {
 public:
  // Creates the log when the directory has none, recovers it otherwise. What is recovered is durable on return.
  // Suspends.
  // kInvalid: the log of another node, cluster or incarnation. kUnsupported: a newer format. kCorrupt: damage that
  // leaves something unknown which this node would have to know; the sentence says what, where and what to do.
  // kNoSpace, kIo: the disk's.
  static Result<std::unique_ptr<Log>> open(Env env, Identity identity, Options options);
  ~Log() = default;
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // Once, after open(): every group that has a replica here, by id.
  std::vector<GroupState> take_recovered() { return std::move(recovered_); }
  // The highest generation of the node's replicas of the group that were removed; nothing: none was. It is never
  // forgotten, so that no message can bring one back.
  std::optional<uint32_t> removed_generation(GroupId group) const { return table_.removed(group); }
  const std::map<GroupId, uint32_t>& removed_generations() const { return table_.removed(); }
  // Frames were lost that may have held the only records of a group: a group of which take_recovered() says nothing,
  // and which existed before, is suspect. It is recorded as such when it gets its first record.
  bool unknown_groups_suspect() const { return table_.unknown_suspect(); }

  // Makes the batch durable. Suspends; CHECKs that no other fiber is in here, and that the records make sense: indices
  // without gaps and above the checkpoint, hard states and checkpoints that do not go back. On success or kIo the batch
  // must be cleared before it is used again. kNoSpace: a new segment was needed and did not fit on the disk; the batch
  // has what was not written yet, and may be tried again.
  Result<void> append(Batch& batch);

  // Creates the segment that will follow, if it is not there yet. Suspends. kNoSpace: try again later; append() does it
  // too when it must.
  Result<void> prepare_next();

  // The group's entries up to `up_to` are no longer needed from the log: a checkpoint covers them whose record is
  // durable here.
  void covered(GroupId group, LogIndex up_to) { table_.covered(group, up_to); }
  // Removes the oldest segments that nothing is needed of; does nothing while another fiber is at it. Suspends.
  Result<void> free_segments();
  // Who holds the oldest segment up, by id, nobody while it is the only one; what all groups together need of all
  // segments, with what frames of their own would add. One look at every group. A group that needs little stops holding
  // up old segments when its entries after its checkpoint are appended again, as a batch that is kept whole; one that
  // needs much, when it has a checkpoint.
  std::vector<Laggard> laggards() const;
  uint64_t needed_bytes() const;

  // For observers.
  uint64_t durable_sequence() const { return next_sequence_ - 1; }
  uint64_t append_offset() const { return offset_; }  // in the last segment
  const std::deque<SegmentInfo>& segments() const { return segments_; }
  uint64_t bytes() const;  // of all segments, the prepared one included
  bool next_prepared() const { return prepared_ != nullptr; }
  bool failed() const { return failed_; }

 private:
  friend struct Recovery;
  Log(Env env, Identity identity, Options options);

  Result<void> append_frame(Bytes& frame, const Bytes& state, uint32_t records);
  Result<void> append_in_parts(Batch& batch);
  Result<void> begin_segment(uint64_t frame_bytes);
  Result<void> prepare();
  Result<void> remove_segment(uint64_t segment);
  template <class F>
  Result<void> guarded(F&& operation);
  Error dead() const;
  void plan_freeing();

  Env env_;
  const Identity identity_;
  const Options options_;
  uint64_t log_id_ = 0;
  Table table_;
  std::vector<GroupState> recovered_;

  std::deque<SegmentInfo> segments_;  // the last one is written to
  std::unique_ptr<env::File> file_;
  uint64_t offset_ = 0;
  uint64_t next_sequence_ = 1;
  uint64_t previous_hash_ = 0;

  std::unique_ptr<env::File> prepared_;
  uint64_t prepared_bytes_ = 0;
  bool preparing_ = false;
  bool appending_ = false;
  bool freeing_ = false;
  bool failed_ = false;
  bool plan_wanted_ = false;
  uint64_t free_below_ = 0;        // segments before this one are not needed, as of the last plan
  fiber::Condition changed_;       // preparing_ or plan_wanted_ became false
  std::vector<uint32_t> escapes_;  // scratch
};

}  // namespace mneme::wal
