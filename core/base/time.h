// Durations and points in time, in whole nanoseconds: no floating point may reach a decision.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>

namespace mneme {

using Duration = std::chrono::nanoseconds;
using namespace std::chrono_literals;

// A reading of one node's monotonic clock. Comparable only with readings of the same clock.
struct Instant {
  int64_t ns = 0;

  constexpr auto operator<=>(const Instant&) const = default;
  friend constexpr Instant operator+(Instant t, Duration d) { return {t.ns + d.count()}; }
  friend constexpr Instant operator-(Instant t, Duration d) { return {t.ns - d.count()}; }
  friend constexpr Duration operator-(Instant a, Instant b) { return Duration(a.ns - b.ns); }
};

inline constexpr Instant kNever{INT64_MAX};

// Milliseconds since the Unix epoch, by a wall clock or by the log (see core/kv/table.h); jumps both ways.
struct WallTime {
  int64_t ms = 0;

  constexpr auto operator<=>(const WallTime&) const = default;
};

}  // namespace mneme
