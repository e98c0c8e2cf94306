#include "core/base/histogram.h"

#include <algorithm>

namespace mneme {

namespace {
constexpr uint64_t kHalf = Histogram::kExact / 2;
constexpr uint64_t kMost = (uint64_t{1} << Histogram::kBits) - 1;
}  // namespace

size_t Histogram::bucket_of(uint64_t ns) {
  if (ns < kExact) return ns;
  const int shift = std::bit_width(ns) - kExactBits;  // 1 for the first power of two that is divided
  return kExact + static_cast<size_t>(shift - 1) * kHalf + ((ns >> shift) - kHalf);
}

uint64_t Histogram::begin_of(size_t bucket) {
  if (bucket < kExact) return bucket;
  const size_t above = bucket - kExact;
  return (kHalf + above % kHalf) << (above / kHalf + 1);
}

void Histogram::add(Duration value, uint64_t times) {
  const uint64_t ns = std::min(static_cast<uint64_t>(std::max<int64_t>(value.count(), 0)), kMost);
  counts_[bucket_of(ns)] += times;
  count_ += times;
  sum_ += static_cast<unsigned __int128>(ns) * times;
  max_ = std::max(max_, ns);
}

void Histogram::clear() {
  std::fill(counts_.begin(), counts_.end(), 0);
  count_ = max_ = 0;
  sum_ = 0;
}

Duration Histogram::quantile(uint64_t millionths) const {
  const auto wanted =
      static_cast<uint64_t>((static_cast<unsigned __int128>(count_) * millionths + 999'999) / 1'000'000);
  uint64_t seen = 0;
  for (size_t bucket = 0; bucket < kBuckets && count_ > 0; ++bucket) {
    seen += counts_[bucket];
    if (seen >= std::max<uint64_t>(wanted, 1))
      return Duration(static_cast<int64_t>(std::min(max_, begin_of(bucket + 1) - 1)));
  }
  return Duration(0);
}

uint64_t Histogram::count_between(Duration from, Duration to) const {
  uint64_t count = 0;
  for (size_t bucket = 0; bucket < kBuckets; ++bucket) {
    const auto begin = static_cast<int64_t>(begin_of(bucket));
    if (begin >= from.count() && begin < to.count()) count += counts_[bucket];
  }
  return count;
}

}  // namespace mneme
