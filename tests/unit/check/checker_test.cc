#include "sim/check/checker.h"

#include "sim/check/brute_force.h"
#include "support.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::check;

namespace {

// Writes histories event by event; every verdict asked of it is asked of brute force too, and proved.
struct Story {
  History h;
  KeyId k = h.key("k");

  ValueId v(std::string_view text) { return h.value(text); }
  // One that has returned before the next is called.
  void did(const Operation& what, Reply reply) { h.complete(h.invoke(what), reply); }

  bool linearizable() {
    bool expected = linearizable_by_brute_force(h.operations, h.values, {&h.initial, 1}).value();
    for (bool linear_path : {true, false}) {
      Verdict verdict = check::check(h, {.linear_path = linear_path});
      INFO(show(h));
      REQUIRE((verdict.answer == Answer::kLinearizable) == expected);
      if (expected) {
        REQUIRE(replay(h, verdict.order));
      } else {
        REQUIRE(verdict.violation.core.confirmed);
      }
    }
    return expected;
  }
};

}  // namespace

TEST_CASE("an empty history and one of failed operations are linearizable", "[check]") {
  Story s;
  CHECK(s.linearizable());
  OpId id = s.h.invoke(set(1, s.k, s.v("1")));
  s.h.did_not_happen(id);
  s.did(get(2, s.k), Reply::of(kAbsent));
  CHECK(s.linearizable());
}

TEST_CASE("a failed write must not be seen", "[check]") {
  Story s;
  s.h.did_not_happen(s.h.invoke(set(1, s.k, s.v("1"))));
  s.did(get(2, s.k), Reply::of(s.v("1")));
  CHECK_FALSE(s.linearizable());
}

TEST_CASE("a stale read after the write returned is a violation, during it is not", "[check]") {
  Story s;
  s.did(set(1, s.k, s.v("1")), Reply::nothing());
  OpId write = s.h.invoke(set(1, s.k, s.v("2")));
  s.did(get(2, s.k), Reply::of(s.v("1")));
  CHECK(s.linearizable());
  s.h.complete(write, Reply::nothing());
  CHECK(s.linearizable());
  s.did(get(2, s.k), Reply::of(s.v("1")));
  CHECK_FALSE(s.linearizable());
  Verdict verdict = check::check(s.h);
  CHECK(verdict.violation.failing == 3);
  CHECK(verdict.violation.core.operations.size() == 2);
  CHECK(verdict.violation.possible == std::vector<ValueId>{s.v("2")});
}

TEST_CASE("two reads that see concurrent writes in different orders are a violation", "[check]") {
  Story s;
  OpId one = s.h.invoke(set(1, s.k, s.v("1")));
  OpId two = s.h.invoke(set(2, s.k, s.v("2")));
  s.did(get(3, s.k), Reply::of(s.v("1")));
  s.did(get(3, s.k), Reply::of(s.v("2")));
  CHECK(s.linearizable());
  s.did(get(3, s.k), Reply::of(s.v("1")));
  s.h.complete(one, Reply::nothing());
  s.h.complete(two, Reply::nothing());
  CHECK_FALSE(s.linearizable());
}

TEST_CASE("a write of unknown outcome may take effect late, once, or never", "[check]") {
  Story s;
  s.did(set(1, s.k, s.v("1")), Reply::nothing());
  s.h.invoke(set(2, s.k, s.v("2")));
  s.did(get(1, s.k), Reply::of(s.v("1")));
  CHECK(s.linearizable());
  s.did(get(1, s.k), Reply::of(s.v("2")));
  CHECK(s.linearizable());
  s.did(set(1, s.k, s.v("3")), Reply::nothing());
  s.did(get(1, s.k), Reply::of(s.v("3")));
  CHECK(s.linearizable());
  s.did(get(1, s.k), Reply::of(s.v("2")));
  CHECK_FALSE(s.linearizable());
}

