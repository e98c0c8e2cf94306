// mneme replay: one seed or case again, exactly, with as much to see as is wanted.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>

#include "cmd/case_file.h"
#include "cmd/common.h"
#include "cmd/seed_process.h"

namespace mneme::cmd {

namespace {

struct Flags {
  std::string what;
  std::string scenario = "kv";
  std::vector<std::string> settings;
  std::vector<std::string> branches;
  bool trace = false;
  std::string until;
  std::vector<std::string> log;
  uint64_t break_at = 0;
  bool plan = false;
  bool black_box_only = false;
};

// One line an event, aligned: virtual time, who, which part, what.
class Printer final : public sim::Recorder {
 public:
  explicit Printer(const sim::Options& options)
      : nodes_(static_cast<uint32_t>(options[sim::Option::nodes] + options[sim::Option::joins])),
        clients_(static_cast<uint32_t>(options[sim::Option::clients])) {}

  void line(sim::WorldTime at, uint32_t actor, env::Level level, std::string_view area,
            std::string_view text) override {
    if (at > until_) return;  // how the stopped run is cleared away
    if (!wanted_.empty()) {
      auto wanted = wanted_.find(actor);
      if (wanted == wanted_.end() || level < wanted->second) return;
    }
    if (event_ && (*event_ + kContext < break_at_ || *event_ > break_at_ + kContext)) return;
    fmt::print("{:>3}.{:09}  {:<5}  {:<8}  {}\n", at / 1'000'000'000, at % 1'000'000'000, who(actor), area, text);
  }
  void until(sim::WorldTime at) { until_ = at; }
  // Prints only what these say, from that level on.
  void want(uint32_t actor, env::Level level) { wanted_[actor] = level; }
  // Prints only what happens around an event.
  void around(uint64_t event, const uint64_t* now) {
    break_at_ = event;
    event_ = now;
  }

 private:
  static constexpr uint64_t kContext = 200;  // events before and after
  std::string who(uint32_t actor) const {
    if (actor == 0) return "world";
    if (actor <= nodes_) return fmt::format("n{}", actor);
    if (actor <= nodes_ + clients_) return fmt::format("c{}", actor - nodes_);
    return actor == nodes_ + clients_ + 1 ? "audit" : "oper";
  }
  uint32_t nodes_;
  uint32_t clients_;
  std::map<uint32_t, env::Level> wanted_;
  sim::WorldTime until_ = INT64_MAX;
  uint64_t break_at_ = 0;
  const uint64_t* event_ = nullptr;
};

// "node=2:info"
bool parse_log(std::string_view text, uint32_t nodes, uint32_t& node, env::Level& level) {
  if (!text.starts_with("node=")) return false;
  text.remove_prefix(5);
  const std::string_view number = text.substr(0, text.find(':'));
  auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), node);
  if (error != std::errc() || end != number.data() + number.size() || node == 0 || node > nodes) return false;
  if (number.size() == text.size()) return true;
  const std::string_view name = text.substr(number.size() + 1);
  constexpr std::string_view kLevels[] = {"debug", "info", "warn", "error"};
  const auto* found = std::find(std::begin(kLevels), std::end(kLevels), name);
  level = static_cast<env::Level>(found - std::begin(kLevels));
  return found != std::end(kLevels);
}

