// The configurations of the log that is kept: of its base, and of every entry of kind kConfig after it. The newest is
// in force, whether it is committed or not (Raft section 6).
#pragma once

#include <vector>

#include "core/raft/configuration.h"
#include "core/raft/types.h"

namespace mneme::raft {

class Memberships {
 public:
  explicit Memberships(LogIndex base, Configuration configuration) { restart_at(base, std::move(configuration)); }

  const Configuration& now() const { return since_.back().configuration; }
  // Where the one in force stands, which may be before the base; 0: in no entry.
  LogIndex index() const { return since_.back().index; }
  // The one in force when the log ended at `index`, which is not before the base.
  const Configuration& at(LogIndex index) const;

  void append(LogIndex index, Configuration configuration) { since_.push_back({index, std::move(configuration)}); }
  // Each follows the log's operation of that name. True: another one is in force now.
  bool truncate_from(LogIndex index);
  void compact(LogIndex index);
  void restart_at(LogIndex base, Configuration configuration);

 private:
  struct Since {
    LogIndex index;
    Configuration configuration;
  };
  std::vector<Since> since_;  // few, ascending; the first is the base's, or that of an earlier entry
};

}  // namespace mneme::raft
