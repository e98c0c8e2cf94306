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

}  // namespace mneme
