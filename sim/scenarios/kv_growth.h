// Bounded growth: what a store node keeps on its disk and in its replica's memory and queues stays under bounds that
// follow from the options, however long it runs. A figure beyond its bound is a finding that names node, figure and
// bound.
//
//   disk growth    the files of the write-ahead log, in bytes, and the number of files of checkpoints
//   memory growth  entries that the replica keeps in memory although they are applied: bytes beyond those that
//                  keep_entries allows
//   queue growth   entries that a follower has taken and not yet stored
//
// What bounds them: a checkpoint begins when `checkpoint` bytes have been applied since the last one began, and when it
// is done, the log before it and all other checkpoints are removed. A few such spans are there at once, each of
// `checkpoint` bytes or of what is applied while a checkpoint is written, which a slow disk makes long. A leader has at
// most max_inflight messages of max_append bytes on the way to a follower. Looking makes no event in the world.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "core/raft/types.h"
#include "sim/scenarios/kv_oracle.h"
#include "sim/scenarios/options.h"

namespace mneme::sim {

class KvGrowth {
 public:
  explicit KvGrowth(const Options& options);

  // An entry was applied somewhere; only the first time at its group's index counts.
  void applied(GroupId group, const raft::Entry& entry);
  std::optional<Finding> check_log(uint64_t node, uint64_t log_bytes) const;
  // Of one group on a node: its checkpoints' files, and its replica; null: it has not started.
  std::optional<Finding> check(uint64_t node, GroupId group, uint64_t files, const raft::View* replica) const;

 private:
  uint64_t bytes_upto(GroupId group, LogIndex index) const;

  uint64_t keep_entries_;
  uint64_t span_bytes_;  // applied and not yet covered by a checkpoint, most
  uint64_t log_bytes_;
  uint64_t checkpoint_files_;
  uint64_t unstored_;
  std::map<GroupId, std::vector<uint64_t>> bytes_;  // applied up to an index, as the replica counts them
};

}  // namespace mneme::sim
