// What the groups' logs alone say about the cluster's shape: which slots each group has, as of which epoch, who its
// replicas are, and what the meta group's log says of all this in the shard map. Judged at every entry, when the first
// replica applies it.
//
//   slots           no two groups have one; once all groups of the founding have begun, each has its group
//   replicas        one that was taken out of its group never comes back with its generation
//   the map         is sound in itself; what it says of a group's slots and replicas at an epoch is what the group's
//   log
//                   has at that epoch, and it knows of no epoch that the log has not reached; no epoch, version or
//                   counter in it ever falls; and no operation on a shard is begun before the last one has ended
//   what it became  each replica's own idea of its slots and epoch is what the log up to there says
//
// It decides nothing by itself: entries and replicas are shown to it, and it answers with a sentence about what is
// wrong.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/kv/batch.h"
#include "core/kv/shard_state.h"
#include "core/raft/configuration.h"
#include "core/raft/types.h"
#include "core/shard/map.h"

namespace mneme::sim {

class KvShape {
 public:
  // `founding`: data groups that the cluster begins with.
  explicit KvShape(uint32_t founding) : founding_(founding) {}

  // The entry at the index after the last one of its group that was shown; a split's child begins at index 1. An entry
  // that was shown already is passed over.
  std::optional<std::string> applied(GroupId group, const raft::Entry& entry);
  // A replica that has applied the log up to there says so of itself.
  std::optional<std::string> shown(NodeId node, GroupId group, LogIndex applied, const kv::ShardState& state) const;
  // A replica has this configuration in force, committed or not.
  void in_force(GroupId group, LogIndex index, const raft::Configuration& configuration);

  // As the meta group's log has it; empty before founding.
  const shard::Map& map() const { return map_; }
  // Those that were shown in any way, by id.
  std::vector<GroupId> groups() const;
  // Every configuration that a replica may act by today: the last one that was committed, and those after it that may
  // yet be. Empty: the group is unknown.
  const std::vector<raft::Configuration>& configurations(GroupId group) const;
  // Whether those replicas can decide something in each of these.
  template <class Counts>
  bool has_majority(GroupId group, const Counts& counts) const {
    for (const raft::Configuration& configuration : configurations(group))
      if (!is_majority(configuration.voters, counts) || !is_majority(configuration.outgoing, counts)) return false;
    return true;
  }
  // An operation was begun, has made a step, or has ended. Called for each, after the map has changed.
  std::function<void(const shard::Shard&)> after_step;

 private:
  struct Since {
    LogIndex index;
    kv::ShardState state;
    raft::Configuration configuration;
  };
  struct Group {
    LogIndex last;
    std::vector<Since> history;  // by index, one for each change; none before the first
    std::set<ReplicaId> removed;
    LogIndex committed;                     // where the last committed configuration stands
    std::vector<LogIndex> configured;       // where each of these stands
    std::vector<raft::Configuration> live;  // see configurations()
  };

  template <class Counts>
  static bool is_majority(const std::vector<ReplicaId>& voters, const Counts& counts) {
    size_t count = 0;
    for (ReplicaId voter : voters) count += counts(voter) ? 1 : 0;
    return voters.empty() || count > voters.size() / 2;
  }
  Since now(const Group& group) const { return group.history.empty() ? Since() : group.history.back(); }
  const Since* at_epoch(const Group& group, Epoch epoch) const;
  std::optional<std::string> configure(GroupId id, Group& group, const raft::Entry& entry);
  std::optional<std::string> execute(GroupId id, LogIndex index, const std::vector<std::string_view>& args);
  std::optional<std::string> split(GroupId id, LogIndex index, std::string_view request);
  std::optional<std::string> change_map(std::string_view command);
  std::optional<std::string> check_shard(const shard::Shard& shard) const;
  std::optional<std::string> check_slots();

  uint32_t founding_;
  bool whole_ = false;  // all groups of the founding have begun
  std::map<GroupId, Group> groups_;
  shard::Map map_;
};

}  // namespace mneme::sim
