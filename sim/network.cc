#include "sim/network.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>

#include "sim/machine.h"
#include "sim/world.h"

namespace mneme::sim {

namespace {
constexpr int64_t kMillisecond = 1'000'000;
constexpr size_t kBacklog = 128;
constexpr size_t kSegmentBytes = 64 * 1024;
constexpr uint16_t kFirstFreePort = 40'000;
}  // namespace

class MachineStream;

// A connection: two sides, and a pipe of segments in each direction.
class Connection {
 public:
  Connection(Network& network, uint64_t id, uint64_t cause, uint32_t client, uint32_t server)
      : network_(network),
        world_(network.world_),
        id_(id),
        cause_(cause),
        sides_{Side{client}, Side{server}},
        pipes_{Pipe(*this, 0, server), Pipe(*this, 1, client)} {}

  struct Side {
    explicit Side(uint32_t a) : actor(a) {}
    uint32_t actor;
    MachineStream* stream = nullptr;
    bool gone = false;  // the operating system there has no such connection (any more)
    bool reset = false;
    bool ended = false;  // the other side sent its last byte
    Bytes unread;
    size_t unread_from = 0;
    size_t unread_bytes() const { return unread.size() - unread_from; }
  };

  Side& side(int index) { return sides_[index]; }
  size_t window(int from) const {
    size_t used = pipes_[from].bytes + sides_[1 - from].unread_bytes();
    size_t limit = world_.options().window_bytes;
    return used < limit ? limit - used : 0;
  }
  void send(int from, ByteView data);
  // The process's end goes away: in order (FIN), or without a word.
  void leave(int side, bool silently);
  void reset_both();
  uint64_t id() const { return id_; }

 private:
  friend class Network;
  struct Segment {
    Bytes data;
    WorldTime at = 0;
    WorldTime sent_at = 0;
    enum class Kind : uint8_t { kData, kFin, kReset } kind = Kind::kData;
  };
  struct Pipe : Event {
    Pipe(Connection& c, int f, uint32_t receiver) : Event(EventKind::kDelivery, receiver), connection(c), from(f) {}
    void happen() override { connection.arrive(from); }
    Connection& connection;
    int from;
    std::deque<Segment> segments;
    size_t bytes = 0;
    uint64_t nth = 0;
    uint64_t retries = 0;
  };
  uint64_t cause(int from) const { return cause_ * 2 + static_cast<uint64_t>(from); }
  void push(int from, Segment segment);
  void arrive(int from);
  void break_side(int side);
  void schedule(Pipe& pipe) {
    if (!pipe.segments.empty()) world_.events().schedule(pipe, pipe.segments.front().at);
  }
  void clear(Pipe& pipe) {
    pipe.segments.clear();
    pipe.bytes = 0;
    world_.events().cancel(pipe);
  }
  bool finished() const {
    return sides_[0].gone && sides_[1].gone && pipes_[0].segments.empty() && pipes_[1].segments.empty();
  }
  void wake(int side);
  // For traces: what arrives at `actor` from side `from`.
  void note(uint32_t actor, int from, std::string_view what) {
    world_.detail(actor, "net", "{} -> {} connection {}: {}", world_.machine(sides_[from].actor).name(),
                  world_.machine(actor).name(), id_, what);
  }

  Network& network_;
  World& world_;
  uint64_t id_;
  uint64_t cause_;
  Side sides_[2];
  Pipe pipes_[2];
};

class MachineStream final : public env::Stream {
 public:
  MachineStream(Machine::Life& life, Connection& connection, int side, env::Address peer)
      : life_(life),
        connection_(&connection),
        side_(side),
        id_(connection.id() * 2 + static_cast<uint64_t>(side)),
        peer_(std::move(peer)),
        readable_(life.machine.world().scheduler()),
        writable_(life.machine.world().scheduler()) {
    connection.side(side).stream = this;
  }
  ~MachineStream() override { close(); }

  Result<size_t> read(std::span<uint8_t> into) override {
    CHECK(!into.empty());
    life_.check_alive();
    life_.machine.world().scheduler().throw_if_cancelled();
    for (;;) {
      if (!connection_) return closed();
      Connection::Side& side = connection_->side(side_);
      if (side.reset) return broken();
      if (size_t there = side.unread_bytes(); there > 0) {
        size_t count = std::min(there, into.size());
        std::memcpy(into.data(), side.unread.data() + side.unread_from, count);
        side.unread_from += count;
        if (count == there) {
          side.unread.clear();
          side.unread_from = 0;
        }
        if (MachineStream* other = connection_->side(1 - side_).stream) other->writable_.notify_all();
        return count;
      }
      if (side.ended) return size_t{0};
      readable_.wait();
    }
  }

