#include "core/node/peers.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/node/groups.h"
#include "core/node/peer_link.h"
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
constexpr Duration kJoinTimeout = 10s;
constexpr size_t kMaxForwards = 4096;  // served at once for other nodes
constexpr size_t kMaxSentences = 512;

// Body of kForward: request number u64, group u64, the rest a batch (core/kv/batch.h) whose origin is the sender.
// An answer travels as one or more kForwardReply frames in a row, because replies may be longer than a frame.
// Body of kForwardReply: request number u64, outcome u8, whether more of it follows u8, then a piece of the content.
// Content of kDone: u32 count, the replies as counted blobs; otherwise: who leads u64 (0: not known), a counted
// sentence.
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
    content_writer.id(call.leader);
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

Peers::Peers(Env& env, const Config& config, const Identity& identity, MapCache& map)
    : env_(env),
      config_(config),
      identity_(identity),
      map_(map),
      news_(env.scheduler),
      life_(std::max<uint64_t>(1, env.random.draw(Site::kProcessLife, identity.incarnation.value, 0))) {
  if (!identity_.founded())
    for (const Member& member : config.cluster)
      if (member.id != identity_.node) keep(entry(member.id));
}

Peers::~Peers() = default;

void Peers::start(fiber::Scope& scope) {
  scope_ = &scope;
  for (auto& link : links_) connect_soon(*link);
  scope.spawn("links", [this] { return keep_links(); });
  scope.spawn("pings", [this] { return keep_pinging(); });
}

Duration Peers::silent_for(NodeId node) const {
  const Link* link = find(node);
  return link && link->kept ? env_.clock.now() - link->heard_at : Duration(0);
}

Incarnation Peers::known_incarnation(NodeId peer) const {
  const Link* link = find(peer);
  return link ? link->incarnation : Incarnation();
}

ClusterId Peers::known_cluster(NodeId peer) const {
  const Link* link = find(peer);
  return link ? link->cluster : ClusterId();
}

Result<void> Peers::wait_for_news() {
  if (!refusal_) news_.wait();
  if (refusal_) return std::unexpected(*refusal_);
  return {};
}

// --- Outgoing

Result<std::unique_ptr<env::Stream>> Peers::greet(const env::Address& address, const protocol::Hello& hello,
                                                  protocol::Answer& answer, std::string& rest) {
  auto stream = TRY(env_.network.connect(address));
  std::string buffer;
  protocol::put_hello(buffer, hello);
  TRY(stream->write(as_bytes(buffer)));
  buffer.clear();
  for (;;) {
    auto said = protocol::read_answer(buffer);
    if (said.progress == Progress::kError) return std::unexpected(said.error);
    if (said.progress == Progress::kDone) {
      answer = std::move(said.value);
      rest = buffer.substr(said.consumed);
      if (!answer.accepted) return fail(ErrorCode::kInvalid, answer.refusal);
      return stream;
    }
    if (TRY(read_more(*stream, buffer, said.need)) == 0)
      return fail(ErrorCode::kClosed, "the other side closed the connection");
  }
}

Incarnation Peers::expected_incarnation(NodeId node) const {
  if (const auto known = node_of(node)) return known->incarnation;
  return identity_.incarnation_of(node);
}

void Peers::note(Link& link, ClusterId cluster, Incarnation incarnation) {
  link.cluster = cluster;
  if (link.incarnation == incarnation) return;
  link.incarnation = incarnation;
  news_.notify_all();
}