int run_replay(const Flags& flags) {
  Case c;
  if (std::filesystem::is_regular_file(flags.what)) {
    auto loaded = load_case(flags.what);
    if (!loaded) return complain(kUsage, loaded.error().message);
    c = std::move(*loaded);
  } else {
    auto seed = parse_seeds(flags.what);
    if (!seed || seed->count() != 1)
      return complain(kUsage, fmt::format("'{}' is neither a seed nor a case file", flags.what));
    auto recipe = make_recipe(flags.scenario, flags.settings);
    if (!recipe) return complain(kUsage, recipe.error().message);
    c.recipe = *recipe;
    c.recipe.seed = seed->first;
    for (const std::string& branch : flags.branches)
      if (auto added = sim::add_branch(c.recipe.branches, branch); !added)
        return complain(kUsage, added.error().message);
  }
  auto options = c.recipe.options.expand(sim::Fate(c.recipe.seed));
  if (!options) return complain(kUsage, options.error().message);

  sim::RunHooks hooks;
  hooks.white_box = !c.black_box_only && !flags.black_box_only;
  Printer printer(*options);
  uint64_t event = 0;
  if (flags.trace || !flags.log.empty() || flags.break_at) hooks.recorder = &printer;
  for (const std::string& log : flags.log) {
    uint32_t node = 0;
    auto level = env::Level::kDebug;
    const int64_t nodes = (*options)[sim::Option::nodes] + (*options)[sim::Option::joins];
    if (!parse_log(log, static_cast<uint32_t>(nodes), node, level))
      return complain(kUsage,
                      fmt::format("--log {}: write node=N or node=N:LEVEL, with N from 1 to {} and LEVEL one of "
                                  "debug, info, warn, error",
                                  log, nodes));
    printer.want(node, level);
  }
  if (flags.break_at) {
    hooks.after_event = [&](uint64_t number, uint64_t hash) {
      event = number;
      if (number == flags.break_at) fmt::print("--- event {}, trace hash {:016x}\n", number, hash);
    };
    printer.around(flags.break_at, &event);
  }
  if (!flags.until.empty()) {
    auto until = parse_duration(flags.until);
    if (!until) return complain(kUsage, until.error().message);
    hooks.until = *until;
    printer.until(*until);
  }
  if (flags.plan)
    for (const sim::Fault& fault : sim::make_plan(sim::Fate(c.recipe.seed), *options, c.recipe.removals).faults)
      fmt::print("{:>6}  {}\n", fault.item, fault.text());

  const SeedOutcome outcome = run_in_child(c.recipe, hooks);
  const sim::RunResult& result = outcome.result;
  const Colors colors = colors_for(STDOUT_FILENO);
  if (!flags.until.empty()) {
    fmt::print("stopped at {}: {} events, {} operations\n", flags.until, result.events, result.operations);
    return kOk;
  }
  if (result.verdict == sim::RunVerdict::kPassed) {
    fmt::print("{}pass{} {}: {} operations, {} faults, {} events, trace hash {:016x}\n", colors.green, colors.reset,
               name_of(c.recipe.seed, c.recipe.branches), result.operations, result.faults, result.events,
               result.trace_hash);
  } else {
    fmt::print("{}{}{} {}  {}\n  {}\n{}", colors.red,
               result.verdict == sim::RunVerdict::kFailed ? "FAIL" : "INCONCLUSIVE", colors.reset,
               name_of(c.recipe.seed, c.recipe.branches), result.property, result.summary, indented(result.details));
    fmt::print("  {} operations, {} faults, {} events, trace hash {:016x}\n", result.operations, result.faults,
               result.events, result.trace_hash);
  }
  if (c.trace_hash != 0 && (c.trace_hash != result.trace_hash || c.property != result.property))
    return complain(
        kNotReproduced,
        fmt::format("the case was recorded by build '{}' as {} with trace hash {:016x}: this build '{}' does "
                    "something else",
                    c.build, c.property.empty() ? "a pass" : c.property, c.trace_hash, build_id()));
  return result.verdict == sim::RunVerdict::kPassed   ? kOk
         : result.verdict == sim::RunVerdict::kFailed ? kViolated
                                                      : kInconclusive;
}

}  // namespace

void add_replay(CLI::App& app, Run& run) {
  auto flags = std::make_shared<Flags>();
  CLI::App* replay = app.add_subcommand("replay", "Run one seed or case again, exactly");
  replay->add_option("CASE", flags->what, "a seed, or a case file that sim wrote")->required();
  replay->add_option("--scenario", flags->scenario, "of a seed")->capture_default_str();
  replay->add_option("--set", flags->settings, "override an option: name=value")->take_all()->allow_extra_args(false);
  replay->add_option("--branch", flags->branches, "of a seed: leave its run at this event, in that way: EVENT.NTH")
      ->take_all()
      ->allow_extra_args(false);
  replay->add_flag("--trace", flags->trace, "print what happens, one line an event");
  replay->add_option("--until", flags->until, "stop at this virtual time, such as 3s");
  replay->add_option("--log", flags->log, "print only what a node says, from a level on: node=N:info");
  replay->add_option("--break", flags->break_at, "print what happens around the event of this number");
  replay->add_flag("--black-box-only", flags->black_box_only, "judge by the clients' history alone");
  replay->add_flag("--plan", flags->plan, "print first which faults are planned, as long as the run does not branch");
  replay->footer("Examples:\n  mneme replay 7\n  mneme replay 7 --trace --until 5s");
  replay->callback([flags, &run] { run = [flags] { return run_replay(*flags); }; });
}

}  // namespace mneme::cmd