  Result<void> write(ByteView data) override {
    life_.check_alive();
    life_.machine.world().scheduler().throw_if_cancelled();
    while (!data.empty()) {
      if (!connection_) return closed();
      if (connection_->side(side_).reset) return broken();
      size_t room = std::min(connection_->window(side_), kSegmentBytes);
      if (room == 0) {
        writable_.wait();
        continue;
      }
      size_t count = std::min(room, data.size());
      life_.machine.world().fold_bytes(EventKind::kOutput, life_.machine.actor(), data.first(count));
      connection_->send(side_, data.first(count));
      data = data.subspan(count);
    }
    return {};
  }

  void close() override {
    if (Connection* connection = std::exchange(connection_, nullptr)) {
      connection->side(side_).stream = nullptr;
      connection->leave(side_, false);
    }
    wake();
  }

  const env::Address& peer() const override { return peer_; }
  uint64_t id() const override { return id_; }

  void detach() { connection_ = nullptr; }
  void wake() {
    readable_.notify_all();
    writable_.notify_all();
  }

 private:
  static std::unexpected<Error> closed() { return fail(ErrorCode::kClosed, "the connection is closed"); }
  std::unexpected<Error> broken() const {
    return fail(ErrorCode::kClosed, fmt::format("connection with {} reset", env::to_string(peer_)));
  }

