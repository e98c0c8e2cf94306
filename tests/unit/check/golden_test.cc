#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "sim/check/formats.h"
#include "support.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::check;

namespace {

struct Golden {
  std::string name;
  History history;
  bool linearizable;
};

std::vector<Golden> golden() {
  static const std::vector<std::string> good = {"002", "005", "007", "018", "025", "031", "075", "098"};
  std::vector<Golden> out;
  for (const auto& entry : std::filesystem::directory_iterator(MNEME_SOURCE_DIR "/tests/golden/histories")) {
    std::string name = entry.path().filename().string();
    if (entry.path().extension() == ".md") continue;
    std::ifstream in(entry.path());
    std::stringstream text;
    text << in.rdbuf();
    bool etcd = name.starts_with("etcd_");
    Result<History> history = etcd ? parse_jepsen(text.str()) : parse_kv(text.str());
    REQUIRE(history);
    bool linearizable = etcd ? std::ranges::find(good, name.substr(5, 3)) != good.end() : name.contains("ok");
    out.push_back({name, std::move(*history), linearizable});
  }
  std::ranges::sort(out, {}, &Golden::name);
  return out;
}

double best_ms(int turns, auto&& fn) {
  double best = 1e9;
  for (int i = 0; i < turns; ++i) {
    auto begin = std::chrono::steady_clock::now();
    fn();
    std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    best = std::min(best, took.count());
  }
  return best;
}

// As a register shared by clients that each wait for their answer, written with values of their own.
History unique_history(size_t operations, uint32_t clients) {
  Dice dice(7);
  History history;
  KeyId key = history.key("k");
  struct Open {
    OpId id = 0;
    int stage = 0;
  };
  std::vector<Open> open(clients);
  ValueId state = kAbsent;
  std::vector<ValueId> seen(clients, kAbsent);
  size_t called = 0;
  uint32_t busy = 0;
  while (called < operations || busy > 0) {
    auto client = static_cast<uint32_t>(dice.below(clients));
    Open& mine = open[client];
    if (mine.stage == 0 && called < operations) {
      bool write = dice.one_in(2);
      mine.id =
          history.invoke(write ? set(client, key, history.value("v" + std::to_string(called))) : get(client, key));
      mine.stage = 1;
      ++called;
      ++busy;
    } else if (mine.stage == 1) {
      const Operation& op = history.operations[mine.id];
      if (op.kind == Kind::kSet) state = op.a;
      seen[client] = state;
      mine.stage = 2;
    } else if (mine.stage == 2) {
      bool read = history.operations[mine.id].kind == Kind::kGet;
      history.complete(mine.id, read ? Reply::of(seen[client]) : Reply::nothing());
      mine.stage = 0;
      --busy;
    }
  }
  return history;
}

}  // namespace

TEST_CASE("recorded histories of real systems get their known verdicts, each way", "[check][golden]") {
  std::vector<Golden> files = golden();
  REQUIRE(files.size() == 24);
  for (const Golden& file : files) {
    INFO(file.name);
    for (Method method : {Method::kBoth, Method::kDepthFirst, Method::kFrontier}) {
      Verdict verdict = check::check(file.history, {.method = method});
      REQUIRE(verdict.answer == (file.linearizable ? Answer::kLinearizable : Answer::kViolation));
      if (file.linearizable) {
        CHECK(replay(file.history, verdict.order));
      } else {
        CHECK(verdict.violation.core.operations.size() < file.history.operations.size() / 2);
      }
    }
  }
}

TEST_CASE("times of the recorded histories", "[.bench]") {
  double sum = 0;
  double full = 0;
  for (const Golden& file : golden()) {
    Verdict verdict;
    double ms = best_ms(20, [&] { verdict = check::check(file.history, {.explain = false}); });
    double explained = best_ms(3, [&] { verdict = check::check(file.history); });
    double depth = best_ms(3, [&] { check::check(file.history, {.explain = false, .method = Method::kDepthFirst}); });
    double frontier = best_ms(3, [&] { check::check(file.history, {.explain = false, .method = Method::kFrontier}); });
    if (file.name.starts_with("etcd")) {
      sum += ms;
      full += explained;
    }
    fmt::print(
        "{:14} {:4} ops {:8.4f} ms  explained {:8.4f}  depth-first {:8.4f} frontier {:8.4f}  {} steps {} KiB core {} "
        "{}\n",
        file.name, file.history.operations.size(), ms, explained, depth, frontier, verdict.steps, verdict.memory / 1024,
        verdict.violation.core.operations.size(), verdict.violation.core.confirmed);
  }
  fmt::print("sum of the twenty etcd histories: {:.3f} ms, explained {:.3f} ms\n", sum, full);
}

