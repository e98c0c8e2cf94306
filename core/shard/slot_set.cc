#include "core/shard/slot_set.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/check.h"

namespace mneme::shard {

void SlotSet::add(SlotRange range) {
  CHECK(range.begin <= range.end);
  CHECK(range.end <= kSlots);
  if (range.begin == range.end) return;
  // All that overlap or touch become one.
  auto first = std::lower_bound(ranges_.begin(), ranges_.end(), range.begin,
                                [](const SlotRange& r, uint16_t begin) { return r.end < begin; });
  auto last = first;
  for (; last != ranges_.end() && last->begin <= range.end; ++last) {
    range.begin = std::min(range.begin, last->begin);
    range.end = std::max(range.end, last->end);
  }
  ranges_.insert(ranges_.erase(first, last), range);
}

void SlotSet::remove(SlotRange range) {
  CHECK(range.begin <= range.end);
  CHECK(range.end <= kSlots);
  std::vector<SlotRange> kept;
  kept.reserve(ranges_.size() + 1);
  for (SlotRange r : ranges_) {
    SlotRange before{r.begin, std::min(r.end, range.begin)};
    SlotRange after{std::max(r.begin, range.end), r.end};
    if (range.begin == range.end || r.end <= range.begin || r.begin >= range.end) {
      kept.push_back(r);
      continue;
    }
    if (before.begin < before.end) kept.push_back(before);
    if (after.begin < after.end) kept.push_back(after);
  }
  ranges_ = std::move(kept);
}

void SlotSet::add(const SlotSet& other) {
  const std::vector<SlotRange> ranges = other.ranges_;  // `other` may be this set
  for (SlotRange range : ranges) add(range);
}

void SlotSet::remove(const SlotSet& other) {
  const std::vector<SlotRange> ranges = other.ranges_;
  for (SlotRange range : ranges) remove(range);
}

SlotSet SlotSet::split_at(uint16_t slot) {
  SlotSet upper = *this;
  upper.remove({0, slot});
  remove({slot, kSlots});
  return upper;
}

bool SlotSet::contains(uint16_t slot) const {
  auto after = std::upper_bound(ranges_.begin(), ranges_.end(), slot,
                                [](uint16_t s, const SlotRange& range) { return s < range.begin; });
  return after != ranges_.begin() && slot < std::prev(after)->end;
}

size_t SlotSet::size() const {
  size_t size = 0;
  for (SlotRange range : ranges_) size += range.size();
  return size;
}

uint16_t SlotSet::nth(size_t n) const {
  for (SlotRange range : ranges_) {
    if (n < range.size()) return static_cast<uint16_t>(range.begin + n);
    n -= range.size();
  }
  CHECK(!"fewer slots than that");
  return kSlots;
}

std::string SlotSet::text() const {
  if (ranges_.empty()) return "none";
  std::string text;
  for (SlotRange range : ranges_) {
    if (!text.empty()) text += ',';
    text += range.size() == 1 ? fmt::format("{}", range.begin) : fmt::format("{}-{}", range.begin, range.end - 1);
  }
  return text;
}

void SlotSet::encode(std::string& out) const {
  Writer w(out);
  w.u16(static_cast<uint16_t>(ranges_.size()));
  for (SlotRange range : ranges_) {
    w.u16(range.begin);
    w.u16(range.end);
  }
}

Result<SlotSet> SlotSet::decode(Reader& in) {
  SlotSet set;
  uint16_t count = in.u16();
  for (uint16_t i = 0; i < count && in.ok(); ++i) {
    SlotRange range;
    range.begin = in.u16();
    range.end = in.u16();
    bool first = set.ranges_.empty();
    if (range.begin >= range.end || range.end > kSlots || (!first && range.begin <= set.ranges_.back().end))
      return fail(ErrorCode::kCorrupt, fmt::format("range {} of a set of slots is out of order", i));
    set.ranges_.push_back(range);
  }
  if (!in.ok()) return fail(ErrorCode::kCorrupt, "a set of slots ends within its ranges");
  return set;
}

}  // namespace mneme::shard
