#include "sim/scenarios/kv_model.h"

#include <algorithm>
#include <charconv>

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/kv/internal.h"
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
  if (is_stale(*reader)) return answers_;
  kv::CommandMeta meta;
  std::vector<std::string_view> args;
  for (size_t position = 0; reader->next(meta, args); ++position) {
    if (!owns(args)) {
      answers_.push_back({"-CLUSTERDOWN Hash slot not served\r\n", false});
      continue;
    }
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
  for (auto next = sessions_.begin(); next != sessions_.end();) {
    const auto one = next++;
    if (times_.back() - one->second.used_ms < 3'600'000) continue;
    forgotten_ = std::max(forgotten_, one->first);
    sessions_.erase(one);
  }
  auto found = sessions_.find(id);
  if (found == sessions_.end()) {
    if (slots_.empty() || id <= forgotten_) return nullptr;
    found = sessions_.try_emplace(id).first;
  }
  found->second.used_ms = times_.back();
  return &found->second;
}

void KvModel::configure(LogIndex index) {
  skip(index);
  if (epoch_ != 0) ++epoch_;
}

std::vector<std::pair<GroupId, KvModel>> KvModel::take_children() { return std::exchange(children_, {}); }

bool KvModel::is_stale(kv::BatchReader reader) const {
  if (epoch_ == 0 || reader.header().epoch.value >= slots_epoch_) return false;
  kv::CommandMeta meta;
  std::vector<std::string_view> args;
  while (reader.next(meta, args))
    if (!args[0].starts_with("mneme.")) return true;
  return false;
}

bool KvModel::owns(const std::vector<std::string_view>& args) const {
  if (args.size() < 2 || args[0] == "SESSION" || args[0].starts_with("mneme.")) return true;
  return slots_.contains(slot_of(args[1]));
}

KvModel KvModel::child_of(std::string_view bytes) {
  const auto request = kv::SplitRequest::decode(bytes);
  KvModel child;
  child.slots_ = slots_.split_at(request->at);
  child.epoch_ = child.slots_epoch_ = epoch_ = slots_epoch_ = epoch_ + 1;
  child.times_ = {times_.back(), times_.back()};
  child.last_ = LogIndex(1);
  child.forgotten_ = forgotten_;
  child.sessions_ = sessions_;
  for (const auto& [key, versions] : keys_) {
    if (!child.slots_.contains(slot_of(key)) || !versions.back().value) continue;
    child.keys_[key].push_back({LogIndex(1), versions.back().value, versions.back().expire_at_ms});
  }
  return child;
}

// Answers nobody who is judged here.
std::string KvModel::change_shard(const std::vector<std::string_view>& args) {
  auto number_of = [](std::string_view bytes) { return Reader(bytes).u64(); };
  if (args[0] == "mneme.begin" && epoch_ == 0) {
    Reader slots(args[2]);
    slots_ = *shard::SlotSet::decode(slots);
    epoch_ = slots_epoch_ = number_of(args[1]);
  } else if (args[0] == "mneme.raise" && number_of(args[1]) == epoch_) {
    ++epoch_;
  } else if (args[0] == "mneme.divide") {
    const auto request = kv::SplitRequest::decode(args[1]);
    if (request->epoch.value == epoch_) {
      KvModel child = child_of(args[1]);
      children_.emplace_back(request->child, std::move(child));
    }
  }
  return {};
}

std::string KvModel::execute(const std::vector<std::string_view>& args, size_t position) {
  const std::string_view name = args[0];
  if (name.starts_with("mneme.")) return change_shard(args);
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
