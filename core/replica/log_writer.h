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

  LogWriter(Env& env, wal::Log& log)
      : env_(env), log_(log), work_(env.scheduler), segment_work_(env.scheduler), segment_begun_(env.scheduler) {}

  // Where to encode records; they travel with the completion given next. May start a new batch when the last is large.
  wal::Batch& batch();
  // A new one that becomes a frame of its own, whole (wal::Batch::keep_whole()): nothing is added to it but what is
  // encoded before the next call of batch() or this, and the completion given next.
  wal::Batch& batch_of_its_own();
  // Runs `durable` when everything encoded so far is durable.
  void when_durable(Durable durable);

  // The fiber: runs until cancelled, or until the log fails; a failed log ends the node.
  Result<void> run();
  // Suspends until the log's last segment is another one than `last`.
  void wait_for_segment(uint64_t last) {
    segment_begun_.wait_until([&] { return log_.segments().back().number != last; });
  }
  // Another fiber: prepares the next segment ahead of need.
  Result<void> run_segments();

  wal::Log& log() { return log_; }

 private:
  struct Frame {
    wal::Batch batch;
    std::vector<Durable> completions;
    bool closed = false;  // to records
  };
  Frame& begin_frame();

  Env& env_;
  wal::Log& log_;
  fiber::Condition work_;
  fiber::Condition segment_work_;
  fiber::Condition segment_begun_;
  std::deque<std::unique_ptr<Frame>> waiting_;
  std::unique_ptr<Frame> spare_;
  uint64_t frames_ = 0;
};

}  // namespace mneme::replica
