// One call: where to send it, what the answer means, whether to send it again.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/check.h"
#include "core/client/client.h"
#include "core/kv/command.h"
#include "core/protocol/request.h"

namespace mneme::client {

namespace {

constexpr uint64_t kRedirectionsAtOnce = 5;  // then they are followed after pauses, as what else was not done
constexpr Duration kFirstPause = 10ms;       // doubles, and half of it is left to chance
constexpr uint64_t kMostDoublings = 6;

// Commands that change what a connection is or means, and are not in our table.
constexpr std::string_view kOfConnections[] = {"watch",      "unwatch",      "subscribe",  "unsubscribe",
                                               "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe",
                                               "monitor",    "sync",         "psync"};

bool belongs_to_connection(const kv::CommandSpec* spec, std::string_view name) {
  if (!spec)
    return std::any_of(std::begin(kOfConnections), std::end(kOfConnections),
                       [&](std::string_view other) { return kv::equals_ignoring_case(name, other); });
  switch (spec->id) {
    case kv::CommandId::kMulti:
    case kv::CommandId::kExec:
    case kv::CommandId::kDiscard:
    case kv::CommandId::kQuit:
    case kv::CommandId::kReset:
    case kv::CommandId::kHello:
    case kv::CommandId::kAuth:
    case kv::CommandId::kSelect:
    case kv::CommandId::kAsking:
    case kv::CommandId::kReadonly:
    case kv::CommandId::kReadwrite:
    case kv::CommandId::kClientReply:
    case kv::CommandId::kSession:
    case kv::CommandId::kSessionOpen:
    case kv::CommandId::kSessionClose:
    case kv::CommandId::kSessionResume:
    case kv::CommandId::kSessionSeq: return true;
    default: return false;
  }
}

std::string refusal(kv::Args args, const kv::CommandSpec* spec) {
  if (args.empty()) return "a command has at least a name";
  size_t bytes = 0;
  for (std::string_view arg : args) bytes += arg.size();
  // Nodes close the connection on these, and with it fail what others have sent.
  if (args.size() > limits::kMaxCommandArgs)
    return fmt::format("{} arguments are more than {}", args.size(), limits::kMaxCommandArgs);
  if (bytes > limits::kMaxCommandBytes)
    return fmt::format("a command of {} bytes is longer than {}", bytes, limits::kMaxCommandBytes);
  if (belongs_to_connection(spec, args[0]))
    return fmt::format("{} is about a connection, and this client's are shared", args[0]);
  return {};
}

std::string text_of(std::string_view error_reply) {
  return std::string(error_reply.substr(1, error_reply.find_first_of("\r\n") - 1));
}

}  // namespace

std::string why_refused(std::span<const std::string_view> args) {
  std::string ignored;
  return refusal(args, kv::check(args, ignored));
}

struct Client::Call {
  // What is asked.
  uint64_t nth;  // of the client's, from 1
  std::string bytes;
  uint16_t slot = kv::kNoSlot;
  Repeatable repeatable = Repeatable::kNo;
  bool wants_number = false;
  Instant deadline;
  uint64_t tag = 0;
  // Its number, as long as it may be used again.
  struct Number {
    std::shared_ptr<Session> session;
    uint64_t value = 0;
    Number() = default;
    Number(std::shared_ptr<Session> of, uint64_t n) : session(std::move(of)), value(n) {}
    Number(Number&& other) noexcept : session(std::move(other.session)), value(std::exchange(other.value, 0)) {}
    Number& operator=(Number&& other) noexcept {
      std::swap(session, other.session);
      std::swap(value, other.value);
      return *this;
    }
    ~Number() {
      if (value != 0) session->done_with(value);
    }
  } number = {};
  // What has happened so far.
  uint64_t attempts = 0;
  uint64_t redirections = 0;
  uint64_t pauses = 0;
  bool may_have_happened = false;
  bool over = false;  // it must not be sent again, whatever it is
  // For the next attempt.
  std::optional<env::Address> directed_to = {};
  bool asking = false;
  bool at_once = false;
  std::optional<env::Address> avoid = {};  // failed last
};

Answer Client::call(std::span<const std::string_view> args, const CallOptions& options) {
  CHECK(scope_);
  ++counters_.calls;
  std::string ignored;  // the node's error is the one that counts
  const kv::CommandSpec* spec = kv::check(args, ignored);
  if (std::string why = refusal(args, spec); !why.empty()) return {.why = std::move(why)};
  Call call{.nth = counters_.calls,
            .deadline = options.deadline.value_or(env_.clock.now() + options_.timeout),
            .tag = options.tag};
  protocol::put_command(call.bytes, args);
  if (spec) call.slot = kv::slot_of_command(*spec, args);
  call.wants_number = options_.sessions && (!spec || (spec->is(kv::kWrite) && !spec->is(kv::kLocal)));
  if (spec && spec->is(kv::kRead))
    call.repeatable = Repeatable::kRead;
  else if (spec && call.wants_number)  // a command that we do not know may be one that nodes do not number
    call.repeatable = Repeatable::kNumbered;
  return perform(call);
}

Answer Client::perform(Call& call) {
  std::string why;
  for (;;) {
    if (auto ready = prepare(call); !ready) {
      why = std::move(ready).error().message;
      break;
    }
    Answer answer = attempt(call);
    if (answer.outcome == Outcome::kDone) return answer;
    call.may_have_happened |= answer.outcome == Outcome::kUnknown;
    why = std::move(answer.why);
    if (call.over || !may_repeat(answer.outcome, call.repeatable) || !pause(call)) break;
  }
  return {.outcome = call.may_have_happened ? Outcome::kUnknown : Outcome::kNotDone, .why = std::move(why)};
}

// What must be there before anything is sent. Any error is final.
Result<void> Client::prepare(Call& call) {
  if (!asked_once_) {
    auto asked = fiber::with_deadline(env_.scheduler, env_.clock.timers(), call.deadline, [this]() -> Result<void> {
      asked_.wait_until([this] { return asked_once_; });
      return {};
    });
    if (!asked) return fail(ErrorCode::kUnavailable, "no node has answered yet");
  }
  if (call.wants_number && call.number.value == 0) return enter_session(call);
  return {};
}

Answer Client::attempt(Call& call) {
  ++counters_.attempts;
  ++call.attempts;
  Link* link = choose(call);
  if (!link) return {.why = "there are connections to as many nodes as a client may have"};
  const env::Address node = link->address();
  Request request(env_.scheduler, call.bytes);
  request.session = call.number.session.get();
  request.number = call.number.value;
  request.asking = std::exchange(call.asking, false);
  request.tag = call.tag;
  exchange(*link, request, call.deadline);
  using State = Request::State;
  if (request.state == State::kAnswered) return interpret(call, node, std::move(request.reply));
  if (!request.is_settled())
    return {.outcome = request.state == State::kSent ? Outcome::kUnknown : Outcome::kNotDone,
            .why = fmt::format("{}: {} in time", env::to_string(node),
                               request.state == State::kSent ? "no answer" : "it could not be sent")};
  failed(node);
  call.avoid = node;
  call.over |= request.number_refused;
  return {.outcome = request.state == State::kNotSent ? Outcome::kNotDone : Outcome::kUnknown,
          .why = std::move(request.why)};
}

Answer Client::interpret(Call& call, const env::Address& from, std::string reply) {
  switch (judge(reply)) {
    case Verdict::kUncertain: return {.outcome = Outcome::kUnknown, .why = text_of(reply)};
    case Verdict::kMoved: return redirect(call, from, reply, false);
    case Verdict::kAsk: return redirect(call, from, reply, true);
    case Verdict::kTryAgain: return {.why = text_of(reply)};
    case Verdict::kUnserved:
      failed(from);
      call.avoid = from;
      return {.why = text_of(reply)};
    case Verdict::kExpired:
      if (call.number.value != 0) return expired(call, reply);
      break;
    case Verdict::kRefused:
      if (call.may_have_happened) return {.why = text_of(reply)};
      break;
    case Verdict::kDone:
    case Verdict::kTurnedAway: break;
  }
  if (!topology_.owner(call.slot)) home_ = from;
  return {.outcome = Outcome::kDone, .raw = std::move(reply)};
}

Answer Client::redirect(Call& call, const env::Address& from, const std::string& reply, bool asking) {
  ++counters_.redirections;
  auto target = parse_redirection(reply, from);
  if (!target) {
    call.avoid = from;
    return {.why = fmt::format("{} answers what cannot be understood: {}", env::to_string(from), text_of(reply))};
  }
  if (!asking) {
    topology_.moved(target->slot, target->to);
    refresh_soon();
  }
  call.asking = asking;
  call.at_once = ++call.redirections <= kRedirectionsAtOnce;
  call.directed_to = std::move(target->to);
  return {.why = text_of(reply)};
}

Answer Client::expired(Call& call, const std::string& reply) {
  if (session_ == call.number.session) session_.reset();
  if (call.may_have_happened) {
    // The number is what made another attempt safe, and nobody knows it any more.
    call.over = true;
    return {.outcome = Outcome::kUnknown, .why = text_of(reply)};
  }
  call.number = Call::Number();
  return {.why = text_of(reply)};
}

// False: the deadline comes first.
bool Client::pause(Call& call) {
  if (std::exchange(call.at_once, false)) return env_.clock.now() < call.deadline;
  const Duration longest = kFirstPause * (int64_t{1} << std::min(call.pauses++, kMostDoublings));
  const Duration drawn = env_.random.draw_below(longest / 2, Site::kClientPause, call.nth, call.attempts);
  const Instant until = env_.clock.now() + longest / 2 + drawn;
  if (until >= call.deadline) return false;
  env_.clock.sleep_until(env_.scheduler, until);
  return true;
}

// --- Where to

Link* Client::choose(Call& call) {
  if (call.directed_to) return link_to(*std::exchange(call.directed_to, std::nullopt));
  const env::Address* first = topology_.owner(call.slot);
  if (!first && home_) first = &*home_;
  const bool good = first && *first != call.avoid && !failing(*first);
  Link* link = link_to(good ? *first : any_node(call));
  call.avoid.reset();
  return link;
}

// One that is not known to fail, if there is one: it may serve the command, or knows who does.
env::Address Client::any_node(const Call& call) const {
  std::vector<env::Address> nodes = known_nodes();
  auto keep = [&](auto&& good) {
    if (std::any_of(nodes.begin(), nodes.end(), good)) std::erase_if(nodes, [&](auto& node) { return !good(node); });
  };
  keep([&](const env::Address& node) { return node != call.avoid; });
  keep([&](const env::Address& node) { return !failing(node); });
  return nodes[env_.random.draw(Site::kClientNode, call.nth, call.attempts) % nodes.size()];
}

// --- Sessions

Result<void> Client::enter_session(Call& call) {
  while (!session_) TRY(open_session(call.deadline));
  std::shared_ptr<Session> session = session_;
  auto taken = fiber::with_deadline(env_.scheduler, env_.clock.timers(), call.deadline,
                                    [&]() -> Result<uint64_t> { return session->take(); });
  if (!taken) return fail(ErrorCode::kTimeout, "the session has too many commands under way");
  call.number = Call::Number(std::move(session), *taken);
  return {};
}

// One caller opens it, the others wait for that one. Success: it is worth looking again.
Result<void> Client::open_session(Instant deadline) {
  if (opening_) {
    auto waited = fiber::with_deadline(env_.scheduler, env_.clock.timers(), deadline, [this]() -> Result<void> {
      opened_.wait_until([this] { return !opening_; });
      return {};
    });
    if (!waited) return fail(ErrorCode::kTimeout, "no session could be opened in time");
    return {};
  }
  struct Opening {
    Client& client;
    explicit Opening(Client& of) : client(of) { client.opening_ = true; }
    ~Opening() {
      client.opening_ = false;
      client.opened_.notify_all();
    }
  } opening(*this);
  // Opened twice, one of them stays unused: harmless, so it may be repeated.
  Call call{.nth = ++counters_.calls, .repeatable = Repeatable::kRead, .deadline = deadline};
  protocol::put_command(call.bytes, {"SESSION", "OPEN"});
  Answer answer = perform(call);
  if (answer.outcome != Outcome::kDone)
    return fail(ErrorCode::kUnavailable, fmt::format("no session could be opened: {}", answer.why));
  auto reply = TRY(answer.reply());
  if (reply.kind != protocol::Reply::Kind::kInteger || reply.integer <= 0)
    return fail(ErrorCode::kUnsupported, fmt::format("no session could be opened: {}", reply.text));
  ++counters_.sessions;
  session_ = std::make_shared<Session>(env_.scheduler, SessionId(static_cast<uint64_t>(reply.integer)));
  return {};
}

}  // namespace mneme::client
