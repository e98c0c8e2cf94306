#include <array>
#include <cstdlib>
#include <set>

#include "sim/check/brute_force.h"
#include "support.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::check;

namespace {

bool brute(const History& history, Position until = kForever) {
  std::vector<Operation> operations;
  for (Operation op : history.operations) {
    if (op.call > until) continue;
    if (op.outcome == Outcome::kOk && op.ret > until) {
      op.outcome = Outcome::kUnknown;
      op.reply = ReplyKind::kNothing;
      op.ret = kForever;
    }
    operations.push_back(op);
  }
  return linearizable_by_brute_force(operations, history.values, {&history.initial, 1}).value();
}

OpId first_impossible(const History& history) {
  std::vector<OpId> returns;
  for (OpId id = 0; id < history.operations.size(); ++id) {
    if (history.operations[id].outcome == Outcome::kOk) returns.push_back(id);
  }
  std::ranges::sort(returns, {}, [&](OpId id) { return history.operations[id].ret; });
  for (OpId id : returns) {
    if (!brute(history, history.operations[id].ret)) return id;
  }
  return UINT32_MAX;
}

// How many histories were of each sort, so that none is missing without anybody noticing.
struct Tally {
  uint64_t linearizable = 0;
  uint64_t impossible = 0;
  uint64_t with_unknown = 0;
  uint64_t without_unknown = 0;
  uint64_t by_revision = 0;
  uint64_t without_search = 0;  // and without revisions: the linear path
  uint64_t searched = 0;
};

void count(const History& history, bool linearizable, Tally& tally) {
  const bool unknown = std::ranges::count(history.operations, Outcome::kUnknown, &Operation::outcome) > 0;
  ++(linearizable ? tally.linearizable : tally.impossible);
  ++(unknown ? tally.with_unknown : tally.without_unknown);
  const CheckOptions only_revisions{.budget = {.steps = 0}, .linear_path = false, .explain = false};
  tally.by_revision += check::check(history, only_revisions).answer == Answer::kLinearizable;
  const uint64_t steps = check::check(history, {.by_revision = false, .explain = false}).steps;
  ++(steps == 0 ? tally.without_search : tally.searched);
}

// Each way to a verdict gives the right one, with its proof.
void agrees(const History& history, bool linearizable) {
  const std::vector<CheckOptions> ways = {
      {},
      {.by_revision = false},
      {.by_revision = false, .linear_path = false, .explain = false},
      {.by_revision = false, .linear_path = false, .explain = false, .method = Method::kDepthFirst},
      {.by_revision = false, .linear_path = false, .explain = false, .method = Method::kFrontier},
  };
  OpId failing = linearizable ? 0 : first_impossible(history);
  for (size_t i = 0; i < ways.size(); ++i) {
    Verdict verdict = check::check(history, ways[i]);
    bool right = verdict.answer == (linearizable ? Answer::kLinearizable : Answer::kViolation);
    if (linearizable) right = right && replay(history, verdict.order);
    if (!linearizable && ways[i].explain) right = right && verdict.violation.core.confirmed;
    if (!linearizable) right = right && (!ways[i].explain || verdict.violation.failing == failing);
    if (!right) {
      INFO("way " << i << ", linearizable " << linearizable << ", failing " << failing << ", found "
                  << static_cast<int>(verdict.answer) << " " << verdict.violation.failing << "\n"
                  << show(history));
      REQUIRE(right);
    }
  }
}

// For longer runs by hand, or one round again: MNEME_FUZZ_ROUNDS and MNEME_FUZZ_FIRST.
uint64_t wished(const char* name, uint64_t otherwise) {
  const char* wish = std::getenv(name);
  return wish == nullptr ? otherwise : std::strtoull(wish, nullptr, 10);
}

}  // namespace

TEST_CASE("on random histories every way of checking agrees with brute force", "[check][fuzz]") {
  Tally tally;
  uint64_t total = wished("MNEME_FUZZ_ROUNDS", 120'000);
  uint64_t begin = wished("MNEME_FUZZ_FIRST", 0);
  for (uint64_t seed = begin; seed < begin + total; ++seed) {
    Dice dice(seed);
    Recipe recipe = random_recipe(dice);
    History history = random_history(dice, recipe);
    bool linearizable = brute(history);
    count(history, linearizable, tally);
    INFO("seed " << seed);
    if (total == 1) WARN(show(history));
    agrees(history, linearizable);
    if (recipe.spoil_one_in == 0) REQUIRE(linearizable);
  }
  for (uint64_t sort : {tally.linearizable, tally.impossible, tally.with_unknown, tally.without_unknown,
                        tally.by_revision, tally.without_search, tally.searched}) {
    CAPTURE(tally.linearizable, tally.impossible, tally.with_unknown, tally.without_unknown, tally.by_revision,
            tally.without_search, tally.searched);
    CHECK(sort * 8 >= total);
  }
}

TEST_CASE("on longer random histories all ways of checking agree, and correct ones pass", "[check][fuzz]") {
  const std::vector<CheckOptions> ways = {
      {.explain = false},
      {.by_revision = false, .explain = false},
      {.by_revision = false, .linear_path = false, .explain = false, .method = Method::kDepthFirst},
      {.by_revision = false, .linear_path = false, .explain = false, .method = Method::kFrontier},
  };
  std::array<uint64_t, 3> answers{};
  uint64_t total = wished("MNEME_FUZZ_ROUNDS", 6000) / 2;
  uint64_t begin = wished("MNEME_FUZZ_FIRST", 0);
  for (uint64_t seed = begin; seed < begin + total; ++seed) {
    Dice dice(seed + 1'000'000);
    Recipe recipe = random_recipe(dice);
    recipe.operations = 20 + dice.below(seed % 10 == 0 ? 200 : 60);
    recipe.clients = 2 + dice.below(8);
    recipe.lost_one_in = dice.below(3);
    recipe.spoils = dice.below(3);
    const History history = random_history(dice, recipe, 1 + static_cast<KeyId>(dice.below(2)));
    std::optional<Answer> agreed;
    for (size_t i = 0; i < ways.size(); ++i) {
      CheckOptions options = ways[i];
      options.budget = {.steps = 200'000};
      Verdict verdict = check::check(history, options);
      ++answers[static_cast<size_t>(verdict.answer)];
      INFO("seed " << seed << ", way " << i << "\n" << show(history));
      if (verdict.answer == Answer::kInconclusive) continue;
      if (verdict.answer == Answer::kLinearizable) REQUIRE(replay(history, verdict.order));
      if (recipe.spoil_one_in == 0) REQUIRE(verdict.answer == Answer::kLinearizable);
      REQUIRE(verdict.answer == agreed.value_or(verdict.answer));
      agreed = verdict.answer;
    }
  }
  const uint64_t all = answers[0] + answers[1] + answers[2];
  CAPTURE(answers[0], answers[1], answers[2]);
  CHECK(answers[0] * 5 >= all);
  CHECK(answers[1] * 20 >= all);
  CHECK(answers[2] * 20 < all);
}