TEST_CASE("a write of unknown outcome does not take effect before its call", "[check]") {
  Story s;
  s.did(get(1, s.k), Reply::of(s.v("2")));
  s.h.invoke(set(2, s.k, s.v("2")));
  CHECK_FALSE(s.linearizable());
}

TEST_CASE("two equal writes of unknown outcome may both be seen, a third sight needs a third", "[check]") {
  Story s;
  for (int i = 0; i < 2; ++i) s.h.invoke(set(2, s.k, s.v("2")));
  for (int i = 0; i < 2; ++i) {
    s.did(set(1, s.k, s.v("1")), Reply::nothing());
    s.did(get(1, s.k), Reply::of(s.v("2")));
  }
  CHECK(s.linearizable());
  s.did(set(1, s.k, s.v("1")), Reply::nothing());
  s.did(get(1, s.k), Reply::of(s.v("2")));
  CHECK_FALSE(s.linearizable());
}

TEST_CASE("a lost update by compare-and-set is a violation", "[check]") {
  Story s;
  s.did(set(1, s.k, s.v("0")), Reply::nothing());
  OpId one = s.h.invoke(cas(1, s.k, s.v("0"), s.v("1")));
  OpId two = s.h.invoke(cas(2, s.k, s.v("0"), s.v("2")));
  s.h.complete(one, Reply::yes());
  CHECK(s.linearizable());
  s.h.complete(two, Reply::yes());
  CHECK_FALSE(s.linearizable());
}

TEST_CASE("a compare-and-set that did not swap tells that the value was another", "[check]") {
  Story s;
  s.did(set(1, s.k, s.v("0")), Reply::nothing());
  s.did(cas(1, s.k, s.v("1"), s.v("2")), Reply::yes(false));
  CHECK(s.linearizable());
  s.did(cas(1, s.k, s.v("0"), s.v("2")), Reply::yes(false));
  CHECK_FALSE(s.linearizable());
}

TEST_CASE("a compare-and-set from absent creates", "[check]") {
  Story s;
  s.did(cas(1, s.k, kAbsent, s.v("1")), Reply::yes());
  s.did(get(1, s.k), Reply::of(s.v("1")));
  CHECK(s.linearizable());
  s.did(cas(1, s.k, kAbsent, s.v("2")), Reply::yes());
  CHECK_FALSE(s.linearizable());
}

TEST_CASE("deletes tell whether something was there", "[check]") {
  Story s;
  s.did(del(1, s.k), Reply::yes(false));
  s.did(set(1, s.k, s.v("1")), Reply::nothing());
  s.did(del(1, s.k), Reply::yes());
  s.did(get(1, s.k), Reply::of(kAbsent));
  CHECK(s.linearizable());
  s.did(del(1, s.k), Reply::yes());
  CHECK_FALSE(s.linearizable());
}

TEST_CASE("counters count from absent as from 0, and a repeated sum is a violation", "[check]") {
  Story s;
  s.did(incr(1, s.k, 1), Reply::count(1));
  s.did(incr(1, s.k, 4), Reply::count(5));
  OpId unseen = s.h.invoke(incr(2, s.k, 1));
  s.did(incr(1, s.k, 1), Reply::count(7));
  CHECK(s.linearizable());
  s.did(get(1, s.k), Reply::of(s.v("7")));
  CHECK(s.linearizable());
  s.h.complete(unseen, Reply::count(6));
  s.did(incr(1, s.k, 1), Reply::count(7));
  CHECK_FALSE(s.linearizable());
}

TEST_CASE("an increment refused as not an integer changes nothing and needs another kind of value", "[check]") {
  Story s;
  s.did(set(1, s.k, s.v("x")), Reply::nothing());
  s.did(incr(1, s.k, 1), Reply::error(ReplyKind::kNotAnInteger));
  s.did(get(1, s.k), Reply::of(s.v("x")));
  CHECK(s.linearizable());
  s.did(set(1, s.k, s.v("007")), Reply::nothing());
  s.did(incr(1, s.k, 1), Reply::error(ReplyKind::kNotAnInteger));
  CHECK(s.linearizable());
  s.did(set(1, s.k, s.v("7")), Reply::nothing());
  s.did(incr(1, s.k, 1), Reply::error(ReplyKind::kNotAnInteger));
  CHECK_FALSE(s.linearizable());
}