  Machine::Life& life_;
  Connection* connection_;
  int side_;
  uint64_t id_;
  env::Address peer_;
  fiber::Condition readable_;
  fiber::Condition writable_;
};

// --- Connection

void Connection::wake(int side) {
  if (sides_[side].stream) sides_[side].stream->wake();
}

void Connection::push(int from, Segment segment) {
  Pipe& pipe = pipes_[from];
  const WorldOptions& options = world_.options();
  const uint64_t nth = ++pipe.nth;
  int64_t latency = options.latency_base_ns +
                    static_cast<int64_t>(Fate::scale(world_.choose(Choice::kSegmentLatency, cause(from), nth),
                                                     static_cast<uint64_t>(options.latency_base_ns)));
  if (world_.chance(options.latency_tail_ppm, Choice::kSegmentTail, cause(from), nth))
    latency += static_cast<int64_t>(Fate::scale(world_.choose(Choice::kSegmentTail, cause(from), nth, 1),
                                                static_cast<uint64_t>(options.latency_tail_ns)));
  segment.sent_at = world_.now();
  segment.at = world_.now() + latency;
  if (!pipe.segments.empty()) segment.at = std::max(segment.at, pipe.segments.back().at);
  pipe.segments.push_back(std::move(segment));
  if (pipe.segments.size() == 1) schedule(pipe);
}

void Connection::send(int from, ByteView data) {
  Pipe& pipe = pipes_[from];
  pipe.bytes += data.size();
  // What is written in the same instant leaves in the same segment.
  if (!pipe.segments.empty()) {
    Segment& last = pipe.segments.back();
    if (last.sent_at == world_.now() && last.kind == Segment::Kind::kData &&
        last.data.size() + data.size() <= kSegmentBytes) {
      last.data.insert(last.data.end(), data.begin(), data.end());
      return;
    }
  }
  push(from, Segment{Bytes(data.begin(), data.end())});
}

void Connection::arrive(int from) {
  Pipe& pipe = pipes_[from];
  Side& sender = sides_[from];
  Side& receiver = sides_[1 - from];
  Network::Link& link = network_.link(sender.actor, receiver.actor);
  Segment& segment = pipe.segments.front();
  const WorldTime now = world_.now();

  const bool unreachable = now < link.blocked_until || !world_.machine(receiver.actor).powered();
  if (unreachable) {
    const uint64_t retry = ++pipe.retries;
    WorldTime delay =
        static_cast<WorldTime>(world_.fate().between(20, 400, Choice::kRetransmitDelay, cause(from), retry)) *
        kMillisecond;
    const WorldTime patience =
        static_cast<WorldTime>(world_.fate().between(2'000, 15'000, Choice::kGiveUpAfter, cause(from))) * kMillisecond;
    segment.at = std::max(link.blocked_until, now) + delay;
    if (segment.at - segment.sent_at > patience) {
      note(receiver.actor, from, "given up, the sender's end breaks");
      clear(pipe);
      break_side(from);
      return;
    }
    note(receiver.actor, from, "does not get through");
    schedule(pipe);
    return;
  }
  if (now < link.clogged_until) {
    segment.at = link.clogged_until;
    schedule(pipe);
    return;
  }

  if (segment.kind == Segment::Kind::kReset) {
    note(receiver.actor, from, "reset");
    clear(pipe);
    break_side(1 - from);
    if (finished()) network_.forget(*this);
    return;
  }
  if (receiver.gone) {
    // Nobody has this connection here: the operating system answers with a reset, once.
    const bool tell = !sender.gone;
    note(receiver.actor, from, "nobody there");
    clear(pipe);
    if (tell) push(1 - from, Segment{.kind = Segment::Kind::kReset});
    if (finished()) network_.forget(*this);
    return;
  }
  if (segment.kind == Segment::Kind::kFin) {
    receiver.ended = true;
    note(receiver.actor, from, "end of stream");
    pipe.segments.pop_front();
  } else {
    size_t count = segment.data.size();
    const bool split =
        count > 1 && world_.chance(world_.options().split_ppm, Choice::kSegmentSplit, cause(from), pipe.nth, count);
    if (split) count = 1 + Fate::scale(world_.choose(Choice::kSegmentSplitAt, cause(from), pipe.nth, count), count - 1);
    receiver.unread.insert(receiver.unread.end(), segment.data.begin(),
                           segment.data.begin() + static_cast<std::ptrdiff_t>(count));
    pipe.bytes -= count;
    if (world_.recording())
      note(receiver.actor, from, fmt::format("{} bytes, sent {} us ago", count, (now - segment.sent_at) / 1000));
    if (split) {
      segment.data.erase(segment.data.begin(), segment.data.begin() + static_cast<std::ptrdiff_t>(count));
      segment.at = now + world_.options().latency_base_ns / 4;
    } else {
      pipe.segments.pop_front();
    }
  }
  if (!pipe.segments.empty()) pipe.segments.front().at = std::max(pipe.segments.front().at, now);
  schedule(pipe);
  wake(1 - from);
}

void Connection::break_side(int side) {
  sides_[side].reset = true;
  wake(side);
}

void Connection::reset_both() {
  for (int side : {0, 1}) {
    clear(pipes_[side]);
    break_side(side);
  }
  if (finished()) network_.forget(*this);
}

void Connection::leave(int side, bool silently) {
  Side& own = sides_[side];
  if (own.gone) return;
  own.gone = true;
  own.stream = nullptr;
  own.unread.clear();
  own.unread_from = 0;
  // A reset end has nothing more to say; and there is nobody to say it to when the other end knows.
  if (!silently && !own.reset) push(side, Segment{.kind = Segment::Kind::kFin});
  if (finished()) network_.forget(*this);
}

// --- Listening and connecting

class MachineListener final : public env::Listener {
 public:
  MachineListener(Network& network, Machine::Life& life, env::Address address)
      : network_(network), life_(life), address_(std::move(address)), arrived_(life.machine.world().scheduler()) {}
  ~MachineListener() override { stop(false); }

  Result<std::unique_ptr<env::Stream>> accept() override {
    life_.check_alive();
    arrived_.wait_until([this] { return !backlog_.empty() || stopped_; });
    if (backlog_.empty()) return fail(ErrorCode::kClosed, "the listener is closed");
    Connection* connection = backlog_.front();
    backlog_.pop_front();
    Machine& client = life_.machine.world().machine(connection->side(0).actor);
    return std::make_unique<MachineStream>(
        life_, *connection, 1, env::Address{client.name(), static_cast<uint16_t>(connection->id() % 20'000 + 20'000)});
  }
  const env::Address& address() const override { return address_; }

  bool offer(Connection& connection) {
    backlog_.push_back(&connection);
    arrived_.notify_one();
    return true;
  }
  bool has_room() const { return backlog_.size() < kBacklog; }
  void stop(bool silently) {
    if (std::exchange(stopped_, true)) return;
    network_.listeners_.erase({life_.machine.actor(), address_.port});
    for (Connection* connection : std::exchange(backlog_, {})) connection->leave(1, silently);
  }

 private:
  Network& network_;
  Machine::Life& life_;
  env::Address address_;
  std::deque<Connection*> backlog_;
  fiber::Condition arrived_;
  bool stopped_ = false;
};

class MachineNetwork final : public env::Network {
 public:
  MachineNetwork(sim::Network& network, Machine& machine) : network_(network), machine_(machine) {}

