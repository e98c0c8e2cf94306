#include "sim/schedule.h"

#include <algorithm>

#include "core/base/check.h"

namespace mneme::sim {

Schedule::Schedule(const Fate& fate, const ScheduleOptions& options) : fate_(fate), options_(options) {
  CHECK(options_.stretch > 0);
  CHECK(options_.strategy != Strategy::kPct || options_.depth > 0);
}

size_t Schedule::pick(std::span<const Task> line) {
  CHECK(!line.empty());
  switch (options_.strategy) {
    case Strategy::kFifo: return 0;
    case Strategy::kRandom: return pick_by_rank(line);
    case Strategy::kPct: return pick_by_priority(line);
    case Strategy::kDelayBounded: return pick_with_delays(line);
  }
  return 0;
}

// Counts a pick, which begins a stretch when the one before is over.
void Schedule::count() {
  if (stretch_ > 0 && picks_ < options_.stretch) {
    ++picks_;
    return;
  }
  ++stretch_;
  picks_ = 1;
  points_.clear();
  lowered_.clear();
  delayed_.clear();
  if (options_.strategy == Strategy::kPct)
    for (uint64_t i = 1; i < options_.depth; ++i)
      points_.push_back(1 + Fate::scale(fate_.draw(Choice::kSchedulePoint, stretch_, i), options_.stretch));
  else  // 0: a delay that is not made, so that there may be fewer than the budget
    for (uint64_t i = 1; i <= options_.depth; ++i)
      points_.push_back(Fate::scale(fate_.draw(Choice::kSchedulePoint, stretch_, i), options_.stretch + 1));
}

size_t Schedule::pick_by_rank(std::span<const Task> line) const {
  if (line.size() == 1) return 0;
  const uint64_t key = fate_.draw(Choice::kScheduleRank);
  return highest(line, [key](const Task& task) { return mix(fold(fold(key, task.name), task.turn)); });
}

size_t Schedule::pick_by_priority(std::span<const Task> line) {
  if (line.size() == 1) return 0;
  count();
  const uint64_t key = fate_.draw(Choice::kSchedulePriority, stretch_);
  auto priority = [this, key](const Task& task) -> uint64_t {
    for (size_t i = lowered_.size(); i-- > 0;)
      if (lowered_[i].name == task.name) return lowered_[i].to;
    return uint64_t{1} << 63 | mix(fold(key, task.name));
  };
  size_t best = highest(line, priority);
  for (size_t i = 0; i < points_.size(); ++i) {
    if (points_[i] != picks_) continue;
    lowered_.push_back({line[best].name, i});
    best = highest(line, priority);
  }
  return best;
}

size_t Schedule::pick_with_delays(std::span<const Task> line) {
  if (line.size() > 1) {
    count();
    for (uint64_t point : points_) {
      if (point != picks_) continue;
      const Task first = line[first_undelayed(line)];
      std::erase(delayed_, first);
      delayed_.push_back(first);
    }
  }
  const size_t next = first_undelayed(line);
  std::erase(delayed_, line[next]);
  return next;
}

// Those that were delayed stand behind all others, in the order of their delays.
size_t Schedule::first_undelayed(std::span<const Task> line) const {
  if (delayed_.empty()) return 0;
  for (size_t i = 0; i < line.size(); ++i)
    if (std::find(delayed_.begin(), delayed_.end(), line[i]) == delayed_.end()) return i;
  for (const Task& task : delayed_)
    if (auto found = std::find(line.begin(), line.end(), task); found != line.end())
      return static_cast<size_t>(found - line.begin());
  return 0;
}

template <class Value>
size_t Schedule::highest(std::span<const Task> line, Value&& value) {
  size_t best = 0;
  uint64_t most = value(line[0]);
  for (size_t i = 1; i < line.size(); ++i)
    if (uint64_t v = value(line[i]); v > most) {
      most = v;
      best = i;
    }
  return best;
}

}  // namespace mneme::sim