TEST_CASE("an increment refused as an overflow needs a sum that overflows", "[check]") {
  Story s;
  s.did(set(1, s.k, s.v("9223372036854775806")), Reply::nothing());
  s.did(incr(1, s.k, 2), Reply::error(ReplyKind::kOverflow));
  s.did(incr(1, s.k, 1), Reply::count(INT64_MAX));
  CHECK(s.linearizable());
  s.did(incr(1, s.k, -1), Reply::error(ReplyKind::kOverflow));
  CHECK_FALSE(s.linearizable());
}

TEST_CASE("appends answer with a length, a value, or nothing", "[check]") {
  Story s;
  OpId one = s.h.invoke(append(1, s.k, s.v("a")));
  OpId two = s.h.invoke(append(2, s.k, s.v("bc")));
  s.h.complete(one, Reply::count(3));
  s.h.complete(two, Reply::count(2));
  s.did(get(1, s.k), Reply::of(s.v("bca")));
  CHECK(s.linearizable());
  s.did(append(1, s.k, s.v("d")), Reply::of(s.v("bcad")));
  s.did(append(1, s.k, s.v("e")), Reply::nothing());
  CHECK(s.linearizable());
  s.did(get(1, s.k), Reply::of(s.v("bcad")));
  CHECK_FALSE(s.linearizable());
}

TEST_CASE("an append of unknown outcome that shows up twice is a violation", "[check]") {
  Story s;
  s.h.invoke(append(1, s.k, s.v("a")));
  s.did(get(2, s.k), Reply::of(s.v("a")));
  s.did(append(2, s.k, s.v("b")), Reply::nothing());
  s.did(get(2, s.k), Reply::of(s.v("ab")));
  CHECK(s.linearizable());
  s.did(get(2, s.k), Reply::of(s.v("aba")));
  CHECK_FALSE(s.linearizable());
}

TEST_CASE("set-if-absent and get-and-set tell what was there", "[check]") {
  Story s;
  s.did(setnx(1, s.k, s.v("1")), Reply::yes());
  s.did(setnx(1, s.k, s.v("2")), Reply::yes(false));
  s.did(getset(1, s.k, s.v("3")), Reply::of(s.v("1")));
  CHECK(s.linearizable());
  s.did(getset(1, s.k, s.v("4")), Reply::of(s.v("1")));
  CHECK_FALSE(s.linearizable());
}

TEST_CASE("an expiry may happen once, and only to the value it is about", "[check]") {
  Story s;
  s.did(set(1, s.k, s.v("1")), Reply::nothing());
  s.h.invoke(expire(s.k, s.v("1")));
  s.did(get(1, s.k), Reply::of(s.v("1")));
  s.did(get(1, s.k), Reply::of(kAbsent));
  CHECK(s.linearizable());
  SECTION("not twice") {
    s.did(set(1, s.k, s.v("1")), Reply::nothing());
    s.did(get(1, s.k), Reply::of(kAbsent));
    CHECK_FALSE(s.linearizable());
  }
  SECTION("not to another value") {
    s.h.operations.pop_back();
    s.did(set(1, s.k, s.v("2")), Reply::nothing());
    CHECK(s.linearizable());
    s.did(get(1, s.k), Reply::of(kAbsent));
    CHECK_FALSE(s.linearizable());
  }
}

TEST_CASE("keys are independent, and the one with the violation is named", "[check]") {
  Story s;
  KeyId other = s.h.key("other");
  for (int i = 0; i < 20; ++i) {
    s.did(set(1, s.k, s.v(std::to_string(i))), Reply::nothing());
    s.did(get(1, other), Reply::of(kAbsent));
  }
  Verdict verdict = check::check(s.h);
  CHECK(verdict.answer == Answer::kLinearizable);
  CHECK(verdict.keys == 2);
  CHECK(replay(s.h, verdict.order));
  s.did(get(1, other), Reply::of(s.v("3")));
  verdict = check::check(s.h);
  REQUIRE(verdict.answer == Answer::kViolation);
  CHECK(verdict.violation.key == other);
  CHECK(verdict.violation.core.ids == std::vector<OpId>{40});
}

