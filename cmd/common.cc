#include "cmd/common.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>

#include "cmd/scenario_file.h"

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

std::string grouped(uint64_t number) {
  std::string digits = std::to_string(number);
  for (auto at = static_cast<ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<size_t>(at), 1, ',');
  return digits;
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

std::string name_of(uint64_t seed, const sim::Branches& branches) {
  return branches.empty() ? fmt::format("seed {}", seed)
                          : fmt::format("seed {}, branch {}", seed, sim::to_text(branches));
}

Result<sim::Recipe> make_recipe(const std::string& scenario, const std::vector<std::string>& settings) {
  sim::Recipe recipe;
  recipe.scenario = scenario;
  recipe.options = TRY(load_scenario(scenario)).options;
  for (const std::string& setting : settings) {
    const size_t equals = setting.find('=');
    if (equals == std::string::npos)
      return fail(ErrorCode::kInvalid, fmt::format("--set {}: write name=value", setting));
    auto set = recipe.options.set(setting.substr(0, equals), std::string_view(setting).substr(equals + 1));
    if (!set) return fail(ErrorCode::kInvalid, fmt::format("--set {}: {}", setting, set.error().message));
  }
  return recipe;
}

}  // namespace mneme::cmd
