// A cluster whose planner and driver may crash between any two of their acts, and remember nothing: what they do next
// follows from the map and the groups alone.
#pragma once

#include <algorithm>
#include <chrono>
#include <optional>
#include <set>
#include <vector>

#include "core/shard/planner.h"
#include "tests/unit/shard/groups.h"
#include "tests/unit/shard/random.h"
#include "tests/unit/shard/support.h"

namespace mneme::shard {

struct WorldOptions {
  Shape shape;
  PlanOptions plan;
  uint64_t seed = 1;
  uint64_t failing = 20;  // one in so many steps fails, and its operation is abandoned; 0: none
  size_t crash_at = 0;    // the planner's leader crashes before this act, counted from 1; 0: never
  bool check = true;      // everything, at every tick
};

class World {
 public:
  explicit World(WorldOptions options)
      : options_(options), random_(options.seed), map_(founded(options.shape)), groups_(map_) {}

  Map& map() { return map_; }
  Groups& groups() { return groups_; }
  size_t acts() const { return acts_; }
  size_t begun() const { return begun_; }
  std::chrono::microseconds slowest_plan() const {
    return std::chrono::duration_cast<std::chrono::microseconds>(slowest_plan_);
  }
  void kill(NodeId node) { dead_.insert(node); }
  bool dead(NodeId node) const { return dead_.contains(node); }