namespace {

// A counter that eight clients count up, down and read, and one of the reads, towards the end, answers a number that
// the counter never had. Increments commute, so that orders are very many and tell nothing.
History counter_with_a_wrong_read(uint64_t seed) {
  Dice dice(seed);
  Recipe recipe{.kinds = {Kind::kGet, Kind::kIncr}, .texts = {"1"}};
  recipe.operations = 640;
  recipe.clients = 8;
  recipe.unknown_one_in = 40;
  recipe.lost_one_in = 2;
  recipe.spoil_one_in = 0;
  recipe.pause = 2;
  History history = random_history(dice, recipe);
  size_t wrong = history.operations.size() * 9 / 10;
  while (history.operations[wrong].reply != ReplyKind::kValue) ++wrong;
  history.operations[wrong].reply_value = history.value("-77");
  return history;
}

}  // namespace

// The verdicts take thousands of steps. The explanations took millions, and the second opinion of those that are small
// enough to have one took as many more as there are orders of what commutes.
TEST_CASE("to explain a wrong read among hundreds of operations on a counter takes few steps", "[check]") {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    const Verdict verdict = check::check(counter_with_a_wrong_read(seed), {.budget = {.steps = 1'000'000}});
    REQUIRE(verdict.answer == Answer::kViolation);
    const Core& core = verdict.violation.core;
    INFO("seed " << seed << ": " << core.operations.size() << " operations after " << core.steps << " steps");
    CHECK(core.steps < 200'000);
    CHECK(core.operations.size() < 20);
  }
}

namespace {

// Linearizable, and not to be told without a search of thousands of steps.
History history_for_a_search() {
  Dice dice(3);
  Recipe recipe{.kinds = {Kind::kGet, Kind::kSet, Kind::kCas}, .texts = {"1", "2", "3"}};
  recipe.operations = 400;
  recipe.clients = 12;
  recipe.spoil_one_in = 0;
  recipe.pause = 6;
  return random_history(dice, recipe);
}

}  // namespace

TEST_CASE("a budget that runs out gives no verdict", "[check]") {
  const History history = history_for_a_search();
  REQUIRE(check::check(history).answer == Answer::kLinearizable);
  Verdict verdict = check::check(history, {.budget = {.steps = 100}});
  CHECK(verdict.answer == Answer::kInconclusive);
  CHECK(verdict.inconclusive == 1);
  CHECK(verdict.order.empty());
  for (Method method : {Method::kBoth, Method::kDepthFirst, Method::kFrontier}) {
    verdict = check::check(history, {.budget = {.memory_bytes = 1000}, .method = method});
    CHECK(verdict.answer == Answer::kInconclusive);
  }
}

