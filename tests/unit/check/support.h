// Random histories for the tests of the checkers: correct by construction, then perhaps spoiled.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "core/base/hash.h"
#include "sim/check/checker.h"

namespace mneme::check {

class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(mix(seed + 0x1234567)) {}
  uint64_t next() { return mix(state_ += 0x9e3779b97f4a7c15u); }
  uint64_t below(uint64_t n) { return next() % n; }
  bool one_in(uint64_t n) { return below(n) == 0; }
  template <class T>
  const T& of(const std::vector<T>& from) {
    return from[below(from.size())];
  }

 private:
  uint64_t state_;
};

struct Recipe {
  std::vector<Kind> kinds;
  std::vector<std::string> texts;  // written, appended, expected
  size_t operations = 6;
  size_t clients = 3;
  bool unique = false;          // each write writes a text of its own
  bool revisions = false;       // replies tell the store's revision
  bool no_replies = false;      // writers whose reply could tell the state say nothing
  uint64_t unknown_one_in = 0;  // 0: never
  uint64_t lost_one_in = 0;     // of those of unknown outcome: never take effect; 0: all do
  uint64_t spoil_one_in = 2;
  uint64_t spoils = 0;  // in how many places; 0: in some
  uint64_t pause = 3;   // the higher, the longer an operation stays open
};

// What the store would answer, and the state afterwards.
inline Reply execute(const Operation& op, std::optional<std::string>& state, History& history, bool silent) {
  auto id = [&](const std::optional<std::string>& text) { return text ? history.value(*text) : kAbsent; };
  auto text = [&](ValueId value) {
    return value == kAbsent ? std::nullopt : std::optional(std::string(history.values.text(value)));
  };
  std::optional<std::string> before = state;
  switch (op.kind) {
    case Kind::kGet: return Reply::of(id(state));
    case Kind::kSet: state = text(op.a); return Reply::nothing();
    case Kind::kGetSet: state = text(op.a); return silent ? Reply::nothing() : Reply::of(id(before));
    case Kind::kDelete: state.reset(); return silent ? Reply::nothing() : Reply::yes(before.has_value());
    case Kind::kCas: {
      bool swaps = state == text(op.a);
      if (swaps) state = text(op.b);
      return silent ? Reply::nothing() : Reply::yes(swaps);
    }
    case Kind::kSetNx:
      if (!state) state = text(op.a);
      return silent ? Reply::nothing() : Reply::yes(!before.has_value());
    case Kind::kExpire:
      if (op.a == kAnyValue || state == text(op.a)) state.reset();
      return Reply::nothing();
    case Kind::kAppend:
      state = state.value_or("") + *text(op.a);
      if (silent) return Reply::nothing();
      return op.amount == 0 ? Reply::count(static_cast<int64_t>(state->size())) : Reply::of(id(state));
    case Kind::kIncr: {
      std::optional<int64_t> number = state ? parse_integer(*state) : 0;
      if (!number) return Reply::error(ReplyKind::kNotAnInteger);
      int64_t sum = 0;
      if (__builtin_add_overflow(*number, op.amount, &sum)) return Reply::error(ReplyKind::kOverflow);
      state = std::to_string(sum);
      return silent ? Reply::nothing() : Reply::count(sum);
    }
  }
  return {};
}

inline Operation random_call(Dice& dice, const Recipe& recipe, History& history, uint32_t client, KeyId key,
                             size_t number) {
  auto any = [&] { return history.value(dice.of(recipe.texts)); };
  auto written = [&] { return recipe.unique ? history.value("w" + std::to_string(number)) : any(); };
  auto recent = [&](std::string name) {
    return history.value(name + std::to_string(number - 1 - dice.below(std::min<size_t>(number, 10))));
  };
  switch (dice.of(recipe.kinds)) {
    case Kind::kGet: return get(client, key);
    case Kind::kSet: return set(client, key, written());
    case Kind::kGetSet: return getset(client, key, written());
    case Kind::kDelete: return del(client, key);
    case Kind::kSetNx: return setnx(client, key, written());
    case Kind::kExpire:
      if (recipe.unique && number > 0) return expire(key, recent("w"));
      return expire(key, dice.one_in(4) ? kAnyValue : any());
    case Kind::kCas: {
      ValueId expected = dice.one_in(5) ? kAbsent : any();
      if (recipe.unique && number > 0) expected = recent("w");
      return cas(client, key, expected, written());
    }
    case Kind::kIncr: {
      int64_t amount = static_cast<int64_t>(dice.below(3)) - (dice.one_in(3) ? 1 : 0);
      return incr(client, key, dice.one_in(40) ? INT64_MAX : amount);
    }
    case Kind::kAppend: {
      Operation op = append(client, key, recipe.unique ? history.value("+" + std::to_string(number)) : any());
      op.amount = static_cast<int64_t>(dice.below(2));  // which reply
      return op;
    }
  }
  return get(client, key);
}

// Something a broken store might have said or done.
inline void spoil(Dice& dice, const Recipe& recipe, History& history) {
  Operation& op = history.operations[dice.below(history.operations.size())];
  Operation& other = history.operations[dice.below(history.operations.size())];
  switch (dice.below(7)) {
    case 0:
    case 1:
      if (op.reply == ReplyKind::kValue && op.kind != Kind::kAppend) {
        op.reply_value = dice.one_in(4) ? kAbsent : history.value(dice.of(recipe.texts));
      }
      break;
    case 2:
      if (op.reply == ReplyKind::kYes || op.reply == ReplyKind::kNo) {
        op.reply = op.reply == ReplyKind::kYes ? ReplyKind::kNo : ReplyKind::kYes;
      }
      break;
    case 3:
      if (op.reply == ReplyKind::kNumber) op.reply_number ^= static_cast<int64_t>(1 + dice.below(3));
      break;
    case 4:
      if (op.kind == other.kind) {
        std::swap(op.reply, other.reply);
        std::swap(op.reply_value, other.reply_value);
        std::swap(op.reply_number, other.reply_number);
      }
      break;
    case 5:
      if (op.kind == Kind::kSet && op.outcome == Outcome::kOk) op.outcome = Outcome::kFailed;
      break;
    default:
      if (op.reply == ReplyKind::kValue && other.reply == ReplyKind::kValue) op.reply_value = other.reply_value;
  }
}

