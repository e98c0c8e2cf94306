// Scenarios: what a run is made of, as TOML. The built-in ones are files of the same kind (sim/scenarios/library),
// compiled in.
//
//   what = "one line about it"
//   extends = "kv"                 the built-in scenario whose options hold where this file says nothing; optional
//   [cluster]                      then options by section (mneme scenarios --options): cluster, workload, network,
//   disk, nodes = 5                      schedule, faults, properties heartbeat = "100 ms"           a number is in the
//   option's own unit; text may name another, or a name of a value segment = ["64 KiB", "1 MiB"]  drawn from this
//   range, for each seed
//
// What is left open is drawn as the option's table says.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "sim/scenarios/options.h"

namespace mneme::cmd {

struct BuiltInScenario {
  std::string_view name;
  std::string_view toml;
};
// By name, the default first.
std::span<const BuiltInScenario> built_in_scenarios();

struct Scenario {
  std::string what;
  sim::Options options;
};

// The built-in scenario of that name, else the file. kInvalid: neither, or a mistake in it: the sentence names file,
// line and key, and says what is allowed.
Result<Scenario> load_scenario(const std::string& name_or_path);

}  // namespace mneme::cmd
