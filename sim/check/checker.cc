#include "sim/check/checker.h"

#include <algorithm>
#include <numeric>

#include "core/base/check.h"
#include "sim/check/by_revision.h"
#include "sim/check/unique_writes.h"

namespace mneme::check {
namespace {

// For each key its operations in order of their calls, one key after the other.
struct Split {
  std::vector<OpId> ids;
  std::vector<size_t> begins;  // by key, and one past the last
};

Split split(const History& history) {
  std::vector<OpId> by_call(history.positions, UINT32_MAX);
  Split out;
  out.begins.assign(history.keys.size() + 1, 0);
  for (OpId id = 0; id < history.operations.size(); ++id) {
    const Operation& op = history.operations[id];
    CHECK(op.call < history.positions && by_call[op.call] == UINT32_MAX && op.key < history.keys.size());
    by_call[op.call] = id;
    ++out.begins[op.key + 1];
  }
  for (size_t key = 1; key < out.begins.size(); ++key) out.begins[key] += out.begins[key - 1];
  std::vector<size_t> at(out.begins.begin(), out.begins.end() - 1);
  out.ids.resize(history.operations.size());
  for (OpId id : by_call) {
    if (id != UINT32_MAX) out.ids[at[history.operations[id].key]++] = id;
  }
  return out;
}

// The history up to a return: later calls are not there, later returns not known.
std::vector<Operation> up_to(const KeyView& key, Position end) {
  std::vector<Operation> out;
  for (OpId id : key.ids) {
    Operation op = key.operations[id];
    if (op.call > end) break;
    if (op.outcome == Outcome::kOk && op.ret > end) {
      op.outcome = Outcome::kUnknown;
      op.reply = ReplyKind::kNothing;
      op.ret = kForever;
    }
    out.push_back(op);
  }
  return out;
}

std::vector<OpId> count_up(size_t n) {
  std::vector<OpId> ids(n);
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

struct KeyResult {
  Answer answer = Answer::kInconclusive;
  OpId failing = UINT32_MAX;  // kViolation, from a search: impossible at this return or at a later one
};

KeyResult check_key(const KeyView& key, const CheckOptions& options, UniqueScratch& scratch, Verdict& verdict) {
  std::vector<OpId> order;
  if (options.by_revision) {
    if (auto found = order_by_revision(key)) {
      verdict.order.insert(verdict.order.end(), found->begin(), found->end());
      return {Answer::kLinearizable};
    }
  }
  if (options.linear_path) {
    UniqueAnswer answer = check_unique_writes(key, kForever, scratch, order);
    if (answer == UniqueAnswer::kLinearizable) {
      verdict.order.insert(verdict.order.end(), order.begin(), order.end());
      return {Answer::kLinearizable};
    }
    if (answer == UniqueAnswer::kViolation) return {Answer::kViolation};
  }
  Prepared prepared(key);
  Found found = search(prepared, options.budget, options.method);
  verdict.steps += found.steps;
  verdict.memory = std::max(verdict.memory, found.memory);
  verdict.order.insert(verdict.order.end(), found.order.begin(), found.order.end());
  return {found.answer, found.failing};
}

// The first return up to which the history is impossible; it is so up to every later one as well. The return where a
// search ran empty may come earlier: it knows the replies of operations that were still open there.
OpId first_impossible(const KeyView& key, OpId hint, const CheckOptions& options, UniqueScratch& scratch) {
  std::vector<OpId> returns;
  for (OpId id : key.ids) {
    if (key.operations[id].outcome == Outcome::kOk) returns.push_back(id);
  }
  std::ranges::sort(returns, {}, [&](OpId id) { return key.operations[id].ret; });
  std::vector<OpId> order;
  Verdict unused;
  auto possible = [&](OpId id) {
    Position end = key.operations[id].ret;
    UniqueAnswer answer = check_unique_writes(key, end, scratch, order);
    if (answer != UniqueAnswer::kNotApplicable) return answer == UniqueAnswer::kLinearizable;
    std::vector<Operation> operations = up_to(key, end);
    std::vector<OpId> ids = count_up(operations.size());
    KeyView prefix{operations.data(), ids, key.values, key.initial};
    return check_key(prefix, options, scratch, unused).answer != Answer::kViolation;
  };
  auto begin = returns.begin();
  if (hint != UINT32_MAX) {
    begin = std::ranges::find(returns, hint);
    if (!possible(hint)) return hint;
  }
  return *std::partition_point(begin, returns.end() - 1, possible);
}

// What the key can have held along the way to the failing return, with real values; not for very long histories.
std::vector<ValueId> follow(const KeyView& key, OpId failing, Budget budget, Trace& trace) {
  constexpr size_t kWorthIt = 100'000;
  if (key.ids.size() > kWorthIt) return {};
  std::vector<Operation> operations = up_to(key, key.operations[failing].ret);
  std::vector<OpId> ids = count_up(operations.size());
  budget.steps = std::min<uint64_t>(budget.steps, 4'000'000);
  Prepared prepared({operations.data(), ids, key.values, key.initial}, false);
  Found found = search(prepared, budget, Method::kTrace);
  for (size_t layer = 1; layer < found.trace.size(); ++layer) {
    trace.returns.push_back(prepared.ops[prepared.layers[layer - 1].returning].ret);
    trace.states.push_back(std::move(found.trace[layer]));
  }
  // Sums and appended strings that stand nowhere in the history have no names outside.
  for (ValueId& state : found.states) state = state < key.values->size() ? state : Values::kOther;
  std::ranges::sort(found.states);
  found.states.erase(std::ranges::unique(found.states).begin(), found.states.end());
  return found.states;
}

}  // namespace

Verdict check(const History& history, const CheckOptions& options) {
  Verdict verdict;
  verdict.answer = Answer::kLinearizable;
  Split keys = split(history);
  for (KeyId key = 0; key < history.keys.size(); ++key) verdict.keys += keys.begins[key] < keys.begins[key + 1] ? 1 : 0;
  UniqueScratch scratch;
  auto view = [&](KeyId key) {
    auto ids = std::span(keys.ids).subspan(keys.begins[key], keys.begins[key + 1] - keys.begins[key]);
    return KeyView{history.operations.data(), ids, &history.values, {&history.initial, 1}};
  };
  for (KeyId key = 0; key < history.keys.size(); ++key) {
    if (keys.begins[key] == keys.begins[key + 1]) continue;
    KeyResult result = check_key(view(key), options, scratch, verdict);
    if (result.answer == Answer::kInconclusive && verdict.answer == Answer::kLinearizable) {
      verdict.answer = Answer::kInconclusive;
      verdict.inconclusive = key;
    }
    if (result.answer != Answer::kViolation) continue;
    verdict.answer = Answer::kViolation;
    verdict.violation = {.key = key, .failing = result.failing};
    break;
  }
  if (verdict.answer != Answer::kLinearizable) verdict.order.clear();
  if (verdict.answer == Answer::kViolation && options.explain) {
    Violation& violation = verdict.violation;
    KeyView key = view(violation.key);
    violation.failing = first_impossible(key, violation.failing, options, scratch);
    Trace trace;
    violation.possible = follow(key, violation.failing, options.budget, trace);
    violation.core = reduce(key, violation.failing, trace, options.budget);
  }
  return verdict;
}

bool replay(const History& history, const std::vector<OpId>& order) {
  Values values(history.values);
  std::vector<ValueId> state(history.keys.size(), history.initial);
  std::vector<Position> latest_call(history.keys.size(), 0);
  std::vector<bool> placed(history.operations.size(), false);
  for (OpId id : order) {
    const Operation& op = history.operations.at(id);
    std::optional<ValueId> next = step(state[op.key], op, values);
    latest_call[op.key] = std::max(latest_call[op.key], op.call);
    if (placed[id] || op.outcome == Outcome::kFailed || op.ret < latest_call[op.key] || !next) return false;
    placed[id] = true;
    state[op.key] = *next;
  }
  for (OpId id = 0; id < history.operations.size(); ++id) {
    // A read that tells nothing need not be anywhere.
    const Operation& op = history.operations[id];
    bool blind_read = op.kind == Kind::kGet && op.reply == ReplyKind::kNothing;
    if (op.outcome == Outcome::kOk && !placed[id] && !blind_read) return false;
  }
  return true;
}

}  // namespace mneme::check
