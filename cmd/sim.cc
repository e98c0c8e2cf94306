// mneme sim: many seeds of a scenario, each in its own process.
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "cmd/case_file.h"
#include "cmd/common.h"
#include "cmd/seed_lanes.h"
#include "core/base/hash.h"

namespace mneme::cmd {

namespace {

struct Flags {
  std::string scenario = "kv";
  std::string seeds;
  std::string seed;
  std::string for_time;
  unsigned jobs = 0;
  std::string shard;
  bool keep_going = false;
  bool verify = false;
  uint64_t branch = 0;
  bool black_box_only = false;
  std::string out = "cases";
  std::string junit;
  bool github = false;
  bool json = false;
  std::vector<std::string> settings;
};

volatile std::sig_atomic_t interrupted = 0;

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::string grouped(uint64_t n) {
  std::string digits = std::to_string(n);
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3) digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

std::string human_seconds(double s) {
  if (s < 120) return fmt::format("{:.1f} s", s);
  return fmt::format("{:.0f} min {:02.0f} s", std::floor(s / 60), s - 60 * std::floor(s / 60));
}

struct Failure {
  SeedOutcome outcome;
  std::string case_path;
};

// A run among those of a batch.
struct RunId {
  uint64_t seed;
  sim::Branches branches;
  auto operator<=>(const RunId&) const = default;
};

// Figures are of the seeds' own runs, without their branches, where not said otherwise.
struct Tally {
  uint64_t done = 0;
  std::set<uint64_t> failed;        // seeds, for themselves or for a branch
  std::set<uint64_t> inconclusive;  // the same
  uint64_t branches = 0;
  uint64_t failed_branches = 0;
  int64_t branches_cpu_us = 0;
  uint64_t branches_hash = 0;
  uint64_t events = 0;
  uint64_t operations = 0;
  uint64_t unknown = 0;
  uint64_t faults = 0;
  int64_t virtual_ns = 0;
  int64_t cpu_us = 0;
  int64_t peak_rss_kib = 0;  // of the seed that took most
  uint64_t peak_seed = 0;
  std::array<uint64_t, kProbeCount> probes{};
  std::map<RunId, uint64_t> hashes;         // of the first run
  std::map<RunId, uint64_t> second_hashes;  // of --verify's
  std::vector<Failure> failures;
  std::vector<RunId> diverged;

  uint64_t passed() const {
    std::set<uint64_t> others = failed;
    others.insert(inconclusive.begin(), inconclusive.end());
    return done - others.size();
  }
};

void count(const SeedOutcome& outcome, Tally& t) {
  for (size_t i = 0; i < kProbeCount; ++i) t.probes[i] += outcome.result.probes[i];
  if (!outcome.branches.empty()) {
    ++t.branches;
    t.branches_cpu_us += outcome.cpu_us;
    return;
  }
  ++t.done;
  t.events += outcome.result.events;
  t.operations += outcome.result.operations;
  t.unknown += outcome.result.unknown;
  t.faults += outcome.result.faults;
  t.virtual_ns += outcome.result.virtual_ns;
  t.cpu_us += outcome.cpu_us;
  if (outcome.peak_rss_kib > t.peak_rss_kib) {
    t.peak_rss_kib = outcome.peak_rss_kib;
    t.peak_seed = outcome.seed;
  }
}

void print_failure(const Failure& failure, const sim::Recipe& recipe, const Flags& flags) {
  const Colors c = colors_for(STDOUT_FILENO);
  const SeedOutcome& o = failure.outcome;
  fmt::print("{}FAIL{} {}  {}{}{}\n", c.red, c.reset, name_of(o.seed, o.branches), c.bold, o.result.property, c.reset);
  fmt::print("  {}\n", o.result.summary);
  fmt::print("{}", indented(o.result.details));
  sim::Recipe drawn = recipe;
  drawn.seed = o.seed;
  if (auto options = drawn.options.expand(sim::Fate(o.seed))) {
    fmt::print("  recipe   build {}, scenario {}, {}\n", build_id(), recipe.scenario, name_of(o.seed, o.branches));
    std::string text = options->text();
    std::string line = "          ";
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find(' ', at), text.size());
      if (line.size() + (end - at) + 1 > 100) {
        fmt::print("{}\n", line);
        line = "          ";
      }
      line += " " + text.substr(at, end - at);
      at = end + 1;
    }
    fmt::print("{}\n", line);
  }
  std::string again = failure.case_path;
  if (again.empty()) {
    again = std::to_string(o.seed);
    for (const sim::Branch& branch : o.branches) again += fmt::format(" --branch {}", sim::to_text({branch}));
  }
  fmt::print("  replay   mneme replay {}\n", again);
  fmt::print("           mneme replay {} --trace     every event, one line each\n", again);
  (void)flags;
}

