// The plain second opinion: tries orders one after the other, on strings, with a model of its own.
//
// It shares no code with the checkers or with step(): where both are wrong they are wrong in different ways. Good for
// about ten operations.
#pragma once

#include <optional>
#include <span>

#include "sim/check/history.h"

namespace mneme::check {

inline constexpr size_t kBruteForceOperations = 12;

// Of one key, which at first held one of `initial` or, with any_state, anything. Nothing when there are too many
// operations.
std::optional<bool> linearizable_by_brute_force(std::span<const Operation> operations, const Interner& values,
                                                std::span<const ValueId> initial, bool any_state = false);

}  // namespace mneme::check
