#include "core/replica/log_writer.h"

namespace mneme::replica {

namespace {
// A batch that has grown to this is not added to: what came later goes into the next frame.
constexpr size_t kEnoughBytes = 4 * limits::kMiB;
constexpr Duration kNoSpacePause = 200ms;
constexpr Duration kLatestFlush = 20ms;  // only where chance asks for it
}  // namespace

wal::Batch& LogWriter::batch() {
  bool start_new = waiting_.empty() || waiting_.back()->closed || waiting_.back()->batch.bytes() >= kEnoughBytes;
  if (!start_new && !waiting_.back()->completions.empty() && env_.random.rarely(Site::kShortBatch, frames_))
    start_new = true;
  return start_new ? begin_frame().batch : waiting_.back()->batch;
}

LogWriter::Frame& LogWriter::begin_frame() {
  ++frames_;
  waiting_.push_back(spare_ ? std::move(spare_) : std::make_unique<Frame>());
  return *waiting_.back();
}

wal::Batch& LogWriter::batch_of_its_own() {
  Frame& frame = begin_frame();
  frame.closed = true;
  frame.batch.keep_whole();
  return frame.batch;
}

void LogWriter::when_durable(Durable durable) {
  if (waiting_.empty()) batch();
  waiting_.back()->completions.push_back(std::move(durable));
  work_.notify_one();
}

Result<void> LogWriter::run() {
  for (;;) {
    work_.wait_until([this] { return !waiting_.empty(); });
    if (env_.random.rarely(Site::kLateFlush, frames_))
      env_.clock.sleep_for(env_.scheduler, env_.random.draw_below(kLatestFlush, Site::kLateFlush, frames_, 0));
    std::unique_ptr<Frame> frame = std::move(waiting_.front());
    waiting_.pop_front();
    const uint64_t segment = log_.segments().back().number;
    while (!frame->batch.empty()) {
      auto appended = log_.append(frame->batch);
      if (appended) break;
      env::log(env_.trace, env::Level::kError, "wal", "{}", appended.error().message);
      if (appended.error().code == ErrorCode::kNoSpace) {
        // Nothing is acknowledged meanwhile, and space may come back.
        env_.trace.reached(Probe::disk_full_met);
        env_.clock.sleep_for(env_.scheduler, kNoSpacePause);
        continue;
      }
      env_.trace.reached(Probe::sync_failed_node_ended);
      return appended;
    }
    if (!log_.next_prepared()) segment_work_.notify_one();
    if (log_.segments().back().number != segment) segment_begun_.notify_all();
    for (Durable& durable : frame->completions) durable();
    frame->completions.clear();
    frame->batch.clear();
    frame->closed = false;
    spare_ = std::move(frame);
  }
}

Result<void> LogWriter::run_segments() {
  for (;;) {
    if (log_.next_prepared()) {
      segment_work_.wait();
      continue;
    }
    if (auto prepared = log_.prepare_next(); !prepared) {
      if (prepared.error().code != ErrorCode::kNoSpace) return prepared;
      env_.trace.reached(Probe::disk_full_met);
      env_.clock.sleep_for(env_.scheduler, kNoSpacePause);
    }
  }
}

}  // namespace mneme::replica
