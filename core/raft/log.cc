#include "core/raft/log.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "core/base/check.h"

namespace mneme::raft {

Log::Log(LogPosition base, std::vector<Entry> entries)
    : base_(base),
      last_(base),
      entries_(std::make_move_iterator(entries.begin()), std::make_move_iterator(entries.end())) {
  for (const Entry& entry : entries_) {
    CHECK(entry.index == last_.index.next());
    CHECK(entry.term >= last_.term);
    note_last(entry);
  }
  handed_out_ = last();
  persisted_ = last();
}

const Entry& Log::at(LogIndex index) const {
  CHECK(index > base_.index);
  CHECK(index <= last());
  return entries_[index.value - base_.index.value - 1];
}

LogPosition Log::last_with_term_at_most(LogIndex index, Term term) const {
  if (index <= base_.index) return base_;
  // Terms never fall along a log, so the place can be found by halving.
  auto end = entries_.begin() + static_cast<ptrdiff_t>(std::min(index, last()).value - base_.index.value);
  auto after = std::partition_point(entries_.begin(), end, [&](const Entry& entry) { return entry.term <= term; });
  if (after == entries_.begin()) return base_;
  return {std::prev(after)->index, std::prev(after)->term};
}

void Log::note_last(const Entry& entry) {
  if (entry.term != last_.term) runs_.push_back({entry.index, entry.term});
  last_ = {entry.index, entry.term};
}

void Log::append(Entry entry) {
  CHECK(entry.index == last().next());
  note_last(entry);
  entries_.push_back(std::move(entry));
}

void Log::agree_only_upto(LogIndex index) {
  handed_out_ = std::min(handed_out_, index);
  persisted_ = std::min(persisted_, index);
  for (Batch& batch : batches_) batch.upto = std::min(batch.upto, index);
}

void Log::truncate_from(LogIndex index) {
  CHECK(index > base_.index);
  CHECK(index <= last());
  entries_.resize(index.value - base_.index.value - 1);
  while (!runs_.empty() && runs_.back().index >= index) runs_.pop_back();
  last_ = {index.prev(), runs_.empty() ? base_.term : runs_.back().term};
  agree_only_upto(index.prev());
}

void Log::restart_at(LogPosition position, LogIndex agreed) {
  agree_only_upto(agreed);
  entries_.clear();
  runs_.clear();
  base_ = last_ = position;
  handed_out_ = position.index;
  restarted_ = true;
}

void Log::compact(LogIndex index) {
  CHECK(index <= last());
  CHECK(index <= handed_out_);
  if (index <= base_.index) return;
  auto gone = static_cast<ptrdiff_t>(index.value - base_.index.value);
  base_ = {index, *term_at(index)};
  std::erase_if(runs_, [&](const LogPosition& run) { return run.index <= index; });
  entries_.erase(entries_.begin(), entries_.begin() + gone);
}

std::vector<Entry> Log::hand_out(uint64_t number) {
  std::vector<Entry> entries;
  if (!has_unstored()) return entries;
  entries.reserve(last().value - handed_out_.value);
  for (LogIndex i = handed_out_.next(); i <= last(); i = i.next()) entries.push_back(at(i));
  batches_.push_back({number, last()});
  handed_out_ = last();
  restarted_ = false;
  return entries;
}

void Log::stored(uint64_t number) {
  size_t done = 0;
  for (; done < batches_.size() && batches_[done].number <= number; ++done)
    persisted_ = std::max(persisted_, batches_[done].upto);
  batches_.erase(batches_.begin(), batches_.begin() + static_cast<ptrdiff_t>(done));
}

}  // namespace mneme::raft
