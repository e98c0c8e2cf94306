#include "sim/scenarios/kv_client.h"

#include <fmt/format.h>

#include <charconv>

#include "core/fiber/scope.h"
#include "core/protocol/reply_reader.h"
#include "core/protocol/request.h"
#include "sim/machine.h"
#include "sim/world.h"

namespace mneme::sim {

using protocol::Progress;

namespace {
constexpr int kRetries = 3;
constexpr Duration kPauseAfterFailure = 30ms;

void put(std::string& out, const std::vector<std::string>& command) {
  std::vector<std::string_view> args(command.begin(), command.end());
  protocol::put_command(out, args);
}
}  // namespace

Result<void> KvClient::run(Env& env) {
  stream_.reset();  // the predecessor's
  while (!finished()) {
    const PlannedOp& op = plan_.operations[next_];
    env.clock.sleep_for(env.scheduler, Duration(op.think));
    const size_t first = next_++;
    if (plan_.pipelines) next_ = std::min(first + op.burst, plan_.operations.size());
    if (plan_.style == ClientStyle::kSession) {
      perform_in_session(env, first, next_ - first);
    } else if (plan_.pipelines) {
      perform_together(env, first, next_ - first);
    } else {
      perform(env, op);
    }
  }
  drop();
  return {};
}

Result<void> KvClient::read_all(Env& env, int64_t keys, WorldTime deadline) {
  stream_.reset();
  all_in_turn_ = true;
  for (int64_t key = 0; key < keys; ++key) TRY(read_surely(env, fmt::format("k{}", key), deadline));
  drop();
  return {};
}

// --- Operations

ClientOutcome KvClient::judge(std::string_view reply) const {
  if (reply.starts_with("-UNCERTAIN")) return ClientOutcome::kUnknown;
  for (std::string_view prefix : {"-CLUSTERDOWN", "-LOADING", "-MOVED", "-TRYAGAIN", "-EXPIRED", "-OOM"})
    if (reply.starts_with(prefix)) return ClientOutcome::kFailed;
  return ClientOutcome::kOk;
}

void KvClient::perform(Env& env, const PlannedOp& op) {
  for (int attempts = 0;; ++attempts) {
    if (!stream_ && !connect(env)) {
      // Nothing was asked: not an operation.
      env.clock.sleep_for(env.scheduler, kPauseAfterFailure);
      if (attempts >= kRetries) return;
      continue;
    }
    const size_t record = scribe_.begin(op);
    std::string reply;
    const Attempt how = attempt(env, record, scribe_.record(record).args, reply);
    ClientOutcome outcome = how == Attempt::kAnswered  ? judge(reply)
                            : how == Attempt::kNotSent ? ClientOutcome::kFailed
                                                       : ClientOutcome::kUnknown;
    // redis-py does not know our prefix for unknown outcomes and does not retry it.
    const bool again = plan_.style == ClientStyle::kRetrying && attempts < kRetries &&
                       (how != Attempt::kAnswered || reply.starts_with("-CLUSTERDOWN"));
    scribe_.finish(record, outcome, std::move(reply));
    if (how != Attempt::kAnswered) drop();
    if (outcome == ClientOutcome::kFailed) env.clock.sleep_for(env.scheduler, kPauseAfterFailure);
    if (!again) return;
  }
}

void KvClient::perform_together(Env& env, size_t first, size_t count) {
  if (!stream_ && !connect(env)) return env.clock.sleep_for(env.scheduler, kPauseAfterFailure);  // nothing was asked
  std::vector<size_t> records;
  std::string out;
  for (size_t i = first; i < first + count; ++i) {
    records.push_back(scribe_.begin(plan_.operations[i]));
    put(out, scribe_.record(records.back()).args);
    scribe_.sent(records.back(), stream_->id(), ++sent_on_stream_);
  }
  const Instant deadline = env.clock.now() + timeout_;
  auto sent =
      fiber::with_deadline(env.scheduler, env.clock.timers(), deadline, [&] { return stream_->write(as_bytes(out)); });
  size_t answered = 0;
  for (; sent && answered < count; ++answered) {
    auto reply = read_reply(env, deadline);
    if (!reply) break;
    const ClientOutcome outcome = judge(*reply);
    scribe_.finish(records[answered], outcome, std::move(*reply));
  }
  if (answered == count) return;
  drop();
  for (; answered < count; ++answered) scribe_.finish(records[answered], ClientOutcome::kUnknown, "");
}

bool KvClient::open_session(Env& env) {
  for (int attempts = 0; attempts < 2 * kRetries; ++attempts) {
    std::string reply;
    if (stream_ || connect(env)) {
      // Opening twice harms nobody: no operation of the history depends on it.
      if (attempt(env, SIZE_MAX, {"SESSION", "OPEN"}, reply) == Attempt::kAnswered && reply[0] == ':') {
        std::from_chars(reply.data() + 1, reply.data() + reply.size(), session_);
        sequence_ = 0;
        session_bound_ = false;
        return true;
      }
      if (reply.empty()) drop();
    }
    env.clock.sleep_for(env.scheduler, kPauseAfterFailure);
  }
  return false;
}

void KvClient::perform_in_session(Env& env, size_t first, size_t count) {
  if (session_ == 0 && !open_session(env)) return;
  std::vector<Numbered> open;
  for (size_t i = first; i < first + count; ++i) open.push_back({scribe_.begin(plan_.operations[i]), ++sequence_});
  for (int attempts = 0; attempts < 12 && session_ != 0; ++attempts) {
    if ((stream_ || connect(env)) && !ask_in_session(env, open)) drop();
    if (open.empty()) return;
    env.clock.sleep_for(env.scheduler, kPauseAfterFailure);
  }
  // Given up: whatever is still on its way may happen yet, so the session is not used again, nor the connection, on
  // which the number would go on to hold for what is sent next.
  session_ = 0;
  drop();
  for (Numbered& op : open)
    scribe_.finish(op.record, op.may_have_happened ? ClientOutcome::kUnknown : ClientOutcome::kFailed,
                   std::move(op.refusal));
}

// Sends all of `open` at once, takes out what was answered, and forgets the session when it has expired. False: the
// connection is lost, or silent for too long.
bool KvClient::ask_in_session(Env& env, std::vector<Numbered>& open) {
  std::string out;
  auto say = [&](const std::vector<std::string>& command) {
    put(out, command);
    ++sent_on_stream_;
  };
  const bool resume = !session_bound_;
  const std::string acknowledged = std::to_string(open.front().sequence - 1);
  if (resume) say({"SESSION", "RESUME", std::to_string(session_)});
  for (const Numbered& op : open) {
    say({"SESSION", "SEQ", std::to_string(op.sequence), "ACK", acknowledged});
    say(scribe_.record(op.record).args);
    scribe_.sent(op.record, stream_->id(), sent_on_stream_);
  }
  const Instant deadline = env.clock.now() + timeout_;
  auto sent =
      fiber::with_deadline(env.scheduler, env.clock.timers(), deadline, [&] { return stream_->write(as_bytes(out)); });
  std::vector<Numbered> left;
  auto lost = [&](size_t from) {
    for (size_t i = from; i < open.size(); ++i) open[i].may_have_happened = true;
    left.insert(left.end(), open.begin() + static_cast<ptrdiff_t>(from), open.end());
    open = std::move(left);
    return false;
  };
  if (!sent || (resume && !read_reply(env, deadline))) return lost(0);
  session_bound_ = true;
  for (size_t i = 0; i < open.size(); ++i) {
    Result<std::string> reply = read_reply(env, deadline);  // to SEQ, which is refused only for a malformed number
    if (reply) reply = read_reply(env, deadline);
    if (!reply) return lost(i);
    const ClientOutcome outcome = judge(*reply);
    if (outcome == ClientOutcome::kOk) {
      scribe_.finish(open[i].record, outcome, std::move(*reply));
      continue;
    }
    open[i].may_have_happened |= outcome == ClientOutcome::kUnknown;
    if (reply->starts_with("-EXPIRED")) {
      session_ = 0;
      open[i].refusal = std::move(*reply);
    }
    left.push_back(std::move(open[i]));
  }
  open = std::move(left);
  return true;
}

Result<void> KvClient::read_surely(Env& env, const std::string& key, WorldTime deadline) {
  std::string last = "no connection";
  while (world_.now() < deadline) {
    if (stream_ || connect(env)) {
      const size_t at = scribe_.begin_read(key);
      std::string reply;
      const Attempt how = attempt(env, at, scribe_.record(at).args, reply);
      const ClientOutcome outcome = how == Attempt::kAnswered ? judge(reply) : ClientOutcome::kUnknown;
      last = how == Attempt::kAnswered ? reply.substr(0, reply.find('\r')) : "no answer";
      scribe_.finish(at, outcome, std::move(reply));
      if (outcome == ClientOutcome::kOk) return {};
      // One that does not serve may be one that does not belong to the cluster any more.
      if (how != Attempt::kAnswered || last.starts_with("-LOADING")) drop();
    }
    env.clock.sleep_for(env.scheduler, 100ms);
  }
  return fail(ErrorCode::kTimeout, fmt::format("GET {} was not answered (last: {})", key, last));
}

// --- The wire

Result<void> KvClient::connect(Env& env) {
  const uint64_t nth = ++connections_;
  const uint64_t drawn = Fate::scale(world_.choose(Choice::kClient, number_, all_in_turn_ ? 1 : nth, 1), nodes_);
  const auto node = static_cast<uint32_t>(all_in_turn_ ? 1 + (drawn + nth) % nodes_ : 1 + drawn);
  buffer_.clear();
  sent_on_stream_ = 0;
  session_bound_ = false;
  auto stream = fiber::with_deadline(env.scheduler, env.clock.timers(), env.clock.now() + timeout_,
                                     [&] { return env.network.connect(address_(node)); });
  if (!stream) return std::unexpected(std::move(stream).error());
  stream_ = std::move(*stream);
  return {};
}

// `record`: whose command it is; SIZE_MAX: nobody's.
KvClient::Attempt KvClient::attempt(Env& env, size_t record, const std::vector<std::string>& command,
                                    std::string& reply) {
  std::string out;
  put(out, command);
  ++sent_on_stream_;
  if (record != SIZE_MAX) scribe_.sent(record, stream_->id(), sent_on_stream_);
  const Instant deadline = env.clock.now() + timeout_;
  auto sent =
      fiber::with_deadline(env.scheduler, env.clock.timers(), deadline, [&] { return stream_->write(as_bytes(out)); });
  // Even a failed write may have sent something, unless the connection was closed before.
  if (!sent) return Attempt::kLost;
  auto got = read_reply(env, deadline);
  if (!got) return Attempt::kLost;
  reply = std::move(*got);
  return Attempt::kAnswered;
}

Result<std::string> KvClient::read_reply(Env& env, Instant deadline) {
  return fiber::with_deadline(env.scheduler, env.clock.timers(), deadline, [&]() -> Result<std::string> {
    protocol::ReplyParser parser;
    for (;;) {
      auto step = parser.next(buffer_);
      CHECK(step.progress != Progress::kError);  // the store's replies are well-formed
      if (step.progress == Progress::kDone) {
        std::string reply = buffer_.substr(0, step.length);
        buffer_.erase(0, step.length);
        return reply;
      }
      uint8_t chunk[4096];
      size_t got = TRY(stream_->read(chunk));
      if (got == 0) return fail(ErrorCode::kClosed, "the node closed the connection");
      buffer_.append(reinterpret_cast<char*>(chunk), got);
    }
  });
}

}  // namespace mneme::sim
