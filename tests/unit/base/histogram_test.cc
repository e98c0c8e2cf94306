#include "core/base/histogram.h"

#include "tests/test.h"

using namespace mneme;

TEST_CASE("buckets follow each other without gap, and every value is in the one that holds it", "[base]") {
  CHECK(Histogram::begin_of(0) == 0);
  for (size_t bucket = 0; bucket < Histogram::kBuckets; ++bucket) {
    const uint64_t begin = Histogram::begin_of(bucket), end = Histogram::begin_of(bucket + 1);
    REQUIRE(begin < end);
    REQUIRE(Histogram::bucket_of(begin) == bucket);
    REQUIRE(Histogram::bucket_of(end - 1) == bucket);
    if (begin >= Histogram::kExact)
      REQUIRE((end - begin) * Histogram::kExact <= begin * 2);
    else
      REQUIRE(end - begin == 1);
  }
  CHECK(Histogram::begin_of(Histogram::kBuckets) == uint64_t{1} << Histogram::kBits);
}

TEST_CASE("quantiles are those of the values, within the width of a bucket", "[base]") {
  Histogram histogram;
  for (int64_t us = 1; us <= 1000; ++us) histogram.add(std::chrono::microseconds(us));
  CHECK(histogram.count() == 1000);
  CHECK(histogram.max() == 1ms);
  CHECK(histogram.mean() == 500'500ns);
  for (uint64_t millionths : {1000, 10'000, 500'000, 900'000, 990'000, 999'000, 1'000'000}) {
    const int64_t exact = static_cast<int64_t>(millionths);  // the nth microsecond is the nth thousandth
    CHECK(histogram.quantile(millionths).count() >= exact);
    CHECK(histogram.quantile(millionths).count() * 64 <= exact * 65);
  }
  CHECK(histogram.quantile(1'000'000) == 1ms);
  CHECK(histogram.quantile(0).count() >= 1000);
}

TEST_CASE("an empty histogram has nothing to tell, and what is far too long counts as the longest", "[base]") {
  Histogram histogram;
  CHECK(histogram.quantile(500'000) == 0ns);
  CHECK(histogram.mean() == 0ns);
  histogram.add(std::chrono::hours(100));
  histogram.add(-5ns);
  CHECK(histogram.max().count() == (int64_t{1} << Histogram::kBits) - 1);
  CHECK(histogram.quantile(500'000) == 0ns);
  CHECK(histogram.count() == 2);
  histogram.clear();
  CHECK(histogram.count() == 0);
  CHECK(histogram.max() == 0ns);
}

TEST_CASE("what lies between two durations is counted once by whatever divides the line", "[base]") {
  Histogram histogram;
  for (int64_t ns = 1; ns < 100'000; ns = ns * 5 / 4 + 1) histogram.add(Duration(ns), 3);
  uint64_t sum = 0;
  for (int64_t from = 0, to = 1; from < 1'000'000; from = std::exchange(to, to * 2))
    sum += histogram.count_between(Duration(from), Duration(to));
  CHECK(sum == histogram.count());
  CHECK(histogram.count_between(0ns, 1ns) == 0);
  CHECK(histogram.count_between(1ns, 2ns) == 3);
}
