#include "sim/check/model.h"

#include "sim/check/commit_order.h"
#include "support.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::check;

TEST_CASE("integers are those that Redis takes for such", "[check]") {
  CHECK(parse_integer("0") == 0);
  CHECK(parse_integer("-1") == -1);
  CHECK(parse_integer("9223372036854775807") == INT64_MAX);
  CHECK(parse_integer("-9223372036854775808") == INT64_MIN);
  for (const char* text : {"", "-", "+1", "01", "-0", "-01", " 1", "1 ", "1.0", "9223372036854775808", "x", "0x1"}) {
    INFO(text);
    CHECK_FALSE(parse_integer(text));
  }
}

TEST_CASE("the shape of an operation says the same as its step, in every state", "[check]") {
  uint64_t exact = 0;
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    Dice dice(seed);
    Recipe recipe = random_recipe(dice);
    History history = random_history(dice, recipe);
    Values values(history.values);
    std::vector<ValueId> states{kAbsent};
    for (const char* text : {"", "0", "1", "2", "3", "x", "w1", "ab", "-1", "neverseen"})
      states.push_back(values.intern(text));
    for (ValueId id = 1; id < history.values.size(); ++id) states.push_back(id);
    for (const Operation& op : history.operations) {
      if (op.outcome == Outcome::kFailed) continue;
      Shape shape = shape_of(op, values);
      for (ValueId state : states) {
        std::optional<ValueId> after = step(state, op, values);
        INFO(describe_call(op, history.values)
             << " -> " << describe_reply(op, history.values) << " in " << describe_value(state, history.values));
        if (shape.total) REQUIRE(after);
        if (shape.observes()) REQUIRE((!after || *after == state));
        if (shape.overwrites()) REQUIRE(after == shape.to);
        if (shape.pre == Pre::kAsk) continue;
        ++exact;
        bool fits =
            !shape.impossible && (shape.pre == Pre::kAny || (state == shape.pre_value) == (shape.pre == Pre::kIs));
        // An operation of unknown outcome that meets another state does nothing.
        if (op.outcome == Outcome::kUnknown && !fits) {
          REQUIRE(after == state);
        } else {
          REQUIRE(after.has_value() == fits);
          if (fits) REQUIRE(after == (shape.post == Post::kSame ? state : shape.to));
        }
      }
    }
  }
  CHECK(exact > 100'000);
}

TEST_CASE("an interner keeps contents and identities, the empty text among them", "[check]") {
  Interner interner;
  std::vector<ValueId> ids;
  for (int i = 0; i < 1000; ++i) ids.push_back(interner.intern("v" + std::to_string(i)));
  ValueId empty = interner.intern("");
  CHECK(empty != kAbsent);
  for (int i = 0; i < 1000; ++i) {
    REQUIRE(interner.text(ids[static_cast<size_t>(i)]) == "v" + std::to_string(i));
    REQUIRE(interner.intern("v" + std::to_string(i)) == ids[static_cast<size_t>(i)]);
  }
  CHECK(interner.find("") == empty);
  CHECK(interner.find("v1000") == kAbsent);
  CHECK(interner.size() == 1002);
}

TEST_CASE("a commit order that follows real time passes", "[check]") {
  CommitOrder order;
  CHECK_FALSE(order.add(1, 0, 10));
  CHECK_FALSE(order.add(2, 5, std::nullopt));
  CHECK_FALSE(order.add(3, 8, 30));
  CHECK_FALSE(order.add(4, 2, 8));
  CHECK_FALSE(order.add(5, 31, 40));
}

TEST_CASE("an operation applied after one that was called when it had returned is named", "[check]") {
  CommitOrder order;
  CHECK_FALSE(order.add(1, 100, 200));
  CHECK_FALSE(order.add(2, 150, std::nullopt));
  CHECK_FALSE(order.add(3, 120, 300));
  CHECK(order.add(4, 50, 149) == 2);
  CHECK_FALSE(order.add(5, 60, 150));
}

TEST_CASE("the commit order is a linearization exactly when replaying it in that order respects real time", "[check]") {
  uint64_t wrong_orders = 0;
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    Dice dice(seed);
    Recipe recipe{.kinds = {Kind::kSet}, .texts = {"1"}};
    recipe.clients = 4;
    recipe.unknown_one_in = 5;
    recipe.spoil_one_in = 0;
    History history = random_history(dice, recipe);
    std::vector<OpId> candidate;
    for (OpId id = 0; id < history.operations.size(); ++id) candidate.push_back(id);
    for (size_t i = candidate.size(); i > 1; --i) {
      size_t near = i > 3 ? i - 1 - dice.below(3) : dice.below(i);
      std::swap(candidate[i - 1], candidate[near]);
    }
    CommitOrder order;
    bool fits = true;
    for (OpId id : candidate) {
      const Operation& op = history.operations[id];
      std::optional<int64_t> end;
      if (op.ret != kForever) end = op.ret;
      if (order.add(id, op.call, end)) fits = false;
    }
    REQUIRE(fits == replay(history, candidate));
    wrong_orders += fits ? 0 : 1;
  }
  CHECK(wrong_orders > 200);
  CHECK(wrong_orders < 1800);
}
