// The linear-time path: one key's history in which every value is written at most once.
#pragma once

#include <optional>
#include <vector>

#include "sim/check/prepare.h"

namespace mneme::check {

// Scratch space, reused from key to key: for each value the cluster it belongs to.
struct UniqueScratch {
  std::vector<uint32_t> cluster_of;
};

enum class UniqueAnswer : uint8_t { kNotApplicable, kLinearizable, kViolation };

// As if the history ended right after `until`: operations called later are not there, those that return later are of
// unknown outcome. On kLinearizable `order` is a linearization.
UniqueAnswer check_unique_writes(const KeyView& key, Position until, UniqueScratch& scratch, std::vector<OpId>& order);

}  // namespace mneme::check
