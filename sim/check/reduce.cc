#include "sim/check/reduce.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "sim/check/brute_force.h"
#include "sim/check/unique_writes.h"

namespace mneme::check {
namespace {

constexpr uint64_t kMostSteps = 10'000'000;  // of all searches together
constexpr uint64_t kMostStepsOfOne = 2'000'000;
// Where next to nothing is known, either the search is empty at once or there are too many orders to see their end.
constexpr uint64_t kMostStepsOfAlone = 50'000;

class Reducer {
 public:
  Reducer(const KeyView& key, OpId failing, const Trace& trace, const Budget& budget)
      : key_(key), failing_(failing), trace_(trace), budget_(budget) {
    core_.from.assign(key.initial.begin(), key.initial.end());
    Position end = key.operations[failing].ret;
    for (OpId id : key.ids) {
      Operation op = key.operations[id];
      if (op.call > end) break;
      if (op.outcome == Outcome::kFailed) continue;
      if (op.outcome == Outcome::kOk && op.ret > end) weaken(op);
      core_.operations.push_back(op);
      core_.ids.push_back(id);
    }
  }

  Core run() {
    const Core whole = core_;
    if (!is_alone_impossible() && !find_window()) drop_what_tells_nothing(core_);
    leave_out();
    for (size_t back = 4; back > 0 && core_.operations.size() > kBruteForceOperations; back /= 2) {
      // Better little that takes much for granted than more than anybody reads.
      Core large = std::exchange(core_, whole);
      allowance_ = std::max<uint64_t>(allowance_, 1'000'000);
      if (window_from_held(std::min(back, whole.operations.size()))) leave_out();
      if (core_.operations.size() >= large.operations.size()) core_ = std::move(large);
    }
    std::optional<bool> possible =
        linearizable_by_brute_force(core_.operations, *key_.values, core_.from, core_.from_any_state, &steps_);
    core_.steps = steps_;
    core_.confirmed = possible.has_value() && !*possible;
    return std::move(core_);
  }

 private:
  static void weaken(Operation& op) {
    op.outcome = Outcome::kUnknown;
    op.reply = ReplyKind::kNothing;
    op.ret = kForever;
  }

  bool impossible(const Core& core, uint64_t most_steps) {
    if (allowance_ == 0) return false;
    allowance_ -= std::min<uint64_t>(allowance_, 20 * core.operations.size());
    std::vector<ValueId> initial = core.from;
    if (core.from_any_state) initial = all_states(core.operations, *key_.values);
    if (initial.empty()) return false;
    std::vector<OpId> all(core.operations.size());
    std::iota(all.begin(), all.end(), 0);
    KeyView view{core.operations.data(), all, key_.values, initial};
    if (initial.size() == 1) {
      std::vector<OpId> order;
      UniqueAnswer answer = check_unique_writes(view, kForever, scratch_, order);
      if (answer != UniqueAnswer::kNotApplicable) return answer == UniqueAnswer::kViolation;
    }
    Prepared prepared(view);
    budget_.steps = std::min(most_steps, allowance_);
    Found found = search(prepared, budget_);
    steps_ += found.steps;
    allowance_ -= std::min(allowance_, found.steps);
    return found.answer == Answer::kViolation;
  }

  // Prepared knows which operations nobody can miss.
  void drop_what_tells_nothing(Core& core) {
    std::vector<OpId> all(core.operations.size());
    std::iota(all.begin(), all.end(), 0);
    Prepared prepared({core.operations.data(), all, key_.values, core.from});
    size_t kept = 0;
    for (const KeyOp& op : prepared.ops) {
      core.operations[kept] = core.operations[op.id];
      core.ids[kept++] = core.ids[op.id];
    }
    core.operations.resize(kept);
    core.ids.resize(kept);
  }

  // Whether nothing that was ever asked of the key could have led to this reply.
  bool is_alone_impossible() {
    constexpr size_t kWorthIt = 100'000;
    if (core_.operations.size() > kWorthIt) return false;
    Core alone = core_;
    for (size_t i = 0; i < alone.ids.size(); ++i) {
      if (alone.ids[i] != failing_) weaken(alone.operations[i]);
    }
    return take_if_impossible(std::move(alone), kMostStepsOfAlone);
  }

  // Only what was open at `begin` or called later.
  Core window(Position begin) const {
    Core out;
    out.from_start = false;
    for (size_t i = 0; i < core_.operations.size(); ++i) {
      Operation op = core_.operations[i];
      if (op.ret < begin) continue;
      if (op.call < begin) weaken(op);
      out.operations.push_back(op);
      out.ids.push_back(core_.ids[i]);
    }
    return out;
  }