std::string write_case(const sim::Recipe& recipe, const SeedOutcome& o, const Flags& flags) {
  Case c{.recipe = recipe,
         .build = build_id(),
         .property = o.result.property,
         .trace_hash = o.result.trace_hash,
         .black_box_only = flags.black_box_only};
  c.recipe.seed = o.seed;
  c.recipe.branches = o.branches;
  auto expanded = recipe.options.expand(sim::Fate(o.seed));
  if (!expanded) return "";
  c.recipe.options = *expanded;
  std::string path = fmt::format("{}/{}", flags.out, o.seed);
  for (const sim::Branch& branch : o.branches) path += fmt::format("-{}", sim::to_text({branch}));
  path += ".case";
  if (auto saved = save_case(path, c); !saved) {
    complain(kIo, saved.error().message);
    return "";
  }
  return path;
}

// Runs a diverging seed once more in both ways, with the hash after every event written down, and says where they part,
// in lines for people.
std::string find_divergence(const sim::Recipe& recipe, const RunId& run);

struct Range {
  SeedRange seeds;
  uint64_t shard = 0;
  uint64_t shards = 1;
};

// The part of the seeds that this machine takes, from --shard or from what parallel jobs put into the environment.
Result<std::pair<uint64_t, uint64_t>> find_shard(const std::string& flag) {
  auto parse = [](std::string_view index, std::string_view count,
                  uint64_t base) -> Result<std::pair<uint64_t, uint64_t>> {
    auto i = parse_seeds(index);
    auto n = parse_seeds(count);
    if (!i || !n || i->count() != 1 || n->count() != 1 || n->first == 0 || i->first < base ||
        i->first - base >= n->first)
      return fail(ErrorCode::kInvalid,
                  fmt::format("'{}/{}' is not a shard: write I/N with I from 0 to N-1", index, count));
    return std::pair(i->first - base, n->first);
  };
  if (!flag.empty()) {
    const size_t slash = flag.find('/');
    if (slash == std::string::npos) return parse(flag, "", 0);
    return parse(flag.substr(0, slash), flag.substr(slash + 1), 0);
  }
  struct Known {
    const char* index;
    const char* count;
    uint64_t base;
  };
  for (Known known :
       {Known{"JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", 0}, Known{"SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", 0},
        Known{"CI_NODE_INDEX", "CI_NODE_TOTAL", 1},
        Known{"BUILDKITE_PARALLEL_JOB", "BUILDKITE_PARALLEL_JOB_COUNT", 0}}) {
    const char* index = std::getenv(known.index);
    const char* count = std::getenv(known.count);
    if (index && count) return parse(index, count, known.base);
  }
  return std::pair<uint64_t, uint64_t>(0, 1);
}

void write_junit(const std::string& path, const Tally& tally, const std::string& scenario) {
  std::ofstream file(path, std::ios::trunc);
  auto escape = [](std::string_view text) {
    std::string out;
    for (char c : text) {
      if (c == '<')
        out += "&lt;";
      else if (c == '>')
        out += "&gt;";
      else if (c == '&')
        out += "&amp;";
      else if (c == '"')
        out += "&quot;";
      else
        out += c;
    }
    return out;
  };
  file << fmt::format("<?xml version=\"1.0\"?>\n<testsuite name=\"mneme sim {}\" tests=\"{}\" failures=\"{}\">\n",
                      escape(scenario), tally.done, tally.failures.size());
  for (const Failure& f : tally.failures)
    file << fmt::format("  <testcase name=\"{}\"><failure type=\"{}\" message=\"{}\">{}</failure></testcase>\n",
                        name_of(f.outcome.seed, f.outcome.branches), escape(f.outcome.result.property),
                        escape(f.outcome.result.summary), escape(f.outcome.result.details));
  file << fmt::format("  <testcase name=\"{} seeds passed\"/>\n</testsuite>\n", tally.passed());
}

