// One run of a scenario: a recipe in, a verdict with its evidence out.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/base/chance.h"
#include "sim/scenarios/branching.h"
#include "sim/scenarios/options.h"
#include "sim/scenarios/plan.h"
#include "sim/world.h"

namespace mneme::sim {

// Enough to do the same run again, with the same build.
struct Recipe {
  std::string scenario = "kv";
  uint64_t seed = 1;
  Options options;  // as given; drawn ones are open
  Removals removals;
  Branches branches;
};

enum class RunVerdict : uint8_t { kPassed = 0, kFailed = 1, kInconclusive = 2 };

struct RunResult {
  RunVerdict verdict = RunVerdict::kPassed;
  std::string property;  // violated, or undecided
  std::string summary;   // one line
  std::string details;   // several, for people: the operations involved
  uint64_t events = 0;
  uint64_t operations = 0;  // whose outcome went into the checked history
  uint64_t unknown = 0;     // of those
  uint64_t faults = 0;
  int64_t virtual_ns = 0;
  uint64_t trace_hash = 0;
  std::array<uint64_t, kProbeCount> probes{};
};

struct RunHooks {
  Recorder* recorder = nullptr;
  std::function<void(uint64_t number, uint64_t hash)> after_event;
  // Called as an event begins, with the probes that the run has reached for the first time before it, while faults
  // strike and nothing was found yet. Returns the way in which the run branches here; 0: not at all. May fork the
  // process, so that it does both.
  std::function<uint64_t(uint64_t event, std::span<const Probe> first)> branch;
  WorldTime until = INT64_MAX;  // stop observing and end the run then, without a verdict
  bool black_box = true;        // the linearizability checker
  bool white_box = true;        // the oracles that watch replicas
};

// kInvalid: the options contradict each other.
Result<RunResult> run_kv(const Recipe& recipe, const RunHooks& hooks);

}  // namespace mneme::sim
