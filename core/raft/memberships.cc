#include "core/raft/memberships.h"

#include <utility>

#include "core/base/check.h"

namespace mneme::raft {

const Configuration& Memberships::at(LogIndex index) const {
  size_t i = since_.size() - 1;
  while (i > 0 && since_[i].index > index) --i;
  return since_[i].configuration;
}

bool Memberships::truncate_from(LogIndex index) {
  const size_t before = since_.size();
  while (since_.back().index >= index) {
    CHECK(since_.size() > 1);
    since_.pop_back();
  }
  return since_.size() != before;
}

void Memberships::compact(LogIndex index) {
  size_t covered = 0;
  while (covered + 1 < since_.size() && since_[covered + 1].index <= index) ++covered;
  since_.erase(since_.begin(), since_.begin() + static_cast<ptrdiff_t>(covered));
}

void Memberships::restart_at(LogIndex base, Configuration configuration) {
  since_.clear();
  since_.push_back({base, std::move(configuration)});
}

}  // namespace mneme::raft
