#include "sim/check/history.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/check.h"
#include "core/base/hash.h"

namespace mneme::check {

Interner::Interner() : entries_{{0, 0, 0}}, slots_(16, 0) {}

size_t Interner::slot_of(std::string_view text, uint32_t hash) const {
  size_t mask = slots_.size() - 1;
  for (size_t at = hash & mask;; at = (at + 1) & mask) {
    uint32_t id = slots_[at];
    if (id == 0 || (entries_[id].hash == hash && this->text(id) == text)) return at;
  }
}

void Interner::grow() {
  slots_.assign(slots_.size() * 2, 0);
  size_t mask = slots_.size() - 1;
  for (uint32_t id = 1; id < entries_.size(); ++id) {
    size_t at = entries_[id].hash & mask;
    while (slots_[at] != 0) at = (at + 1) & mask;
    slots_[at] = id;
  }
}

ValueId Interner::intern(std::string_view text) {
  if (entries_.size() * 2 > slots_.size()) grow();
  auto hash = static_cast<uint32_t>(xxh3(text));
  size_t at = slot_of(text, hash);
  if (slots_[at] == 0) {
    slots_[at] = static_cast<uint32_t>(entries_.size());
    entries_.push_back({bytes_.size(), static_cast<uint32_t>(text.size()), hash});
    bytes_.append(text);
  }
  return slots_[at];
}

ValueId Interner::find(std::string_view text) const { return slots_[slot_of(text, static_cast<uint32_t>(xxh3(text)))]; }

std::string_view Interner::text(ValueId id) const {
  const Entry& entry = entries_[id];
  return std::string_view(bytes_).substr(entry.offset, entry.size);
}

size_t Interner::memory() const {
  return bytes_.capacity() + entries_.capacity() * sizeof(Entry) + slots_.capacity() * sizeof(uint32_t);
}

OpId History::invoke(Operation what, int64_t now_ns) {
  what.call = positions++;
  what.call_ns = now_ns;
  what.ret = kForever;
  what.outcome = Outcome::kUnknown;
  operations.push_back(what);
  return static_cast<OpId>(operations.size() - 1);
}

void History::complete(OpId id, Reply reply, int64_t now_ns) {
  CHECK(id < operations.size());
  Operation& op = operations[id];
  CHECK(op.outcome == Outcome::kUnknown);
  op.outcome = Outcome::kOk;
  op.reply = reply.kind;
  op.reply_value = reply.value;
  op.reply_number = reply.number;
  op.ret = positions++;
  op.return_ns = now_ns;
}

void History::did_not_happen(OpId id, int64_t now_ns) {
  CHECK(id < operations.size());
  Operation& op = operations[id];
  CHECK(op.outcome == Outcome::kUnknown);
  op.outcome = Outcome::kFailed;
  op.ret = positions++;
  op.return_ns = now_ns;
}

Operation get(uint32_t client, KeyId key) { return {.client = client, .key = key, .kind = Kind::kGet}; }
Operation set(uint32_t client, KeyId key, ValueId value) {
  return {.client = client, .key = key, .kind = Kind::kSet, .a = value};
}
Operation del(uint32_t client, KeyId key) { return {.client = client, .key = key, .kind = Kind::kDelete}; }
Operation cas(uint32_t client, KeyId key, ValueId expected, ValueId value) {
  return {.client = client, .key = key, .kind = Kind::kCas, .a = expected, .b = value};
}
Operation incr(uint32_t client, KeyId key, int64_t amount) {
  return {.client = client, .key = key, .kind = Kind::kIncr, .amount = amount};
}
Operation append(uint32_t client, KeyId key, ValueId suffix) {
  return {.client = client, .key = key, .kind = Kind::kAppend, .a = suffix};
}
Operation setnx(uint32_t client, KeyId key, ValueId value) {
  return {.client = client, .key = key, .kind = Kind::kSetNx, .a = value};
}
Operation getset(uint32_t client, KeyId key, ValueId value) {
  return {.client = client, .key = key, .kind = Kind::kGetSet, .a = value};
}
Operation expire(KeyId key, ValueId value) { return {.key = key, .kind = Kind::kExpire, .a = value}; }

std::string_view name_of(Kind kind) {
  switch (kind) {
    case Kind::kGet: return "GET";
    case Kind::kSet: return "SET";
    case Kind::kDelete: return "DEL";
    case Kind::kCas: return "CAS";
    case Kind::kIncr: return "INCRBY";
    case Kind::kAppend: return "APPEND";
    case Kind::kSetNx: return "SETNX";
    case Kind::kGetSet: return "GETSET";
    case Kind::kExpire: return "EXPIRES";
  }
  return "?";
}

std::string describe_value(ValueId id, const Interner& values) {
  if (id == kAbsent) return "absent";
  if (id == kAnyValue) return "any value";
  if (id >= values.size()) return "another value";
  std::string_view text = values.text(id);
  constexpr size_t kShown = 40;
  auto plain = [](unsigned char c) { return c > ' ' && c < 0x7f && c != '"' && c != '\\'; };
  if (!text.empty() && text.size() <= kShown && std::ranges::all_of(text, plain)) return std::string(text);
  // Of a long one both ends are shown: what was written, and what was appended last.
  constexpr size_t kEnd = 15;
  const bool whole = text.size() <= kShown;
  std::string out = "\"";
  for (size_t i = 0; i < text.size(); ++i) {
    if (!whole && i == kEnd) {
      out += " ~ ";
      i = text.size() - kEnd;
    }
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c >= ' ' && c < 0x7f) {
      out += static_cast<char>(c);
    } else {
      out += fmt::format("\\x{:02x}", c);
    }
  }
  out += '"';
  if (!whole) out += fmt::format(" ({} bytes)", text.size());
  return out;
}

std::string describe_call(const Operation& op, const Interner& values) {
  switch (op.kind) {
    case Kind::kGet:
    case Kind::kDelete: return std::string(name_of(op.kind));
    case Kind::kCas: return fmt::format("CAS {} {}", describe_value(op.a, values), describe_value(op.b, values));
    case Kind::kIncr: return fmt::format("INCRBY {}", op.amount);
    case Kind::kSet:
    case Kind::kAppend:
    case Kind::kSetNx:
    case Kind::kGetSet:
    case Kind::kExpire: break;
  }
  return fmt::format("{} {}", name_of(op.kind), describe_value(op.a, values));
}

std::string describe_reply(const Operation& op, const Interner& values) {
  if (op.outcome == Outcome::kUnknown) return "?";
  if (op.outcome == Outcome::kFailed) return "did not happen";
  switch (op.reply) {
    case ReplyKind::kNothing: return "ok";
    case ReplyKind::kValue: return describe_value(op.reply_value, values);
    case ReplyKind::kNumber: return std::to_string(op.reply_number);
    case ReplyKind::kNotAnInteger: return "error: not an integer";
    case ReplyKind::kOverflow: return "error: overflow";
    case ReplyKind::kYes:
    case ReplyKind::kNo: break;
  }
  bool yes = op.reply == ReplyKind::kYes;
  switch (op.kind) {
    case Kind::kCas: return yes ? "swapped" : "not swapped";
    case Kind::kDelete: return yes ? "deleted" : "was absent";
    case Kind::kSetNx: return yes ? "written" : "was present";
    default: return yes ? "yes" : "no";
  }
}

}  // namespace mneme::check
