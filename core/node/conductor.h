// Does what the shard map asks of the groups that this node leads, tells the map what has become of it, and, where this
// node leads the meta group, decides what is to be done next.
//
// It remembers nothing that matters: all that it must know is in the map and in the groups. Whoever leads a group
// carries out the pending operation of its shard, one step after the other (core/shard/map.h), and proposes to the map
// what the group's own log then shows: that the step was made, or that it can never be made any more. So any leader may
// die at any moment, and the next one goes on.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/env/env.h"
#include "core/fiber/scope.h"
#include "core/node/config.h"
#include "core/node/groups.h"
#include "core/node/identity.h"
#include "core/node/map_cache.h"
#include "core/node/peers.h"
#include "core/node/router.h"
#include "core/shard/planner.h"

namespace mneme::node {

class Conductor {
 public:
  // All references outlive it.
  Conductor(Env& env, const Config& config, const Identity& identity, Groups& groups, MapCache& map, Peers& peers,
            Router& router)
      : env_(env), config_(config), identity_(identity), groups_(groups), map_(map), peers_(peers), router_(router) {}

  // Starts its fibers.
  void start(fiber::Scope& scope);

  // Says commands to the shard map, in their order, until `deadline`; suspends. kUnavailable: they were certainly not
  // taken; kTimeout: it is not known whether they were. Otherwise what each was answered.
  Result<std::vector<Result<shard::Answer>>> tell(const std::vector<shard::Command>& commands, Instant deadline);
  // What would be done next, and why.
  shard::Plan plan() const;

 private:
  // What this leader of a group told last.
  struct Told {
    Term term;
    uint64_t number = 0;
    Instant at;
    uint64_t applied = 0;  // entries, when it was measured
    Instant measured_at;
    uint64_t writes_per_second = 0;
  };

  static constexpr size_t kMaxToldAtOnce = 64;

  // conductor.cc
  static bool is_busy(const replica::Replica& replica, const shard::Shard& shard);
  void wait(bool busy, uint64_t version);
  Result<void> keep_planning();
  std::vector<NodeId> silent_nodes() const;
  void give_up(const shard::GiveUp& what);
  Result<void> keep_carrying_out();
  void carry_out(replica::Replica& replica, const shard::Shard& shard);
  void make_step(replica::Replica& replica, const shard::Operation& operation);
  bool is_ready(const replica::Replica& replica, const shard::Replica& learner) const;
  enum class Prospect : uint8_t { kGood, kNotNow, kNone };  // of a change of voters; kNone: until lost ones come back
  Prospect prospect(const raft::Raft& raft, ReplicaId without, ReplicaId with) const;
  // conductor_news.cc
  std::optional<shard::Report> report_of(const replica::Replica& replica);
  std::vector<shard::Command> news(bool& busy);
  bool has_no_news(const replica::Replica& replica, const shard::Shard& shard) const;
  void add_news(replica::Replica& replica, const shard::Shard& shard, std::vector<shard::Command>& news);
  bool worth_telling(const shard::Report& report, const shard::Shard& shard, const Told& told) const;
  Result<void> keep_telling();
  void tell_and_log(const std::vector<shard::Command>& commands, Duration patience);

  Env& env_;
  const Config& config_;
  const Identity& identity_;
  Groups& groups_;
  MapCache& map_;
  Peers& peers_;
  Router& router_;
  std::map<GroupId, Told> told_;
};

}  // namespace mneme::node
