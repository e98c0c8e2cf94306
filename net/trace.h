// What real nodes say: lines on stderr with the time (UTC), the level and the area; probes are counted.
//
//     2026-03-01T12:00:00.123Z info  raft     node 2 became leader in term 7
#pragma once

#include <array>

#include "core/env/clock.h"
#include "core/env/trace.h"

namespace mneme::net {

// One line, without its end. Control characters, which may come from outside, become '?': a line stays one line.
std::string format_line(WallTime time, env::Level level, std::string_view area, std::string_view text);

class StderrTrace final : public env::Trace {
 public:
  // Writes lines of `least` and above. The clock outlives it.
  StderrTrace(const env::Clock& clock, env::Level least) : clock_(clock), least_(least) {}

  bool wants(env::Level level) const override { return level >= least_; }
  void line(env::Level level, std::string_view area, std::string_view text) override;
  void reached(Probe probe) override { ++reached_[static_cast<size_t>(probe)]; }

  uint64_t count(Probe probe) const { return reached_[static_cast<size_t>(probe)]; }

 private:
  const env::Clock& clock_;
  const env::Level least_;
  std::array<uint64_t, kProbeCount> reached_{};
};

}  // namespace mneme::net