Result<std::unique_ptr<env::Stream>> Peers::connect(Link& link, protocol::Purpose purpose) {
  return fiber::with_deadline(
      env_.scheduler, env_.clock.timers(), env_.clock.now() + kHandshakeTimeout,
      [&]() -> Result<std::unique_ptr<env::Stream>> {
        const NodeId peer = link.node;
        protocol::Answer said;
        std::string rest;
        const env::Address address = TRY(address_of(peer));
        auto stream = TRY(greet(address,
                                {.purpose = purpose,
                                 .cluster = identity_.cluster,
                                 .sender = identity_.node,
                                 .incarnation = identity_.incarnation,
                                 .receiver = peer},
                                said, rest));
        if (said.sender != peer)
          return fail(ErrorCode::kInvalid, fmt::format("{} is node {}, not node {}", env::to_string(address),
                                                       said.sender.value, peer.value));
        note(link, said.cluster, said.incarnation);
        if (purpose == protocol::Purpose::kControl) link.version = said.version;
        if (identity_.founded() && expected_incarnation(peer) != said.incarnation)
          return fail(ErrorCode::kUnavailable, fmt::format("node {} has another data directory than the cluster knows; "
                                                           "it was wiped or replaced",
                                                           peer.value));
        return stream;
      });
}

Result<void> Peers::keep_connected(Link& link) {
  struct Leave {
    Link& link;
    ~Leave() { link.running = false; }
  } leave{link};
  Duration delay = kFirstReconnectDelay;
  while (link.kept) {
    auto stream = connect(link, protocol::Purpose::kControl);
    if (stream) {
      delay = kFirstReconnectDelay;
      env::log(env_.trace, env::Level::kInfo, "peers", "connected to n{}", link.node.value);
      link.connected = true;
      link.map_version = 0;
      link.came.notify_all();
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
          link.filled.wait_until([&] { return !link.outbox.empty() || !link.kept; });
          if (!link.kept) return {};
          std::swap(sending, link.outbox);
          TRY((*stream)->write(as_bytes(sending)));
          reuse(sending, limits::kKeptPeerBufferBytes);
        }
      });
      link.connected = false;
      link.outbox.clear();
      env::log(env_.trace, env::Level::kInfo, "peers", "lost n{}: {}", link.node.value,
               ended ? "closed" : ended.error().message);
      if (groups_ && link.kept) groups_->unreachable(link.node);
    } else {
      // The machine is there, and nobody listens.
      if (stream.error().code == ErrorCode::kRefused && groups_) groups_->ended(link.node);
      if (stream.error().code == ErrorCode::kInvalid && !identity_.founded()) {
        refusal_ = Error{ErrorCode::kRefused, stream.error().message};
        news_.notify_all();
      }
      env::log(env_.trace, env::Level::kDebug, "peers", "n{}: {}", link.node.value, stream.error().message);
    }
    if (!link.kept) break;
    const Duration jitter = env_.random.draw_below(delay, Site::kReconnectDelay, link.node.value, ++link.attempts);
    env_.clock.sleep_for(env_.scheduler, delay / 2 + jitter);
    delay = std::min(delay * 2, kLastReconnectDelay);
  }
  return {};
}

void Peers::send(GroupId group, const raft::Message& message) {
  Link* link = use(message.to.node());
  if (!link || !link->connected || link->outbox.size() > limits::kMaxPeerQueueBytes) return;
  const size_t frame = protocol::PeerFrameWriter::begin(link->outbox);
  Writer writer(link->outbox);
  writer.id(group);
  writer.u32(message.to.generation());
  raft::encode(message, link->outbox);
  link->writer.end(link->outbox, frame, FrameType::kRaft);
  link->filled.notify_one();
}

bool Peers::forward(NodeId to, GroupId group, replica::Call& call) {
  Link* link = use(to);
  if (!link || !link->connected || link->outbox.size() > limits::kMaxPeerQueueBytes) return false;
  const size_t frame = protocol::PeerFrameWriter::begin(link->outbox);
  Writer writer(link->outbox);
  writer.u64(call.origin.request);
  writer.id(group);
  writer.raw(call.commands.encode({.epoch = call.epoch, .origin = call.origin}));
  link->writer.end(link->outbox, frame, FrameType::kForward);
  link->filled.notify_one();
  call.forwarded_to = to;
  call.forwarded_in = group;
  const replica::Replica* here = groups_->find(group);
  call.forwarded_at = here ? here->raft().term() : Term();
  groups_->forwarded().watch(call);
  env_.trace.reached(Probe::forwarded_to_leader);
  return true;
}

