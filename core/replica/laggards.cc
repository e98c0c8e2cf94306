#include "core/replica/laggards.h"

#include <algorithm>

namespace mneme::replica {

Result<void> Laggards::run() {
  for (;;) {
    TRY(shorten());
    log_.wait_for_segment(log_.log().segments().back().number);
  }
}

bool Laggards::is_long() const {
  const wal::Log& log = log_.log();
  const uint64_t segments = log.segments().size();
  if (segments > 1 && env_.random.rarely(Site::kEagerRewrite, log.segments().back().number)) return true;
  return segments > kLongSegments && log.bytes() > kLongTimes * log.needed_bytes();
}

Result<void> Laggards::shorten() {
  wal::Log& log = log_.log();
  // Each segment once: where more groups share the log than its segments are made for, it stays long.
  const uint64_t last = log.segments().back().number;
  while (is_long() && log.segments().front().number < last) {
    const wal::SegmentInfo oldest = log.segments().front();
    // Not more than fits in a frame, whatever the size of a segment.
    const uint64_t little = std::min(oldest.bytes, limits::kMaxFrameBytes) / kLittleShare;
    for (const wal::Laggard& laggard : log.laggards())
      if (auto replica = find_(laggard.group)) replica->leave_old_segments(little);
    TRY(log.free_segments());
    // Where it still stands somebody needs it until a checkpoint is complete: that frees it, or the next look does.
    if (log.segments().front().number == oldest.number) return {};
  }
  return {};
}

}  // namespace mneme::replica
