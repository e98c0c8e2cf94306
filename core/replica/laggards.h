// The fiber that keeps the log from growing because of groups that write little: all segments since a group's last
// entries stay until it has a checkpoint behind them, which one that is idle never takes.
//
// Whenever a segment was begun and the log is longer than what is needed of it accounts for, the groups that hold the
// oldest segment up are dealt with, one at a time (Replica::leave_old_segments()): little is appended again at the
// log's end, much becomes a checkpoint. So the log stays within kLongSegments, or kLongTimes what its groups need of
// it, whichever is more, and what is appended again is at most about as much as everything else that is appended.
#pragma once

#include <functional>
#include <memory>

#include "core/env/env.h"
#include "core/replica/log_writer.h"
#include "core/replica/replica.h"

namespace mneme::replica {

class Laggards {
 public:
  // As long as the log has no more segments, or times what is needed of it, nothing is done.
  static constexpr size_t kLongSegments = 4;
  static constexpr uint64_t kLongTimes = 2;
  // A group that needs less than this part of a segment is appended again.
  static constexpr uint64_t kLittleShare = 4;

  // Null: the node has no replica of that group (any more).
  using Find = std::function<std::shared_ptr<Replica>(GroupId group)>;
  Laggards(Env& env, LogWriter& log, Find find) : env_(env), log_(log), find_(std::move(find)) {}

  // The fiber: runs until cancelled, or until the log fails, which must end the node.
  Result<void> run();

 private:
  bool is_long() const;
  Result<void> shorten();

  Env& env_;
  LogWriter& log_;
  const Find find_;
};

}  // namespace mneme::replica
