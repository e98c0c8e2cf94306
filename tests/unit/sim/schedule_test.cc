// The strategies on toy programs without a world: tasks that take numbered steps. A schedule is the order of all steps.
#include "sim/schedule.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/test.h"

using namespace mneme;
using namespace mneme::sim;

namespace {

// Tasks A, B, ... with so many steps each; a task that has gone is last in line again.
class Toy {
 public:
  explicit Toy(std::vector<int> steps) : left_(std::move(steps)), done_(left_.size(), 0) {
    for (size_t t = 0; t < left_.size(); ++t) line_.push_back(t);
  }
  bool over() const { return line_.empty(); }
  const std::vector<size_t>& line() const { return line_; }
  std::vector<Schedule::Task> tasks() const {
    std::vector<Schedule::Task> tasks;
    for (size_t t : line_) tasks.push_back({mix(t), static_cast<uint64_t>(done_[t])});
    return tasks;
  }
  void go(size_t place) {
    const size_t task = line_[place];
    line_.erase(line_.begin() + static_cast<std::ptrdiff_t>(place));
    history_ += static_cast<char>('A' + task);
    if (++done_[task] < left_[task]) line_.push_back(task);
  }
  const std::string& history() const { return history_; }

 private:
  std::vector<int> left_;
  std::vector<int> done_;
  std::vector<size_t> line_;
  std::string history_;
};

std::string run(uint64_t seed, const ScheduleOptions& options, std::vector<int> steps) {
  const Fate fate(seed);
  Schedule schedule(fate, options);
  Toy toy(std::move(steps));
  while (!toy.over()) {
    const auto tasks = toy.tasks();
    toy.go(schedule.pick(tasks));
  }
  return toy.history();
}

// Where in the history the task takes its nth step, from 1.
size_t when(const std::string& history, char task, int nth) {
  size_t at = history.find(task);
  while (--nth > 0) at = history.find(task, at + 1);
  return at;
}
bool before(const std::string& history, char a, int nth_a, char b, int nth_b) {
  return when(history, a, nth_a) < when(history, b, nth_b);
}

constexpr int kSteps = 8;
const std::vector<int> kTwo = {kSteps, kSteps};
constexpr uint64_t kPicks = 2 * kSteps - 1;  // with a choice, at most
constexpr int kSeeds = 60'000;

// Bugs that need so many orders between steps of two tasks, and that the other orders do not imply.
bool depth_1(const std::string& h) { return before(h, 'B', 1, 'A', 1); }
bool depth_2(const std::string& h) { return before(h, 'A', 5, 'B', 1) && before(h, 'B', 1, 'A', 6); }
bool depth_3(const std::string& h) { return depth_2(h) && before(h, 'A', 8, 'B', 2); }

template <class Bug>
int found(const ScheduleOptions& options, Bug&& bug, int seeds = kSeeds) {
  int count = 0;
  for (int seed = 1; seed <= seeds; ++seed) count += bug(run(static_cast<uint64_t>(seed), options, kTwo));
  return count;
}

// At least so many of kSeeds, but for chance: four standard deviations.
bool keeps_promise(int count, double probability) {
  const double mean = kSeeds * probability;
  return count >= mean - 4 * std::sqrt(mean);
}

// All schedules with at most `budget` delays, by trying each: the first in line may be put behind all that are not
// delayed yet, as often as the budget allows, before the one that is then first goes.
void explore(Toy toy, std::vector<size_t> delayed, int budget, std::set<std::string>& all) {
  if (toy.over()) {
    all.insert(toy.history());
    return;
  }
  const bool choice = toy.line().size() > 1;
  for (int delays = 0; delays <= (choice ? budget : 0); ++delays) {
    std::vector<size_t> line;
    for (size_t task : toy.line())
      if (std::find(delayed.begin(), delayed.end(), task) == delayed.end()) line.push_back(task);
    line.insert(line.end(), delayed.begin(), delayed.end());
    Toy next = toy;
    next.go(static_cast<size_t>(std::find(toy.line().begin(), toy.line().end(), line[0]) - toy.line().begin()));
    std::vector<size_t> still = delayed;
    std::erase(still, line[0]);
    explore(next, still, budget - delays, all);
    std::erase(delayed, line[0]);
    delayed.push_back(line[0]);
  }
}

}  // namespace

TEST_CASE("FIFO gives every task its turn in the order in which they became ready", "[schedule]") {
  CHECK(run(1, {}, {3, 2, 1}) == "ABCABA");
  CHECK(found({}, depth_1, 1) + found({}, depth_2, 1) + found({}, depth_3, 1) == 0);
}