void print_json(const Tally& t, const sim::Recipe& recipe, double wall_s, uint64_t hash) {
  nlohmann::ordered_json out;
  out["build"] = build_id();
  out["scenario"] = recipe.scenario;
  out["seeds"] = t.done;
  out["passed"] = t.passed();
  out["failed"] = t.failed.size();
  out["inconclusive"] = t.inconclusive.size();
  std::set<uint64_t> diverged;
  for (const RunId& run : t.diverged) diverged.insert(run.seed);
  out["diverged"] = diverged;
  out["branches"] = t.branches;
  out["failed_branches"] = t.failed_branches;
  out["events"] = t.events;
  out["operations"] = t.operations;
  out["unknown"] = t.unknown;
  out["faults"] = t.faults;
  out["virtual_s"] = static_cast<double>(t.virtual_ns) / 1e9;
  out["wall_s"] = wall_s;
  out["cpu_s"] = static_cast<double>(t.cpu_us + t.branches_cpu_us) / 1e6;  // branches included
  out["branches_cpu_s"] = static_cast<double>(t.branches_cpu_us) / 1e6;
  out["peak_rss_mib"] = static_cast<double>(t.peak_rss_kib) / 1024;  // of the seed that took most
  out["trace_hash"] = fmt::format("{:016x}", hash);
  out["branches_trace_hash"] = fmt::format("{:016x}", t.branches_hash);
  out["inconclusive_seeds"] = t.inconclusive;
  out["failures"] = nlohmann::ordered_json::array();
  for (const Failure& f : t.failures)
    out["failures"].push_back({{"seed", f.outcome.seed},
                               {"branches", sim::to_text(f.outcome.branches)},
                               {"property", f.outcome.result.property},
                               {"summary", f.outcome.result.summary},
                               {"case", f.case_path},
                               {"cpu_s", static_cast<double>(f.outcome.cpu_us) / 1e6}});
  out["sometimes"] = nlohmann::ordered_json::object();
  for (size_t i = 0; i < kProbeCount; ++i) out["sometimes"][std::string(kProbeNames[i])] = t.probes[i];
  fmt::print("{}\n", out.dump());
}

// What the figures hold for; ranges are drawn from seed by seed.
std::string workload(const sim::Recipe& recipe) {
  auto range = [&](sim::Option option) {
    const sim::Range drawn = recipe.options.range(option);
    return drawn.from == drawn.to ? fmt::format("{}", drawn.from) : fmt::format("{}..{}", drawn.from, drawn.to);
  };
  std::string out = fmt::format("heartbeat {} ms; mix", range(sim::Option::heartbeat));
  for (size_t i = 0; i < sim::kOptionCount; ++i)
    if (sim::kOptionSpecs[i].name.starts_with("mix_"))
      out += fmt::format(" {} {}", sim::kOptionSpecs[i].name.substr(4), range(static_cast<sim::Option>(i)));
  return out;
}

