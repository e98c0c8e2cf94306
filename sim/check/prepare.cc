#include "sim/check/prepare.h"

#include <algorithm>
#include <map>
#include <queue>
#include <tuple>

#include "core/base/check.h"

namespace mneme::check {

Prepared::Prepared(const KeyView& key, bool abstract)
    : operations(key.operations), values(*key.values), initial(key.initial.begin(), key.initial.end()) {
  collect(key);
  if (abstract) abstract_values();
  find_needs();
  // An operation of unknown outcome whose effect nobody could have needed is one that never happened.
  std::erase_if(ops, [&](const KeyOp& op) { return !op.ok() && need_of(op) <= op.call; });
  find_same();
  lay_out();
}

void Prepared::collect(const KeyView& key) {
  ops.reserve(key.ids.size());
  for (OpId id : key.ids) {
    const Operation& op = operations[id];
    if (op.outcome == Outcome::kFailed) continue;
    KeyOp one{.shape = shape_of(op, values), .id = id, .call = op.call};
    one.ret = op.outcome == Outcome::kOk ? op.ret : kForever;
    bool tells_nothing = one.shape.observes() && (one.shape.total || !one.ok());
    if (!tells_nothing) ops.push_back(one);
  }
}

void Prepared::abstract_values() {
  std::vector<ValueId> asked;
  bool appends = false;
  bool lengths = false;
  bool integers = false;
  auto ask = [&](ValueId id) {
    if (id != kAbsent && id != kAnyValue) asked.push_back(id);
  };
  for (const KeyOp& one : ops) {
    const Operation& op = operations[one.id];
    appends |= op.kind == Kind::kAppend;
    lengths |= op.kind == Kind::kAppend && op.reply == ReplyKind::kNumber;
    integers |= op.kind == Kind::kIncr;
    if (one.shape.pre == Pre::kIs || one.shape.pre == Pre::kIsNot) ask(one.shape.pre_value);
    if (one.shape.pre == Pre::kAsk) {
      ask(op.reply_value);
      if (op.kind == Kind::kCas || op.kind == Kind::kExpire) ask(op.a);
    }
  }
  std::ranges::sort(asked);
  asked.erase(std::ranges::unique(asked).begin(), asked.end());
  std::vector<std::string> texts;
  texts.reserve(asked.size());
  for (ValueId id : asked) texts.emplace_back(values.text(id));
  values.set_abstraction(Abstraction(std::move(texts), appends, lengths, integers));
  for (KeyOp& one : ops) one.shape.to = values.abstract(one.shape.to);
  for (ValueId& state : initial) state = values.abstract(state);
  std::ranges::sort(initial);
  initial.erase(std::ranges::unique(initial).begin(), initial.end());
}

Position Prepared::need_of(const KeyOp& op) const {
  if (op.shape.pre == Pre::kAsk) return kForever;
  auto at = needed_until_.find(op.shape.to);
  return std::max(needed_by_others_, at == needed_until_.end() ? 0 : at->second);
}

void Prepared::find_needs() {
  auto raise = [](Position& at, Position to) {
    bool raised = to > at;
    at = std::max(at, to);
    return raised;
  };
  std::vector<const KeyOp*> chained;
  for (const KeyOp& op : ops) {
    if (op.shape.pre == Pre::kAny) continue;
    if (!op.ok()) {
      chained.push_back(&op);
    } else if (op.shape.pre == Pre::kIs) {
      raise(needed_until_[op.shape.pre_value], op.ret);
    } else {
      raise(needed_by_others_, op.ret);
    }
  }
  // Through an operation of unknown outcome the need for its result becomes one for what it starts from. Long chains
  // are not followed to their end: the values are then kept.
  bool changed = true;
  for (int round = 0; changed; ++round) {
    changed = false;
    for (const KeyOp* op : chained) {
      Position need = round < 16 ? need_of(*op) : kForever;
      changed |= raise(op->shape.pre == Pre::kIs ? needed_until_[op->shape.pre_value] : needed_by_others_, need);
    }
  }
}

void Prepared::find_same() {
  using Look = std::tuple<Pre, Post, ValueId, ValueId, Kind, ReplyKind, ValueId, ValueId, int64_t, int64_t>;
  std::map<Look, uint32_t> looks;
  std::vector<uint32_t> members{0};
  for (KeyOp& one : ops) {
    if (one.shape.observes()) continue;
    const Operation& op = operations[one.id];
    Look look{one.shape.pre, one.shape.post, one.shape.pre_value, one.shape.to, {}, {}, 0, 0, 0, 0};
    if (one.shape.pre == Pre::kAsk) {
      look = {one.shape.pre, one.shape.post, op.reply_value, op.a,
              op.kind,       op.reply,       op.b,           one.shape.total ? 2 : one.ok(),
              op.amount,     op.reply_number};
    }
    auto [at, added] = looks.try_emplace(look, static_cast<uint32_t>(members.size()));
    if (added) members.push_back(0);
    one.same = at->second;
    ++members[one.same];
  }
  for (KeyOp& one : ops) {
    if (members[one.same] < 2) one.same = 0;
  }
}

void Prepared::lay_out() {
  std::vector<uint32_t> returns;
  std::vector<std::pair<Position, uint32_t>> ends;
  for (uint32_t i = 0; i < ops.size(); ++i) {
    if (ops[i].ok()) {
      returns.push_back(i);
    } else {
      ends.emplace_back(need_of(ops[i]), i);
    }
  }
  std::ranges::sort(returns, {}, [&](uint32_t i) { return ops[i].ret; });
  std::ranges::sort(ends);
  for (auto [end, op] : ends) gone.push_back(op);

  std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<>> free;
  uint32_t called = 0;
  uint32_t ended = 0;
  layers.reserve(returns.size());
  for (uint32_t index : returns) {
    const KeyOp& op = ops[index];
    Position before = layers.empty() ? 0 : ops[layers.back().returning].ret;
    if (!layers.empty()) free.push(ops[layers.back().returning].slot);
    for (; ended < ends.size() && ends[ended].first <= before; ++ended) free.push(ops[ends[ended].second].slot);
    for (; called < ops.size() && ops[called].call < op.ret; ++called) {
      if (free.empty()) {
        ops[called].slot = slots++;
      } else {
        ops[called].slot = free.top();
        free.pop();
      }
    }
    bool useful = need_of(op) > op.ret;
    layers.push_back({.returning = index, .calls_end = called, .gone_end = ended, .useful = useful});
  }
}

}  // namespace mneme::check