TEST_CASE("random picks each order of tasks that are ready together equally often", "[schedule]") {
  std::map<std::string, int> orders;
  for (uint64_t seed = 1; seed <= 6000; ++seed) ++orders[run(seed, {.strategy = Strategy::kRandom}, {1, 1, 1})];
  CHECK(orders.size() == 6);
  for (auto& [order, count] : orders) {
    INFO(order);
    CHECK(count > 850);
    CHECK(count < 1150);
  }
}

TEST_CASE("random finds shallow bugs", "[schedule]") {
  const ScheduleOptions random{.strategy = Strategy::kRandom};
  CHECK(found(random, depth_1, 1000) > 300);
  CHECK(found(random, depth_2, 1000) > 0);
}

TEST_CASE("PCT of depth d finds a bug of depth d at least as often as promised", "[schedule]") {
  auto pct = [](uint32_t depth) {
    return ScheduleOptions{.strategy = Strategy::kPct, .depth = depth, .stretch = kPicks};
  };
  const double n = 2, k = kPicks;
  CHECK(keeps_promise(found(pct(1), depth_1), 1 / n));
  CHECK(keeps_promise(found(pct(2), depth_2), 1 / (n * k)));
  CHECK(keeps_promise(found(pct(3), depth_3), 1 / (n * k * k)));
  // Without change points a task runs to its end.
  CHECK(found(pct(1), depth_2, 1000) == 0);
  CHECK(found(pct(2), depth_3, 1000) == 0);
}

TEST_CASE("PCT keeps its promise among bystanders", "[schedule]") {
  const std::vector<int> four = {kSteps, kSteps, 3, 3};
  const uint64_t picks = 2 * kSteps + 6 - 1;
  int count = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed)
    count += depth_2(run(seed, {.strategy = Strategy::kPct, .depth = 2, .stretch = picks}, four));
  CHECK(keeps_promise(count, 1.0 / (4.0 * static_cast<double>(picks))));
}

TEST_CASE("a budget of k delays explores exactly the schedules with at most k delays", "[schedule]") {
  for (const std::vector<int>& steps : {std::vector<int>{3, 3}, {2, 2, 2}, {1, 3, 2}}) {
    size_t smaller = 0;
    for (uint32_t budget = 0; budget <= 3; ++budget) {
      INFO("budget " << budget << " of " << steps.size() << " tasks");
      std::set<std::string> all;
      explore(Toy(steps), {}, static_cast<int>(budget), all);
      std::set<std::string> seen;
      for (uint64_t seed = 1; seed <= 5000; ++seed)
        seen.insert(run(seed, {.strategy = Strategy::kDelayBounded, .depth = budget, .stretch = 6}, steps));
      CHECK((seen == all));
      CHECK(all.size() > smaller);  // a larger budget finds more
      smaller = all.size();
    }
  }
  CHECK(run(1, {.strategy = Strategy::kDelayBounded, .depth = 0}, kTwo) == run(1, {}, kTwo));
}

TEST_CASE("delays find bugs of their number that FIFO does not", "[schedule]") {
  auto delays = [](uint32_t budget) {
    return ScheduleOptions{.strategy = Strategy::kDelayBounded, .depth = budget, .stretch = kPicks};
  };
  CHECK(found(delays(1), depth_1, 1000) > 0);
  CHECK(found(delays(0), depth_1, 1000) == 0);
}

TEST_CASE("strategies that intervene begin anew with every stretch", "[schedule]") {
  // One change point in every 10 picks: a history of 30 has more than one.
  const Fate fate(3);
  const ScheduleOptions options{.strategy = Strategy::kPct, .depth = 1, .stretch = 10};
  std::set<char> first_of_stretch;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const std::string history = run(seed, options, {100, 100});
    for (size_t i = 0; i < 100; ++i) {
      INFO("seed " << seed << " pick " << i);
      CHECK(history[i] == history[i / 10 * 10]);  // nobody falls
    }
    CHECK(history.substr(0, 100).find('A') != std::string::npos);
    CHECK(history.substr(0, 100).find('B') != std::string::npos);
  }
}

TEST_CASE("a schedule depends on names and turns, not on who else was in line before", "[schedule]") {
  const ScheduleOptions random{.strategy = Strategy::kRandom};
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    const Fate fate(seed);
    const std::vector<Schedule::Task> pair = {{7, 1}, {8, 5}};
    const std::vector<Schedule::Task> others = {{1, 1}, {2, 1}, {3, 1}};
    Schedule alone(fate, random);
    Schedule after(fate, random);
    after.pick(others);
    CHECK(alone.pick(pair) == after.pick(pair));
  }
}
