// Log time: the time that proposals carry and by which keys expire, on the node that leads. Made anew for each time in
// office: what the last one read beyond its log is no time of the log, where another has led since.
//
// It advances with the leader's monotonic clock and is slewed towards its wall clock by at most an eighth of what
// passes, so that a wall clock that is a year ahead neither expires everything nor freezes it; it never goes back, and
// never falls behind what the log already says. Seen from clients: a key with a time to live of d disappears when
// between d * 7/8 and d * 9/8 have passed on the leaders' monotonic clocks since its command was applied, longer by the
// time during which no leader was in office.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/base/time.h"

namespace mneme::replica {

class LogClock {
 public:
  // What the log says at least, applied or not: without it a leader whose wall clock has jumped would take the log with
  // it.
  void at_least(int64_t log_time_ms) {
    if (log_time_ms * kNsPerMs > time_ns_) time_ns_ = log_time_ms * kNsPerMs;
  }

  // The log time at this moment, in milliseconds.
  int64_t read(Instant now, WallTime wall) {
    const int64_t wall_ns = wall.ms * kNsPerMs;
    if (time_ns_ == 0) {
      time_ns_ = wall_ns;  // the very first reading of a new cluster
    } else if (started_ && now > last_) {
      const int64_t passed = (now - last_).count();
      const int64_t most = passed / 8;
      time_ns_ += passed + std::clamp(wall_ns - (time_ns_ + passed), -most, most);
    }
    started_ = true;
    last_ = now;
    return time_ns_ / kNsPerMs;
  }

  bool started() const { return started_; }

 private:
  static constexpr int64_t kNsPerMs = 1'000'000;
  int64_t time_ns_ = 0;
  Instant last_;
  bool started_ = false;
};

}  // namespace mneme::replica
