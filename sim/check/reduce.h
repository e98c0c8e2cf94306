// From an impossible history to a part of it that a person can read.
//
// Every step only weakens what is demanded, so whatever is impossible in the part is so in the whole:
//  - what was called after the failing return is left out, what returned later has an unknown outcome;
//  - a window: operations that returned before some point are left out, those around it that write may or may not have
//    happened, and at that point the key may have held anything, or what it can have held by then (Trace);
//  - observers are left out, writers that happened become ones of unknown outcome;
//  - operations of unknown outcome are left out when nobody left depends on what they write.
#pragma once

#include <vector>

#include "sim/check/search.h"

namespace mneme::check {

struct Core {
  // In order of calls. Outcomes and returns may be weaker than in the history.
  std::vector<Operation> operations;
  std::vector<OpId> ids;        // the same, in the history
  std::vector<ValueId> from;    // what the key may have held before them
  bool from_any_state = false;  // anything: `from` is empty
  bool from_start = true;       // `from` is what it held at the very first
  bool confirmed = false;       // small enough, and found impossible, by brute force
  uint64_t steps = 0;           // of searches and of brute force, that it took
};

// What the key can have held right after each return of a history; empty where that could not be told.
struct Trace {
  std::vector<Position> returns;
  std::vector<std::vector<ValueId>> states;
};

// `key` must be impossible up to and including the return of `failing`.
Core reduce(const KeyView& key, OpId failing, const Trace& trace, const Budget& budget);

// Every state that operations on a key can tell apart, for a start in any state. Empty: that cannot be told, because
// outcomes depend on lengths or sums of unknown values.
std::vector<ValueId> all_states(std::span<const Operation> operations, const Interner& values);

}  // namespace mneme::check
