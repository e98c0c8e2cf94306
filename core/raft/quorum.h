// When enough voters agree on how far they have come: a majority of replicas in good standing, or every voter.
//
// A suspect replica (raft.h) has forgotten some of what it promised, so its word adds nothing to a majority: any two
// majorities must meet in a replica that remembers. What a leader has stored with *all* voters, and whom all voters
// follow, needs no memory. Elections are not decided here: in those a suspect has no vote at all.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "core/base/check.h"
#include "core/base/limits.h"

namespace mneme::raft {

constexpr size_t majority_of(size_t voters) { return voters / 2 + 1; }

// Collects, voter by voter, a number up to which each agrees (a log index, a read round), and finds how far all
// together have agreed. A voter that is not added agrees to nothing.
class Agreement {
 public:
  // `sure`: said in good standing; `any`: said at all, at least `sure`.
  void add(uint64_t sure, uint64_t any) {
    CHECK(count_ < sure_.size());
    size_t at = count_++;  // kept sorted, largest first
    for (; at > 0 && sure_[at - 1] < sure; --at) sure_[at] = sure_[at - 1];
    sure_[at] = sure;
    lowest_ = std::min(lowest_, any);
  }
  uint64_t reached(size_t voters) const {
    uint64_t by_majority = count_ >= majority_of(voters) ? sure_[majority_of(voters) - 1] : 0;
    uint64_t by_all = count_ == voters ? lowest_ : 0;
    return std::max(by_majority, by_all);
  }

 private:
  std::array<uint64_t, limits::kMaxNodes> sure_;
  size_t count_ = 0;
  uint64_t lowest_ = UINT64_MAX;
};

// Counts the answers to one candidacy.
struct Tally {
  size_t voters = 0;
  size_t granted = 0;
  size_t refused = 0;

  bool won() const { return granted >= majority_of(voters); }
  bool lost() const { return voters - refused < majority_of(voters); }
};

}  // namespace mneme::raft