// --- Joining

Result<NodeId> Peers::join(const env::Address& address) {
  return fiber::with_deadline(
      env_.scheduler, env_.clock.timers(), env_.clock.now() + kJoinTimeout, [&]() -> Result<NodeId> {
        protocol::Answer said;
        std::string buffer;
        auto stream =
            greet(address, {.purpose = protocol::Purpose::kJoin, .incarnation = identity_.incarnation}, said, buffer);
        // Whoever refuses a connection does not refuse the node.
        if (!stream) return fail(ErrorCode::kUnavailable, stream.error().message);
        std::string body;
        Writer writer(body);
        writer.blob(env::to_string(config_.listen));
        writer.blob(config_.rack);
        std::string out;
        protocol::PeerFrameWriter frames;
        frames.put(out, FrameType::kJoin, body);
        TRY((*stream)->write(as_bytes(out)));
        protocol::PeerFrameParser parser;
        for (;;) {
          auto step = parser.next(buffer);
          if (step.progress == Progress::kError) return std::unexpected(step.error);
          if (step.progress == Progress::kMore) {
            if (TRY(read_more(**stream, buffer, step.need)) == 0)
              return fail(ErrorCode::kClosed, "the other side closed the connection");
            continue;
          }
          Reader reader(step.body);
          const NodeId id = reader.id<NodeId>();
          if (step.type != FrameType::kJoinReply || !reader.ok())
            return fail(ErrorCode::kCorrupt, "the answer to joining is malformed");
          if (!id) {
            const bool for_now = reader.u8() != 0;
            return fail(for_now ? ErrorCode::kUnavailable : ErrorCode::kRefused,
                        std::string(as_text(reader.raw(reader.remaining())).substr(0, kMaxSentences)));
          }
          const std::string_view rest = as_text(reader.raw(reader.remaining()));
          map_.offer_whole(TRY(shard::Map::decode(rest)));
          if (map_.map().cluster() != said.cluster || !map_.map().node(id))
            return fail(ErrorCode::kCorrupt, "the map that came with the answer does not have this node");
          return id;
        }
      });
}

Result<void> Peers::check_cluster(const env::Address& address) {
  protocol::Answer said;
  (void)fiber::with_deadline(
      env_.scheduler, env_.clock.timers(), env_.clock.now() + kHandshakeTimeout, [&]() -> Result<void> {
        std::string rest;
        TRY(greet(address, {.purpose = protocol::Purpose::kJoin, .incarnation = identity_.incarnation}, said, rest));
        return {};
      });
  if (!said.cluster || said.cluster == identity_.cluster) return {};
  return fail(ErrorCode::kInvalid,
              fmt::format("the data directory belongs to cluster {:016x}, and {} to cluster {:016x}: check --data and "
                          "--join; a node enters another cluster with an empty directory",
                          identity_.cluster.value, env::to_string(address), said.cluster.value));
}

