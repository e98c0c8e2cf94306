// Who belongs to a group: the configuration that an entry of kind kConfig carries, and how one may follow another.
//
// A replica becomes a voter along one path: it is added as a learner, which is sent the log and decides nothing; it
// changes sides in a joint configuration (Raft section 6, thesis 4.3), in which every decision needs a majority of the
// old voters and a majority of the new ones; and the final configuration has only the new. Learners come and go in one
// step, since no quorum depends on them. A replica takes the newest configuration of its log, committed or not, and
// goes back to the one before when the log is truncated. The group's first entry is its first configuration.
//
// Format of the payload, version 1; integers little-endian:
//
//   offset size
//        0    1  version, 1
//        1    3  reserved, 0
//        4    4  the highest generation of a replica so far (core/base/ids.h, ReplicaId)
//        8    6  number of voters, of outgoing voters and of learners, 2 bytes each
//       14       their ids, 8 bytes each, in that order, each list ascending
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/base/ids.h"

namespace mneme::raft {

// Each list is sorted and without duplicates; a learner is in no other list.
struct Configuration {
  std::vector<ReplicaId> voters;
  std::vector<ReplicaId> outgoing;  // joint: the voters of before, of whom a majority is needed too; otherwise empty
  std::vector<ReplicaId> learners;
  uint32_t generation = 0;  // the highest of all replicas that ever were members

  bool joint() const { return !outgoing.empty(); }
  bool votes(ReplicaId id) const;  // in either half
  bool learns(ReplicaId id) const;
  bool has(ReplicaId id) const { return votes(id) || learns(id); }
  std::vector<ReplicaId> electorate() const;  // of both halves
  std::vector<ReplicaId> members() const;     // those and the learners
  // The member on that node, which never has two; 0: none.
  ReplicaId on(NodeId node) const;
  bool operator==(const Configuration&) const = default;
};

// What an operator, or a balancer, may ask for at once: either learners come and go, or voters change.
struct Change {
  // New replicas, learners, on nodes that have none. Whoever names them must never have given their generations before,
  // not even in a change that came to nothing: a replica may exist that knows itself by such a name.
  std::vector<ReplicaId> add;
  std::vector<ReplicaId> promote;  // learners that become voters
  std::vector<ReplicaId> remove;   // learners or voters; not both kinds in one change
};

// The configuration that the change leads to, the joint one where it needs one. kInvalid: what it asks for makes no
// sense, in a sentence.
Result<Configuration> after_change(const Configuration& now, const Change& change);
// Of a joint configuration: the one that ends it.
Configuration leave_joint(const Configuration& joint);
// With which a group begins that is split off one of this configuration, which is not joint: replicas of the first
// generation on the same nodes.
Configuration first_of_child(const Configuration& parent);
// Why `to` may not directly follow `from` in a log, or nothing.
std::optional<std::string> illegal_step(const Configuration& from, const Configuration& to);

std::string encode(const Configuration& configuration);
// kUnsupported: of a newer build. kCorrupt: anything else that is not one, as is one that has no voters.
Result<Configuration> decode_configuration(std::string_view payload);

}  // namespace mneme::raft
