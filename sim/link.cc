#include "sim/link.h"

#include <algorithm>

namespace mneme::sim {

WorldTime Link::transmit(WorldTime now, size_t bytes, uint64_t bandwidth) {
  if (bandwidth == 0 && now >= slow_until) return now;
  constexpr unsigned __int128 kSecond = 1'000'000'000;
  // What is left to send, in bytes times nanoseconds: divided by a bandwidth, rounded up, it is a time.
  unsigned __int128 left = bytes * kSecond;
  auto time_at = [&](uint64_t rate) { return static_cast<WorldTime>((left + rate - 1) / rate); };
  busy_until = std::max(busy_until, now);
  if (busy_until < slow_until && slow_bandwidth > 0) {
    const auto while_slow = static_cast<unsigned __int128>(slow_until - busy_until) * slow_bandwidth;
    if (left <= while_slow) return busy_until += time_at(slow_bandwidth);
    left -= while_slow;
    busy_until = slow_until;
  }
  if (bandwidth > 0) busy_until += time_at(bandwidth);
  return busy_until;
}

}  // namespace mneme::sim