Result<void> Peers::serve_joining(env::Stream& stream, Incarnation incarnation, std::string& buffer) {
  protocol::PeerFrameParser parser;
  for (;;) {
    auto step = parser.next(buffer);
    if (step.progress == Progress::kError) return std::unexpected(step.error);
    if (step.progress == Progress::kMore) {
      if (TRY(read_more(stream, buffer, step.need)) == 0) return {};
      continue;
    }
    Reader reader(step.body);
    const std::string address(reader.blob());
    const std::string rack(reader.blob());
    if (step.type != FrameType::kJoin || !reader.ok() || !reader.at_end())
      return fail(ErrorCode::kCorrupt, "a request to join is malformed");
    Result<NodeId> id = fail(ErrorCode::kUnavailable, "the node is starting; try again in a moment");
    if (admit_) id = admit_(incarnation, address, rack);
    // Only what the cluster refuses is told, for that ends the other node: it asks again when nobody answers.
    if (!id && (id.error().code == ErrorCode::kUnavailable || id.error().code == ErrorCode::kTimeout))
      return std::unexpected(id.error());
    std::string body;
    Writer writer(body);
    writer.id(id ? *id : NodeId());
    if (id) {
      map_.map().encode(body);
    } else {
      const bool for_now = id.error().code == ErrorCode::kUnavailable || id.error().code == ErrorCode::kTimeout;
      writer.u8(for_now ? 1 : 0);
      body += id.error().message;
    }
    std::string out;
    protocol::PeerFrameWriter().put(out, FrameType::kJoinReply, body);
    return stream.write(as_bytes(out));
  }
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
  answer.version = *version;
  if (hello.purpose == protocol::Purpose::kJoin) {
    if (!identity_.founded() || !admit_) return refuse("this node is in no cluster yet; try again in a moment");
    answer.accepted = true;
    return answer;
  }
  if (hello.receiver != identity_.node)
    return refuse(
        fmt::format("this is node {}, not node {}: check --cluster", identity_.node.value, hello.receiver.value));
  if (!find(hello.sender) && !known(hello.sender))
    return refuse(
        fmt::format("node {} does not know a node {}: check --cluster", identity_.node.value, hello.sender.value));
  if (identity_.founded() && expected_incarnation(hello.sender) != hello.incarnation) {
    env_.trace.reached(Probe::wiped_node_refused);
    return refuse(
        fmt::format("node {} is known with another data directory; a wiped or replaced node cannot come back "
                    "under its old id, or the cluster could forget what it acknowledged: start it with an empty "
                    "directory and --join",
                    hello.sender.value));
  }
  if (const shard::Node* node = map_.map().node(hello.sender); node && node->state == shard::NodeState::kRemoved)
    return refuse(fmt::format("node {} was removed from the cluster", hello.sender.value));
  if (identity_.founded() && hello.cluster && hello.cluster != identity_.cluster)
    return refuse(fmt::format("node {} belongs to another cluster", identity_.node.value));
  answer.accepted = true;
  return answer;
}

void Peers::heard(Link& link) { link.heard_at = env_.clock.now(); }

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
    Result<void> ended;
    if (hello.value.purpose == protocol::Purpose::kJoin) {
      ended = serve_joining(stream, hello.value.incarnation, buffer);
    } else if (hello.value.purpose == protocol::Purpose::kControl) {
      Link& link = *use(from);
      note(link, hello.value.cluster, hello.value.incarnation);
      heard(link);
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
      note(*use(from), hello.value.cluster, hello.value.incarnation);
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
      if (streams.empty() || streams.back() != &stream)
        env_.trace.reached(Probe::old_connection_bytes_late);
      else
        heard(*find(from));
      TRY(take_control(scope, from, step.type, step.body, pieces));
      used += step.consumed;
      continue;
    }
    if (used == buffer.size())
      reuse(buffer, limits::kKeptPeerBufferBytes);
    else
      buffer.erase(0, used);
    used = 0;
    if (TRY(read_more(stream, buffer, step.need)) == 0) return {};
  }
}

Result<void> Peers::take_control(fiber::Scope& scope, NodeId from, FrameType type, std::string_view body,
                                 std::string& pieces) {
  if (!groups_) return {};
  if (type != FrameType::kPing) (void)use(from);
  switch (type) {
    case FrameType::kRaft: return take_raft(from, body);
    case FrameType::kForward: take_forward(scope, from, body); return {};
    case FrameType::kForwardReply: return take_forward_reply(body, pieces);
    case FrameType::kPing: return take_ping(from, body);
    case FrameType::kMap: return take_map(body);
    case FrameType::kMapChange: return take_map_change(body);
    default: return fail(ErrorCode::kCorrupt, "a frame that does not belong on a control connection");
  }
}