  bool take_if_impossible(Core core, uint64_t most_steps = kMostStepsOfOne) {
    drop_what_tells_nothing(core);
    if (!impossible(core, most_steps)) return false;
    core_ = std::move(core);
    return true;
  }

  // The shorter the window the less is demanded, so windows that reach back twice as far each time find a good one.
  // Best is one before which the key may have held anything. From what it can have held there is always one, but a
  // short one of those tells little: it takes for granted what led there.
  bool find_window() {
    constexpr size_t kFar = 128;
    constexpr size_t kTelling = 16;
    size_t size = core_.operations.size();
    for (size_t back = 1; back < 2 * std::min(size, kFar); back *= 2) {
      if (!window_from_any_state(std::min(back, size))) continue;
      for (size_t most = std::min(back, core_.operations.size()), least = 0; most - least > 1;) {
        size_t middle = (most + least) / 2;
        if (window_from_any_state(middle)) {
          most = std::min(middle, core_.operations.size());
        } else {
          least = middle;
        }
      }
      return true;
    }
    for (size_t back = kTelling; back < 2 * size; back *= 2) {
      if (window_from_held(std::min(back, size))) return true;
      if (back > kFar && window_from_any_state(std::min(back, size))) return true;
    }
    return false;
  }

  bool window_from_any_state(size_t back) {
    Core any = window(core_.operations[core_.operations.size() - back].call);
    any.from_any_state = true;
    return take_if_impossible(std::move(any));
  }

  bool window_from_held(size_t back) {
    Position begin = core_.operations[core_.operations.size() - back].call;
    auto at = std::ranges::upper_bound(trace_.returns, begin);
    if (at == trace_.returns.begin()) return false;
    --at;
    const std::vector<ValueId>& states = trace_.states[static_cast<size_t>(at - trace_.returns.begin())];
    auto named = [&](ValueId state) { return state < key_.values->size(); };
    if (states.empty() || !std::ranges::all_of(states, named)) return false;
    Core held = window(*at + 1);
    held.from = states;
    return take_if_impossible(std::move(held));
  }

  void leave_out() {
    while (allowance_ > 0 && leave_out_in_chunks()) drop_what_tells_nothing(core_);
  }

  // Observers are left out, writers weakened; larger chunks first, from the oldest on.
  bool leave_out_in_chunks() {
    bool any = false;
    for (size_t chunk = std::max<size_t>(1, core_.operations.size() / 2); chunk > 0; chunk /= 2) {
      for (size_t begin = 0; begin < core_.operations.size() && allowance_ > 0;) {
        Core smaller = core_;
        bool differs = false;
        for (size_t i = begin; i < std::min(begin + chunk, smaller.operations.size()); ++i) {
          differs |= smaller.operations[i].outcome == Outcome::kOk;
          weaken(smaller.operations[i]);
        }
        if (differs && take_if_impossible(std::move(smaller))) {
          any = true;
        } else {
          begin += chunk;
        }
      }
    }
    return any;
  }

  const KeyView& key_;
  const OpId failing_;
  const Trace& trace_;
  Budget budget_;
  Core core_;
  UniqueScratch scratch_;
  uint64_t allowance_ = kMostSteps;  // what is left, making ready included
  uint64_t steps_ = 0;
};

}  // namespace

std::vector<ValueId> all_states(std::span<const Operation> operations, const Interner& values) {
  std::vector<ValueId> out{kAbsent, Values::kOther};
  Values computed(values);
  for (const Operation& op : operations) {
    Shape shape = shape_of(op, computed);
    bool told = shape.pre != Pre::kAsk || op.kind == Kind::kCas || op.kind == Kind::kSetNx ||
                op.kind == Kind::kDelete || op.kind == Kind::kExpire || op.reply == ReplyKind::kNotAnInteger;
    // A state computed here would have another id in the search.
    if (!told || shape.pre_value >= values.size()) return {};
    for (ValueId id : {shape.pre_value, shape.to, op.a}) {
      if (id != kAnyValue && id < values.size()) out.push_back(id);
    }
  }
  std::ranges::sort(out);
  out.erase(std::ranges::unique(out).begin(), out.end());
  return out;
}

Core reduce(const KeyView& key, OpId failing, const Trace& trace, const Budget& budget) {
  return Reducer(key, failing, trace, budget).run();
}

}  // namespace mneme::check
