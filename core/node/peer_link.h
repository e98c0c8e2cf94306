// What Peers keeps of one other node. Private to the files of Peers.
#pragma once

#include <string>
#include <vector>

#include "core/node/peers.h"

namespace mneme::node {

struct Peers::Link {
  Link(fiber::Scheduler& scheduler, NodeId id) : node(id), came(scheduler), filled(scheduler) {}
  const NodeId node;
  Incarnation incarnation;  // as it said last
  ClusterId cluster;        // the same; 0: it has not founded one
  bool kept = false;        // a connection to it is wanted
  bool running = false;     // the fiber that keeps it, which may be about to end
  bool connected = false;
  fiber::Condition came;  // connected
  Instant used_at;        // for or by anything but a ping
  protocol::PeerFrameWriter writer;
  std::string outbox;
  fiber::Condition filled;
  uint64_t attempts = 0;
  std::vector<GroupId> sending_snapshots;
  std::vector<env::Stream*> inbound;  // its control connections to us, oldest first
  Instant heard_at;                   // anything of it; at first, when it began to be kept
  uint64_t life = 0;                  // of its process; 0: it has not said
  uint16_t version = 0;               // of the protocol, on the connection to it
  uint64_t map_version = 0;           // that it has, or will have from what was sent to it; 0: not known
  Instant map_sent_at;
};

}  // namespace mneme::node