// Lines of at most 100 columns, indented by two.
std::string wrapped(std::string_view text) {
  std::string out;
  while (text.size() > 98) {
    size_t end = text.rfind(' ', 98);
    if (end == text.npos) break;
    out += fmt::format("  {}\n", text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  return out + fmt::format("  {}\n", text);
}

void print_summary(const Tally& t, const sim::Recipe& recipe, double wall_s, uint64_t hash, uint64_t wanted) {
  const Colors c = colors_for(STDOUT_FILENO);
  const double cpu_s = static_cast<double>(t.cpu_us) / 1e6;
  fmt::print("scenario {}: {}{} passed{}, {}{} failed{}, {} inconclusive", recipe.scenario, c.green, t.passed(),
             c.reset, t.failed.empty() ? "" : c.red, t.failed.size(), c.reset, t.inconclusive.size());
  if (t.done < wanted) fmt::print(", {} not run", wanted - t.done);
  fmt::print("\n");
  if (t.done == 0) return;
  const double per_cpu = cpu_s > 0 ? static_cast<double>(t.operations) / cpu_s : 0;
  fmt::print("  {} operations checked, {:.1f}% of unknown outcome; {} faults; {} events\n", grouped(t.operations),
             t.operations ? 100.0 * static_cast<double>(t.unknown) / static_cast<double>(t.operations) : 0.0,
             grouped(t.faults), grouped(t.events));
  fmt::print("  {:.0f} virtual seconds in {} ({} of CPU): {} operations and {} events per CPU second\n",
             static_cast<double>(t.virtual_ns) / 1e9, human_seconds(wall_s), human_seconds(cpu_s),
             grouped(static_cast<uint64_t>(per_cpu)),
             grouped(static_cast<uint64_t>(cpu_s > 0 ? static_cast<double>(t.events) / cpu_s : 0)));
  if (t.branches > 0)
    fmt::print("  {} branches besides, {} of them failed, in {} of CPU\n", grouped(t.branches), t.failed_branches,
               human_seconds(static_cast<double>(t.branches_cpu_us) / 1e6));
  fmt::print("  at most {:.1f} MiB of memory in a seed, in seed {}\n", static_cast<double>(t.peak_rss_kib) / 1024,
             t.peak_seed);
  fmt::print("{}", wrapped(workload(recipe)));
  std::string never;
  for (size_t i = 0; i < kProbeCount; ++i)
    if (t.probes[i] == 0) never += fmt::format("{}{}", never.empty() ? "never reached: " : ", ", kProbeNames[i]);
  if (!never.empty()) fmt::print("{}", wrapped(never));
  fmt::print("  trace hash {:016x}\n", hash);
}

int run_sim(const Flags& flags) {
  auto usage = [](const Error& error) { return complain(kUsage, error.message); };
  auto recipe = make_recipe(flags.scenario, flags.settings);
  if (!recipe) return usage(recipe.error());
  SeedRange seeds;
  if (!flags.seed.empty() && !flags.seeds.empty()) return complain(kUsage, "--seed and --seeds exclude each other");
  const std::string text = flags.seed.empty() ? flags.seeds : flags.seed;
  if (text.starts_with("git:")) {
    // A range of its own for every commit: its hash says where it begins.
    const uint64_t start = xxh3(std::string_view(text).substr(4)) >> 16;
    seeds = {start, start + 199};
  } else if (!text.empty()) {
    auto parsed = parse_seeds(text);
    if (!parsed) return usage(parsed.error());
    seeds = *parsed;
  }
  int64_t limit_ns = 0;
  if (!flags.for_time.empty()) {
    auto parsed = parse_duration(flags.for_time);
    if (!parsed) return usage(parsed.error());
    limit_ns = *parsed;
    if (text.empty()) seeds.last = UINT64_MAX / 2;
  }
  auto shard = find_shard(flags.shard);
  if (!shard) return usage(shard.error());
  if (shard->second > 1) {
    const uint64_t count = seeds.count();
    const uint64_t begin = seeds.first + count * shard->first / shard->second;
    const uint64_t end = seeds.first + count * (shard->first + 1) / shard->second;
    if (begin == end) return complain(kUsage, "this shard has no seeds: there are more shards than seeds");
    seeds = {begin, end - 1};
  }
  // What contradicts by itself contradicts in every seed.
  if (auto expanded = recipe->options.expand(sim::Fate(seeds.first)); !expanded) return usage(expanded.error());

  LanePlan plan{.recipe = *recipe, .first = seeds.first, .last = seeds.last};
  const auto cores = static_cast<unsigned>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
  const unsigned jobs = flags.jobs ? flags.jobs : cores;
  plan.lanes = static_cast<unsigned>(std::min<uint64_t>(flags.verify ? std::max(1u, jobs / 2) : jobs, seeds.count()));
  plan.energy = flags.branch;
  plan.verify = flags.verify;
  plan.white_box = !flags.black_box_only;
  plan.worker_arguments = {flags.scenario, "--branch", std::to_string(flags.branch)};
  if (flags.black_box_only) plan.worker_arguments.push_back("--black-box-only");
  for (const std::string& setting : flags.settings)
    plan.worker_arguments.insert(plan.worker_arguments.end(), {"--set", setting});

  std::signal(SIGINT, [](int) { interrupted = 1; });
  std::signal(SIGTERM, [](int) { interrupted = 1; });
  const auto begin = std::chrono::steady_clock::now();
  const bool terminal = ::isatty(STDERR_FILENO);
  Tally tally;
  bool stop = false;  // something was found
  bool cut = false;   // by the user or by time
  const uint64_t wanted = seeds.count();
  auto take = [&](SeedOutcome outcome) {
    const uint64_t seed = outcome.seed;
    const uint64_t hash = outcome.crashed ? 0 : outcome.result.trace_hash;
    const RunId id{seed, outcome.branches};
    (outcome.second ? tally.second_hashes : tally.hashes)[id] = hash;
    const auto& others = outcome.second ? tally.hashes : tally.second_hashes;
    if (auto other = others.find(id); other != others.end() && other->second != hash) {
      tally.diverged.push_back(id);
      stop = stop || !flags.keep_going;
    }
    if (outcome.second) return !stop;
    count(outcome, tally);
    if (outcome.result.verdict == sim::RunVerdict::kInconclusive) {
      tally.inconclusive.insert(seed);
      if (terminal) fmt::print(stderr, "\r\033[K");
      if (!flags.json) fmt::print("INCONCLUSIVE {}: {}\n", name_of(seed, outcome.branches), outcome.result.summary);
    } else if (outcome.result.verdict == sim::RunVerdict::kFailed || outcome.crashed) {
      tally.failed.insert(seed);
      tally.failed_branches += !outcome.branches.empty();
      Failure failure{std::move(outcome), ""};
      failure.case_path = write_case(*recipe, failure.outcome, flags);
      if (terminal) fmt::print(stderr, "\r\033[K");
      if (!flags.json) print_failure(failure, *recipe, flags);
      if (flags.github)
        fmt::print("::error title=mneme sim {}::{}: {}\n", name_of(seed, failure.outcome.branches),
                   failure.outcome.result.property, failure.outcome.result.summary);
      std::fflush(stdout);
      tally.failures.push_back(std::move(failure));
      stop = stop || !flags.keep_going;
    }
    return !stop;
  };
  auto last_shown = begin;
  auto tick = [&] {
    const double elapsed = seconds_since(begin);
    if (terminal && seconds_since(last_shown) > 0.2) {
      last_shown = std::chrono::steady_clock::now();
      const double rate = elapsed > 0 ? static_cast<double>(tally.done) / elapsed : 0;
      const double left = limit_ns   ? static_cast<double>(limit_ns) / 1e9 - elapsed
                          : rate > 0 ? static_cast<double>(wanted - tally.done) / rate
                                     : 0;
      fmt::print(stderr, "\r\033[K{} of {} seeds, {:.0f} a second, {} left, {} failed", grouped(tally.done),
                 limit_ns ? "as many" : grouped(wanted), rate, human_seconds(std::max(0.0, left)), tally.failed.size());
      std::fflush(stderr);
    }
    cut = interrupted || (limit_ns && elapsed * 1e9 > static_cast<double>(limit_ns));
    return !cut;
  };
  const bool healthy = run_lanes(plan, take, tick);
  if (terminal) fmt::print(stderr, "\r\033[K");
  const double wall_s = seconds_since(begin);
  uint64_t hash = 0;
  for (auto& [run, one] : tally.hashes) {
    if (run.branches.empty()) {
      hash = fold(fold(hash, run.seed), one);
      continue;
    }
    tally.branches_hash = fold(tally.branches_hash, run.seed);
    for (const sim::Branch& branch : run.branches)
      tally.branches_hash = fold(fold(tally.branches_hash, branch.event), branch.nth);
    tally.branches_hash = fold(tally.branches_hash, one);
  }
  std::sort(tally.failures.begin(), tally.failures.end(), [](const Failure& a, const Failure& b) {
    return std::tie(a.outcome.seed, a.outcome.branches) < std::tie(b.outcome.seed, b.outcome.branches);
  });

  if (flags.verify && healthy && !stop && !cut) {
    for (auto& [run, ignored] : tally.hashes)
      if (!tally.second_hashes.contains(run)) tally.diverged.push_back(run);
    for (auto& [run, ignored] : tally.second_hashes)
      if (!tally.hashes.contains(run)) tally.diverged.push_back(run);
  }

  if (!flags.junit.empty()) write_junit(flags.junit, tally, recipe->scenario);
  if (flags.json)
    print_json(tally, *recipe, wall_s, hash);
  else
    print_summary(tally, *recipe, wall_s, hash, limit_ns ? tally.done : wanted);
  for (const RunId& one : tally.diverged) {
    // With --json, nothing but the object goes to stdout.
    fmt::print(flags.json ? stderr : stdout, "DIVERGED {}: two runs of it differ\n{}", name_of(one.seed, one.branches),
               find_divergence(*recipe, one));
  }
  if (!healthy && !stop && !interrupted)
    return complain(kHarness, "a worker process failed; this is a bug in the harness");
  if (!tally.diverged.empty()) return kDiverged;
  if (!tally.failures.empty()) return kViolated;
  if (!tally.inconclusive.empty()) return kInconclusive;
  if (interrupted) return kInterrupted;
  return kOk;
}

// --- Where two runs part

// The hash after every event, to a file.
int run_hashes(const sim::Recipe& recipe, const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (!file) return kIo;
  sim::RunHooks hooks;
  hooks.after_event = [&](uint64_t, uint64_t hash) { std::fwrite(&hash, sizeof hash, 1, file); };
  auto result = sim::run_kv(recipe, hooks);
  std::fclose(file);
  return result ? kOk : kHarness;
}

std::string find_divergence(const sim::Recipe& recipe, const RunId& run) {
  char directory[] = "/tmp/mneme-diverged-XXXXXX";
  const std::string failed = "  where they part could not be found: the two runs could not be done again\n";
  if (!::mkdtemp(directory)) return failed;
  // Only a case that is named stays.
  struct Files {
    const char* directory;
    std::string named;
    ~Files() {
      std::error_code ignored;
      for (auto& entry : std::filesystem::directory_iterator(directory, ignored))
        if (entry.path() != named) std::filesystem::remove(entry.path(), ignored);
      if (named.empty()) std::filesystem::remove(directory, ignored);
    }
  } files{directory, {}};
  sim::Recipe one = recipe;
  one.seed = run.seed;
  one.branches = run.branches;
  Case c{.recipe = one, .build = build_id()};
  c.recipe.options = *recipe.options.expand(sim::Fate(run.seed));
  const std::string case_path = fmt::format("{}/{}.case", directory, run.seed);
  if (!save_case(case_path, c)) return failed;
  auto hash_file = [&](int n) { return fmt::format("{}/{}.hashes", directory, n); };
  for (int attempt = 0; attempt < 3; ++attempt) {
    if (run_hashes(one, hash_file(1)) != kOk) return failed;
    const std::string command =
        fmt::format("MALLOC_PERTURB_=165 MNEME_DISPLACEMENT={} $(readlink /proc/{}/exe) sim-hashes {} {}",
                    std::string(4096, 'x'), ::getpid(), case_path, hash_file(2));
    if (std::system(command.c_str()) != 0) return failed;
    std::ifstream a(hash_file(1), std::ios::binary);
    std::ifstream b(hash_file(2), std::ios::binary);
    for (uint64_t event = 1;; ++event) {
      uint64_t x = 0;
      uint64_t y = 0;
      const bool more_a = static_cast<bool>(a.read(reinterpret_cast<char*>(&x), 8));
      const bool more_b = static_cast<bool>(b.read(reinterpret_cast<char*>(&y), 8));
      if (!more_a && !more_b) break;
      if (x == y && more_a == more_b) continue;
      files.named = case_path;
      return fmt::format(
          "  the first event that differs is number {}; see what leads to it with\n  mneme replay {} --break {}\n",
          event, case_path, event);
    }
  }
  return "  it did not differ again in three more pairs of runs: something outside of the run's control is involved\n";
}

}  // namespace

void add_sim(CLI::App& app, Run& run) {
  auto flags = std::make_shared<Flags>();
  CLI::App* sim = app.add_subcommand("sim", "Simulate a scenario for many seeds");
  sim->add_option("SCENARIO", flags->scenario, "a built-in name (see 'mneme scenarios') or a TOML file")
      ->capture_default_str();
  sim->add_option("--seeds", flags->seeds, "a range such as 1..2000, or git:SHA; default 1..200");
  sim->add_option("--seed", flags->seed, "one seed");
  sim->add_option("--for", flags->for_time, "as many seeds as fit in this time, such as 60s");
  sim->add_option("-j,--jobs", flags->jobs, "processes at once; default: one per core")->check(CLI::Range(1, 1024));
  sim->add_option("--shard", flags->shard, "I/N: part I (from 0) of N of the seeds");
  sim->add_flag("--keep-going", flags->keep_going, "do not stop at the first failure");
  sim->add_flag("--verify", flags->verify, "run every seed twice and compare the trace hashes");
  sim->add_option("--branch", flags->branch, "runs that leave each seed's at its rare moments, at most")
      ->capture_default_str();
  sim->add_flag("--black-box-only", flags->black_box_only, "judge by the clients' history alone");
  sim->add_option("--out", flags->out, "directory for case files")->capture_default_str();
  sim->add_option("--junit", flags->junit, "write a JUnit report to this file");
  sim->add_flag("--github", flags->github, "print failures as GitHub annotations as well");
  sim->add_flag("--json", flags->json, "print one JSON object on stdout and nothing else");
  sim->add_option("--set", flags->settings, "override an option of the scenario: name=value")
      ->take_all()
      ->allow_extra_args(false);
  sim->footer("Examples:\n  mneme sim\n  mneme sim kv --seeds 1..2000 --verify --set nodes=5");
  sim->callback([flags, &run] { run = [flags] { return run_sim(*flags); }; });

  // Not for people: the lanes of --verify that are executed afresh.
  struct LaneFlags {
    LanePlan plan;
    unsigned lane = 0;
    std::string scenario;
    bool black_box_only = false;
    std::vector<std::string> settings;
  };
  auto lane = std::make_shared<LaneFlags>();
  CLI::App* worker = app.add_subcommand("sim-lane", "")->group("");
  worker->add_option("first", lane->plan.first)->required();
  worker->add_option("last", lane->plan.last)->required();
  worker->add_option("lanes", lane->plan.lanes)->required();
  worker->add_option("lane", lane->lane)->required();
  worker->add_option("scenario", lane->scenario)->required();
  worker->add_option("--branch", lane->plan.energy);
  worker->add_flag("--black-box-only", lane->black_box_only);
  worker->add_option("--set", lane->settings)->take_all()->allow_extra_args(false);
  worker->callback([lane, &run] {
    run = [lane] {
      auto recipe = make_recipe(lane->scenario, lane->settings);
      if (!recipe) return complain(kUsage, recipe.error().message);
      lane->plan.recipe = *recipe;
      lane->plan.white_box = !lane->black_box_only;
      lane_main(lane->plan, lane->lane, true, STDOUT_FILENO);
      return +kOk;
    };
  });

  struct HashFlags {
    std::string case_path;
    std::string out;
  };
  auto hashes = std::make_shared<HashFlags>();
  CLI::App* hasher = app.add_subcommand("sim-hashes", "")->group("");
  hasher->add_option("case", hashes->case_path)->required();
  hasher->add_option("out", hashes->out)->required();
  hasher->callback([hashes, &run] {
    run = [hashes] {
      auto c = load_case(hashes->case_path);
      if (!c) return complain(kUsage, c.error().message);
      return run_hashes(c->recipe, hashes->out);
    };
  });
}

}  // namespace mneme::cmd
