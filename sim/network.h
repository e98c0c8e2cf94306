// The simulated network: TCP as it really behaves.
//
// Fault model:
//   - Bytes of a connection and direction arrive in order, in segments cut anywhere, each with a latency of its own; a
//     segment never overtakes an earlier one of its connection, but those of different connections overtake each other.
//   - A blocked direction between two machines (one-way or symmetric partition) holds segments back; they are
//     retransmitted and arrive some time after it opens, even if both ends have made a newer connection meanwhile. When
//     that takes longer than the connection's patience, the sender's end breaks; the receiver's knows nothing.
//   - A clogged direction delays segments until it clears.
//   - A reset breaks both ends at once; what was in flight is lost.
//   - A process that ends or is killed: the operating system ends its connections in order; later bytes to them are
//     answered by a reset. A power loss says nothing: bytes to a machine without power are retransmitted, and answered
//     by a reset once it runs again.
//   - Connecting: refused where nobody listens; no answer while blocked or without power, until it times out.
//   - What is sent and not read is bounded per direction (WorldOptions::window_bytes): writers wait.
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
  // Ends all blocks and clogs.
  void heal();
  // Breaks all connections between the two.
  void reset(uint32_t a, uint32_t b);

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
