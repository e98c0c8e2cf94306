// Runs one recipe in a process of its own, forked from the caller: no state leaks from run to run, and one that crashes
// or trips a sanitizer is one failed run.
//
// A run may branch (sim/scenarios/branching.h): where it does, its process forks and waits for the other, so that a run
// and all that branches from it take one processor. A process whose parent dies, dies.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sim/scenarios/run.h"

namespace mneme::cmd {

struct SeedOutcome {
  uint64_t seed = 0;
  sim::Branches branches;  // none: the seed's own run
  bool second = false;     // of --verify's two runs
  bool crashed = false;    // by a signal or a failed CHECK; `result` says how
  sim::RunResult result;
  int64_t cpu_us = 0;        // of a branch: from where it began
  int64_t peak_rss_kib = 0;  // resident memory, with what the process was forked with
};

// How branches come to be: forked where they leave the run, or from the beginning by their recipes, which must give the
// same.
enum class Branching : uint8_t { kFork, kReplay };

SeedOutcome run_in_child(const sim::Recipe& recipe, const sim::RunHooks& hooks);
// The same, with up to `energy` branches. The recipe's own outcome comes first.
std::vector<SeedOutcome> run_in_children(const sim::Recipe& recipe, const sim::RunHooks& hooks, uint64_t energy,
                                         Branching branching);

// As they go through pipes: frames, each with its length before it.
std::string encode(const SeedOutcome& outcome);
bool decode(std::string_view frame, SeedOutcome& outcome);  // without the length
// Ends the process when nobody reads any more.
void write_all(int fd, std::string_view bytes);

}  // namespace mneme::cmd
