// Who checks the checker: mistakes that one could have are made by changing what the real one gets to see, and the
// comparison with brute force, which sees the truth, must notice each of them.
#include "sim/check/brute_force.h"
#include "support.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::check;

namespace {

void renumber(History& history, auto place_of_return) {
  struct Event {
    double at;
    OpId id;
    bool is_return;
  };
  std::vector<Event> events;
  for (OpId id = 0; id < history.operations.size(); ++id) {
    const Operation& op = history.operations[id];
    events.push_back({static_cast<double>(op.call), id, false});
    if (op.ret != kForever) events.push_back({place_of_return(op), id, true});
  }
  std::ranges::stable_sort(events, {}, &Event::at);
  history.positions = 0;
  for (const Event& event : events) {
    Operation& op = history.operations[event.id];
    (event.is_return ? op.ret : op.call) = history.positions++;
  }
}

void forget_real_time(History& history) {
  renumber(history, [&](const Operation& op) { return static_cast<double>(history.positions) + op.ret; });
}
void see_returns_late(History& history) {
  renumber(history, [](const Operation& op) { return op.ret + 2.5; });
}
void see_returns_early(History& history) {
  renumber(history, [](const Operation& op) { return std::max(op.ret - 2.5, op.call + 0.5); });
}
void take_unknown_for_failed(History& history) {
  for (Operation& op : history.operations) {
    if (op.outcome == Outcome::kUnknown) op.outcome = Outcome::kFailed;
  }
}
void take_unknown_for_done(History& history) {
  for (Operation& op : history.operations) {
    if (op.outcome != Outcome::kUnknown) continue;
    op.outcome = Outcome::kOk;
    op.ret = history.positions++;
  }
}
void take_failed_for_unknown(History& history) {
  for (Operation& op : history.operations) {
    if (op.outcome != Outcome::kFailed) continue;
    op.outcome = Outcome::kUnknown;
    op.ret = kForever;
  }
}
void drop_last_read(History& history) {
  auto last = std::ranges::find_if(history.operations.rbegin(), history.operations.rend(),
                                   [](const Operation& op) { return op.kind == Kind::kGet; });
  if (last != history.operations.rend()) history.operations.erase(last.base() - 1);
}
void drop_last_operation(History& history) { history.operations.pop_back(); }
void take_refusals_for_failures(History& history) {
  for (Operation& op : history.operations) {
    if (op.reply == ReplyKind::kNo) op.outcome = Outcome::kFailed;
  }
}
void forget_what_writers_are_told(History& history) {
  for (Operation& op : history.operations) {
    if (op.kind != Kind::kGet) op.reply = ReplyKind::kNothing;
  }
}
void take_absent_for_a_value(History& history) {
  for (Operation& op : history.operations) {
    if (op.reply == ReplyKind::kValue && op.reply_value == kAbsent) op.reply_value = history.value("1");
  }
}
void believe_the_initial_value_is_lost(History& history) { history.initial = history.value("lost"); }

struct Mutant {
  const char* mistake;
  void (*plant)(History& history);
};

const Mutant kMutants[] = {
    {"none", [](History&) {}},
    {"forgets real-time order", forget_real_time},
    {"sees returns late", see_returns_late},
    {"sees returns early", see_returns_early},
    {"takes an unknown outcome for a failure", take_unknown_for_failed},
    {"takes an unknown outcome for success", take_unknown_for_done},
    {"takes a failure for an unknown outcome", take_failed_for_unknown},
    {"drops the last read", drop_last_read},
    {"drops the last operation", drop_last_operation},
    {"takes a swap refused for one that failed", take_refusals_for_failures},
    {"forgets what writers are told", forget_what_writers_are_told},
    {"takes absent for a value", take_absent_for_a_value},
    {"believes that the initial value is lost", believe_the_initial_value_is_lost},
};

struct Way {
  const char* name;
  CheckOptions options;
  bool unique;
};

}  // namespace

TEST_CASE("the comparison with brute force notices each mistake of a checker, on every path", "[check][fuzz]") {
  const Way ways[] = {
      {"by revision or else", {.explain = false}, true},
      {"unique writes", {.by_revision = false, .explain = false}, true},
      {"depth-first",
       {.by_revision = false, .linear_path = false, .explain = false, .method = Method::kDepthFirst},
       false},
      {"frontier", {.by_revision = false, .linear_path = false, .explain = false, .method = Method::kFrontier}, false},
  };
  constexpr uint64_t kHistories = 2000;
  for (const Way& way : ways) {
    for (const Mutant& mutant : kMutants) {
      uint64_t wrongly_good = 0;
      uint64_t wrongly_bad = 0;
      for (uint64_t seed = 0; seed < kHistories; ++seed) {
        Dice dice(seed);
        Recipe recipe = random_recipe(dice);
        recipe.unique |= way.unique;
        recipe.spoil_one_in = 2;
        History history = random_history(dice, recipe);
        const bool truth =
            linearizable_by_brute_force(history.operations, history.values, {&history.initial, 1}).value();
        mutant.plant(history);
        const bool found = check::check(history, way.options).answer == Answer::kLinearizable;
        wrongly_good += found && !truth;
        wrongly_bad += !found && truth;
      }
      INFO(way.name << ", a checker that " << mutant.mistake << ": wrongly good " << wrongly_good << ", wrongly bad "
                    << wrongly_bad);
      const bool sound = mutant.mistake == std::string_view("none");
      CHECK((wrongly_good + wrongly_bad > 0) != sound);
    }
  }
}