Result<void> Peers::take_raft(NodeId from, std::string_view body) {
  Reader reader(body);
  const GroupId group = reader.id<GroupId>();
  const uint32_t generation = reader.u32();
  if (!reader.ok()) return fail(ErrorCode::kCorrupt, "a raft frame is too short");
  auto message = TRY(raft::decode(as_text(reader.raw(reader.remaining()))));
  // Who sends is what the handshake says; a message that claims otherwise is a bug or worse.
  if (message.from.node() != from) return fail(ErrorCode::kCorrupt, "a raft message names another sender");
  if (message.to.generation() != generation)
    return fail(ErrorCode::kCorrupt, "a raft message is for another replica than its frame");
  // One that is not here is not made by a message: only the shard map does that.
  replica::Replica* replica = groups_->find(group);
  if (!replica || replica->id() != message.to || message.type == raft::MessageType::kSnapshot) return {};
  replica->step(std::move(message));
  return {};
}

Result<void> Peers::take_forward_reply(std::string_view body, std::string& pieces) {
  Reader reader(body);
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
  NodeId leader;
  if (outcome == Outcome::kDone) {
    const uint32_t count = reader.u32();
    for (uint32_t i = 0; i < count && reader.ok(); ++i) {
      std::string_view reply = reader.blob();
      auto length = protocol::reply_length(reply);
      if (!length || *length != reply.size()) return fail(ErrorCode::kCorrupt, "a forwarded reply is malformed");
      replies.add(reply);
    }
  } else if (outcome == Outcome::kNotDone || outcome == Outcome::kUnknown) {
    leader = reader.id<NodeId>();
    reason = reader.blob();
  } else {
    return fail(ErrorCode::kCorrupt, "a forwarded reply has no known outcome");
  }
  if (!reader.ok() || !reader.at_end()) return fail(ErrorCode::kCorrupt, "a forwarded reply is malformed");
  groups_->forwarded().answered(request, outcome, std::move(replies), reason, leader);
  return {};
}

void Peers::take_forward(fiber::Scope& scope, NodeId from, std::string_view body) {
  Reader reader(body);
  const uint64_t request = reader.u64();
  const GroupId group = reader.id<GroupId>();
  auto answer = [this, from, request](const replica::Call& call) {
    Link* link = use(from);
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
  if (why.empty() && !groups_->find(group)) why = "this node has no replica of the shard";
  if (!why.empty()) {
    replica::Call refused(env_.scheduler, {}, served->commands);
    refused.settle(Outcome::kNotDone, why);
    return answer(refused);
  }
  scope.spawn("forward", [this, group, served, answer, from] {
    struct Count {
      size_t& count;
      explicit Count(size_t& c) : count(c) { ++count; }
      ~Count() { --count; }
    } count(forwards_);
    replica::Call call(env_.scheduler, served->header.origin, served->commands);
    call.epoch = served->header.epoch;
    replica::Replica* replica = groups_->find(group);
    if (!replica) {
      call.settle(Outcome::kNotDone, "this node has no replica of the shard");
    } else if (served->commands.writes()) {
      call.payload = served->payload;
      replica->propose(call);
    } else {
      replica->read(call);
    }
    // The sender has its own deadline; ours only bounds what is kept here.
    auto waited = fiber::with_deadline(env_.scheduler, env_.clock.timers(),
                                       env_.clock.now() + 2 * config_.request_timeout, [&]() -> Result<void> {
                                         call.wait();
                                         return {};
                                       });
    if (!waited)
      call.settle(served->commands.writes() ? Outcome::kUnknown : Outcome::kNotDone, "the leader gave up waiting");
    // Ours to it may have been made only now, because it has asked.
    (void)fiber::with_deadline(env_.scheduler, env_.clock.timers(), env_.clock.now() + config_.heartbeat_interval,
                               [&]() -> Result<void> {
                                 Link& link = *use(from);
                                 link.came.wait_until([&] { return link.connected; });
                                 return {};
                               });
    answer(call);
  });
}

}  // namespace mneme::node
