#include "sim/scenarios/kv_model.h"

#include <algorithm>
#include <charconv>

#include "core/base/check.h"
#include "core/protocol/reply.h"

namespace mneme::sim {

namespace {

std::string integer(int64_t n) {
  std::string out;
  protocol::put_integer(out, n);
  return out;
}

std::string bulk_or_null(const std::optional<std::string>& value) {
  std::string out;
  if (value)
    protocol::put_bulk(out, *value);
  else
    protocol::put_null(out);
  return out;
}

std::optional<int64_t> number(std::string_view text) {
  int64_t n = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (std::to_string(n) != text) return std::nullopt;  // "007", "-0"
  return n;
}

}  // namespace

std::optional<KvModel::Value> KvModel::get(std::string_view key, LogIndex at) const {
  auto found = keys_.find(key);
  if (found == keys_.end()) return std::nullopt;
  const auto& versions = found->second;
  auto after =
      std::upper_bound(versions.begin(), versions.end(), at, [](LogIndex i, const Version& v) { return i < v.index; });
  if (after == versions.begin()) return std::nullopt;
  const Version& version = *std::prev(after);
  if (!version.value) return std::nullopt;
  if (version.expire_at_ms != 0 && version.expire_at_ms <= times_[at.value]) return std::nullopt;
  return Value{*version.value, version.expire_at_ms};
}

void KvModel::put(std::string_view key, std::optional<std::string> value, int64_t expire_at_ms) {
  keys_[std::string(key)].push_back({last_, std::move(value), expire_at_ms});
}

const std::vector<KvModel::Answer>& KvModel::apply(LogIndex index, std::string_view payload) {
  CHECK(index == last_.next());
  answers_.clear();
  auto reader = kv::BatchReader::open(payload);
  CHECK(reader.has_value());
  last_ = index;
  times_.push_back(std::max(times_.back(), reader->header().log_time_ms));
  kv::CommandMeta meta;
  std::vector<std::string_view> args;
  for (size_t position = 0; reader->next(meta, args); ++position) {
    if (!meta.session) {
      answers_.push_back({execute(args, position), true});
      continue;
    }
    Session* session = use_session(meta.session.value);
    if (session) session->acknowledged = std::max(session->acknowledged, meta.ack);
    // A number that the client has said it needs no more is refused, even if its command comes only now.
    if (!session || meta.sequence <= session->acknowledged) {
      answers_.push_back({"-EXPIRED\r\n", false});
      continue;
    }
    auto [known, fresh] = session->replies.try_emplace(meta.sequence);
    if (fresh) known->second = execute(args, position);
    answers_.push_back({known->second, fresh});
  }
  return answers_;
}

KvModel::Session* KvModel::use_session(uint64_t id) {
  auto found = sessions_.find(id);
  if (found == sessions_.end()) return nullptr;
  if (times_.back() - found->second.used_ms >= 3'600'000) {
    sessions_.erase(found);
    return nullptr;
  }
  found->second.used_ms = times_.back();
  return &found->second;
}

std::string KvModel::execute(const std::vector<std::string_view>& args, size_t position) {
  const std::string_view name = args[0];
  if (name == "SESSION") {
    const uint64_t id = (last_.value << 20) + position;
    sessions_[id].used_ms = times_.back();
    return integer(static_cast<int64_t>(id));
  }
  const std::string_view key = args[1];
  const auto now = get(key, last_);
  const std::optional<std::string> held = now ? std::optional(now->bytes) : std::nullopt;
  const int64_t expiry = now ? now->expire_at_ms : 0;
  if (name == "GET") return bulk_or_null(held);
  if (name == "SET") {
    int64_t expire_at = args.size() == 5 ? times_.back() + *number(args[4]) : 0;
    put(key, std::string(args[2]), expire_at);
    return "+OK\r\n";
  }
  if (name == "DEL") {
    if (held) put(key, std::nullopt, 0);
    return integer(held ? 1 : 0);
  }
  if (name == "CAS") {
    const bool swapped = held && *held == args[2];
    if (swapped) put(key, std::string(args[3]), expiry);
    return integer(swapped ? 1 : 0);
  }
  if (name == "SETNX") {
    if (!held) put(key, std::string(args[2]), 0);
    return integer(held ? 0 : 1);
  }
  if (name == "GETSET") {
    put(key, std::string(args[2]), 0);
    return bulk_or_null(held);
  }
  if (name == "APPEND") {
    std::string longer = held.value_or("") + std::string(args[2]);
    const auto size = static_cast<int64_t>(longer.size());
    put(key, std::move(longer), expiry);
    return integer(size);
  }
  if (name == "INCRBY") {
    auto old = held ? number(*held) : std::optional<int64_t>(0);
    if (!old) return "-ERR value is not an integer or out of range\r\n";
    int64_t sum = *old + *number(args[2]);
    put(key, std::to_string(sum), expiry);
    return integer(sum);
  }
  if (name == "PEXPIRE") {
    if (!held) return integer(0);
    put(key, held, times_.back() + *number(args[2]));
    return integer(1);
  }
  return "?";
}

std::string KvModel::read(LogIndex at, const std::vector<std::string>& args) const {
  CHECK(args[0] == "GET");
  const auto value = get(args[1], at);
  return bulk_or_null(value ? std::optional(value->bytes) : std::nullopt);
}

}  // namespace mneme::sim
