#include "sim/check/brute_force.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

namespace mneme::check {
namespace {

using State = std::optional<std::string>;

State text_of(ValueId id, const Interner& values) {
  return id == kAbsent ? State() : State(std::string(values.text(id)));
}

// Redis integers, by trying: a number is one if writing it down again gives the same text.
std::optional<__int128> number_in(const State& state) {
  if (!state) return 0;
  __int128 sum = 0;
  bool negative = state->starts_with('-');
  for (size_t i = negative ? 1 : 0; i < state->size(); ++i) {
    char c = (*state)[i];
    if (c < '0' || c > '9' || i > 20) return std::nullopt;
    sum = sum * 10 + (c - '0');
  }
  if (negative) sum = -sum;
  if (sum < INT64_MIN || sum > INT64_MAX) return std::nullopt;
  if (std::to_string(static_cast<int64_t>(sum)) != *state) return std::nullopt;
  return sum;
}

// Whether the reply fits, and the state afterwards.
bool perform(const Operation& op, State& state, const Interner& values) {
  bool seen = op.outcome == Outcome::kOk;
  auto said = [&](ReplyKind kind) { return !seen || op.reply == ReplyKind::kNothing || op.reply == kind; };
  auto said_if = [&](bool fact) { return said(fact ? ReplyKind::kYes : ReplyKind::kNo); };
  auto said_value = [&](const State& is) {
    return !seen || op.reply != ReplyKind::kValue || text_of(op.reply_value, values) == is;
  };
  bool fits = true;
  switch (op.kind) {
    case Kind::kGet: return said_value(state);
    case Kind::kSet: state = text_of(op.a, values); return true;
    case Kind::kGetSet:
      fits = said_value(state);
      state = text_of(op.a, values);
      return fits;
    case Kind::kDelete:
      fits = said_if(state.has_value());
      state.reset();
      return fits;
    case Kind::kCas:
      fits = said_if(state == text_of(op.a, values));
      if (state == text_of(op.a, values)) state = text_of(op.b, values);
      return fits;
    case Kind::kSetNx:
      fits = said_if(!state.has_value());
      if (!state) state = text_of(op.a, values);
      return fits;
    case Kind::kExpire:
      if (op.a == kAnyValue || state == text_of(op.a, values)) state.reset();
      return true;
    case Kind::kAppend:
      state = state.value_or("") + std::string(values.text(op.a));
      if (seen && op.reply == ReplyKind::kNumber && op.reply_number != static_cast<int64_t>(state->size()))
        return false;
      return said_value(state);
    case Kind::kIncr: {
      std::optional<__int128> number = number_in(state);
      if (!number) return !seen || op.reply == ReplyKind::kNotAnInteger;
      __int128 sum = *number + op.amount;
      if (sum < INT64_MIN || sum > INT64_MAX) return !seen || op.reply == ReplyKind::kOverflow;
      if (seen && op.reply != ReplyKind::kNothing && (op.reply != ReplyKind::kNumber || op.reply_number != sum))
        return false;
      state = std::to_string(static_cast<int64_t>(sum));
      return true;
    }
  }
  return false;
}

struct Search {
  std::span<const Operation> operations;
  const Interner& values;
  // What was tried in vain: the operations placed, whatever their order, and the state that they led to. That is all
  // that matters to what may come next, and operations that commute lead there in as many ways as they have orders.
  std::set<std::pair<uint32_t, State>> hopeless = {};
  uint64_t steps = 0;

  bool from(const State& state, uint32_t placed) {
    ++steps;
    if (hopeless.contains({placed, state})) return false;
    // The earliest return among those still to be placed: whoever was called after it cannot come next.
    Position end = kForever;
    for (size_t i = 0; i < operations.size(); ++i) {
      bool waits = (placed >> i & 1) == 0 && operations[i].outcome == Outcome::kOk;
      if (waits && operations[i].ret < end) end = operations[i].ret;
    }
    if (end == kForever) return true;
    for (size_t i = 0; i < operations.size(); ++i) {
      const Operation& op = operations[i];
      if ((placed >> i & 1) != 0 || op.outcome == Outcome::kFailed || op.call > end) continue;
      State next = state;
      if (perform(op, next, values) && from(next, placed | 1u << i)) return true;
    }
    hopeless.emplace(placed, state);
    return false;
  }
};

}  // namespace

std::optional<bool> linearizable_by_brute_force(std::span<const Operation> operations, const Interner& values,
                                                std::span<const ValueId> initial, bool any_state, uint64_t* steps) {
  if (operations.size() > kBruteForceOperations) return std::nullopt;
  std::set<State> starts;
  for (ValueId id : initial) starts.insert(text_of(id, values));
  if (any_state) {
    starts.insert(State());
    starts.insert(State("\x01 what nobody wrote"));
    for (const Operation& op : operations) {
      for (ValueId id : {op.a, op.b, op.reply_value}) {
        if (id != kAnyValue) starts.insert(text_of(id, values));
      }
      // What a sum or an appended string was made from.
      if (op.kind == Kind::kIncr && op.reply == ReplyKind::kNumber) {
        starts.insert(std::to_string(
            static_cast<int64_t>(static_cast<uint64_t>(op.reply_number) - static_cast<uint64_t>(op.amount))));
      }
      if (op.kind == Kind::kAppend && op.reply == ReplyKind::kValue && op.reply_value != kAbsent) {
        std::string whole(values.text(op.reply_value));
        starts.insert(whole.substr(0, whole.size() - std::min(whole.size(), values.text(op.a).size())));
      }
    }
  }
  Search search{operations, values};
  const bool found = std::ranges::any_of(starts, [&](const State& start) { return search.from(start, 0); });
  if (steps != nullptr) *steps += search.steps;
  return found;
}

}  // namespace mneme::check
