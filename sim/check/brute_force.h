// The plain second opinion: tries orders one after the other, on strings, with a model of its own. It remembers where
// it has failed, so that it fails there once.
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
// operations. Adds to `steps` how often it tried to go on from somewhere.
std::optional<bool> linearizable_by_brute_force(std::span<const Operation> operations, const Interner& values,
                                                std::span<const ValueId> initial, bool any_state = false,
                                                uint64_t* steps = nullptr);

}  // namespace mneme::check