  std::vector<Liveness> liveness() const {
    std::vector<Liveness> heard;
    for (const auto& [id, node] : map_.nodes()) heard.push_back({id, dead(id) ? 400'000u : 0u});
    return heard;
  }
  Plan plan() const { return shard::plan(map_, liveness(), options_.plan); }

  void tick() {
    elect_and_report();
    const std::vector<BeginOperation> stale = std::exchange(stale_, {});
    const auto started = std::chrono::steady_clock::now();
    Plan planned = plan();
    slowest_plan_ = std::max(slowest_plan_, std::chrono::steady_clock::now() - started);
    judge(planned);
    // What an earlier leader planned arrives now, before or after what this one begins.
    if (random_.one_in(2)) deliver(stale);
    bool alive = true;
    for (const GiveUp& given_up : planned.give_up) {
      REQUIRE(map_.shard(given_up.group)->operation->id == given_up.operation);
      if (alive && !(alive = act())) crashed_ = true;
      if (alive) groups_.fence(given_up.group);  // drive() abandons it
    }
    for (const Proposal& proposal : planned.operations) {
      if (alive && !(alive = act())) crashed_ = true;
      if (!alive) {
        stale_.push_back(proposal.command);
        continue;
      }
      if (map_.apply(proposal.command)) ++begun_;
    }
    deliver(stale);
    drive(alive);
    if (options_.check) check();
  }

  // Until nothing is under way and nothing is worth doing. How many ticks it took.
  size_t settle(size_t most) {
    for (size_t ticks = 0; ticks < most; ++ticks) {
      tick();
      if (!busy() && plan().operations.empty() && stale_.empty()) return ticks;
    }
    const Plan left = plan();
    INFO(most << " ticks; " << (left.operations.empty() ? "" : left.operations[0].reason));
    REQUIRE_FALSE("it settles");
    return most;
  }

  bool busy() const {
    return std::any_of(map_.shards().begin(), map_.shards().end(), [](const auto& s) { return s.second.pending(); });
  }

  // Replicas of each node that may have some.
  std::map<NodeId, size_t> counts() const {
    std::map<NodeId, size_t> counts;
    for (const auto& [id, node] : map_.nodes())
      if (!dead(id) && node.state == NodeState::kUp) counts[id] = 0;
    for (const auto& [id, shard] : map_.shards())
      for (const Member& m : shard.configuration())
        if (counts.contains(m.replica.node)) ++counts[m.replica.node];
    return counts;
  }

 private:
  bool act() { return crashed_ || ++acts_ != options_.crash_at; }

  bool has_majority(const Report& group) const {
    size_t voters = 0;
    size_t live = 0;
    for (const Member& m : group.configuration) {
      if (m.role == Role::kLearner) continue;
      ++voters;
      live += dead(m.replica.node) ? 0 : 1;
    }
    return live > voters / 2;
  }

  void elect_and_report() {
    for (const auto& [id, group] : groups_.all()) {
      if (!has_majority(group)) continue;
      if (dead(group.leader))
        for (const Member& m : group.configuration)
          if (m.role == Role::kVoter && !dead(m.replica.node)) {
            groups_.elect(id, m.replica.node);
            break;
          }
      if (map_.shard(id)) (void)map_.apply(*groups_.report(id));  // refused while a split is not finished
    }
  }

  void deliver(const std::vector<BeginOperation>& commands) {
    for (const BeginOperation& command : commands) (void)map_.apply(command);
  }

  void drive(bool alive) {
    const Map now = map_;
    for (const auto& [id, shard] : now.shards()) {
      const Operation* pending = shard.pending();
      if (!alive || !pending || random_.one_in(2) || !has_majority(groups_.all().at(id))) continue;
      groups_.leave_joint(id);
      // Perhaps it was done before a crash.
      if (!(alive = act_on(AdvanceOperation{pending->id, pending->step, *groups_.report(id)}))) break;
      const Operation& current = *map_.shard(id)->operation;
      if (!current.pending() || current.step != pending->step) continue;
      if (groups_.report(id)->epoch > current.epoch) {
        alive = act_on(AbandonOperation{current.id, current.step, *groups_.report(id)});
        continue;
      }
      if (!(alive = act())) break;
      const bool dead_target = dead(current.action.target);  // cannot catch up, cannot lead
      if (options_.failing != 0 && random_.one_in(options_.failing))
        groups_.fence(id);
      else if (!dead_target || current.step == Step::kAddLearner)
        groups_.make({id, current}, random_.one_in(2));
    }
    if (!alive) crashed_ = true;
  }

  bool act_on(const Command& command) {
    if (!act()) return false;
    (void)map_.apply(command);
    return true;
  }

  // Of a plan that all of it can be begun, and that it keeps to its limits.
  void judge(const Plan& planned) const {
    Map trial = map_;
    std::map<NodeId, size_t> copies_to;
    size_t pending = 0;
    for (const auto& [id, shard] : trial.shards())
      if (shard.pending() && has_majority(groups_.all().at(id))) ++pending;
    for (const auto& [id, shard] : trial.shards())
      if (shard.pending() && shard.operation->step == Step::kAddLearner) ++copies_to[shard.operation->target.node];
    for (const Proposal& proposal : planned.operations) {
      INFO(proposal.reason);
      REQUIRE_FALSE(trial.shard(proposal.command.group)->pending());
      auto answer = trial.apply(proposal.command);
      INFO((answer ? "" : answer.error().message));
      REQUIRE(answer);
      const ActionKind kind = proposal.command.action.kind;
      if (kind == ActionKind::kMove || kind == ActionKind::kAdd) {
        REQUIRE_FALSE(dead(proposal.command.action.target));
        REQUIRE(++copies_to[proposal.command.action.target] <= options_.plan.max_pending_per_node);
      }
    }
    if (!planned.operations.empty()) REQUIRE(pending + planned.operations.size() <= options_.plan.max_pending);
  }

  void check() const {
    auto wrong = map_.check();
    INFO(wrong.value_or(""));
    REQUIRE_FALSE(wrong);
    REQUIRE_FALSE(groups_.check());
    for (const auto& [id, group] : groups_.all()) {
      size_t before = 0;  // voters of the old half and of the new one
      size_t after = 0;
      for (const Member& m : group.configuration) {
        before += m.role == Role::kVoter || m.role == Role::kOutgoing ? 1 : 0;
        after += m.role == Role::kVoter || m.role == Role::kIncoming ? 1 : 0;
      }
      REQUIRE(std::min(before, after) >= map_.copies());
    }
  }

  WorldOptions options_;
  Random random_;
  Map map_;
  Groups groups_;
  std::set<NodeId> dead_;
  std::vector<BeginOperation> stale_;
  size_t acts_ = 0;
  size_t begun_ = 0;
  std::chrono::steady_clock::duration slowest_plan_{};
  bool crashed_ = false;  // once is enough
};

}  // namespace mneme::shard
