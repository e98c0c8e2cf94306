// Everything that is not a function of its inputs, passed explicitly. Core has no other source of time, chance, I/O or
// concurrency; net and disk implement these interfaces for real, sim simulates them, and nothing can ask which.
#pragma once

#include "core/env/clock.h"
#include "core/env/disk.h"
#include "core/env/network.h"
#include "core/env/random.h"
#include "core/env/trace.h"
#include "core/fiber/fiber.h"

namespace mneme {

// Of one reactor. The referenced objects outlive everything that was given the Env.
struct Env {
  fiber::Scheduler& scheduler;
  env::Clock& clock;
  env::Network& network;
  env::Disk& disk;
  env::Random& random;
  env::Trace& trace;
};

}  // namespace mneme