inline History random_history(Dice& dice, const Recipe& recipe, KeyId keys = 1) {
  History history;
  struct Open {
    OpId id;
    bool done = false;
    Reply reply;
  };
  std::vector<std::optional<Open>> open(recipe.clients);
  std::vector<std::optional<std::string>> states(keys + 1);
  std::vector<OpId> adrift;  // unknown, and not yet taken effect
  for (KeyId k = 1; k <= keys; ++k) history.key("k" + std::to_string(k));
  uint64_t revision = 1;
  auto effect = [&](OpId id) {
    Operation op = history.operations[id];
    const std::optional<std::string> before = states[op.key];
    Reply reply = execute(op, states[op.key], history, recipe.no_replies);
    if (op.kind == Kind::kSet || op.kind == Kind::kGetSet || states[op.key] != before) ++revision;
    return reply;
  };
  size_t called = 0;
  size_t idle = 0;
  while (called < recipe.operations || idle < recipe.clients) {
    if (!adrift.empty() && dice.one_in(4)) {
      size_t i = dice.below(adrift.size());
      effect(adrift[i]);
      adrift.erase(adrift.begin() + static_cast<long>(i));
    }
    auto client = static_cast<uint32_t>(dice.below(recipe.clients));
    std::optional<Open>& mine = open[client];
    if (!mine) {
      if (called < recipe.operations) {
        auto key = static_cast<KeyId>(1 + dice.below(keys));
        Operation what = random_call(dice, recipe, history, client, key, called);
        OpId id = history.invoke(what);
        ++called;
        if (what.kind == Kind::kExpire || (recipe.unknown_one_in > 0 && dice.one_in(recipe.unknown_one_in))) {
          if (recipe.lost_one_in == 0 || !dice.one_in(recipe.lost_one_in)) adrift.push_back(id);
        } else {
          mine = Open{id};
        }
      }
    } else if (!mine->done) {
      if (dice.one_in(recipe.pause)) {
        mine->reply = effect(mine->id);
        if (recipe.revisions) history.operations[mine->id].revision = revision;
        mine->done = true;
      }
    } else if (dice.one_in(recipe.pause)) {
      history.complete(mine->id, mine->reply);
      mine.reset();
    }
    idle = static_cast<size_t>(std::ranges::count_if(open, [](const auto& o) { return !o.has_value(); }));
  }
  if (recipe.spoil_one_in > 0 && dice.one_in(recipe.spoil_one_in)) {
    uint64_t times = recipe.spoils > 0 ? recipe.spoils : 3 + dice.below(8);
    for (; times > 0; --times) spoil(dice, recipe, history);
  }
  return history;
}

inline Recipe random_recipe(Dice& dice) {
  using enum Kind;
  static const std::vector<Recipe> kinds = {
      {.kinds = {kGet, kSet}, .texts = {"1", "2"}},
      {.kinds = {kGet, kGet, kSet}, .texts = {"w0", "w1", "w2", "w3"}, .unique = true},
      {.kinds = {kGet, kSet, kCas}, .texts = {"1", "2", "3"}},
      {.kinds = {kGet, kGet, kSet, kCas, kCas}, .texts = {"w0", "w1", "w2", "w3"}, .unique = true},
      {.kinds = {kGet, kAppend, kAppend}, .texts = {"a", "b", "ab"}},
      {.kinds = {kGet, kAppend, kSet, kDelete}, .texts = {"a", "b", "", "abc"}},
      {.kinds = {kGet, kIncr}, .texts = {"0", "1"}},
      {.kinds = {kGet, kIncr, kSet, kAppend}, .texts = {"0", "1", "x", "-", "12"}},
      {.kinds = {kGet, kSet, kDelete, kSetNx, kGetSet}, .texts = {"1", "2"}},
      {.kinds = {kGet, kGetSet, kCas, kIncr}, .texts = {"w0", "w1", "3"}, .unique = true},
      {.kinds = {kGet, kSet, kExpire}, .texts = {"1", "2"}},
      {.kinds = {kGet, kSet, kDelete, kCas, kIncr, kAppend, kSetNx, kGetSet, kExpire}, .texts = {"1", "2", "x"}},
  };
  Recipe recipe = dice.of(kinds);
  recipe.operations = 4 + dice.below(6);
  recipe.clients = 2 + dice.below(4);
  recipe.pause = 1 + dice.below(4);
  recipe.no_replies = dice.one_in(3);
  if (dice.one_in(2)) recipe.unknown_one_in = 2 + dice.below(5);
  recipe.spoil_one_in = 1;
  if (dice.one_in(5)) recipe.spoil_one_in = 0;
  recipe.revisions = dice.one_in(2);
  return recipe;
}

inline std::string show(const History& history) {
  std::string out;
  for (const Operation& op : history.operations) {
    out += "c" + std::to_string(op.client) + " " + describe_call(op, history.values) + " [" + std::to_string(op.call) +
           " .. " + (op.ret == kForever ? "?" : std::to_string(op.ret)) + "] -> " + describe_reply(op, history.values) +
           "\n";
  }
  return out;
}

}  // namespace mneme::check
