// The simulated network: TCP as it really behaves.
//
// Fault model:
//   - Bytes of a connection and direction arrive in order, in segments cut anywhere, each with a latency of its own; a
//     segment never overtakes an earlier one of its connection, but those of different connections overtake each other.
//     What is written in one instant leaves as one segment. A segment may arrive in two pieces, its first bytes one at
//     a time, or together with the one before it (WorldOptions::split_ppm, crumble_ppm, coalesce_ppm).
//   - Bandwidth (WorldOptions::bandwidth): the bytes of all connections from one machine to another leave one after the
//     other; the latency of a segment begins when its last byte has left. What is retransmitted is not counted again.
//   - A slow link has longer latencies and another bandwidth for a while, in one direction; handshakes included.
//   - A blocked direction between two machines (one-way or symmetric partition) holds segments back; they are
//     retransmitted and arrive some time after it opens, even if both ends have made a newer connection meanwhile. When
//     that takes longer than the connection's patience, the sender's end breaks; the receiver's knows nothing. The same
//     happens to a sender whose bytes arrive while the way back, by which they would be acknowledged, is to stay
//     blocked for longer than its patience.
//   - A clogged direction delays segments until it clears.
//   - A stall is a block of the connections that exist when it begins, in one direction: of several paths theirs has
//     failed, and new connections take another. So what old ones have in flight arrives next to what new ones send.
//   - A reset breaks both ends at once; what was in flight is lost.
//   - Half-open: a middlebox forgets the connections between two machines, and swallows what either end sends until
//     that end's patience is over and it breaks; an end that does not send learns nothing. Or one end breaks and the
//     other is not told; what that one sends is answered by a reset.
//   - A process that ends or is killed: the operating system ends its connections in order; later bytes to them are
//     answered by a reset. A power loss says nothing: bytes to a machine without power are retransmitted, and answered
//     by a reset once it runs again.
//   - Connecting: refused where nobody listens; no answer while blocked or without power, until it times out.
//   - What is sent and not read is bounded per direction (WorldOptions::window_bytes): writers wait.
// Not modelled: acknowledgements and window updates take no time, and are lost only in the way said above; nothing is
// sent to keep an idle connection alive, so silence is for the processes to notice; no congestion control.
// Machines are addressed by their names.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/env/network.h"
#include "core/fiber/sync.h"
#include "sim/link.h"

namespace mneme::sim {

class World;
class Machine;
class Connection;
class MachineListener;
enum class CrashKind : uint8_t;

class Network {
 public:
  explicit Network(World& world);
  ~Network();

  // The network as one process of `machine` sees it.
  std::unique_ptr<env::Network> attach(Machine& machine);
  void process_ended(Machine& machine, CrashKind kind);

  // Faults, between machines by their numbers; one direction each.
  void block(uint32_t from, uint32_t to, int64_t until);
  void clog(uint32_t from, uint32_t to, int64_t until);
  // Until then latencies are `factor` times longer and the bandwidth, in bytes per second, is this one; 0: as always.
  // What has been sent already keeps its time. Replaces what was said before about this direction.
  void slow(uint32_t from, uint32_t to, int64_t until, uint32_t factor, uint64_t bandwidth);
  // Holds back what is sent from one to the other on the connections that exist now.
  void stall(uint32_t from, uint32_t to, int64_t until);
  // Ends all of these.
  void heal();
  // Breaks all connections between the two.
  void reset(uint32_t a, uint32_t b);
  // Half-open connections, of those that exist now between the two. Nothing heals them. Both directions are swallowed:
  void swallow(uint32_t a, uint32_t b);
  // The end at `at` breaks, the one at `other` is not told:
  void reset_end(uint32_t at, uint32_t other);

  size_t connection_count() const { return connections_.size(); }
  // Ends of connections that the machine's process holds open.
  size_t open_streams(uint32_t actor) const;
  size_t open_listeners(uint32_t actor) const;

 private:
  friend class Connection;
  friend class MachineNetwork;
  friend class MachineListener;
  friend struct Connecting;
  Link& link(uint32_t from, uint32_t to);
  MachineListener* listener_at(uint32_t actor, uint16_t port);
  Connection& connect_now(uint32_t from, uint32_t to);
  std::vector<Connection*> between(uint32_t a, uint32_t b);
  Connection* find(uint64_t connection);  // null: both ends are gone
  void forget(Connection& connection);

  World& world_;
  std::map<std::pair<uint32_t, uint32_t>, Link> links_;  // they stay where they are: connections refer to them
  std::map<uint64_t, std::unique_ptr<Connection>> connections_;
  std::map<std::pair<uint32_t, uint16_t>, MachineListener*> listeners_;
  uint64_t connections_made_ = 0;
  std::vector<uint16_t> next_port_;
};

}  // namespace mneme::sim
