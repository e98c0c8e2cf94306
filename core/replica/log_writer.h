// The one fiber that appends to a reactor's write-ahead log, for all its groups: group commit.
//
// Callers encode records into the open batch and say what is to happen once it is durable; the writer takes whatever
// has gathered while the last append was under way, as one frame with one sync. Batches become durable in order, and
// completions run in the order in which they were given.
#pragma once

#include <deque>
#include <functional>
#include <memory>

#include "core/env/env.h"
#include "core/fiber/sync.h"
#include "core/wal/log.h"

namespace mneme::replica {

class LogWriter {
 public:
  using Durable = std::move_only_function<void()>;  // must not suspend

  LogWriter(Env& env, wal::Log& log) : env_(env), log_(log), work_(env.scheduler), segment_work_(env.scheduler) {}

  // Where to encode records; they travel with the completion given next. May start a new batch when the last is large.
  wal::Batch& batch();
  // Runs `durable` when everything encoded so far is durable.
  void when_durable(Durable durable);

  // The fiber: runs until cancelled, or until the log fails; a failed log ends the node.
  Result<void> run();
  // Another fiber: prepares the next segment ahead of need.
  Result<void> run_segments();

  wal::Log& log() { return log_; }

 private:
  struct Frame {
    wal::Batch batch;
    std::vector<Durable> completions;
  };
  Env& env_;
  wal::Log& log_;
  fiber::Condition work_;
  fiber::Condition segment_work_;
  std::deque<std::unique_ptr<Frame>> waiting_;
  std::unique_ptr<Frame> spare_;
  uint64_t frames_ = 0;
};

}  // namespace mneme::replica