TEST_CASE("the frontier's memory follows concurrency: only the order that it finds grows with the history", "[check]") {
  auto memory = [](size_t operations) {
    Dice dice(5);
    Recipe recipe{.kinds = {Kind::kGet, Kind::kSet, Kind::kCas}, .texts = {"1", "2", "3"}, .operations = operations};
    recipe.clients = 6;
    recipe.spoil_one_in = 0;
    const History history = random_history(dice, recipe);
    Verdict verdict = check::check(history, {.method = Method::kFrontier});
    REQUIRE(verdict.answer == Answer::kLinearizable);
    return verdict.memory;
  };
  constexpr size_t kBytesOfAChoice = 16;  // of which the order takes one for each operation at most
  const uint64_t small = memory(2'000);
  const uint64_t large = memory(40'000);
  CAPTURE(small, large);
  CHECK(small < 200'000);
  CHECK(large < small + 38'000 * kBytesOfAChoice);
}

TEST_CASE("revisions spare a search, and wrong ones do no harm", "[check]") {
  History history = history_for_a_search();
  Dice dice(3);
  const CheckOptions short_of_budget{.budget = {.steps = 100}};
  const std::vector<OpId> order = check::check(history).order;
  REQUIRE(order.size() > 100);
  for (size_t i = 0; i < order.size(); ++i) history.operations[order[i]].revision = i + 1;
  Verdict verdict = check::check(history, short_of_budget);
  CHECK(verdict.answer == Answer::kLinearizable);
  CHECK(verdict.steps == 0);
  CHECK(replay(history, verdict.order));
  CHECK(check::check(history, {.budget = {.steps = 100}, .by_revision = false}).answer == Answer::kInconclusive);

  std::swap(history.operations[order[50]].revision, history.operations[order[90]].revision);
  CHECK(check::check(history, short_of_budget).answer == Answer::kInconclusive);
  CHECK(check::check(history).answer == Answer::kLinearizable);

  SECTION("one that is missing leaves all to the search") {
    std::swap(history.operations[order[50]].revision, history.operations[order[90]].revision);
    history.operations[order[50]].revision = 0;
    CHECK(check::check(history, short_of_budget).answer == Answer::kInconclusive);
    CHECK(check::check(history).answer == Answer::kLinearizable);
  }
}

TEST_CASE("by revision a write of unknown outcome is put in where a reply needs it, and only there", "[check]") {
  Story s;
  auto told = [&](const Operation& what, Reply reply, uint64_t revision) {
    s.did(what, reply);
    s.h.operations.back().revision = revision;
  };
  // Values are written twice, so that without revisions there would be a search.
  auto by_revision = [&] {
    Verdict verdict = check::check(s.h, {.budget = {.steps = 1}});
    const bool decided = verdict.answer == Answer::kLinearizable;
    if (decided) CHECK(replay(s.h, verdict.order));
    return decided;
  };
  told(set(1, s.k, s.v("1")), Reply::nothing(), 10);
  s.h.invoke(cas(2, s.k, s.v("1"), s.v("2")));
  s.h.invoke(set(3, s.k, s.v("1")));
  told(get(1, s.k), Reply::of(s.v("1")), 10);
  CHECK(by_revision());
  told(get(1, s.k), Reply::of(s.v("2")), 12);
  CHECK(by_revision());
  told(cas(1, s.k, s.v("2"), s.v("3")), Reply::yes(false), 15);
  CHECK(by_revision());
  told(set(1, s.k, s.v("1")), Reply::nothing(), 17);
  CHECK(by_revision());
  CHECK(s.linearizable());
  SECTION("once") {
    told(get(1, s.k), Reply::of(s.v("2")), 19);
    CHECK_FALSE(by_revision());
    CHECK_FALSE(s.linearizable());
  }
  SECTION("not before its call") {
    told(set(1, s.k, s.v("4")), Reply::nothing(), 19);
    told(get(1, s.k), Reply::of(s.v("3")), 20);
    s.h.invoke(set(2, s.k, s.v("3")));
    CHECK_FALSE(by_revision());
    CHECK_FALSE(s.linearizable());
  }
}

TEST_CASE("revisions that contradict real time do not make a stale read right", "[check]") {
  Story s;
  s.did(set(1, s.k, s.v("1")), Reply::nothing());
  s.did(set(1, s.k, s.v("2")), Reply::nothing());
  s.did(get(2, s.k), Reply::of(s.v("1")));
  for (OpId id : {0, 2, 1}) s.h.operations[id].revision = id == 1 ? 2 : 1;
  CHECK_FALSE(s.linearizable());
}

TEST_CASE("a proof that is none is refused", "[check]") {
  Story s;
  s.did(set(1, s.k, s.v("1")), Reply::nothing());
  s.did(get(1, s.k), Reply::of(s.v("1")));
  OpId failed = s.h.invoke(set(1, s.k, s.v("2")));
  s.h.did_not_happen(failed);
  OpId late = s.h.invoke(set(1, s.k, s.v("1")));
  CHECK(replay(s.h, {0, 1}));
  CHECK(replay(s.h, {0, 1, late}));
  CHECK_FALSE(replay(s.h, {0}));
  CHECK_FALSE(replay(s.h, {1, 0}));
  CHECK_FALSE(replay(s.h, {0, 1, 1}));
  CHECK_FALSE(replay(s.h, {0, 1, failed}));
  CHECK_FALSE(replay(s.h, {0, late, 1}));
}

namespace {

// Histories in which one rule of the checkers decides. A checker without the rule gives the other verdict.
History decided_by_real_time() {
  Story s;
  s.did(set(1, s.k, s.v("1")), Reply::nothing());
  s.did(set(1, s.k, s.v("2")), Reply::nothing());
  s.did(get(2, s.k), Reply::of(s.v("1")));
  return s.h;
}
History decided_by_unknown() {
  Story s;
  s.h.invoke(set(1, s.k, s.v("1")));
  s.did(get(2, s.k), Reply::of(s.v("1")));
  return s.h;
}
History decided_by_last_read() {
  Story s;
  s.did(set(1, s.k, s.v("1")), Reply::nothing());
  s.did(get(2, s.k), Reply::of(kAbsent));
  return s.h;
}
// Values are written twice, so that the search must decide.
History repeated(History history) {
  KeyId key = 1;
  for (int i = 0; i < 2; ++i) {
    OpId id = history.invoke(set(9, key, history.value("9")));
    history.complete(id, Reply::nothing());
  }
  return history;
}

}  // namespace

TEST_CASE("a checker that forgets real time, unknown outcomes or the last read would be noticed", "[check]") {
  auto verdict = [](const History& history) { return check::check(history).answer == Answer::kLinearizable; };
  for (bool search : {false, true}) {
    auto variant = [&](History history) { return search ? repeated(std::move(history)) : history; };
    History history = variant(decided_by_real_time());
    CHECK_FALSE(verdict(history));
    // As if all had been concurrent.
    Position n = static_cast<Position>(history.operations.size());
    for (OpId id = 0; id < n; ++id) {
      history.operations[id].call = id;
      history.operations[id].ret = n + id;
    }
    CHECK(verdict(history));

    history = variant(decided_by_unknown());
    CHECK(verdict(history));
    history.operations[0].outcome = Outcome::kFailed;
    CHECK_FALSE(verdict(history));

    history = variant(decided_by_last_read());
    CHECK_FALSE(verdict(history));
    std::erase_if(history.operations, [](const Operation& op) { return op.kind == Kind::kGet; });
    CHECK(verdict(history));
  }
}

TEST_CASE("a wrong read at the end of a long history with timeouts is found and told in a few operations", "[check]") {
  using enum Kind;
  const std::vector<Recipe> recipes = {
      {.kinds = {kGet, kGet, kSet, kCas, kDelete}, .texts = {"w1", "w2"}, .unique = true, .unknown_one_in = 30},
      {.kinds = {kGet, kSet, kCas, kDelete, kAppend, kIncr}, .texts = {"1", "2", "x"}, .unknown_one_in = 200},
  };
  for (Recipe recipe : recipes) {
    Dice dice(11);
    recipe.operations = recipe.unique ? 3000 : 300;
    recipe.clients = 8;
    recipe.spoil_one_in = 0;
    recipe.pause = 2;
    for (int i = 0; i < 3; ++i) {
      History history = random_history(dice, recipe);
      Verdict verdict = check::check(history);
      REQUIRE(verdict.answer == Answer::kLinearizable);
      CHECK(replay(history, verdict.order));
      KeyId key = 1;
      OpId write = history.invoke(set(1, key, history.value("last")));
      history.complete(write, Reply::nothing());
      OpId read = history.invoke(get(2, key));
      history.complete(read, Reply::of(history.value("never")));
      verdict = check::check(history);
      REQUIRE(verdict.answer == Answer::kViolation);
      CHECK(verdict.violation.failing == read);
      CHECK(verdict.violation.core.confirmed);
    }
  }
}