TEST_CASE("times of random histories", "[.bench]") {
  using enum Kind;
  struct Sort {
    const char* name;
    Recipe recipe;
    KeyId keys = 1;
  };
  Recipe etcd{.kinds = {kGet, kSet, kCas, kCas}, .texts = {"0", "1", "2", "3", "4"}};
  etcd.operations = 85;
  etcd.clients = 5;
  etcd.unknown_one_in = 6;
  Recipe longer = etcd;
  longer.operations = 300;
  longer.unknown_one_in = 12;
  Recipe wide = etcd;
  wide.operations = 1000;
  wide.clients = 16;
  wide.unknown_one_in = 0;
  Recipe store{.kinds = {kGet, kGet, kGet, kSet, kSet, kSet, kCas, kCas, kDelete, kIncr, kAppend, kExpire},
               .texts = {"x"}};
  store.operations = 1000;
  store.clients = 12;
  store.unique = true;
  store.unknown_one_in = 40;
  for (const Sort& sort :
       {Sort{"as etcd", etcd}, Sort{"as etcd, longer", longer}, Sort{"16 clients, no timeouts", wide},
        Sort{"as the store, one key", store}, Sort{"as the store, four keys", store, 4}}) {
    double worst = 0;
    double sum = 0;
    std::array<int, 3> answers{};
    constexpr int kTurns = 200;
    for (uint64_t seed = 0; seed < kTurns; ++seed) {
      Dice dice(seed);
      Recipe recipe = sort.recipe;
      recipe.pause = 1 + seed % 4;
      recipe.spoil_one_in = seed % 2;
      History history = random_history(dice, recipe, sort.keys);
      Verdict verdict;
      CheckOptions options{.budget = {.steps = 10'000'000}, .explain = false};
      double ms = best_ms(1, [&] { verdict = check::check(history, options); });
      sum += ms;
      worst = std::max(worst, ms);
      ++answers[static_cast<size_t>(verdict.answer)];
    }
    fmt::print("{:28} mean {:8.3f} ms, worst {:8.2f} ms; {} linearizable, {} not, {} inconclusive\n", sort.name,
               sum / kTurns, worst, answers[0], answers[1], answers[2]);
  }
}

TEST_CASE("time of a million operations with unique writes", "[.bench]") {
  History history = unique_history(1'000'000, 16);
  Verdict verdict;
  double ms = best_ms(5, [&] { verdict = check::check(history); });
  fmt::print("million operations, linear path: {:.0f} ms, {}\n", ms, verdict.answer == Answer::kLinearizable);
  double proof = best_ms(1, [&] { REQUIRE(replay(history, verdict.order)); });
  fmt::print("replay: {:.0f} ms\n", proof);
  double general = best_ms(1, [&] { verdict = check::check(history, {.linear_path = false}); });
  fmt::print("search: {:.0f} ms, {}, {} MiB\n", general, verdict.answer == Answer::kLinearizable, verdict.memory >> 20);
  double frontier =
      best_ms(1, [&] { verdict = check::check(history, {.linear_path = false, .method = Method::kFrontier}); });
  fmt::print("frontier: {:.0f} ms, {}, {} MiB\n", frontier, verdict.answer == Answer::kLinearizable,
             verdict.memory >> 20);
  for (size_t i = 900'000; i < history.operations.size(); ++i) {
    Operation& op = history.operations[i];
    if (op.kind != Kind::kGet || op.reply_value == kAbsent) continue;
    op.reply_value = history.operations[10].kind == Kind::kSet ? history.operations[10].a : history.value("v3");
    break;
  }
  double stale = best_ms(1, [&] { verdict = check::check(history, {.explain = false}); });
  double explained = best_ms(1, [&] { verdict = check::check(history); });
  fmt::print("stale read: {:.0f} ms, explained {:.0f} ms, core {} {}\n", stale, explained,
             verdict.violation.core.operations.size(), verdict.answer == Answer::kViolation);
}