  Result<std::unique_ptr<env::Listener>> listen(const env::Address& wanted) override {
    machine_.life()->check_alive();
    env::Address address = wanted;
    if (address.port == 0) {
      auto& ports = network_.next_port_;
      if (ports.size() <= machine_.actor()) ports.resize(machine_.actor() + 1, kFirstFreePort);
      address.port = ports[machine_.actor()]++;
    }
    if (!is_self(address.host))
      return fail(ErrorCode::kInvalid,
                  fmt::format("cannot listen on {}: not an address of this machine", env::to_string(address)));
    if (network_.listeners_.contains({machine_.actor(), address.port}))
      return fail(ErrorCode::kBusy,
                  fmt::format("cannot listen on {}: address already in use", env::to_string(address)));
    auto listener = std::make_unique<MachineListener>(network_, *machine_.life(), address);
    network_.listeners_[{machine_.actor(), address.port}] = listener.get();
    return listener;
  }

  Result<std::unique_ptr<env::Stream>> connect(const env::Address& address) override;

 private:
  friend struct Connecting;
  bool is_self(const std::string& host) const {
    return host == machine_.name() || host == "localhost" || host == "127.0.0.1" || host == "0.0.0.0";
  }
  sim::Network& network_;
  Machine& machine_;
};

// The handshake, on the stack of the fiber that connects.
struct Connecting : Event {
  Connecting(Network& n, World& w, uint32_t f, uint32_t t, uint16_t p)
      : Event(EventKind::kConnection, t),
        network(n),
        world(w),
        from(f),
        to(t),
        port(p),
        fiber(w.scheduler().current()),
        began(w.now()) {}
  ~Connecting() override {
    if (Connection* made = network.find(connection)) made->leave(0, false);
  }

  void send(uint32_t receiver, WorldTime not_before) {
    const WorldOptions& options = world.options();
    int64_t latency = options.latency_base_ns +
                      static_cast<int64_t>(Fate::scale(world.choose(Choice::kConnectLatency, cause, ++steps),
                                                       static_cast<uint64_t>(options.latency_base_ns)));
    set_actor(receiver);
    world.events().schedule(*this, std::max(world.now(), not_before) + latency);
  }

  void happen() override {
    const WorldTime now = world.now();
    if (answered) {
      if (now < link_back().blocked_until) return retry(link_back().blocked_until);
      world.scheduler().wake(fiber);
      done = true;
      return;
    }
    auto& link = network_link();
    if (now < link.blocked_until || !world.machine(to).powered()) return retry(std::max(now, link.blocked_until));
    answered = true;
    if (MachineListener* listener = find()) {
      if (!listener->has_room()) {
        answered = false;
        return retry(now);
      }
      Connection& made = network.connect_now(from, to);
      connection = made.id();
      listener->offer(made);
    }
    send(from, now);
  }

  void retry(WorldTime not_before) {
    WorldTime delay =
        static_cast<WorldTime>(world.fate().between(20, 400, Choice::kRetransmitDelay, cause, ++steps)) * kMillisecond;
    if (not_before + delay - began > world.options().connect_timeout_ns) {
      timed_out = true;
      set_actor(from);
      answered = true;
      done = true;
      world.scheduler().wake(fiber);
      return;
    }
    world.events().schedule(*this, not_before + delay);
  }

  Network::Link& network_link();
  Network::Link& link_back();
  MachineListener* find();

