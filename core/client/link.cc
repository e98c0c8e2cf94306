#include "core/client/link.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/base/limits.h"
#include "core/client/outcome.h"
#include "core/protocol/request.h"

namespace mneme::client {

namespace {

constexpr size_t kWriteBytes = 256 * limits::kKiB;  // no more is added to what leaves at once
constexpr size_t kReadBytes = 16 * limits::kKiB;
constexpr size_t kKeptBytes = limits::kMiB;  // of memory by an empty buffer
// After a failure to connect: doubled with every further one, and at most the last half of it by chance.
constexpr Duration kFirstRest = 50ms;
constexpr uint64_t kMostDoublings = 4;

}  // namespace

// What must be true again however the fiber ends. Belongs to its entry and not to its frame: a fiber that is cancelled
// before its first turn never has one.
class Link::Connected {
 public:
  explicit Connected(Link& link) : link_(&link) {}
  Connected(Connected&& other) noexcept : why(std::move(other.why)), link_(std::exchange(other.link_, nullptr)) {}
  ~Connected() {
    if (!link_) return;
    link_->stream_ = nullptr;
    link_->running_ = false;
    link_->drop_all(why);
  }

  std::string why = "the client is ending";

 private:
  Link* link_;
};

// --- Requests and their places

Request::~Request() {
  if (state == State::kQueued || state == State::kSent) link->abandon(*this);
}

void Request::settle(State how, std::string_view text) {
  state = how;
  (how == State::kAnswered ? reply : why) = text;
  settled.notify_all();
}

Link::~Link() { CHECK(!in_use()); }

void Link::exchange(Request& request) {
  struct User {
    size_t& users;
    explicit User(size_t& count) : users(count) { ++users; }
    ~User() { --users; }
  } user(users_);
  const size_t bytes = request.bytes.size();
  // Who comes later does not overtake those that wait.
  if (room_.has_waiters() || !has_room(bytes)) {
    do room_.wait();
    while (!has_room(bytes));
  }
  if (!running_ && failing()) {
    request.settle(Request::State::kNotSent, last_failure_);
    room_.notify_one();
    return;
  }
  enqueue(request);
  if (has_room(0)) room_.notify_one();
  request.settled.wait_until([&] { return request.is_settled(); });
}

void Link::enqueue(Request& request) {
  queue_.push_back({.request = &request, .bytes = request.bytes.size(), .numbered = request.number != 0});
  bytes_ += request.bytes.size();
  request.link = this;
  request.place = std::prev(queue_.end());
  request.state = Request::State::kQueued;
  if (running_) return to_write_.notify_one();
  running_ = true;
  scope_.spawn_daemon("client read", [this, connected = Connected(*this)]() mutable { run(connected); });
}

void Link::abandon(Request& request) {
  if (request.state == Request::State::kQueued)
    leave(queue_, request.place);
  else
    request.place->request = nullptr;
}

void Link::leave(std::list<Place>& list, std::list<Place>::iterator place) {
  bytes_ -= place->bytes;
  list.erase(place);
  room_.notify_one();
}

void Link::drop_all(std::string_view why) {
  const auto lost = nothing_executed_ ? Request::State::kNotSent : Request::State::kLost;
  for (Place& place : sent_)
    if (place.request) place.request->settle(lost, why);
  for (Place& place : queue_) place.request->settle(Request::State::kNotSent, why);
  sent_.clear();
  queue_.clear();
  bytes_ = 0;
  room_.notify_all();
}

void Link::close_if_idle() {
  if (stream_ && places() == 0 && users_ == 0) stream_->close();
}

// --- The connection

void Link::run(Connected& connected) {
  auto ended = connect_and_serve();
  if (ended) return;
  connected.why = fmt::format("{}: {}", env::to_string(address_), ended.error().message);
  env::log(env_.trace, env::Level::kDebug, "client", "{}", connected.why);
  last_failure_ = connected.why;
}

Result<void> Link::connect_and_serve() {
  parser_ = protocol::ReplyParser();
  resumed_ = SessionId();
  number_may_wait_ = false;
  answered_ = nothing_executed_ = false;
  commands_sent_ = 0;
  auto stream = fiber::with_deadline(env_.scheduler, env_.clock.timers(), env_.clock.now() + options_.connect_timeout,
                                     [&] { return env_.network.connect(address_); });
  if (!stream) {
    connecting_failed();
    return std::unexpected(std::move(stream).error());
  }
  failures_ = 0;
  stream_ = stream->get();
  heard_at_ = env_.clock.now();
  return fiber::with_scope(env_.scheduler, [&](fiber::Scope& scope) -> Result<void> {
    scope.spawn_daemon("client write", [&] { return write_all(**stream); });
    return read_all(**stream);
  });
}

void Link::connecting_failed() {
  const Duration rest = kFirstRest * (1 << std::min(failures_++, kMostDoublings));
  const Duration drawn =
      env_.random.draw_below(rest / 2, Site::kClientPause, xxh3(env::to_string(address_)), failures_);
  not_before_ = env_.clock.now() + rest / 2 + drawn;
}

Result<void> Link::write_all(env::Stream& stream) {
  std::string out;
  for (;;) {
    to_write_.wait_until([this] { return !queue_.empty(); });
    assemble(out);
    TRY(stream.write(as_bytes(out)));
    reuse(out, kKeptBytes);
  }
}

void Link::assemble(std::string& out) {
  if (sent_.empty()) heard_at_ = env_.clock.now();
  while (!queue_.empty() && out.size() < kWriteBytes) {
    Place& place = queue_.front();
    Request& request = *place.request;
    put_preamble(place, out);
    out += request.bytes;
    commands_sent_ += place.preambles + 1;
    request.state = Request::State::kSent;
    sent_.splice(sent_.end(), queue_, queue_.begin());  // iterators stay
    if (options_.observer) options_.observer->sent(request.tag, stream_->id(), commands_sent_);
  }
}

void Link::put_preamble(Place& place, std::string& out) {
  const Request& request = *place.request;
  auto say = [&](std::initializer_list<std::string_view> args) {
    protocol::put_command(out, args);
    ++place.preambles;
  };
  auto resume = [&] { say({"SESSION", "RESUME", std::to_string(resumed_.value)}); };
  if (place.numbered) {
    if (resumed_ != request.session->id()) {
      resumed_ = request.session->id();
      resume();
    }
    say({"SESSION", "SEQ", std::to_string(request.number), "ACK", std::to_string(request.session->acknowledged())});
  } else if (number_may_wait_) {
    resume();
  }
  number_may_wait_ = place.numbered;
  if (request.asking) say({"ASKING"});
}

Result<size_t> Link::read_some(env::Stream& stream, std::span<uint8_t> into) {
  for (;;) {
    // What is sent while nothing is owed moves heard_at_, so this may come too early, never too late.
    const Instant from = sent_.empty() ? env_.clock.now() : heard_at_;
    auto got = fiber::with_deadline(env_.scheduler, env_.clock.timers(), from + options_.silence,
                                    [&] { return stream.read(into); });
    if (got || got.error().code != ErrorCode::kTimeout) return got;
    if (!sent_.empty() && env_.clock.now() >= heard_at_ + options_.silence)
      return fail(ErrorCode::kTimeout, fmt::format("no answer for {} ms", options_.silence / 1ms));
  }
}

Result<void> Link::read_all(env::Stream& stream) {
  Bytes chunk(kReadBytes);
  std::string buffer;
  for (;;) {
    const size_t got = TRY(read_some(stream, chunk));
    if (got == 0) return fail(ErrorCode::kClosed, "the node closed the connection");
    heard_at_ = env_.clock.now();
    buffer.append(as_text(ByteView(chunk).first(got)));
    TRY(take_replies(buffer));
  }
}

Result<void> Link::take_replies(std::string& buffer) {
  std::string_view rest = buffer;
  for (;;) {
    auto step = parser_.next(rest);
    if (step.progress == protocol::Progress::kError) return std::unexpected(std::move(step.error));
    if (step.progress == protocol::Progress::kMore) break;
    TRY(take(rest.substr(0, step.length)));
    rest.remove_prefix(step.length);
  }
  if (rest.empty())
    reuse(buffer, kKeptBytes);
  else
    buffer.erase(0, buffer.size() - rest.size());
  return {};
}

Result<void> Link::take(std::string_view reply) {
  if (judge(reply) == Verdict::kTurnedAway && !answered_) {  // said instead of reading anything
    nothing_executed_ = true;
    return fail(ErrorCode::kUnavailable, "the node has as many connections as it takes");
  }
  answered_ = true;
  if (sent_.empty()) return fail(ErrorCode::kCorrupt, "a reply to nothing that was asked");
  Place& place = sent_.front();
  if (place.preambles > 0) return take_preamble(place, reply);
  if (place.request) place.request->settle(Request::State::kAnswered, reply);
  leave(sent_, sent_.begin());
  return {};
}

Result<void> Link::take_preamble(Place& place, std::string_view reply) {
  --place.preambles;
  if (!place.numbered || !reply.starts_with('-')) return {};
  // Whether the session is known could not be found out, or it is not: the command behind is refused alike.
  if (const Verdict verdict = judge(reply); verdict == Verdict::kUnserved || verdict == Verdict::kExpired) return {};
  // The command behind it has left already. Those after it are in the same danger.
  for (Place& sent : sent_)
    if (sent.request && sent.numbered) sent.request->number_refused = true;
  return fail(ErrorCode::kRefused,
              fmt::format("the node refuses to number a command: {}", reply.substr(1, reply.find('\r') - 1)));
}

}  // namespace mneme::client
