// Is a history linearizable? (Herlihy and Wing, 1990.)
//
// By locality a history is linearizable iff the operations on each key are, so keys are checked one by one: by sorting
// when replies tell revisions that fit (by_revision.h), in linear time when every value is written once
// (unique_writes.h), else by a budgeted search (search.h). A verdict of "linearizable" comes with the order that proves
// it; one of "violation" with a small part of the history that is impossible by itself (reduce.h). Running out of
// budget is a verdict of its own and never a good one.
#pragma once

#include <string>
#include <vector>

#include "sim/check/reduce.h"
#include "sim/check/search.h"

namespace mneme::check {

struct Violation {
  KeyId key = 0;
  OpId failing = 0;               // the first return, in the order of events, that no order of the operations explains
  Core core;                      // a small impossible part of the history, `failing` included
  std::vector<ValueId> possible;  // what the key may have held while `failing` was open; empty: not known
};

struct Verdict {
  Answer answer = Answer::kInconclusive;
  // kLinearizable: for each key in turn, an order of its operations. See replay().
  std::vector<OpId> order;
  Violation violation;     // kViolation: of the first key in order of ids that has one
  KeyId inconclusive = 0;  // kInconclusive: a key on which the budget ran out
  uint64_t steps = 0;      // of searches; 0 when no key needed one
  uint64_t memory = 0;     // of the largest search, bytes
  size_t keys = 0;         // that have operations
};

struct CheckOptions {
  Budget budget;
  bool by_revision = true;
  bool linear_path = true;
  bool explain = true;  // false: a violation names its key only
  Method method = Method::kBoth;
};

Verdict check(const History& history, const CheckOptions& options = {});

// Whether `order` proves the history linearizable: every operation that happened is in it once, none that did not, no
// operation returned before an earlier one was called, and each reply is the one that its key's state gives.
bool replay(const History& history, const std::vector<OpId>& order);

}  // namespace mneme::check
