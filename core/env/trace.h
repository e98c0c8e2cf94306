// Where a node says what it does: log lines for people, probes for coverage. Observation never steers: nothing may
// depend on whether somebody listens.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "core/base/chance.h"

namespace mneme::env {

enum class Level : uint8_t { kDebug, kInfo, kWarn, kError };

class Trace : public Probes {
 public:
  virtual bool wants(Level level) const = 0;
  // `area` is a literal of at most 8 characters: "raft", "wal".
  virtual void line(Level level, std::string_view area, std::string_view text) = 0;
};

// Formats only when somebody listens.
template <class... Args>
void log(Trace& trace, Level level, std::string_view area, fmt::format_string<Args...> format, Args&&... args) {
  if (trace.wants(level)) trace.line(level, area, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace mneme::env
