// The checker by itself: histories are in memory, and what is timed is the verdict (or the verdict with its account of
// a violation, where it says "explained").
// usage: bench_checker FOLDER [TURNS]    FOLDER: recorded histories; one JSON object, times in microseconds
#include <fmt/format.h>
#include <malloc.h>

#include <chrono>
#include <cstdlib>

#include "core/base/check.h"
#include "tests/unit/check/recorded.h"

using namespace mneme;
using namespace mneme::check;

namespace {

template <class Fn>
double us(Fn fn) {
  const auto begin = std::chrono::steady_clock::now();
  fn();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
}

double quantile(std::vector<double> times, double share) {
  std::ranges::sort(times);
  return times[static_cast<size_t>(share * static_cast<double>(times.size() - 1))];
}

double median_us(int turns, auto fn) {
  std::vector<double> times;
  for (int turn = 0; turn < turns; ++turn) times.push_back(us(fn));
  return quantile(std::move(times), 0.5);
}

// Turn by turn through all files, so that none finds the caches full of itself.
std::string recorded(const std::string& folder, int turns) {
  const std::vector<Recorded> files = recorded_histories(folder);
  std::vector<std::vector<double>> verdict(files.size());
  std::vector<std::vector<double>> explained(files.size());
  for (int turn = 0; turn < turns; ++turn) {
    for (size_t i = 0; i < files.size(); ++i) {
      Verdict found;
      verdict[i].push_back(us([&] { found = check::check(files[i].history, {.explain = false}); }));
      CHECK(found.answer == (files[i].linearizable ? Answer::kLinearizable : Answer::kViolation));
      if (turn % 10 == 0) explained[i].push_back(us([&] { check::check(files[i].history); }));
    }
  }
  std::string out;
  for (size_t i = 0; i < files.size(); ++i) {
    out += fmt::format("{}\"{}\":{{\"us\":{:.2f},\"explained_us\":{:.2f}}}", i == 0 ? "" : ",", files[i].name,
                       quantile(verdict[i], 0.5), quantile(explained[i], 0.5));
  }
  return "{" + out + "}";
}

struct Sort {
  const char* name;
  Recipe recipe;
  KeyId keys = 1;
  uint64_t histories = 1000;
};

// Of three turns the best, so that the worst is a history and not a moment. Half are spoiled, half of these in one
// place only.
std::string generated(const Sort& sort) {
  std::vector<double> times;
  double sum = 0;
  std::array<int, 3> answers{};
  for (uint64_t seed = 0; seed < sort.histories; ++seed) {
    Dice dice(seed);
    Recipe recipe = sort.recipe;
    recipe.pause = 1 + seed % 4;
    recipe.spoil_one_in = seed % 2;
    recipe.spoils = seed % 4 == 1 ? 1 : 0;
    const History history = random_history(dice, recipe, sort.keys);
    Verdict verdict;
    const CheckOptions options{.budget = {.steps = 10'000'000}, .explain = false};
    double best = us([&] { verdict = check::check(history, options); });
    for (int again = 0; again < 2; ++again) best = std::min(best, us([&] { check::check(history, options); }));
    times.push_back(best);
    sum += times.back();
    ++answers[static_cast<size_t>(verdict.answer)];
  }
  return fmt::format(
      "{{\"name\":\"{}\",\"histories\":{},\"linearizable\":{},\"violations\":{},\"inconclusive\":{},\"mean_us\":{:.1f},"
      "\"median_us\":{:.1f},\"p99_us\":{:.1f},\"worst_us\":{:.1f}}}",
      sort.name, sort.histories, answers[0], answers[1], answers[2], sum / static_cast<double>(sort.histories),
      quantile(times, 0.5), quantile(times, 0.99), quantile(times, 1));
}

std::string all_generated() {
  using enum Kind;
  Recipe register_test{.kinds = {kGet, kSet, kCas, kCas}, .texts = {"0", "1", "2", "3", "4"}, .operations = 85};
  register_test.clients = 5;
  register_test.unknown_one_in = 5;
  register_test.lost_one_in = 2;
  Recipe ten = register_test;
  ten.clients = 10;
  Recipe longer = register_test;
  longer.operations = 300;
  longer.unknown_one_in = 12;
  Recipe wide = register_test;
  wide.operations = 1000;
  wide.clients = 16;
  wide.unknown_one_in = 0;
  Recipe store{.kinds = {kGet, kGet, kGet, kSet, kSet, kSet, kCas, kCas, kDelete, kIncr, kAppend, kExpire},
               .texts = {"x"},
               .operations = 1000,
               .clients = 12,
               .unique = true,
               .unknown_one_in = 40};
  const std::vector<Sort> sorts = {{"register, 5 clients, 1 of 5 unknown", register_test},
                                   {"register, 10 clients, 1 of 5 unknown", ten},
                                   {"register, 5 clients, 300 operations", longer, 1, 400},
                                   {"register, 16 clients, 1000 operations", wide, 1, 200},
                                   {"store, 12 clients, 1 key", store, 1, 40},
                                   {"store, 12 clients, 4 keys", store, 4, 200}};
  std::string out;
  for (const Sort& sort : sorts) out += (out.empty() ? "" : ",") + generated(sort);
  return "[" + out + "]";
}

// Highest resident size since the call before, in KiB; -1 where the kernel does not tell.
long peak_kib() {
  long kib = -1;
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) kib = std::atol(line.c_str() + 6);
  }
  ::malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << 5;
  return kib;
}

std::string million() {
  const History history = unique_history(1'000'000, 16);
  auto one = [&](const char* name, int turns, const CheckOptions& options) {
    Verdict verdict;
    peak_kib();
    const long before = peak_kib();
    const double first = us([&] { verdict = check::check(history, options); });
    const long peak = peak_kib();
    CHECK(verdict.answer == Answer::kLinearizable);
    const double median = turns == 1 ? first : median_us(turns, [&] { check::check(history, options); });
    return fmt::format("\"{}\":{{\"us\":{:.0f},\"peak_kib\":{}}}", name, median, peak - before);
  };
  Verdict verdict = check::check(history);
  const double proof = median_us(5, [&] { CHECK(replay(history, verdict.order)); });
  return fmt::format("{{\"operations\":{},\"clients\":16,\"replay_us\":{:.0f},{},{},{}}}", history.operations.size(),
                     proof, one("unique", 5, {}), one("search", 1, {.linear_path = false}),
                     one("frontier", 1, {.linear_path = false, .method = Method::kFrontier}));
}

}  // namespace

int main(int argc, char** argv) {
  const int turns = argc > 2 ? std::atoi(argv[2]) : 501;
  if (argc < 2 || argc > 3 || turns < 1) {
    fmt::print(stderr, "bench_checker: usage: bench_checker FOLDER [TURNS]\n");
    return 64;
  }
  fmt::print("{{\"recorded\":{},", recorded(argv[1], turns));
  fmt::print("\"generated\":{},", all_generated());
  fmt::print("\"million\":{}}}\n", million());
  return 0;
}
