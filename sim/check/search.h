// Is there an order of one key's operations that respects their times and their replies? By search.
//
// Both searches walk the same graph. Its nodes are configurations: the state, the operations that may still be chosen
// (A) and those that still must be placed (O). A layer ends with one return, and an operation is chosen no earlier than
// some return forces it (Lowe, "Testing for linearizability", 2017: just-in-time linearization). What keeps the graph
// small:
//
//  - *Eager*: what is possible now without changing the state is placed now. A read never comes to be placed later than
//    it could; a write of the value that is there is free to be forgotten.
//  - *Hidden writes*: choosing an operation that overwrites frees every open operation that is possible in any state
//    from having to be placed: it could have come just before, unseen. It may still be chosen, for its value.
//  - So nothing but an overwriting operation is chosen right after one that gained nothing (placed no observer, was not
//    itself bound to a state), and nothing is chosen that nobody open could then build on.
//  - Operations of unknown outcome are like freed ones, without a return: in A and not in O. When nobody open or to
//  come
//    can make the state that one needs, it is forgotten.
//  - *Symmetry*: of operations that differ in their times only, the one that returns first is chosen first.
//  - *Dominance*: at a return, a configuration is dropped when another with the same state may choose at least as much
//    (A) and must place at most as much (O).
//
// The depth-first search keeps all nodes that it met, finds a linearization of an easy history in a time linear in its
// length, and may be lost for good in a hard one. The frontier goes from return to return with all configurations that
// the history so far allows: its memory follows concurrency, not length. They take turns, with growing turns, within
// one budget.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "sim/check/prepare.h"

namespace mneme::check {

struct Budget {
  uint64_t steps = 400'000'000;        // choices considered, per key
  uint64_t memory_bytes = 1ull << 30;  // per key
};

enum class Answer : uint8_t { kLinearizable, kViolation, kInconclusive };

struct Found {
  Answer answer = Answer::kInconclusive;
  // kLinearizable, from one initial state: every operation that happened, and those of unknown outcome that did.
  std::vector<OpId> order;
  OpId failing = 0;             // kViolation: no order explains the history up to here, knowing the replies still open
  std::vector<ValueId> states;  // kViolation, from the frontier: what the key may have held while `failing` was open
  // By kTrace: for each return, in order, what the key may have held right after the return before it.
  std::vector<std::vector<ValueId>> trace;
  uint64_t steps = 0;
  uint64_t memory = 0;  // bytes at the end, which is near the peak
};

enum class Method : uint8_t { kBoth, kDepthFirst, kFrontier, kTrace };  // kTrace: the frontier, recorded

Found search(Prepared& prepared, const Budget& budget, Method method = Method::kBoth);

}  // namespace mneme::check
