// Branching futures: runs that share their beginning, up to a rare moment, and go on in different ways.
//
// A moment is rare when the run reaches a probe for the first time that few runs of `kv` reach at all. How many do was
// counted once and stands in a table, so that what branches depends on nothing but the run itself.
#pragma once

#include <compare>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/chance.h"
#include "core/base/error.h"

namespace mneme::sim {

// Where a run leaves the one that it shares its beginning with: as event number `event` begins, all that is not decided
// yet, faults included, is drawn anew, in the nth way of those that this event has. Written "event.nth". Events are but
// counted, so what is left out of the plan before a branch moves it.
struct Branch {
  uint64_t event = 0;  // from 1
  uint64_t nth = 0;    // from 1
  auto operator<=>(const Branch&) const = default;
};
using Branches = std::vector<Branch>;  // by event

// "81234.2", blank-separated.
std::string to_text(const Branches& branches);
// Adds the branch to those. kInvalid: it is not written so, or not later than those.
Result<void> add_branch(Branches& branches, std::string_view text);

// The energy of one run and of all that branches from it.
class Energy {
 public:
  explicit Energy(uint64_t branches) : left_(branches) {}
  // How many branches this moment is worth, as far as the energy goes; they are paid for.
  uint64_t spend(std::span<const Probe> reached_first);

 private:
  uint64_t left_;
};

}  // namespace mneme::sim
