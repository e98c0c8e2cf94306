// The part of one replica's Raft log that is kept in memory, and how much of it is durable.
//
// A window (base, last] without gaps: `base` is the position that a checkpoint covers, or {0, 0}. Entries are handed
// out for storing in numbered batches; a batch may still be on its way to the disk when a later one replaces its tail,
// so what a completed batch makes durable is remembered per batch and cut back whenever the log is.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "core/raft/types.h"

namespace mneme::raft {

class Log {
 public:
  // All of `entries` is durable; they follow `base` without a gap.
  Log(LogPosition base, std::vector<Entry> entries);

  LogPosition base() const { return base_; }
  LogIndex first() const { return base_.index.next(); }
  LogIndex last() const { return last_.index; }
  LogPosition last_position() const { return last_; }
  // Of base and of every entry kept; otherwise nullopt.
  std::optional<Term> term_at(LogIndex index) const {
    if (index < base_.index || index > last_.index) return std::nullopt;
    for (size_t i = runs_.size(); i-- > 0;)
      if (runs_[i].index <= index) return runs_[i].term;
    return base_.term;
  }
  bool holds(LogPosition position) const { return term_at(position.index) == position.term; }
  const Entry& at(LogIndex index) const;
  // The last position at or before `index` whose term is at most `term`; base if there is none.
  LogPosition last_with_term_at_most(LogIndex index, Term term) const;

  void append(Entry entry);
  // Drops entries from `index` on.
  void truncate_from(LogIndex index);
  // Forgets everything and starts again after `position`. Of the old log only what is up to `agreed` still counts as
  // durable until the next batch is stored.
  void restart_at(LogPosition position, LogIndex agreed);
  // Forgets entries up to `index`, which becomes the base.
  void compact(LogIndex index);

  bool has_unstored() const { return handed_out_ < last() || restarted_; }
  // What is to be stored next, as batch `number`; numbers rise.
  std::vector<Entry> hand_out(uint64_t number);
  // Batches up to `number` are durable.
  void stored(uint64_t number);
  // Everything up to here, as the log reads now, is durable.
  LogIndex persisted() const { return persisted_; }

 private:
  struct Batch {
    uint64_t number;
    LogIndex upto;  // the log as this batch left it and as it reads now agree up to here
  };
  void note_last(const Entry& entry);
  void agree_only_upto(LogIndex index);

  LogPosition base_;
  LogPosition last_;  // of the last entry; without one, base_
  std::vector<LogPosition>
      runs_;  // the first entry of each term but base_'s: few, where entries are far apart in memory
  std::deque<Entry> entries_;
  std::vector<Batch> batches_;
  LogIndex handed_out_;
  LogIndex persisted_;
  bool restarted_ = false;  // and no batch has said so yet
};

}  // namespace mneme::raft
