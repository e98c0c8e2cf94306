#include "net/trace.h"

#include <time.h>
#include <unistd.h>

namespace mneme::net {

namespace {
std::string_view name_of(env::Level level) {
  switch (level) {
    case env::Level::kDebug: return "debug";
    case env::Level::kInfo: return "info";
    case env::Level::kWarn: return "warn";
    case env::Level::kError: return "error";
  }
  return "?";
}
}  // namespace

std::string format_line(WallTime time, env::Level level, std::string_view area, std::string_view text) {
  const int64_t ms = ((time.ms % 1000) + 1000) % 1000;
  const time_t seconds = (time.ms - ms) / 1000;
  tm utc{};
  ::gmtime_r(&seconds, &utc);
  std::string line =
      fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z {:<5} {:<8} {}", utc.tm_year + 1900, utc.tm_mon + 1,
                  utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, ms, name_of(level), area, text);
  for (char& c : line)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return line;
}

void StderrTrace::line(env::Level level, std::string_view area, std::string_view text) {
  if (!wants(level)) return;
  std::string line = format_line(clock_.wall(), level, area, text);
  line += '\n';
  // In one call, so that lines of several processes do not mix. What cannot be written is lost: there is nobody to
  // tell.
  [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace mneme::net
