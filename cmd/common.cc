#include "cmd/common.h"

#include <fmt/format.h>
#include <toml++/toml.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>

namespace mneme::cmd {

std::string color_mode = "auto";

int complain(int exit, std::string_view sentence) {
  fmt::print(stderr, "mneme: {}\n", sentence);
  return exit;
}

namespace {

Result<uint64_t> whole_number(std::string_view text, std::string_view what) {
  uint64_t n = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (text.empty() || error != std::errc() || end != text.data() + text.size())
    return fail(ErrorCode::kInvalid, fmt::format("'{}' is not {}", text, what));
  return n;
}

}  // namespace

Result<SeedRange> parse_seeds(std::string_view text) {
  const size_t dots = text.find("..");
  if (dots == std::string_view::npos) {
    uint64_t seed = TRY(whole_number(text, "a seed; write a number, or a range such as 1..200"));
    return SeedRange{seed, seed};
  }
  SeedRange range;
  range.first = TRY(whole_number(text.substr(0, dots), "a seed; write a range such as 1..200"));
  range.last = TRY(whole_number(text.substr(dots + 2), "a seed; write a range such as 1..200"));
  if (range.last < range.first) return fail(ErrorCode::kInvalid, fmt::format("the range {} is empty", text));
  return range;
}

Result<int64_t> parse_duration(std::string_view text) {
  constexpr std::pair<std::string_view, int64_t> kUnits[] = {
      {"ms", 1'000'000}, {"s", 1'000'000'000}, {"m", 60'000'000'000}, {"h", 3'600'000'000'000}};
  for (auto& [unit, ns] : kUnits) {
    if (!text.ends_with(unit)) continue;
    auto number = whole_number(text.substr(0, text.size() - unit.size()), "a duration");
    if (number && *number <= 1'000'000) return static_cast<int64_t>(*number) * ns;
  }
  return fail(ErrorCode::kInvalid,
              fmt::format("'{}' is not a duration; write a number and ms, s, m or h, such as 60s", text));
}

Colors colors_for(int fd) {
  const bool forced = color_mode == "always";
  if (!forced && (color_mode == "never" || std::getenv("NO_COLOR") || !::isatty(fd))) return {};
  return {"\033[31m", "\033[32m", "\033[33m", "\033[1m", "\033[0m"};
}

std::string build_id() {
#if defined(__clang__)
  std::string compiler = fmt::format("clang-{}", __clang_major__);
#else
  std::string compiler = fmt::format("gcc-{}", __GNUC__);
#endif
#ifdef NDEBUG
  const char* mode = "release";
#else
  const char* mode = "debug";
#endif
  return fmt::format("{} {} {}", MNEME_REVISION, compiler, mode);
}

std::string indented(std::string_view lines) {
  std::string out;
  for (int n = 0; !lines.empty() && n < 40; ++n) {
    const size_t end = std::min(lines.find('\n'), lines.size());
    out += fmt::format("    {}\n", lines.substr(0, end));
    lines.remove_prefix(std::min(end + 1, lines.size()));
  }
  return out;
}

const std::vector<BuiltInScenario>& built_in_scenarios() {
  static const std::vector<BuiltInScenario> scenarios = {
      {"kv", "colliding clients on few keys, with every kind of fault (the default)", {}},
      {"calm",
       "the same workload without faults",
       {{"kills", 0},
        {"power_losses", 0},
        {"blackouts", 0},
        {"pauses", 0},
        {"partitions", 0},
        {"one_way_blocks", 0},
        {"clogs", 0},
        {"resets", 0},
        {"failed_syncs", 0},
        {"rots", 0},
        {"read_errors", 0},
        {"full_disks", 0},
        {"slow_disks", 0},
        {"clock_drifts", 0},
        {"clock_jumps", 0},
        {"ambushes", 0},
        {"vanishing_clients", 0}}},
      {"single", "one node, which loses power again and again", {{"nodes", 1}, {"power_losses", 12}, {"kills", 6}}},
      {"storm",
       "nodes that are killed or lose power all the time",
       {{"power_losses", 25}, {"kills", 15}, {"blackouts", 3}, {"checkpoint", 8}}},
  };
  return scenarios;
}

namespace {

Result<void> apply_setting(sim::Options& options, const std::string& setting) {
  const size_t equals = setting.find('=');
  if (equals == std::string::npos) return fail(ErrorCode::kInvalid, fmt::format("--set {}: write name=value", setting));
  auto set = options.set(std::string_view(setting).substr(0, equals), std::string_view(setting).substr(equals + 1));
  if (!set) return fail(ErrorCode::kInvalid, fmt::format("--set {}: {}", setting, set.error().message));
  return {};
}

// scenario = "kv"        a built-in one to begin with; optional
// [options]              option = whole number
Result<void> load_scenario_file(const std::string& path, sim::Recipe& recipe) {
  auto where = [&](const toml::source_region& region, std::string_view what) {
    return fail(ErrorCode::kInvalid, fmt::format("{}:{}: {}", path, region.begin.line, what));
  };
  toml::table table;
  try {
    table = toml::parse_file(path);
  } catch (const toml::parse_error& error) {
    return where(error.source(), error.description());
  }
  std::string base = "kv";
  for (auto& [key, node] : table) {
    if (key == "scenario") {
      auto name = node.value<std::string>();
      if (!name) return where(node.source(), "scenario is the name of a built-in scenario, in quotes");
      base = *name;
    } else if (key != "options") {
      return where(node.source(), fmt::format("unknown key '{}'; known are: scenario, [options]", key.str()));
    }
  }
  auto found =
      std::find_if(built_in_scenarios().begin(), built_in_scenarios().end(), [&](auto& s) { return s.name == base; });
  if (found == built_in_scenarios().end())
    return where(table["scenario"].node()->source(),
                 fmt::format("there is no built-in scenario '{}'; see 'mneme scenarios'", base));
  for (auto& [name, value] : found->options) TRY(recipe.options.set(name, value));
  if (auto* node = table["options"].node()) {
    auto* options = node->as_table();
    if (!options) return where(node->source(), "options is a table: write [options]");
    for (auto& [key, value] : *options) {
      auto number = value.value_exact<int64_t>();
      if (!number) return where(value.source(), fmt::format("{} is a whole number without quotes", key.str()));
      if (auto set = recipe.options.set(key.str(), *number); !set) return where(value.source(), set.error().message);
    }
  }
  return {};
}

}  // namespace

Result<sim::Recipe> make_recipe(const std::string& scenario, const std::vector<std::string>& settings) {
  sim::Recipe recipe;
  recipe.scenario = scenario;
  auto found = std::find_if(built_in_scenarios().begin(), built_in_scenarios().end(),
                            [&](auto& s) { return s.name == scenario; });
  if (found != built_in_scenarios().end()) {
    for (auto& [name, value] : found->options) TRY(recipe.options.set(name, value));
  } else if (std::filesystem::is_regular_file(scenario)) {
    TRY(load_scenario_file(scenario, recipe));
  } else {
    return fail(ErrorCode::kInvalid,
                fmt::format("there is no scenario and no file '{}'; see 'mneme scenarios'", scenario));
  }
  for (const std::string& setting : settings) TRY(apply_setting(recipe.options, setting));
  return recipe;
}

}  // namespace mneme::cmd