  Network& network;
  World& world;
  uint32_t from;
  uint32_t to;
  uint16_t port;
  fiber::Fiber& fiber;
  WorldTime began;
  uint64_t cause = 0;
  uint64_t steps = 0;
  bool answered = false;
  bool timed_out = false;
  bool done = false;
  uint64_t connection = 0;  // by number: when both machines lose power at once, it is gone before this fiber ends
};

Result<std::unique_ptr<env::Stream>> MachineNetwork::connect(const env::Address& address) {
  World& world = machine_.world();
  machine_.life()->check_alive();
  world.scheduler().throw_if_cancelled();
  Machine* target = is_self(address.host) ? &machine_ : world.find_machine(address.host);
  if (!target)
    return fail(ErrorCode::kUnavailable, fmt::format("cannot connect to {}: no such host", env::to_string(address)));
  auto connecting = std::make_unique<Connecting>(network_, world, machine_.actor(), target->actor(), address.port);
  const uint64_t nth = ++network_.link(machine_.actor(), target->actor()).connects;
  connecting->cause = mix((uint64_t{machine_.actor()} << 48) + (uint64_t{target->actor()} << 32) + nth);
  connecting->send(target->actor(), 0);
  world.scheduler().park(true);
  if (!connecting->done) throw fiber::Cancelled{};
  if (connecting->timed_out)
    return fail(ErrorCode::kTimeout, fmt::format("connecting to {}: no answer", env::to_string(address)));
  machine_.life()->check_alive();
  Connection* connection = network_.find(std::exchange(connecting->connection, 0));
  if (!connection)
    return fail(ErrorCode::kRefused, fmt::format("connecting to {}: connection refused", env::to_string(address)));
  return std::make_unique<MachineStream>(*machine_.life(), *connection, 0, address);
}

// --- Network

Network::Network(World& world) : world_(world) {}
Network::~Network() = default;

Network::Link& Connecting::network_link() { return network.link(from, to); }
Network::Link& Connecting::link_back() { return network.link(to, from); }
MachineListener* Connecting::find() { return network.listener_at(to, port); }

MachineListener* Network::listener_at(uint32_t actor, uint16_t port) {
  auto found = listeners_.find({actor, port});
  return found == listeners_.end() ? nullptr : found->second;
}

Connection& Network::connect_now(uint32_t from, uint32_t to) {
  // The cause of everything on it: the nth connection of that pair.
  const uint64_t nth = ++link(from, to).connections;
  const uint64_t cause = mix((uint64_t{from} << 48) + (uint64_t{to} << 32) + nth);
  const uint64_t id = ++connections_made_;
  auto& slot = connections_[id];
  slot = std::make_unique<Connection>(*this, id, cause, from, to);
  return *slot;
}

std::unique_ptr<env::Network> Network::attach(Machine& machine) {
  return std::make_unique<MachineNetwork>(*this, machine);
}

void Network::process_ended(Machine& machine, CrashKind kind) {
  const bool silently = kind == CrashKind::kPowerLoss;
  for (auto it = listeners_.lower_bound({machine.actor(), 0});
       it != listeners_.end() && it->first.first == machine.actor();) {
    MachineListener* listener = it->second;
    ++it;
    listener->stop(silently);
  }
  std::vector<Connection*> mine;
  for (auto& [id, connection] : connections_)
    for (int side : {0, 1})
      if (connection->side(side).actor == machine.actor() && !connection->side(side).gone) {
        mine.push_back(connection.get());
        break;
      }
  for (Connection* connection : mine) {
    const uint64_t id = connection->id();
    for (int side : {0, 1}) {
      if (!connections_.contains(id)) break;
      if (connection->side(side).actor != machine.actor()) continue;
      if (MachineStream* stream = connection->side(side).stream) stream->detach();
      connection->leave(side, silently);
    }
  }
}

Network::Link& Network::link(uint32_t from, uint32_t to) { return links_[{from, to}]; }

void Network::block(uint32_t from, uint32_t to, int64_t until) {
  Link& l = link(from, to);
  l.blocked_until = std::max(l.blocked_until, until);
}

void Network::clog(uint32_t from, uint32_t to, int64_t until) {
  Link& l = link(from, to);
  l.clogged_until = std::max(l.clogged_until, until);
}

void Network::reset(uint32_t a, uint32_t b) {
  std::vector<Connection*> between;
  for (auto& [id, connection] : connections_) {
    uint32_t x = connection->side(0).actor;
    uint32_t y = connection->side(1).actor;
    if ((x == a && y == b) || (x == b && y == a)) between.push_back(connection.get());
  }
  for (Connection* connection : between) connection->reset_both();
}

Connection* Network::find(uint64_t connection) {
  auto found = connections_.find(connection);
  return found == connections_.end() ? nullptr : found->second.get();
}

void Network::forget(Connection& connection) { connections_.erase(connection.id()); }

size_t Network::open_streams(uint32_t actor) const {
  size_t count = 0;
  for (auto& [id, connection] : connections_)
    for (int side : {0, 1}) count += connection->side(side).actor == actor && !connection->side(side).gone;
  return count;
}

size_t Network::open_listeners(uint32_t actor) const {
  size_t count = 0;
  for (auto& [key, listener] : listeners_) count += key.first == actor;
  return count;
}

}  // namespace mneme::sim
