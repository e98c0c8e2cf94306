// Everything that can be said to the shard map, and how it is written in the meta group's log.
//
// A command carries all that is needed to judge it later, in another order, or twice: who plans says what the plan is
// based on (`revision`, `from`, `epoch`, `after`), who advances an operation shows what the group has done. So the
// command of a planner that was overtaken is refused, and one that was sent again changes nothing.
//
// Encoded, little-endian: u8 version, u8 kind (the alternative's place in Command, from 1), then the fields in the
// order of the struct. Text and lists begin with a 4-byte count, sets of slots as in slot_set.h; booleans and
// enumerations are one byte. Nothing may follow.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/base/error.h"
#include "core/base/ids.h"
#include "core/shard/types.h"

namespace mneme::shard {

inline constexpr uint8_t kCommandVersion = 1;

struct Founder {
  NodeId id;
  Incarnation incarnation;
  std::string peer_address;
  std::string client_address;
  std::string rack;

  bool operator==(const Founder&) const = default;
};

// Makes the map: `shards` data groups of equal size and the meta group, `copies` replicas of each, spread over the
// nodes and racks. Answers the cluster's first data group.
struct FoundCluster {
  ClusterId cluster;
  uint32_t cluster_version = 1;
  uint32_t copies = 0;
  uint32_t shards = 0;
  std::vector<Founder> nodes;

  bool operator==(const FoundCluster&) const = default;
};

// A node wants to join. Known by its incarnation: answers the id that it has, or gets.
struct AddNode {
  Incarnation incarnation;
  std::string peer_address;
  std::string client_address;
  std::string rack;

  bool operator==(const AddNode&) const = default;
};

// A node that joins runs with its id.
struct NodeUp {
  NodeId node;
  Incarnation incarnation;

  bool operator==(const NodeUp&) const = default;
};

// From up to draining, or back.
struct DrainNode {
  NodeId node;
  uint64_t revision = 0;  // the node's, when this was decided
  bool drain = true;

  bool operator==(const DrainNode&) const = default;
};

// For ever.
struct RemoveNode {
  NodeId node;

  bool operator==(const RemoveNode&) const = default;
};

// How many voters each shard shall have.
struct SetCopies {
  uint32_t from = 0;
  uint32_t to = 0;

  bool operator==(const SetCopies&) const = default;
};

// All nodes speak it from now on; it never falls.
struct RaiseClusterVersion {
  uint32_t to = 0;

  bool operator==(const RaiseClusterVersion&) const = default;
};

// Answers the operation, and the child of a split.
struct BeginOperation {
  GroupId group;
  Epoch epoch;        // the shard's, when this was planned
  OperationId after;  // the shard's last operation then; 0: none
  Action action;

  bool operator==(const BeginOperation&) const = default;
};

// The group has made this step: `report` shows it, or an earlier one has. After its last step the operation is done.
struct AdvanceOperation {
  OperationId operation;
  Step step = Step::kTransfer;
  Report report;

  bool operator==(const AdvanceOperation&) const = default;
};

// The group has not made this step, and never will: the report's epoch is beyond the operation's. (Whoever wants to
// abandon an operation has the group raise its epoch first, by an entry that does nothing else.) A transfer may be
// abandoned at any time.
struct AbandonOperation {
  OperationId operation;
  Step step = Step::kTransfer;
  Report report;

  bool operator==(const AbandonOperation&) const = default;
};

// Appended only: the place of an alternative is its kind in the encoding. A Report alone is a command, too.
using Command = std::variant<FoundCluster, AddNode, NodeUp, DrainNode, RemoveNode, SetCopies, RaiseClusterVersion,
                             BeginOperation, AdvanceOperation, AbandonOperation, Report>;

// Appends.
void encode(const Command& command, std::string& out);
// kUnsupported: of a later version or an unknown kind; kCorrupt: not a command; kTooLarge: over a bound of limits.h.
Result<Command> decode_command(std::string_view bytes);

}  // namespace mneme::shard
