#include "sim/network.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>

#include "sim/connection.h"
#include "sim/machine.h"
#include "sim/world.h"

namespace mneme::sim {

namespace {
constexpr size_t kBacklog = 128;
constexpr uint16_t kFirstFreePort = 40'000;
}  // namespace

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
    latency = (receiver == to ? link_there() : link_back()).slowed(world.now(), latency);
    world.events().schedule(*this, std::max(world.now(), not_before) + latency);
  }

  uint64_t task() const override { return cause; }
  void happen() override {
    const WorldTime now = world.now();
    if (answered) {
      if (now < link_back().blocked_until) return retry(link_back().blocked_until);
      world.scheduler().wake(fiber);
      done = true;
      return;
    }
    auto& link = link_there();
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

  Link& link_there() { return network.link(from, to); }
  Link& link_back() { return network.link(to, from); }
  MachineListener* find() { return network.listener_at(to, port); }

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
  slot = std::make_unique<Connection>(*this, world_, id, cause, from, to, link(from, to), link(to, from));
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

Link& Network::link(uint32_t from, uint32_t to) { return links_[{from, to}]; }

void Network::block(uint32_t from, uint32_t to, int64_t until) {
  Link& l = link(from, to);
  l.blocked_until = std::max(l.blocked_until, until);
}

void Network::clog(uint32_t from, uint32_t to, int64_t until) {
  Link& l = link(from, to);
  l.clogged_until = std::max(l.clogged_until, until);
}

void Network::slow(uint32_t from, uint32_t to, int64_t until, uint32_t factor, uint64_t bandwidth) {
  CHECK(factor > 0);
  Link& l = link(from, to);
  l.slow_until = until;
  l.slow_factor = factor;
  l.slow_bandwidth = bandwidth;
}

void Network::stall(uint32_t from, uint32_t to, int64_t until) {
  for (Connection* connection : between(from, to))
    for (int side : {0, 1})
      if (connection->side(side).actor == from) connection->stall(side, until);
}

void Network::heal() {
  for (auto& [machines, l] : links_) l.blocked_until = l.clogged_until = l.slow_until = l.busy_until = 0;
  for (auto& [id, connection] : connections_) connection->unstall();
}

std::vector<Connection*> Network::between(uint32_t a, uint32_t b) {
  std::vector<Connection*> found;
  for (auto& [id, connection] : connections_) {
    const uint32_t x = connection->side(0).actor;
    const uint32_t y = connection->side(1).actor;
    if ((x == a && y == b) || (x == b && y == a)) found.push_back(connection.get());
  }
  return found;
}

void Network::reset(uint32_t a, uint32_t b) {
  for (Connection* connection : between(a, b)) connection->reset_both();
}

void Network::swallow(uint32_t a, uint32_t b) {
  for (Connection* connection : between(a, b)) connection->swallow();
}

void Network::reset_end(uint32_t at, uint32_t other) {
  for (Connection* connection : between(at, other))
    for (int side : {0, 1})
      if (connection->side(side).actor == at) connection->reset_end(side);
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
