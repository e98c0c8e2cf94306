// Distinct types for distinct numbers, so that a term is never passed where a log index is meant.
#pragma once

#include <compare>
#include <cstdint>

namespace mneme {

template <class Tag>
struct Id {
  uint64_t value = 0;

  constexpr Id() = default;
  constexpr explicit Id(uint64_t v) : value(v) {}
  constexpr auto operator<=>(const Id&) const = default;
  constexpr explicit operator bool() const { return value != 0; }
  constexpr Id next() const { return Id(value + 1); }
  constexpr Id prev() const { return Id(value - 1); }
};

using NodeId = Id<struct NodeIdTag>;            // a member of a cluster; from 1, never reused; 0: none
using ClusterId = Id<struct ClusterIdTag>;      // drawn once when a cluster is made; 0: not known yet
using Incarnation = Id<struct IncarnationTag>;  // drawn when a node's data directory is made; 0: none
using GroupId = Id<struct GroupIdTag>;          // a Raft group; from 1
using Term = Id<struct TermTag>;                // Raft term; 0 before the first election
using LogIndex = Id<struct LogIndexTag>;        // position in a group's Raft log; from 1, 0: before it
using SessionId = Id<struct SessionIdTag>;      // a client session; 0: none
using Epoch = Id<struct EpochTag>;              // version of a shard's boundaries and replicas

// A replica of one group, never named again once it is gone: the node that it lives on, and a generation, which rises
// with every replica that the group adds. Those that a group begins with are of generation 0, or of a low one, such
// as 1.
struct ReplicaId {
  uint64_t value = 0;  // 0: none

  constexpr ReplicaId() = default;
  constexpr explicit ReplicaId(uint64_t v) : value(v) {}
  constexpr explicit ReplicaId(NodeId node, uint32_t generation = 0)
      : value(uint64_t{generation} << 32 | (node.value & UINT32_MAX)) {}
  constexpr auto operator<=>(const ReplicaId&) const = default;
  constexpr explicit operator bool() const { return value != 0; }
  constexpr NodeId node() const { return NodeId(value & UINT32_MAX); }
  constexpr uint32_t generation() const { return static_cast<uint32_t>(value >> 32); }
};

}  // namespace mneme
