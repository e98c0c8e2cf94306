// A replica for raft's tests: a Raft, the disk that outlives it, and a state machine that is a hash of all it applied.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/hash.h"
#include "core/raft/invariants.h"
#include "core/raft/raft.h"

namespace mneme::raft {

// What has reached the disk. Readys are stored in order; a checkpoint of the state machine comes and goes with `base`.
struct TestDisk {
  HardState hard;
  LogPosition base;
  Configuration configuration;  // the checkpoint's at `base`; without voters: the group's first
  std::vector<Entry> entries;
  bool suspect = false;
  bool unsaved = false;  // nothing can be sent of what is at `base`

  LogIndex last() const { return LogIndex(base.index.value + entries.size()); }
  bool holds(LogPosition position) const {
    if (position.index <= base.index || position.index > last()) return position == base;
    return entries[position.index.value - base.index.value - 1].term == position.term;
  }
  // False: the Ready does not fit what is there.
  bool store(const Ready& ready) {
    if (ready.hard_state) hard = *ready.hard_state;
    if (ready.snapshot) {
      base = *ready.snapshot;
      configuration = ready.configuration;
      entries.clear();
    }
    if (!ready.entries.empty()) {
      LogIndex first = ready.entries.front().index;
      if (first <= base.index || first > last().next()) return false;
      entries.resize(first.value - base.index.value - 1);
      entries.insert(entries.end(), ready.entries.begin(), ready.entries.end());
    }
    if (ready.clear_suspect) suspect = false;
    return true;
  }
  void compact(LogPosition position, Configuration there) {
    if (position.index <= base.index) return;
    configuration = std::move(there);
    size_t gone = position.index.value - base.index.value;
    entries.erase(entries.begin(), entries.begin() + static_cast<ptrdiff_t>(std::min(gone, entries.size())));
    base = position;
  }
  // Loses up to `count` entries at the end.
  void lose(size_t count) { entries.resize(entries.size() - std::min(count, entries.size())); }
  Durable durable() const {
    return {.hard_state = hard,
            .snapshot = base,
            .entries = entries,
            .suspect = suspect,
            .configuration = configuration,
            .unsaved = unsaved};
  }
};

struct TestReplica {
  Config config;
  TestDisk disk;
  std::unique_ptr<Raft> raft;  // null: down
  View view;                   // after the step before
  std::deque<Ready> unstored;  // taken, not yet durable
  Instant now;

  void start(Chance& chance, Probes& probes) {
    unstored.clear();
    raft = std::make_unique<Raft>(config, disk.durable(), now, chance, probes);
    view = view_of(*raft);
  }
  void crash() {
    raft.reset();
    unstored.clear();
  }
  std::optional<std::string> check() {
    const View now = view_of(*raft);
    if (auto violation = check_state(*raft, now)) return violation;
    if (auto violation = check_transition(view, *raft, now)) return violation;
    view = now;
    return std::nullopt;
  }
};

}  // namespace mneme::raft
