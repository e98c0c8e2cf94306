#include "sim/check/prepare.h"

#include <algorithm>
#include <bit>
#include <queue>
#include <tuple>

#include "core/base/hash.h"

namespace mneme::check {

ValueNumbers::ValueNumbers(size_t at_most) : slots_(std::bit_ceil(2 * at_most + 2)) {}

uint32_t ValueNumbers::number(ValueId value) {
  const size_t mask = slots_.size() - 1;
  size_t at = mix(value) & mask;
  while (slots_[at].number != UINT32_MAX && slots_[at].value != value) at = (at + 1) & mask;
  if (slots_[at].number == UINT32_MAX) slots_[at] = {value, count_++};
  return slots_[at].number;
}

Prepared::Prepared(const KeyView& key, bool abstract)
    : operations(key.operations), values(*key.values), initial(key.initial.begin(), key.initial.end()) {
  collect(key);
  if (abstract) abstract_values();
  number_values();
  find_needs();
  // An operation of unknown outcome whose effect nobody could have needed is one that never happened.
  std::erase_if(ops, [&](const KeyOp& op) { return !op.ok() && need_of(op) <= op.call; });
  find_same();
  lay_out();
  find_bounds();
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
  for (KeyOp& one : ops) {
    if (!std::ranges::binary_search(asked, one.shape.to)) one.shape.to = values.abstract(one.shape.to);
  }
  for (ValueId& state : initial) state = values.abstract(state);
  std::ranges::sort(initial);
  initial.erase(std::ranges::unique(initial).begin(), initial.end());
}

Position Prepared::need_of(const KeyOp& op) const {
  if (op.shape.pre == Pre::kAsk) return kForever;
  return std::max(needed_by_others_, needed_until_[op.gives]);
}

void Prepared::number_values() {
  ValueNumbers numbers(2 * ops.size());
  for (KeyOp& op : ops) {
    op.needs = numbers.number(op.shape.pre_value);
    op.gives = numbers.number(op.shape.to);
  }
  needed_until_.assign(numbers.size(), 0);
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
      raise(needed_until_[op.needs], op.ret);
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
      changed |= raise(op->shape.pre == Pre::kIs ? needed_until_[op->needs] : needed_by_others_, need);
    }
  }
}

namespace {

// All there is to an operation but its times.
auto look_of(const KeyOp& one, const Operation& op) {
  using Look = std::tuple<Pre, Post, ValueId, ValueId, Kind, ReplyKind, ValueId, int, int64_t, int64_t>;
  if (one.shape.pre != Pre::kAsk) {
    return Look{one.shape.pre, one.shape.post, one.shape.pre_value, one.shape.to, {}, {}, 0, 0, 0, 0};
  }
  const int outcome = one.shape.total ? 2 : one.ok();
  return Look{one.shape.pre, one.shape.post, op.reply_value, op.a,      op.kind,
              op.reply,      op.b,           outcome,        op.amount, op.reply_number};
}

}  // namespace

void Prepared::find_same() {
  // Open addressing: in each slot the first operation of a look, by its index plus one.
  std::vector<uint32_t> slots(std::bit_ceil(2 * ops.size() + 2), 0);
  std::vector<uint32_t> members{0};
  for (uint32_t i = 0; i < ops.size(); ++i) {
    KeyOp& one = ops[i];
    if (one.shape.observes()) continue;
    const auto look = look_of(one, operations[one.id]);
    uint64_t hash = std::apply(
        [](auto... part) {
          uint64_t h = 0;
          ((h = fold(h, static_cast<uint64_t>(part))), ...);
          return h;
        },
        look);
    for (;; ++hash) {
      uint32_t& first = slots[hash & (slots.size() - 1)];
      if (first == 0) {
        first = i + 1;
        one.same = static_cast<uint32_t>(members.size());
        members.push_back(1);
        break;
      }
      if (look_of(ops[first - 1], operations[ops[first - 1].id]) != look) continue;
      one.same = ops[first - 1].same;
      ++members[one.same];
      break;
    }
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

bool Prepared::makes(const KeyOp& one, ValueId state) const {
  if (one.shape.pre != Pre::kAsk) return one.shape.post == Post::kTo && one.shape.to == state;
  const Operation& op = operations[one.id];
  switch (op.kind) {
    case Kind::kAppend:
      return state != kAbsent && (Values::is_other(state) || values.text(state).ends_with(values.text(op.a)));
    case Kind::kIncr: return state != kAbsent && values.integer(state).has_value();
    case Kind::kDelete:
    case Kind::kExpire: return state == kAbsent;
    default: return true;
  }
}

void Prepared::find_bounds() {
  std::vector<uint32_t> asks;
  std::vector<uint32_t> needy;                                // unknown ones that are bound to a state
  std::vector<uint32_t> makers_end(needed_until_.size(), 0);  // by number of the value
  for (uint32_t i = 0; i < ops.size(); ++i) {
    if (!ops[i].ok() && ops[i].shape.pre == Pre::kIs) needy.push_back(i);
    if (ops[i].shape.pre == Pre::kAsk) {
      asks.push_back(i);
    } else if (ops[i].shape.post == Post::kTo) {
      makers_end[ops[i].gives] = i + 1;
    }
  }
  constexpr size_t kWorthIt = 10'000'000;
  if (asks.size() * needy.size() > kWorthIt) return;
  for (uint32_t index : needy) {
    KeyOp& op = ops[index];
    uint32_t& end = makers_end[op.needs];
    for (size_t i = asks.size(); i-- > 0 && asks[i] >= end;) {
      if (makes(ops[asks[i]], op.shape.pre_value)) end = asks[i] + 1;
    }
    auto layer = std::ranges::lower_bound(layers, end, {}, &Layer::calls_end);
    if (layer == layers.end()) continue;
    op.bound_from = static_cast<uint32_t>(layer - layers.begin());
    bound.push_back(index);
  }
  std::ranges::sort(bound, {}, [&](uint32_t i) { return std::pair(ops[i].bound_from, i); });
  uint32_t end = 0;
  for (uint32_t layer = 0; layer < layers.size(); ++layer) {
    while (end < bound.size() && ops[bound[end]].bound_from == layer) ++end;
    layers[layer].bound_end = end;
  }
}

}  // namespace mneme::check
