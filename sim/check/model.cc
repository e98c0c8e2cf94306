#include "sim/check/model.h"

#include <algorithm>
#include <charconv>

#include "core/base/check.h"

namespace mneme::check {

Abstraction::Abstraction(std::vector<std::string> asked, bool appends, bool lengths, bool integers)
    : asked_(std::move(asked)), appends_(appends), lengths_(lengths), integers_(integers) {
  std::ranges::sort(asked_);
  auto [first, last] = std::ranges::unique(asked_);
  asked_.erase(first, last);
}

bool Abstraction::is_other(std::string_view text) const {
  if (integers_ && (parse_integer(text) || (appends_ && text.size() < 2))) return false;
  auto at = std::lower_bound(asked_.begin(), asked_.end(), text);
  if (at == asked_.end()) return true;
  return appends_ ? !at->starts_with(text) : *at != text;
}

ValueId Abstraction::other(uint64_t length) const {
  return Values::kOther | (lengths_ ? static_cast<ValueId>(std::min<uint64_t>(length, 0x7ffffff0)) : 0);
}

void Values::set_abstraction(Abstraction abstraction) {
  CHECK(sums_.empty());
  abstraction_ = std::move(abstraction);
}

std::string_view Values::text(ValueId id) const {
  return id < base_.size() ? base_.text(id) : own_.text(static_cast<ValueId>(id - base_.size() + 1));
}

ValueId Values::abstract(ValueId id) const {
  if (!abstraction_ || id == kAbsent || id == kAnyValue || is_other(id)) return id;
  std::string_view contents = text(id);
  return abstraction_->is_other(contents) ? abstraction_->other(contents.size()) : id;
}

ValueId Values::intern(std::string_view contents) {
  if (abstraction_ && abstraction_->is_other(contents)) return abstraction_->other(contents.size());
  if (ValueId id = base_.find(contents); id != kAbsent) return id;
  return static_cast<ValueId>(own_.intern(contents) + base_.size() - 1);
}

ValueId Values::concat(ValueId head, ValueId tail) {
  if (is_other(head)) return abstraction_->other(length(head) + length(tail));
  auto [at, added] = sums_.try_emplace(uint64_t{head} << 32 | tail, kAbsent);
  if (added) {
    std::string whole(head == kAbsent ? std::string_view() : text(head));
    whole += text(tail);
    at->second = intern(whole);
  }
  return at->second;
}

uint64_t Values::length(ValueId id) const {
  if (id == kAbsent) return 0;
  return is_other(id) ? id & ~kOther : text(id).size();
}

std::optional<int64_t> Values::integer(ValueId id) const {
  if (is_other(id)) return std::nullopt;
  return parse_integer(text(id));
}

size_t Values::memory() const { return own_.memory() + sums_.size() * 32; }

std::optional<int64_t> parse_integer(std::string_view text) {
  int64_t number = 0;
  if (text.empty() || text.size() > 20) return std::nullopt;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  bool canonical = text == "0" || (text[0] != '0' && !text.starts_with("-0"));
  return canonical ? std::optional(number) : std::nullopt;
}

namespace {

// What is known of the reply. With an unknown outcome that is nothing, whatever stands there.
ReplyKind reply_of(const Operation& op) { return op.outcome == Outcome::kUnknown ? ReplyKind::kNothing : op.reply; }

bool agrees(ReplyKind reply, bool fact) {
  return reply == ReplyKind::kNothing || (reply == ReplyKind::kYes && fact) || (reply == ReplyKind::kNo && !fact);
}

std::optional<ValueId> step_incr(ValueId state, const Operation& op, Values& values) {
  std::optional<int64_t> number = state == kAbsent ? 0 : values.integer(state);
  bool unseen = op.outcome == Outcome::kUnknown;  // it may as well have been refused
  if (!number) return unseen || reply_of(op) == ReplyKind::kNotAnInteger ? std::optional(state) : std::nullopt;
  int64_t sum = 0;
  if (__builtin_add_overflow(*number, op.amount, &sum)) {
    return unseen || reply_of(op) == ReplyKind::kOverflow ? std::optional(state) : std::nullopt;
  }
  bool fits = reply_of(op) == ReplyKind::kNothing || (reply_of(op) == ReplyKind::kNumber && op.reply_number == sum);
  if (!fits) return std::nullopt;
  char digits[24];
  auto [end, error] = std::to_chars(digits, digits + sizeof digits, sum);
  return values.intern(std::string_view(digits, end));
}

std::optional<ValueId> step_append(ValueId state, const Operation& op, Values& values) {
  if (reply_of(op) == ReplyKind::kNumber) {
    uint64_t length = values.length(state) + values.length(op.a);
    if (op.reply_number < 0 || static_cast<uint64_t>(op.reply_number) != length) return std::nullopt;
  }
  ValueId whole = values.concat(state, op.a);
  if (reply_of(op) == ReplyKind::kValue && op.reply_value != whole) return std::nullopt;
  return whole;
}

}  // namespace

std::optional<ValueId> step(ValueId state, const Operation& op, Values& values) {
  switch (op.kind) {
    case Kind::kGet:
      if (reply_of(op) == ReplyKind::kValue && op.reply_value != state) return std::nullopt;
      return state;
    case Kind::kSet: return values.abstract(op.a);
    case Kind::kDelete:
      if (!agrees(reply_of(op), state != kAbsent)) return std::nullopt;
      return kAbsent;
    case Kind::kCas:
      if (!agrees(reply_of(op), state == op.a)) return std::nullopt;
      return state == op.a ? values.abstract(op.b) : state;
    case Kind::kIncr: return step_incr(state, op, values);
    case Kind::kAppend: return step_append(state, op, values);
    case Kind::kSetNx:
      if (!agrees(reply_of(op), state == kAbsent)) return std::nullopt;
      return state == kAbsent ? values.abstract(op.a) : state;
    case Kind::kGetSet:
      if (reply_of(op) == ReplyKind::kValue && op.reply_value != state) return std::nullopt;
      return values.abstract(op.a);
    case Kind::kExpire: return state == op.a || op.a == kAnyValue ? kAbsent : state;
  }
  return std::nullopt;
}

namespace {

Shape when(Pre pre, ValueId pre_value, Post post, ValueId to) {
  return {.pre = pre, .post = post, .pre_value = pre_value, .to = to, .total = pre == Pre::kAny};
}
Shape impossible() {
  Shape shape = when(Pre::kIs, kAbsent, Post::kSame, kAbsent);
  shape.impossible = true;
  return shape;
}
// A write that depends on a yes or no, known or not.
Shape guarded(const Operation& op, Shape yes, Shape no) {
  if (op.outcome == Outcome::kUnknown || op.reply == ReplyKind::kYes) return yes;
  if (op.reply == ReplyKind::kNo) return no;
  Shape ask;
  ask.total = op.reply == ReplyKind::kNothing;
  return ask;
}

Shape shape_of_incr(const Operation& op, Values& values) {
  int64_t before = 0;
  // The sum of an absent key and a sum from 0 look the same: those are left to step().
  if (op.outcome == Outcome::kUnknown || op.reply != ReplyKind::kNumber) return {};
  if (__builtin_sub_overflow(op.reply_number, op.amount, &before)) return impossible();
  if (before == 0) return {};
  ValueId to = values.intern(std::to_string(op.reply_number));
  return when(Pre::kIs, values.intern(std::to_string(before)), Post::kTo, to);
}

Shape shape_of_append(const Operation& op, Values& values) {
  if (op.outcome == Outcome::kUnknown || op.reply == ReplyKind::kNothing) {
    Shape ask;
    ask.total = true;
    return ask;
  }
  if (op.reply != ReplyKind::kValue) return {};
  if (op.reply_value == kAbsent) return impossible();
  std::string whole(values.text(op.reply_value));
  std::string tail(values.text(op.a));
  if (!whole.ends_with(tail)) return impossible();
  if (whole.size() == tail.size()) return {};  // absent or empty before
  ValueId before = values.intern(std::string_view(whole).substr(0, whole.size() - tail.size()));
  return when(Pre::kIs, before, Post::kTo, op.reply_value);
}

}  // namespace

Shape shape_of(const Operation& op, Values& values) {
  bool unknown = op.outcome == Outcome::kUnknown;
  switch (op.kind) {
    case Kind::kGet:
      if (unknown || op.reply != ReplyKind::kValue) return when(Pre::kAny, kAbsent, Post::kSame, kAbsent);
      return when(Pre::kIs, op.reply_value, Post::kSame, kAbsent);
    case Kind::kSet: return when(Pre::kAny, kAbsent, Post::kTo, op.a);
    case Kind::kDelete:
      if (!unknown && op.reply == ReplyKind::kNothing) return when(Pre::kAny, kAbsent, Post::kTo, kAbsent);
      return guarded(op, when(Pre::kIsNot, kAbsent, Post::kTo, kAbsent), when(Pre::kIs, kAbsent, Post::kSame, kAbsent));
    case Kind::kCas:
      return guarded(op, when(Pre::kIs, op.a, Post::kTo, op.b), when(Pre::kIsNot, op.a, Post::kSame, kAbsent));
    case Kind::kIncr: return shape_of_incr(op, values);
    case Kind::kAppend: return shape_of_append(op, values);
    case Kind::kSetNx:
      return guarded(op, when(Pre::kIs, kAbsent, Post::kTo, op.a), when(Pre::kIsNot, kAbsent, Post::kSame, kAbsent));
    case Kind::kGetSet:
      if (unknown || op.reply != ReplyKind::kValue) return when(Pre::kAny, kAbsent, Post::kTo, op.a);
      return when(Pre::kIs, op.reply_value, Post::kTo, op.a);
    case Kind::kExpire: {
      Shape hit =
          op.a == kAnyValue ? when(Pre::kIsNot, kAbsent, Post::kTo, kAbsent) : when(Pre::kIs, op.a, Post::kTo, kAbsent);
      if (unknown) return hit;
      Shape ask;
      ask.total = true;
      return ask;
    }
  }
  return {};
}

}  // namespace mneme::check
