// Runs many seeds, each in a process of its own, forked from a small warm one: no state leaks from seed to seed, and a
// seed that crashes or trips a sanitizer is one failed seed.
//
// A lane is a process that runs its share of the seeds one after another. For --verify there is a second kind of lane,
// executed afresh: another address-space layout, and an allocator that poisons what it gives out and takes back, so
// that the two runs of a seed share neither layout nor garbage.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "sim/scenarios/run.h"

namespace mneme::cmd {

struct SeedOutcome {
  uint64_t seed = 0;
  bool second = false;   // of --verify's two runs
  bool crashed = false;  // by a signal or a failed CHECK; `result` says how
  sim::RunResult result;
  int64_t cpu_us = 0;
  int64_t peak_rss_kib = 0;  // resident memory, with what the process was forked with
};

// Runs one seed in a child process of the caller.
SeedOutcome run_in_child(const sim::Recipe& recipe, const sim::RunHooks& hooks);

struct LanePlan {
  sim::Recipe recipe;  // its seed is set for each run
  uint64_t first = 1;
  uint64_t last = 200;
  unsigned lanes = 1;  // processes at once, of each kind
  bool verify = false;
  bool white_box = true;
  bool black_box = true;
  std::vector<std::string> worker_arguments;  // how to say this recipe to a fresh process
};

// Calls `take` with every outcome, in no particular order, until all seeds are done or it returns false. `tick` is
// called a few times a second; it returns false to stop. False when a lane itself failed.
bool run_lanes(const LanePlan& plan, const std::function<bool(SeedOutcome)>& take, const std::function<bool()>& tick);

// The main loop of a lane; writes outcomes to `fd`.
void lane_main(const LanePlan& plan, unsigned lane, bool second, int fd);

std::string encode(const SeedOutcome& outcome);
bool decode(std::string_view bytes, SeedOutcome& outcome);

}  // namespace mneme::cmd
