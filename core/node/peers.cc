#include "core/node/peers.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/protocol/reply_reader.h"
#include "core/raft/codec.h"

namespace mneme::node {

using protocol::FrameType;
using protocol::Progress;
using replica::Outcome;

namespace {

constexpr Duration kFirstReconnectDelay = 20ms;
constexpr Duration kLastReconnectDelay = 1s;
constexpr Duration kHandshakeTimeout = 5s;
constexpr size_t kMaxForwards = 4096;  // served at once for other nodes
constexpr size_t kMaxSentences = 512;

// Body of kForward: request number u64, the rest a batch (core/kv/batch.h) whose origin is the sender.
// An answer travels as one or more kForwardReply frames in a row, because replies may be longer than a frame.
// Body of kForwardReply: request number u64, outcome u8, whether more of it follows u8, then a piece of the content.
// Content of kDone: u32 count, the replies as counted blobs; otherwise: a counted sentence.
constexpr size_t kForwardPieceBytes = 8 * limits::kMiB;
constexpr size_t kMaxForwardReplyBytes = 3 * limits::kMaxReplyBytes;
static_assert(kForwardPieceBytes + 64 <= limits::kMaxPeerFrameBytes);

void put_forward_reply(protocol::PeerFrameWriter& frames, std::string& out, uint64_t request,
                       const replica::Call& call) {
  std::string content;
  Writer content_writer(content);
  if (call.outcome == Outcome::kDone) {
    content.reserve(call.replies.bytes().size() + 4 * call.replies.size() + 4);
    content_writer.u32(static_cast<uint32_t>(call.replies.size()));
    for (size_t i = 0; i < call.replies.size(); ++i) content_writer.blob(call.replies[i]);
  } else {
    content_writer.blob(std::string_view(call.reason).substr(0, kMaxSentences));
  }
  std::string_view rest = content;
  do {
    const std::string_view piece = rest.substr(0, kForwardPieceBytes);
    rest.remove_prefix(piece.size());
    const size_t frame = protocol::PeerFrameWriter::begin(out);
    Writer writer(out);
    writer.u64(request);
    writer.u8(static_cast<uint8_t>(call.outcome));
    writer.u8(rest.empty() ? 0 : 1);
    writer.raw(piece);
    frames.end(out, frame, FrameType::kForwardReply);
  } while (!rest.empty());
}

}  // namespace

Result<size_t> read_more(env::Stream& stream, std::string& buffer, size_t at_least) {
  const size_t room = std::clamp(at_least, size_t{4096}, limits::kReadChunkBytes);
  const size_t old = buffer.size();
  // Not filled with zeros first: that would cost more than most reads.
  buffer.resize_and_overwrite(old + room, [](char*, size_t size) { return size; });
  auto got = stream.read({reinterpret_cast<uint8_t*>(buffer.data()) + old, room});
  buffer.resize(old + (got ? *got : 0));
  return got;
}

struct Peers::Link {
  Link(fiber::Scheduler& scheduler, Member m) : member(std::move(m)), filled(scheduler) {}
  Member member;
  Incarnation incarnation;  // as it said last
  ClusterId cluster;        // the same; 0: it has not founded one
  bool connected = false;
  protocol::PeerFrameWriter writer;
  std::string outbox;
  fiber::Condition filled;
  uint64_t attempts = 0;
  bool sending_snapshot = false;
  std::vector<env::Stream*> inbound;  // its control connections to us, oldest first
};

Peers::Peers(Env& env, const Config& config, const Identity& identity)
    : env_(env), config_(config), identity_(identity), news_(env.scheduler) {
  for (const Member& member : config.cluster)
    if (member.id != config.id) links_.push_back(std::make_unique<Link>(env.scheduler, member));
}

Peers::~Peers() = default;

Peers::Link* Peers::find(NodeId peer) {
  for (auto& link : links_)
    if (link->member.id == peer) return link.get();
  return nullptr;
}

bool* Peers::sending_snapshot_to(NodeId peer) {
  Link* link = find(peer);
  return link ? &link->sending_snapshot : nullptr;
}

void Peers::start(fiber::Scope& scope) {
  scope_ = &scope;
  for (auto& link : links_) scope.spawn("link", [this, &link = *link] { return keep_connected(link); });
}

Incarnation Peers::known_incarnation(NodeId peer) const {
  for (auto& link : links_)
    if (link->member.id == peer) return link->incarnation;
  return Incarnation();
}

ClusterId Peers::known_cluster(NodeId peer) const {
  for (auto& link : links_)
    if (link->member.id == peer) return link->cluster;
  return ClusterId();
}

Result<void> Peers::wait_for_news() {
  if (!refusal_) news_.wait();
  if (refusal_) return std::unexpected(*refusal_);
  return {};
}

// --- Outgoing

Result<std::unique_ptr<env::Stream>> Peers::connect(const Member& peer, protocol::Purpose purpose) {
  return fiber::with_deadline(
      env_.scheduler, env_.clock.timers(), env_.clock.now() + kHandshakeTimeout,
      [&]() -> Result<std::unique_ptr<env::Stream>> {
        auto stream = TRY(env_.network.connect(peer.address));
        std::string buffer;
        protocol::put_hello(buffer, {.purpose = purpose,
                                     .cluster = identity_.cluster,
                                     .sender = identity_.node,
                                     .incarnation = identity_.incarnation,
                                     .receiver = peer.id});
        TRY(stream->write(as_bytes(buffer)));
        buffer.clear();
        for (;;) {
          auto answer = protocol::read_answer(buffer);
          if (answer.progress == Progress::kError) return std::unexpected(answer.error);
          if (answer.progress == Progress::kMore) {
            if (TRY(read_more(*stream, buffer, answer.need)) == 0)
              return fail(ErrorCode::kClosed, "the other side closed the connection");
            continue;
          }
          const protocol::Answer& said = answer.value;
          if (!said.accepted) return fail(ErrorCode::kInvalid, said.refusal);
          if (said.sender != peer.id)
            return fail(ErrorCode::kInvalid, fmt::format("{} is node {}, not node {}", env::to_string(peer.address),
                                                         said.sender.value, peer.id.value));
          Link* link = find(peer.id);
          link->cluster = said.cluster;
          if (link->incarnation != said.incarnation) {
            link->incarnation = said.incarnation;
            news_.notify_all();
          }
          if (identity_.founded() && identity_.incarnation_of(peer.id) != said.incarnation)
            return fail(ErrorCode::kUnavailable, fmt::format("node {} has another data directory than when the cluster "
                                                             "was founded; it was wiped or replaced",
                                                             peer.id.value));
          return stream;
        }
      });
}

Result<void> Peers::keep_connected(Link& link) {
  Duration delay = kFirstReconnectDelay;
  for (;;) {
    auto stream = connect(link.member, protocol::Purpose::kControl);
    if (stream) {
      delay = kFirstReconnectDelay;
      env::log(env_.trace, env::Level::kInfo, "peers", "connected to n{}", link.member.id.value);
      link.connected = true;
      link.writer = {};
      link.outbox.clear();
      auto ended = fiber::with_scope(env_.scheduler, [&](fiber::Scope& scope) -> Result<void> {
        // Nothing comes back on this connection; its end does.
        scope.spawn_daemon("watch", [&]() -> Result<void> {
          uint8_t byte;
          if (auto got = (*stream)->read({&byte, 1}); !got) return std::unexpected(std::move(got).error());
          return fail(ErrorCode::kClosed, "the other side closed the connection");
        });
        std::string sending;
        for (;;) {
          link.filled.wait_until([&] { return !link.outbox.empty(); });
          std::swap(sending, link.outbox);
          TRY((*stream)->write(as_bytes(sending)));
          sending.clear();
        }
      });
      link.connected = false;
      link.outbox.clear();
      env::log(env_.trace, env::Level::kInfo, "peers", "lost n{}: {}", link.member.id.value,
               ended ? "closed" : ended.error().message);
      if (replica_) {
        replica_->unreachable(link.member.id);
        replica_->forward_lost(link.member.id);
      }
    } else {
      if (stream.error().code == ErrorCode::kInvalid && !identity_.founded()) {
        refusal_ = Error{ErrorCode::kRefused, stream.error().message};
        news_.notify_all();
      }
      env::log(env_.trace, env::Level::kDebug, "peers", "n{}: {}", link.member.id.value, stream.error().message);
    }
    const Duration jitter = env_.random.draw_below(delay, Site::kReconnectDelay, link.member.id.value, ++link.attempts);
    env_.clock.sleep_for(env_.scheduler, delay / 2 + jitter);
    delay = std::min(delay * 2, kLastReconnectDelay);
  }
}

void Peers::send(GroupId group, const raft::Message& message) {
  Link* link = find(message.to.node());
  if (!link || !link->connected || link->outbox.size() > limits::kMaxPeerQueueBytes) return;
  const size_t frame = protocol::PeerFrameWriter::begin(link->outbox);
  Writer writer(link->outbox);
  writer.id(group);
  writer.u32(message.to.generation());
  raft::encode(message, link->outbox);
  link->writer.end(link->outbox, frame, FrameType::kRaft);
  link->filled.notify_one();
}

bool Peers::forward(NodeId leader, replica::Call& call) {
  Link* link = find(leader);
  if (!link || !link->connected || link->outbox.size() > limits::kMaxPeerQueueBytes) return false;
  const size_t frame = protocol::PeerFrameWriter::begin(link->outbox);
  Writer writer(link->outbox);
  writer.u64(call.origin.request);
  writer.raw(call.commands.encode({.epoch = replica::kShardEpoch, .origin = call.origin}));
  link->writer.end(link->outbox, frame, FrameType::kForward);
  link->filled.notify_one();
  call.forwarded_to = leader;
  replica_->watch(call);
  env_.trace.reached(Probe::forwarded_to_leader);
  return true;
}

// --- Incoming

protocol::Answer Peers::judge(const protocol::Hello& hello) {
  protocol::Answer answer{.cluster = identity_.cluster, .sender = identity_.node, .incarnation = identity_.incarnation};
  auto refuse = [&](std::string why) {
    answer.refusal = std::move(why);
    return answer;
  };
  auto version = protocol::choose_version(hello);
  if (!version)
    return refuse(fmt::format("node {} speaks peer versions {} to {}, you speak {} to {}", identity_.node.value,
                              protocol::kMinPeerVersion, protocol::kMaxPeerVersion, hello.min_version,
                              hello.max_version));
  if (hello.receiver != identity_.node)
    return refuse(
        fmt::format("this is node {}, not node {}: check --cluster", identity_.node.value, hello.receiver.value));
  if (!find(hello.sender))
    return refuse(
        fmt::format("node {} does not know a node {}: check --cluster", identity_.node.value, hello.sender.value));
  if (identity_.founded() && identity_.incarnation_of(hello.sender) != hello.incarnation) {
    env_.trace.reached(Probe::wiped_node_refused);
    return refuse(
        fmt::format("node {} was founded with another data directory; a wiped or replaced node cannot come back "
                    "under its old id, or the cluster could forget what it acknowledged",
                    hello.sender.value));
  }
  if (identity_.founded() && hello.cluster && hello.cluster != identity_.cluster)
    return refuse(fmt::format("node {} belongs to another cluster", identity_.node.value));
  answer.accepted = true;
  answer.version = *version;
  return answer;
}

void Peers::serve(env::Stream& stream, std::string buffer) {
  for (;;) {
    auto hello = protocol::read_hello(buffer);
    if (hello.progress == Progress::kError) return;
    if (hello.progress == Progress::kMore) {
      auto got = read_more(stream, buffer, hello.need);
      if (!got || *got == 0) return;
      continue;
    }
    buffer.erase(0, hello.consumed);
    const protocol::Answer answer = judge(hello.value);
    std::string out;
    protocol::put_answer(out, answer);
    if (!stream.write(as_bytes(out)) || !answer.accepted) return;
    const NodeId from = hello.value.sender;
    Link& link = *find(from);
    link.cluster = hello.value.cluster;
    if (link.incarnation != hello.value.incarnation) {
      link.incarnation = hello.value.incarnation;
      news_.notify_all();
    }
    Result<void> ended;
    if (hello.value.purpose == protocol::Purpose::kControl) {
      // A peer that came back may leave its old connection half-open: the one before is read to its end, older ones are
      // closed, so that they cannot gather.
      auto& streams = link.inbound;
      while (streams.size() >= 2) {
        streams.front()->close();
        streams.erase(streams.begin());
      }
      streams.push_back(&stream);
      struct Leave {
        std::vector<env::Stream*>& streams;
        env::Stream* stream;
        ~Leave() { std::erase(streams, stream); }
      } leave{streams, &stream};
      ended = fiber::with_scope(env_.scheduler,
                                [&](fiber::Scope& scope) { return serve_control(scope, stream, from, buffer); });
    } else {
      ended = serve_bulk(stream, from, buffer);
    }
    if (!ended) env::log(env_.trace, env::Level::kDebug, "peers", "from n{}: {}", from.value, ended.error().message);
    return;
  }
}

Result<void> Peers::serve_control(fiber::Scope& scope, env::Stream& stream, NodeId from, std::string& buffer) {
  std::string pieces;
  protocol::PeerFrameParser parser;
  size_t used = 0;
  for (;;) {
    auto step = parser.next(std::string_view(buffer).substr(used));
    if (step.progress == Progress::kError) return std::unexpected(step.error);
    if (step.progress == Progress::kDone) {
      const auto& streams = find(from)->inbound;  // without this one when it was closed for newer ones
      if (streams.empty() || streams.back() != &stream) env_.trace.reached(Probe::old_connection_bytes_late);
      TRY(take_control(scope, from, step.type, step.body, pieces));
      used += step.consumed;
      continue;
    }
    buffer.erase(0, used);
    used = 0;
    if (TRY(read_more(stream, buffer, step.need)) == 0) return {};
  }
}

Result<void> Peers::take_control(fiber::Scope& scope, NodeId from, FrameType type, std::string_view body,
                                 std::string& pieces) {
  if (!replica_) return {};
  Reader reader(body);
  switch (type) {
    case FrameType::kRaft: {
      reader.id<GroupId>();
      const uint32_t generation = reader.u32();
      if (!reader.ok()) return fail(ErrorCode::kCorrupt, "a raft frame is too short");
      auto message = TRY(raft::decode(as_text(reader.raw(reader.remaining()))));
      // Who sends is what the handshake says; a message that claims otherwise is a bug or worse.
      if (message.from.node() != from) return fail(ErrorCode::kCorrupt, "a raft message names another sender");
      if (message.to.generation() != generation)
        return fail(ErrorCode::kCorrupt, "a raft message is for another replica than its frame");
      if (message.type != raft::MessageType::kSnapshot) replica_->step(std::move(message));
      return {};
    }
    case FrameType::kForward: take_forward(scope, from, body); return {};
    case FrameType::kForwardReply: {
      const uint64_t request = reader.u64();
      const auto outcome = static_cast<Outcome>(reader.u8());
      const uint8_t more = reader.u8();
      if (!reader.ok() || more > 1) return fail(ErrorCode::kCorrupt, "a forwarded reply is malformed");
      if (more == 1 || !pieces.empty()) {
        if (pieces.size() + reader.remaining() > kMaxForwardReplyBytes)
          return fail(ErrorCode::kTooLarge, "a forwarded reply is too long");
        pieces += as_text(reader.raw(reader.remaining()));
        if (more == 1) return {};
      }
      const std::string whole = std::exchange(pieces, {});
      if (!whole.empty()) reader = Reader(whole);
      replica::ReplySet replies;
      std::string_view reason;
      if (outcome == Outcome::kDone) {
        const uint32_t count = reader.u32();
        for (uint32_t i = 0; i < count && reader.ok(); ++i) {
          std::string_view reply = reader.blob();
          auto length = protocol::reply_length(reply);
          if (!length || *length != reply.size()) return fail(ErrorCode::kCorrupt, "a forwarded reply is malformed");
          replies.add(reply);
        }
      } else if (outcome == Outcome::kNotDone || outcome == Outcome::kUnknown) {
        reason = reader.blob();
      } else {
        return fail(ErrorCode::kCorrupt, "a forwarded reply has no known outcome");
      }
      if (!reader.ok() || !reader.at_end()) return fail(ErrorCode::kCorrupt, "a forwarded reply is malformed");
      replica_->forward_answered(request, outcome, std::move(replies), reason);
      return {};
    }
    case FrameType::kPing: return {};
    default: return fail(ErrorCode::kCorrupt, "a snapshot frame on a control connection");
  }
}

void Peers::take_forward(fiber::Scope& scope, NodeId from, std::string_view body) {
  Reader reader(body);
  const uint64_t request = reader.u64();
  auto answer = [this, from, request](const replica::Call& call) {
    Link* link = find(from);
    if (!link->connected || link->outbox.size() > limits::kMaxPeerQueueBytes) return;
    put_forward_reply(link->writer, link->outbox, request, call);
    link->filled.notify_one();
  };
  // The payload's views must outlive the call, wherever the buffer goes meanwhile.
  struct Served {
    std::string payload;
    replica::CommandList commands;
    kv::BatchHeader header;
  };
  auto served = std::make_shared<Served>();
  served->payload = as_text(reader.raw(reader.remaining()));
  std::string why;
  if (auto batch = kv::BatchReader::open(served->payload); !batch) {
    why = batch.error().message;
  } else {
    served->header = batch->header();
    kv::CommandMeta meta;
    std::vector<std::string_view> args;
    std::string error;
    while (why.empty() && batch->next(meta, args)) {
      if (const kv::CommandSpec* spec = kv::check(args, error, kv::Sender::kNode))
        served->commands.add(*spec, args, meta);
      else
        why = "this node does not know a command in it";
    }
  }
  if (why.empty() && forwards_ >= kMaxForwards) why = "too many forwarded requests";
  if (!why.empty()) {
    replica::Call refused(env_.scheduler, {}, served->commands);
    refused.settle(Outcome::kNotDone, why);
    return answer(refused);
  }
  scope.spawn("forward", [this, served, answer] {
    struct Count {
      size_t& count;
      explicit Count(size_t& c) : count(c) { ++count; }
      ~Count() { --count; }
    } count(forwards_);
    replica::Call call(env_.scheduler, served->header.origin, served->commands);
    if (served->commands.writes()) {
      call.payload = served->payload;
      replica_->propose(call);
    } else {
      replica_->read(call);
    }
    // The sender has its own deadline; ours only bounds what is kept here.
    auto waited = fiber::with_deadline(env_.scheduler, env_.clock.timers(),
                                       env_.clock.now() + 2 * config_.request_timeout, [&]() -> Result<void> {
                                         call.wait();
                                         return {};
                                       });
    if (!waited)
      call.settle(served->commands.writes() ? Outcome::kUnknown : Outcome::kNotDone, "the leader gave up waiting");
    answer(call);
  });
}

}  // namespace mneme::node
