// Who a node is, durably: its data directory's incarnation, and the cluster it belongs to.
//
// A data directory gets a random incarnation when it is made. A cluster is founded once: every node of the list learns
// the incarnations of all others, directly from them, before it becomes a member; the cluster's id is the hash of all
// (node id, incarnation) pairs and of how it is divided. From then on a node answers only to those incarnations. So a
// node whose disk was wiped and that is started with the same flags comes with another incarnation, is refused by
// whoever is a member, and never votes; the cluster's quorum cannot forget through it.
//
// File `identity`, replaced as a whole, version 1; integers little-endian:
//
//   offset size
//        0    8  magic "MNEMEID\0"
//        8    4  format version (1)
//       12    4  state: 0 founding, 1 member
//       16    8  node id
//       24    8  incarnation
//       32    8  cluster id; 0 while founding
//       40    4  number n of members; 0 while founding, and of a node that joined later
//       44    4  reserved, 0
//       48  16n  members: node id, incarnation; ascending
//     48+16n  8  XXH3 of everything before
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/base/ids.h"
#include "core/env/disk.h"

namespace mneme::node {

struct Identity {
  NodeId node;
  Incarnation incarnation;
  ClusterId cluster;  // 0: founding
  std::vector<std::pair<NodeId, Incarnation>> members;

  bool founded() const { return static_cast<bool>(cluster); }
  // 0: not a member.
  Incarnation incarnation_of(NodeId id) const;
};

// Of nodes that found a cluster with so many shards and copies of each.
[[nodiscard]] ClusterId cluster_id_of(const std::vector<std::pair<NodeId, Incarnation>>& members, uint32_t shards,
                                      uint32_t copies);

[[nodiscard]] Bytes encode(const Identity& identity);
// kCorrupt, kUnsupported.
[[nodiscard]] Result<Identity> decode_identity(ByteView bytes);

// kNotFound when there is none. kCorrupt also when it cannot be read, which only a person can mend. Suspends.
Result<Identity> load_identity(env::Disk& disk);
Result<void> save_identity(env::Disk& disk, const Identity& identity);

}  // namespace mneme::node
