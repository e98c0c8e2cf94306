#include "cmd/load.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/base/hash.h"
#include "core/base/limits.h"
#include "core/client/topology.h"
#include "core/protocol/reply_reader.h"
#include "core/protocol/request.h"

namespace mneme::cmd {

namespace {

constexpr Duration kConnectPatience{5s};
constexpr Duration kPatience{5s};  // for the last replies
constexpr size_t kReadBytes = 64 * limits::kKiB;

constexpr size_t kDigits = 12;
constexpr std::string_view kKeyPrefix = "key:";
// Where the digits begin in a request: after "*3\r\n$3\r\nSET\r\n$16\r\nkey:", and the same for GET.
constexpr size_t kDigitsAt = 4 + 4 + 5 + 5 + kKeyPrefix.size();

void write_digits(char* to, uint32_t number) {
  for (size_t i = kDigits; i-- > 0; number /= 10) to[i] = static_cast<char>('0' + number % 10);
}

std::string key_of(uint32_t number) {
  std::string key(kKeyPrefix);
  key.resize(kKeyPrefix.size() + kDigits);
  write_digits(key.data() + kKeyPrefix.size(), number);
  return key;
}

}  // namespace

uint64_t LoadReport::error_replies() const {
  uint64_t sum = 0;
  for (auto& [word, count] : errors) sum += count;
  return sum;
}

// --- Replies

// True: the line was a reply of its own.
bool ReplyCounter::end_line() {
  switch (type_) {
    case '+':
    case '-':
    case ':': return true;
    case '$': {
      if (line_size_ == 0 || line_size_ > kMaxErrorWord) break;
      auto size = protocol::parse_integer(std::string_view(line_, line_size_));
      if (!size || *size < -1) break;
      if (*size == -1) return true;
      rest_ = static_cast<uint64_t>(*size) + 2;
      part_ = Part::kRest;
      return false;
    }
    default: break;
  }
  broken_ = true;
  return false;
}

template <class F>
uint64_t ReplyCounter::count(std::string_view bytes, F&& error) {
  uint64_t replies = 0;
  while (!bytes.empty() && !broken_) {
    if (part_ == Part::kRest) {
      const size_t skipped = static_cast<size_t>(std::min<uint64_t>(rest_, bytes.size()));
      bytes.remove_prefix(skipped);
      rest_ -= skipped;
      if (rest_ > 0) break;
      part_ = Part::kType;
      ++replies;
      continue;
    }
    if (part_ == Part::kType) {
      type_ = bytes[0];
      bytes.remove_prefix(1);
      part_ = Part::kLine;
      line_size_ = 0;
      continue;
    }
    const size_t end = bytes.find('\n');
    const std::string_view line = bytes.substr(0, std::min(end, bytes.size()));
    const size_t kept = std::min(line.size(), kMaxErrorWord - line_size_);
    std::memcpy(line_ + line_size_, line.data(), kept);
    line_size_ += kept;
    bytes.remove_prefix(std::min(line.size() + 1, bytes.size()));
    if (end == std::string_view::npos) break;
    if (line_size_ > 0 && line_[line_size_ - 1] == '\r') --line_size_;
    part_ = Part::kType;
    if (!end_line()) continue;
    ++replies;
    if (type_ == '-') {
      const std::string_view text(line_, line_size_);
      error(text.substr(0, text.find(' ')));
    }
  }
  return replies;
}

// --- Load

Result<void> Load::run() {
  nodes_ = plan_.nodes;
  if (plan_.cluster) TRY(find_owners());
  TRY(connect());
  set_.clear();
  get_.clear();
  const std::string key = key_of(0);
  protocol::put_command(set_, {"SET", key, std::string(plan_.value_bytes, 'x')});
  protocol::put_command(get_, {"GET", key});
  begin_ = loop_.now();
  if (plan_.requests == 0) until_ = begin_ + plan_.time;
  begun_ = true;
  auto driven = [&]() -> Result<void> {
    return fiber::with_scope(loop_.scheduler(), [&](fiber::Scope& scope) {
      for (Connection& connection : connections_)
        scope.spawn("load", [&] {
          auto done = drive(connection);
          if (done) return;
          if (report_.lost_connections++ == 0) report_.why_lost = done.error().message;
        });
    });
  };
  if (until_ == kNever) {
    TRY(driven());
  } else if (!fiber::with_deadline(loop_.scheduler(), loop_.timers(), until_ + kPatience, driven)) {
    report_.why_lost = fmt::format("no reply for {} s", kPatience / 1s);
    report_.lost_connections = std::max<uint64_t>(report_.lost_connections, 1);
  }
  report_.took = loop_.now() - begin_;
  ended_ = true;
  return {};
}

Result<void> Load::find_owners() {
  client::Topology topology;
  auto asked =
      fiber::with_deadline(loop_.scheduler(), loop_.timers(), loop_.now() + kConnectPatience, [&]() -> Result<void> {
        const env::Address& node = nodes_.front();
        auto stream = TRY(network_.connect(node));
        std::string buffer;
        protocol::put_command(buffer, {"CLUSTER", "SLOTS"});
        TRY(stream->write(as_bytes(buffer)));
        buffer.clear();
        protocol::ReplyParser parser;
        for (;;) {
          auto step = parser.next(buffer);
          if (step.progress == protocol::Progress::kError) return std::unexpected(std::move(step.error));
          if (step.progress == protocol::Progress::kDone) {
            auto reply = TRY(protocol::parse_reply(std::string_view(buffer).substr(0, step.length)));
            if (reply.kind == protocol::Reply::Kind::kError)
              return fail(ErrorCode::kUnavailable,
                          fmt::format("{} answers CLUSTER SLOTS with '{}'; leave out --cluster", env::to_string(node),
                                      reply.text));
            return topology.learn(reply, node);
          }
          Bytes chunk(kReadBytes);
          const size_t got = TRY(stream->read(chunk));
          if (got == 0) return fail(ErrorCode::kClosed, "the node closed the connection without an answer");
          buffer.append(as_text(ByteView(chunk).first(got)));
        }
      });
  TRY(std::move(asked));
  std::map<env::Address, std::vector<uint32_t>> keys;
  for (uint32_t key = 0; key < plan_.keys; ++key) {
    const env::Address* owner = topology.owner(slot_of(key_of(key)));
    if (!owner)
      return fail(ErrorCode::kUnavailable,
                  "the cluster does not serve all slots yet; `mneme cluster status` says what is wrong");
    keys[*owner].push_back(key);
  }
  nodes_.clear();
  for (auto& [node, own] : keys) {
    nodes_.push_back(node);
    keys_of_.push_back(std::move(own));
  }
  return {};
}

Result<void> Load::connect() {
  return fiber::with_deadline(loop_.scheduler(), loop_.timers(), loop_.now() + kConnectPatience, [&]() -> Result<void> {
    for (size_t i = 0; i < plan_.connections; ++i) {
      const size_t node = i % nodes_.size();
      connections_.push_back({.stream = TRY(network_.connect(nodes_[node])),
                              .keys = plan_.cluster ? &keys_of_[node] : nullptr,
                              .random = mix(i + 1)});
    }
    return {};
  });
}

// How many requests to send next; 0: none any more.
size_t Load::take_round() {
  if (stopped_ || loop_.now() >= until_) return 0;
  if (plan_.requests == 0) return plan_.pipeline;
  const auto round = static_cast<size_t>(std::min<uint64_t>(plan_.pipeline, plan_.requests - sent_));
  sent_ += round;
  return round;
}

void Load::put_round(Connection& connection, size_t requests, std::string& out) {
  out.clear();
  for (size_t i = 0; i < requests; ++i) {
    const uint64_t drawn = mix(connection.random += 0x9e3779b97f4a7c15u);
    const auto high = static_cast<uint32_t>(drawn >> 32);
    const std::string& request = high % (plan_.sets + plan_.gets) < plan_.sets ? set_ : get_;
    const size_t begin = out.size();
    out += request;
    auto pick = [&](size_t count) { return (static_cast<uint32_t>(drawn) * uint64_t{count}) >> 32; };
    const uint32_t key =
        connection.keys ? (*connection.keys)[pick(connection.keys->size())] : static_cast<uint32_t>(pick(plan_.keys));
    write_digits(out.data() + begin + kDigitsAt, key);
  }
}

Result<void> Load::drive(Connection& connection) {
  std::string out;
  out.reserve(plan_.pipeline * std::max(set_.size(), get_.size()));
  Bytes chunk(kReadBytes);
  ReplyCounter counter;
  while (size_t owed = take_round()) {
    put_round(connection, owed, out);
    const Instant sent = loop_.now();
    TRY(connection.stream->write(as_bytes(out)));
    while (owed > 0) {
      const size_t got = TRY(connection.stream->read(chunk));
      if (got == 0) return fail(ErrorCode::kClosed, "the node closed the connection");
      const uint64_t replies =
          counter.count(as_text(ByteView(chunk).first(got)), [this](std::string_view word) { count_error(word); });
      if (counter.broken() || replies > owed) return fail(ErrorCode::kCorrupt, "the node answers what was not asked");
      report_.latency.add(loop_.now() - sent, replies);
      report_.replies += replies;
      owed -= replies;
    }
  }
  return {};
}

void Load::count_error(std::string_view word) {
  auto known = report_.errors.find(std::string(word));
  if (known != report_.errors.end())
    ++known->second;
  else
    ++report_.errors[report_.errors.size() < kMaxErrorWords ? std::string(word) : "other"];
}

}  // namespace mneme::cmd
