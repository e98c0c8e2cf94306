#include "sim/check/reduce.h"

#include <algorithm>
#include <numeric>

#include "sim/check/brute_force.h"
#include "sim/check/unique_writes.h"

namespace mneme::check {
namespace {

class Reducer {
 public:
  Reducer(const KeyView& key, OpId failing, const Budget& budget) : key_(key), budget_(budget) {
    Position end = key.operations[failing].ret;
    for (OpId id : key.ids) {
      Operation op = key.operations[id];
      if (op.call > end) break;
      if (op.outcome == Outcome::kFailed) continue;
      if (op.outcome == Outcome::kOk && op.ret > end) weaken(op);
      core_.operations.push_back(op);
      core_.ids.push_back(id);
    }
    budget_.steps = std::min<uint64_t>(budget_.steps, 2'000'000);
  }

  Core run() {
    if (!find_window()) drop_what_tells_nothing(core_);
    bool smaller = true;
    while (smaller && allowance_ > 0) {
      smaller = leave_out_in_chunks();
      drop_what_tells_nothing(core_);
    }
    std::optional<bool> possible =
        linearizable_by_brute_force(core_.operations, *key_.values, key_.initial.front(), core_.from_any_state);
    core_.confirmed = possible.has_value() && !*possible;
    return std::move(core_);
  }

 private:
  static void weaken(Operation& op) {
    op.outcome = Outcome::kUnknown;
    op.reply = ReplyKind::kNothing;
    op.ret = kForever;
  }

  bool impossible(const Core& core) {
    if (core.operations.size() > allowance_) {
      allowance_ = 0;
      return false;
    }
    allowance_ -= core.operations.size();
    std::vector<ValueId> initial(key_.initial.begin(), key_.initial.end());
    if (core.from_any_state) initial = all_states(core.operations, *key_.values);
    if (initial.empty()) return false;
    std::vector<OpId> all(core.operations.size());
    std::iota(all.begin(), all.end(), 0);
    KeyView view{core.operations.data(), all, key_.values, initial};
    if (!core.from_any_state) {
      std::vector<OpId> order;
      UniqueAnswer answer = check_unique_writes(view, kForever, scratch_, order);
      if (answer != UniqueAnswer::kNotApplicable) return answer == UniqueAnswer::kViolation;
    }
    Prepared prepared(view);
    return search(prepared, budget_).answer == Answer::kViolation;
  }

  // Prepared knows which operations nobody can miss.
  void drop_what_tells_nothing(Core& core) {
    std::vector<OpId> all(core.operations.size());
    std::iota(all.begin(), all.end(), 0);
    Prepared prepared({core.operations.data(), all, key_.values, key_.initial});
    Core kept{.from_any_state = core.from_any_state};
    for (const KeyOp& op : prepared.ops) {
      kept.operations.push_back(core.operations[op.id]);
      kept.ids.push_back(core.ids[op.id]);
    }
    core = std::move(kept);
  }

  // Only what was open at `from` or called later.
  Core window(Position from) const {
    Core out{.from_any_state = true};
    for (size_t i = 0; i < core_.operations.size(); ++i) {
      Operation op = core_.operations[i];
      if (op.ret < from) continue;
      if (op.call < from) weaken(op);
      out.operations.push_back(op);
      out.ids.push_back(core_.ids[i]);
    }
    return out;
  }

  // The shorter the window the less is demanded, so windows that reach back twice as far each time find a good one.
  bool find_window() {
    size_t size = core_.operations.size();
    for (size_t back = 1; back < size; back *= 2) {
      Core small = window(core_.operations[size - back].call);
      drop_what_tells_nothing(small);
      if (!impossible(small)) continue;
      core_ = std::move(small);
      return true;
    }
    return false;
  }

  // Observers are left out, writers weakened; larger chunks first, from the oldest on.
  bool leave_out_in_chunks() {
    bool any = false;
    for (size_t chunk = std::max<size_t>(1, core_.operations.size() / 2); chunk > 0; chunk /= 2) {
      for (size_t begin = 0; begin < core_.operations.size() && allowance_ > 0;) {
        Core smaller{.from_any_state = core_.from_any_state};
        bool differs = false;
        for (size_t i = 0; i < core_.operations.size(); ++i) {
          Operation op = core_.operations[i];
          if (i >= begin && i < begin + chunk && op.outcome == Outcome::kOk) {
            differs = true;
            weaken(op);
          }
          smaller.operations.push_back(op);
          smaller.ids.push_back(core_.ids[i]);
        }
        if (differs) drop_what_tells_nothing(smaller);
        if (differs && impossible(smaller)) {
          core_ = std::move(smaller);
          any = true;
        } else {
          begin += chunk;
        }
      }
    }
    return any;
  }

  const KeyView& key_;
  Budget budget_;
  Core core_;
  UniqueScratch scratch_;
  size_t allowance_ = 4'000'000;  // operations looked at in all
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

Core reduce(const KeyView& key, OpId failing, const Budget& budget) { return Reducer(key, failing, budget).run(); }

}  // namespace mneme::check
