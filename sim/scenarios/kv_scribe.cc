#include "sim/scenarios/kv_scribe.h"

#include <fmt/format.h>

#include "sim/world.h"

namespace mneme::sim {

namespace {

constexpr size_t kShownReplyBytes = 48;

std::string shown(std::string_view reply) {
  std::string text(reply.substr(0, reply.find_last_not_of("\r\n") + 1));
  for (char& c : text)
    if (c == '\r' || c == '\n') c = ' ';
  if (text.size() > kShownReplyBytes) text = text.substr(0, kShownReplyBytes - 3) + "...";
  return text;
}

}  // namespace

std::vector<std::string> KvScribe::arguments(const PlannedOp& op) const {
  const std::string key = fmt::format("k{}", op.key);
  const std::string tag = fmt::format("c{}.{}", client_, op.nth);
  std::string value = tag;
  if (value.size() < op.padding) value.append(op.padding - value.size(), '.');
  switch (op.kind) {
    case OpKind::kGet: return {"GET", key};
    case OpKind::kSet: return {"SET", key, value};
    case OpKind::kDel: return {"DEL", key};
    case OpKind::kCas:
      return {"CAS", key, last_seen_.size() > op.key && !op.guess ? last_seen_[op.key] : "c0.0", value};
    case OpKind::kIncr: return {"INCRBY", key, std::to_string(op.amount)};
    case OpKind::kAppend: return {"APPEND", key, "+" + tag};
    case OpKind::kSetPx: return {"SET", key, value, "PX", std::to_string(op.amount)};
    case OpKind::kPexpire: return {"PEXPIRE", key, std::to_string(op.amount)};
    case OpKind::kGetSet: return {"GETSET", key, value};
    case OpKind::kSetNx: return {"SETNX", key, value};
  }
  return {};
}

OpRecord& KvScribe::call() {
  OpRecord& record = log_.records.emplace_back();
  record.client = client_;
  record.called = world_.now();
  record.call_order = ++log_.events;
  return record;
}

size_t KvScribe::begin(const PlannedOp& op) {
  OpRecord& record = call();
  record.nth = op.nth;
  record.kind = op.kind;
  record.args = arguments(op);
  if (op.kind == OpKind::kSetPx || op.kind == OpKind::kPexpire) record.ttl_ms = op.amount;
  return log_.records.size() - 1;
}

size_t KvScribe::begin_read(const std::string& key) {
  call().args = {"GET", key};
  return log_.records.size() - 1;
}

void KvScribe::sent(size_t at, uint64_t stream, uint64_t nth) {
  OpRecord& record = log_.records[at];
  if (record.attempts.empty()) record.sent_order = ++log_.events;
  // The server's end of a connection has the other number of the pair.
  record.attempts.emplace_back(stream ^ 1, nth);
}

void KvScribe::finish(size_t at, ClientOutcome outcome, std::string reply) {
  OpRecord& record = log_.records[at];
  record.outcome = outcome;
  record.returned = world_.now();
  record.return_order = ++log_.events;
  if (world_.recording())
    world_.record(
        0, "client",
        fmt::format("{} -> {}", record.text(), outcome == ClientOutcome::kUnknown ? "unknown" : shown(reply)));
  if (outcome == ClientOutcome::kOk && record.kind == OpKind::kGet && reply.starts_with('$') && reply[1] != '-') {
    const size_t key = static_cast<size_t>(std::stoul(record.args[1].substr(1)));
    if (last_seen_.size() <= key) last_seen_.resize(key + 1, "c0.0");
    const size_t line = reply.find("\r\n") + 2;
    last_seen_[key] = reply.substr(line, reply.size() - line - 2);
  }
  record.reply = std::move(reply);
}

}  // namespace mneme::sim
