// A connection of the simulated network, and the stream by which a process holds one end of it. The fault model is in
// network.h.
#pragma once

#include <algorithm>
#include <span>
#include <string_view>
#include <vector>

#include "core/env/network.h"
#include "core/fiber/sync.h"
#include "sim/link.h"
#include "sim/machine.h"
#include "sim/world.h"

namespace mneme::sim {

class Network;
class MachineStream;

// Two sides, 0 the one that connected, and a pipe of segments in each direction, named by the side that sends. Owned
// by the Network, which forgets it when both ends are gone and nothing is in flight: any call may be its last.
class Connection {
 public:
  // `cause` names it in choices. Links: from the client to the server, and back.
  Connection(Network& network, World& world, uint64_t id, uint64_t cause, uint32_t client, uint32_t server, Link& there,
             Link& back);

  struct Side {
    explicit Side(uint32_t a) : actor(a) {}
    uint32_t actor;
    MachineStream* stream = nullptr;
    bool gone = false;  // the operating system there has no such connection (any more)
    bool reset = false;
    bool ended = false;  // the other side sent its last byte
  };

  Side& side(int index) { return sides_[index]; }
  // How much side `from` may send now.
  size_t window(int from) const;
  void send(int from, ByteView data);
  // How much has arrived for `side` and was not read; receive() takes as much of it as there is room for.
  size_t unread(int side) const { return pipes_[1 - side].arrived; }
  size_t receive(int side, std::span<uint8_t> into);
  // The process's end goes away: in order (FIN), or without a word.
  void leave(int side, bool silently);
  void reset_both();
  // Faults of this connection alone; see Network.
  void reset_end(int side) { break_side(side); }
  void stall(int from, WorldTime until);
  void unstall() { pipes_[0].stalled_until = pipes_[1].stalled_until = 0; }
  void swallow() { swallowed_ = true; }
  uint64_t id() const { return id_; }

 private:
  struct Segment {
    size_t bytes = 0;
    WorldTime at = 0;
    WorldTime sent_at = 0;
    int64_t latency = 0;   // part of `at`
    uint32_t singles = 0;  // how many of its bytes are still to arrive one at a time
    enum class Kind : uint8_t { kData, kFin, kReset } kind = Kind::kData;
  };
  struct Pipe : Event {
    Pipe(Connection& c, int f, uint32_t sender, uint32_t receiver, Link& l)
        : Event(EventKind::kDelivery, receiver), connection(c), from(f), link(l), unanswered(*this, sender) {}
    void happen() override { connection.arrive(from); }
    uint64_t task() const override { return connection.cause(from); }
    void take(size_t count);
    // Delivered bytes whose acknowledgement cannot come back: when the sender gives up.
    struct Unanswered : Event {
      Unanswered(Pipe& p, uint32_t sender) : Event(EventKind::kConnection, sender), pipe(p) {}
      void happen() override { pipe.connection.lose_patience(pipe.from); }
      Pipe& pipe;
    };
    Connection& connection;
    int from;
    Link& link;
    Unanswered unanswered;
    WorldTime stalled_until = 0;
    std::vector<Segment> segments;  // in flight; few
    Bytes bytes;                    // sent and not read: of `arrived`, then of the segments; before `begin`: read
    size_t begin = 0;
    size_t arrived = 0;
    uint64_t nth = 0;
    uint64_t retries = 0;
  };
  uint64_t cause(int from) const { return cause_ * 2 + static_cast<uint64_t>(from); }
  // How long unacknowledged bytes are retransmitted before the sender's end breaks.
  WorldTime patience(int from) const;
  WorldTime closed_until(int from) const {
    return std::max(pipes_[from].link.blocked_until, pipes_[from].stalled_until);
  }
  int64_t draw_latency(int from, uint64_t nth);
  void push(int from, Segment segment);
  void arrive(int from);
  void retransmit(int from);
  void vanish(int from);
  void deliver(int from);
  void give_up(int from);
  void lose_patience(int from);
  void break_side(int side);
  void schedule(Pipe& pipe);
  void clear(Pipe& pipe);
  void wake(int side);
  // To be called last: this may be gone afterwards.
  void forget_if_finished();
  // For traces: what arrives at the machine of the other side.
  void note(int from, std::string_view what);

  Network& network_;
  World& world_;
  uint64_t id_;
  uint64_t cause_;
  bool swallowed_ = false;
  Side sides_[2];
  Pipe pipes_[2];
};

class MachineStream final : public env::Stream {
 public:
  MachineStream(Machine::Life& life, Connection& connection, int side, env::Address peer);
  ~MachineStream() override { close(); }

  Result<size_t> read(std::span<uint8_t> into) override;
  Result<void> write(ByteView data) override;
  void close() override;
  const env::Address& peer() const override { return peer_; }
  uint64_t id() const override { return id_; }

  // The connection does not concern it any more: its process has ended.
  void detach() { connection_ = nullptr; }
  void wake();

 private:
  static std::unexpected<Error> closed() { return fail(ErrorCode::kClosed, "the connection is closed"); }
  std::unexpected<Error> broken() const;

  Machine::Life& life_;
  Connection* connection_;
  int side_;
  uint64_t id_;
  env::Address peer_;
  fiber::Condition readable_;
  fiber::Condition writable_;
};

}  // namespace mneme::sim
