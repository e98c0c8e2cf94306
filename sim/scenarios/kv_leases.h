// Watches the leases of all replicas from outside, each by its own node's clock at the same true moment.
//
//   one group     while a replica has a lease, no other leads in a later term; so no two have one at once
//   what it knows a replica with a lease knows to be committed whatever any replica has applied
//
// From the second follows that no slot is served under the leases of two groups: a parent with a lease knows of every
// split that has happened, and the slots that the logs give to groups do not overlap (kv_shape.h).
//
// A lease only ends as time passes, so it is enough to look when a replica takes a step.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "core/raft/raft.h"

namespace mneme::sim {

class KvLeases {
 public:
  // What the node's monotonic clock shows now; kNever when its process is gone.
  using Clock = std::function<Instant(NodeId)>;
  explicit KvLeases(Clock clock) : clock_(std::move(clock)) {}

  // After every step of a replica that leads, or did before. The answer is a sentence about what is wrong.
  std::optional<std::string> moved(NodeId node, GroupId group, const raft::Raft& raft);
  // A replica has applied the entry there.
  std::optional<std::string> applied(GroupId group, LogIndex index);
  // The node's replica of the group is no more; its process is no more.
  void gone(NodeId node, GroupId group);
  void gone(NodeId node);

 private:
  struct Leading {
    Term term;
    Instant lease_end;
    LogIndex commit;
  };
  struct Group {
    LogIndex applied;
    std::map<NodeId, Leading> leading;
  };
  // How long the lease will last by the node's clock; 0: it has none.
  Duration left(NodeId node, const Leading& leading) const;
  std::optional<std::string> check_knowledge(GroupId group) const;

  Clock clock_;
  std::map<GroupId, Group> groups_;
};

}  // namespace mneme::sim
