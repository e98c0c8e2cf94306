// Counts of durations in buckets whose width grows with the duration: after Tene's HdrHistogram.
//
// Whole nanoseconds, nothing is allocated after construction, and adding costs a few instructions. Up to kExact ns
// every value has a bucket of its own; from there every power of two is divided into kExact / 2 equal buckets, so that
// what is read from it is off by less than 2 / kExact, 1.6 %. Values from 2^kBits ns, 18 minutes, count as that.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "core/base/time.h"

namespace mneme {

class Histogram {
 public:
  static constexpr int kExactBits = 7;
  static constexpr uint64_t kExact = 1 << kExactBits;
  static constexpr int kBits = 40;
  static constexpr size_t kBuckets = kExact + (kBits - kExactBits) * (kExact / 2);

  Histogram() : counts_(kBuckets) {}

  void add(Duration value, uint64_t times = 1);
  void clear();

  uint64_t count() const { return count_; }
  Duration max() const { return Duration(static_cast<int64_t>(max_)); }
  Duration mean() const { return Duration(count_ == 0 ? 0 : static_cast<int64_t>(sum_ / count_)); }
  // The smallest duration, rounded up to its bucket's end, that `millionths` of a million values do not exceed:
  // 500'000 is the median. 0 when it is empty.
  Duration quantile(uint64_t millionths) const;
  // How many values lie from `from` to before `to`; buckets that a border cuts belong to where they begin.
  uint64_t count_between(Duration from, Duration to) const;

  // Where a bucket begins, and which one a value is in: for tests.
  static uint64_t begin_of(size_t bucket);
  static size_t bucket_of(uint64_t ns);

 private:
  std::vector<uint64_t> counts_;
  uint64_t count_ = 0;
  uint64_t max_ = 0;
  unsigned __int128 sum_ = 0;
};

}  // namespace mneme
