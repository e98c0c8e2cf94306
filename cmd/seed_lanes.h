// Runs many seeds, each in a process of its own (seed_process.h).
//
// A lane is a process that runs its share of the seeds one after another. For --verify there is a second kind of lane,
// executed afresh: another address-space layout, and an allocator that poisons what it gives out and takes back, so
// that the two runs of a seed share neither layout nor garbage. Branches are forked in the first and replayed from the
// beginning in the second.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cmd/seed_process.h"

namespace mneme::cmd {

struct LanePlan {
  sim::Recipe recipe;  // its seed is set for each run
  uint64_t first = 1;
  uint64_t last = 200;
  unsigned lanes = 1;   // processes at once, of each kind
  uint64_t energy = 0;  // branches of a seed, at most
  bool verify = false;
  bool white_box = true;
  bool black_box = true;
  std::vector<std::string> worker_arguments;  // how to say this recipe to a fresh process
};

// Calls `take` with every outcome, a seed's own before those of its branches and otherwise in no particular order,
// until all seeds are done or it returns false. `tick` is called a few times a second; it returns false to stop. False
// when a lane itself failed.
bool run_lanes(const LanePlan& plan, const std::function<bool(SeedOutcome)>& take, const std::function<bool()>& tick);

// The main loop of a lane; writes outcomes to `fd`.
void lane_main(const LanePlan& plan, unsigned lane, bool second, int fd);

}  // namespace mneme::cmd
