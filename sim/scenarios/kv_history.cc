#include "sim/scenarios/kv_history.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "core/base/check.h"

namespace mneme::sim {

namespace {

// "$5\r\nhello\r\n" -> hello; "$-1\r\n" -> absent.
check::ValueId bulk(check::History& history, std::string_view reply) {
  if (reply.starts_with("$-1")) return check::kAbsent;
  size_t line = reply.find("\r\n") + 2;
  return history.value(reply.substr(line, reply.size() - line - 2));
}

int64_t integer(std::string_view reply) {
  int64_t n = 0;
  std::from_chars(reply.data() + 1, reply.data() + reply.size(), n);
  return n;
}

check::Reply to_reply(check::History& history, const OpRecord& record) {
  std::string_view reply = record.reply;
  if (reply.starts_with("-ERR value is not an integer")) return check::Reply::error(check::ReplyKind::kNotAnInteger);
  switch (record.kind) {
    case OpKind::kGet:
    case OpKind::kGetSet: return check::Reply::of(bulk(history, reply));
    case OpKind::kSet:
    case OpKind::kSetPx: return check::Reply::nothing();
    case OpKind::kDel:
    case OpKind::kCas:
    case OpKind::kSetNx: return check::Reply::yes(integer(reply) == 1);
    case OpKind::kIncr:
    case OpKind::kAppend: return check::Reply::count(integer(reply));
    case OpKind::kPexpire: break;
  }
  return check::Reply::nothing();
}

check::Operation to_operation(check::History& history, const OpRecord& record) {
  const uint32_t client = record.client;
  const check::KeyId key = history.key(record.args[1]);
  auto value = [&](size_t i) { return history.value(record.args[i]); };
  switch (record.kind) {
    case OpKind::kGet: return check::get(client, key);
    case OpKind::kSet:
    case OpKind::kSetPx: return check::set(client, key, value(2));
    case OpKind::kDel: return check::del(client, key);
    case OpKind::kCas: return check::cas(client, key, value(2), value(3));
    case OpKind::kIncr: return check::incr(client, key, integer(":" + record.args[2]));
    case OpKind::kAppend: return check::append(client, key, value(2));
    case OpKind::kGetSet: return check::getset(client, key, value(2));
    case OpKind::kSetNx: return check::setnx(client, key, value(2));
    case OpKind::kPexpire: break;
  }
  return check::expire(key, check::kAnyValue);
}

}  // namespace

std::string OpRecord::text() const {
  std::string out = fmt::format("c{} ", client);
  for (const std::string& arg : args) out += (arg.size() > 40 ? arg.substr(0, 37) + "..." : arg) + " ";
  out.pop_back();
  return out;
}

check::History to_history(const std::vector<OpRecord>& records, std::vector<check::OpId>* ids_out) {
  struct Event {
    WorldTime at;
    uint64_t order;
    enum class What : uint8_t { kCall, kReturn, kMayExpire } what;
    size_t record;
  };
  std::vector<Event> events;
  std::set<std::string_view> keeps_expiry;
  for (const OpRecord& record : records)
    if (record.kind == OpKind::kAppend || record.kind == OpKind::kIncr || record.kind == OpKind::kCas)
      keeps_expiry.insert(record.args[1]);
  for (size_t i = 0; i < records.size(); ++i) {
    const OpRecord& record = records[i];
    // PEXPIRE itself is in the history only as what it permits.
    if (record.kind != OpKind::kPexpire) {
      events.push_back({record.called, record.call_order, Event::What::kCall, i});
      if (record.outcome == ClientOutcome::kOk || record.outcome == ClientOutcome::kFailed)
        events.push_back({record.returned, record.return_order, Event::What::kReturn, i});
    }
    if (record.ttl_ms > 0 && record.outcome != ClientOutcome::kFailed)
      events.push_back({record.called + record.ttl_ms * 750'000, 0, Event::What::kMayExpire, i});
  }
  std::stable_sort(events.begin(), events.end(),
                   [](const Event& a, const Event& b) { return a.at != b.at ? a.at < b.at : a.order < b.order; });
  check::History history;
  std::vector<check::OpId> ids(records.size(), kNoOperation);
  for (const Event& event : events) {
    const OpRecord& record = records[event.record];
    switch (event.what) {
      case Event::What::kCall: ids[event.record] = history.invoke(to_operation(history, record), event.at); break;
      case Event::What::kReturn:
        if (record.outcome == ClientOutcome::kFailed)
          history.did_not_happen(ids[event.record], event.at);
        else
          history.complete(ids[event.record], to_reply(history, record), event.at);
        break;
      case Event::What::kMayExpire: {
        const auto key = history.key(record.args[1]);
        // APPEND, INCRBY and CAS keep the time to live, so that by then the value may be another one.
        const bool exact = record.kind == OpKind::kSetPx && !keeps_expiry.contains(record.args[1]);
        const auto value = exact ? history.value(record.args[2]) : check::kAnyValue;
        history.invoke(check::expire(key, value), event.at);
        break;
      }
    }
  }
  if (ids_out) *ids_out = std::move(ids);
  return history;
}

}  // namespace mneme::sim
