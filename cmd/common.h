// What the sub-commands share: exit codes, how they are registered, how seeds are written, the terminal.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "sim/scenarios/run.h"

namespace mneme::cmd {

// The contract with scripts. Several at once: kHarness before kDiverged before kViolated before kInconclusive.
enum Exit : int {
  kOk = 0,
  kViolated = 1,
  kUsage = 2,
  kDiverged = 3,
  kInconclusive = 4,
  kNotReproduced = 5,
  kUnavailable = 69,
  kHarness = 70,
  kIo = 74,
  kConfiguration = 78,
  kInterrupted = 130,
};

// A sub-command adds itself to `app` and sets `run` when it is the one that was called.
using Run = std::function<int()>;
void add_sim(CLI::App& app, Run& run);
void add_replay(CLI::App& app, Run& run);
void add_check(CLI::App& app, Run& run);
void add_scenarios(CLI::App& app, Run& run);
void add_node(CLI::App& app, Run& run);
void add_client(CLI::App& app, Run& run);
void add_cluster(CLI::App& app, Run& run);
void add_inspect(CLI::App& app, Run& run);
void add_bench(CLI::App& app, Run& run);

// Prints the sentence on stderr, with the program's name before it.
int complain(int exit, std::string_view sentence);

// 1234567 as 1,234,567.
std::string grouped(uint64_t number);

// Its first 40 lines, indented by four.
std::string indented(std::string_view lines);

// Seeds as users write them: "7", "1..200".
struct SeedRange {
  uint64_t first = 1;
  uint64_t last = 200;
  uint64_t count() const { return last - first + 1; }
};
Result<SeedRange> parse_seeds(std::string_view text);
// "60s", "5m", "2h", "500ms": whole numbers with a unit. Nanoseconds.
Result<int64_t> parse_duration(std::string_view text);

// Colour on a terminal, unless --color or NO_COLOR say otherwise.
struct Colors {
  std::string_view red, green, yellow, bold, reset;
};
extern std::string color_mode;  // of --color
Colors colors_for(int fd);

// What built this binary, and from what.
std::string build_id();

// A run as people are told of it: "seed 7", "seed 7, branch 81234.2".
std::string name_of(uint64_t seed, const sim::Branches& branches);

// A scenario as named on the command line: built in, or a TOML file, with options on top of it.
Result<sim::Recipe> make_recipe(const std::string& scenario, const std::vector<std::string>& settings);

}  // namespace mneme::cmd
