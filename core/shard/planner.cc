#include "core/shard/planner.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "core/shard/placement.h"

namespace mneme::shard {

namespace {

constexpr size_t kMaxObstacles = 16;

class Planner {
 public:
  Planner(const Map& map, std::span<const Liveness> liveness, const PlanOptions& options)
      : map_(map), liveness_(liveness), options_(options), at_(map, liveness, options) {}

  Plan run() {
    give_up();
    repair();
    spread();
    split();
    balance_replicas();
    balance_leaders();
    return std::move(plan_);
  }

 private:
  enum class Urgency : uint8_t { kRepair, kOther };
  using Try = std::optional<std::pair<Action, std::string>>;

  bool room(Urgency urgency) const {
    const size_t kept = urgency == Urgency::kRepair ? 0 : options_.max_pending / 4;
    return at_.pending() + kept < options_.max_pending;
  }

  void propose(size_t shard, const Action& action, std::string reason) {
    const Shard& now = *at_.shards()[shard].shard;
    plan_.operations.push_back({{now.group(), now.epoch(), now.last_operation(), action}, std::move(reason)});
    at_.assume(shard, action);
  }

  void obstacle(std::string sentence) {
    if (plan_.obstacles.size() < kMaxObstacles) plan_.obstacles.push_back(std::move(sentence));
  }

  const NodeView& node(size_t number) const { return at_.nodes()[number]; }
  uint64_t id(size_t node) const { return at_.nodes()[node].id.value; }
  std::string name(size_t shard) const { return name_of_shard(at_.shards()[shard].shard->group()); }
  const std::vector<size_t>& voters(size_t shard) const { return at_.shards()[shard].voters; }
  // For the bandwidth of its leader, which sends the copy.
  bool may_change(size_t shard) const { return at_.shards()[shard].changeable && at_.leader_free(shard); }

  Action move(size_t from, size_t to) const { return {ActionKind::kMove, node(from).id, node(to).id}; }
  std::string moves(size_t shard, size_t from, size_t to) const {
    return fmt::format("move {} from n{} to n{}", name(shard), id(from), id(to));
  }

  // Where a copy is best: with few others in its rack, at most `most`, then where there is least. None while the nodes
  // in the best racks are all busy: a copy in a worse one would have to be moved again.
  std::optional<size_t> place_for(size_t shard, std::optional<size_t> without, size_t most) const {
    for (size_t limit = 0; limit <= most; ++limit) {
      if (auto found = at_.lightest(shard, without, limit)) return found;
      if (at_.has_room(shard, without, limit)) return {};
    }
    return {};
  }
  std::optional<size_t> place_for(size_t shard, std::optional<size_t> without) const {
    return place_for(shard, without, voters(shard).size());
  }

  void give_up() {
    for (const ShardView& view : at_.shards()) {
      const Operation* operation = view.shard->pending();
      if (!operation || !view.has_majority) continue;
      const std::optional<size_t> target = at_.number_of(operation->action.target);
      if (!target) continue;
      const NodeView& to = node(*target);
      const bool silent = operation->step == Step::kTransfer ? !to.reachable : to.lost;
      const bool unwanted = to.draining && operation->step == Step::kAddLearner;
      if (!silent && !unwanted) continue;
      plan_.give_up.push_back({view.shard->group(), operation->id, operation->step,
                               fmt::format("abandon operation {} on {} ({}): n{} {}", operation->id.value,
                                           name_of_shard(view.shard->group()), text_of(operation->action), to.id.value,
                                           silent ? "is silent" : "is draining")});
    }
  }

  // Repair.
  void repair() {
    std::vector<std::tuple<size_t, size_t>> wanting;  // how urgent (less is more), which
    for (size_t shard = 0; shard < at_.shards().size(); ++shard)
      if (auto urgency = need_of(shard)) wanting.emplace_back(*urgency, shard);
    std::sort(wanting.begin(), wanting.end());
    for (auto [urgency, shard] : wanting) {
      if (!room(Urgency::kRepair)) return;
      if (!at_.shards()[shard].changeable) {
        report_stuck(shard);
        continue;
      }
      if (Try found = mend(shard)) propose(shard, found->first, std::move(found->second));
    }
  }

  // How many voters may still fail before the shard stands still, when it needs repair; or above that, when it is only
  // untidy.
  std::optional<size_t> need_of(size_t shard) const {
    constexpr size_t kUntidy = 100;
    size_t reachable = 0;
    bool lost = false;
    bool draining = false;
    for (size_t voter : voters(shard)) {
      reachable += node(voter).reachable ? 1 : 0;
      lost = lost || node(voter).lost;
      draining = draining || node(voter).draining;
    }
    const size_t majority = voters(shard).size() / 2 + 1;
    if (lost || voters(shard).size() < map_.copies()) return reachable < majority ? 0 : reachable - majority;
    if (draining) return kUntidy;
    if (at_.shards()[shard].shard->configuration().size() != map_.copies()) return kUntidy + 1;
    return {};
  }

  void report_stuck(size_t shard) {
    const ShardView& view = at_.shards()[shard];
    if (view.has_majority) return;
    const auto reachable =
        std::count_if(view.voters.begin(), view.voters.end(), [&](size_t n) { return node(n).reachable; });
    obstacle(fmt::format("{} cannot be changed: of its {} voters {} are heard of", name(shard), view.voters.size(),
                         reachable));
  }

  Try mend(size_t shard) {
    if (Try found = replace_lost(shard)) return found;
    if (Try found = add_missing(shard)) return found;
    if (Try found = drain(shard)) return found;
    if (Try found = remove_surplus(shard)) return found;
    return remove_learner(shard);
  }

  Try replace_lost(size_t shard) {
    for (size_t voter : voters(shard)) {
      if (!node(voter).lost) continue;
      const uint64_t seconds = silence_of(node(voter).id) / 1000;
      if (voters(shard).size() > map_.copies())
        return Try({{ActionKind::kRemove, node(voter).id, {}},
                    fmt::format("remove {} from n{}: it has {} copies of {} wanted, and n{} has been silent for "
                                "{} s",
                                name(shard), id(voter), voters(shard).size(), map_.copies(), id(voter), seconds)});
      if (!at_.leader_free(shard)) return {};
      if (auto target = place_for(shard, voter))
        return Try({move(voter, *target),
                    fmt::format("{}: n{} has been silent for {} s", moves(shard, voter, *target), id(voter), seconds)});
      report_no_place(shard, "replace its copy on a lost node");
    }
    return {};
  }

  Try add_missing(size_t shard) {
    if (voters(shard).size() >= map_.copies() || !at_.leader_free(shard)) return {};
    if (auto target = place_for(shard, {}))
      return Try({{ActionKind::kAdd, {}, node(*target).id},
                  fmt::format("add a copy of {} on n{}: it has {} of {} wanted", name(shard), id(*target),
                              voters(shard).size(), map_.copies())});
    report_no_place(shard, "add a missing copy");
    return {};
  }

  // First the leadership, which is quick, then the copy.
  Try drain(size_t shard) {
    for (size_t voter : voters(shard)) {
      if (!node(voter).draining || node(voter).lost || voters(shard).size() > map_.copies()) continue;
      if (!at_.leader_free(shard)) return {};
      if (at_.shards()[shard].leader == voter)
        if (auto heir = lightest_leader(shard))
          return Try({{ActionKind::kTransfer, {}, node(*heir).id},
                      fmt::format("have n{} lead {}: n{} is draining", id(*heir), name(shard), id(voter))});
      if (auto target = place_for(shard, voter))
        return Try({move(voter, *target), fmt::format("{}: n{} is draining", moves(shard, voter, *target), id(voter))});
      report_no_place(shard, "move its copy off a draining node");
    }
    return {};
  }

  // Only while all voters are there: one fewer must not cost a majority.
  Try remove_surplus(size_t shard) {
    if (voters(shard).size() <= map_.copies()) return {};
    std::optional<size_t> worst;
    auto badness = [&](size_t n) {
      return std::tuple(node(n).draining, at_.shards()[shard].leader != n, at_.same_rack(shard, n, node(n).rack),
                        node(n).weight);
    };
    for (size_t voter : voters(shard)) {
      if (!node(voter).reachable) return {};
      if (!worst || badness(voter) > badness(*worst)) worst = voter;
    }
    return Try({{ActionKind::kRemove, node(*worst).id, {}},
                fmt::format("remove {} from n{}: it has {} copies of {} wanted", name(shard), id(*worst),
                            voters(shard).size(), map_.copies())});
  }

  // Left behind by an operation that was abandoned.
  Try remove_learner(size_t shard) {
    for (const Member& member : at_.shards()[shard].shard->configuration())
      if (member.role == Role::kLearner)
        return Try({{ActionKind::kRemove, member.replica.node, {}},
                    fmt::format("remove {} from n{}: its copy there has no vote and nothing needs it", name(shard),
                                member.replica.node.value)});
    return {};
  }

  uint64_t silence_of(NodeId wanted) const {
    for (const Liveness& heard : liveness_)
      if (heard.node == wanted) return heard.silent_ms;
    return 0;
  }

  void report_no_place(size_t shard, std::string_view what) {
    if (plan_.obstacles.size() < kMaxObstacles && !at_.has_room(shard, {}, SIZE_MAX))
      obstacle(fmt::format("{} waits for a node to {}: none that is up is without one; add a node", name(shard), what));
  }

  // Spreading over racks: from one with several copies to one with at least two fewer.
  void spread() {
    for (size_t shard = 0; shard < at_.shards().size() && room(Urgency::kOther); ++shard) {
      if (!may_change(shard)) continue;
      std::optional<size_t> worst;
      auto badness = [&](size_t n) {
        return std::tuple(crowd(shard, n), at_.shards()[shard].leader != n, node(n).weight);
      };
      for (size_t voter : voters(shard))
        if (crowd(shard, voter) >= 1 && (!worst || badness(voter) > badness(*worst))) worst = voter;
      if (!worst) continue;
      if (auto target = place_for(shard, worst, crowd(shard, *worst) - 1))
        propose(shard, move(*worst, *target),
                fmt::format("{}: its rack holds {} copies", moves(shard, *worst, *target), crowd(shard, *worst) + 1));
    }
  }

  // How many other copies are in the same rack.
  size_t crowd(size_t shard, size_t voter) const { return at_.same_rack(shard, voter, node(voter).rack); }

  void split() {
    for (size_t i = 0; i < at_.shards().size() && room(Urgency::kOther); ++i) {
      const Shard& shard = *at_.shards()[i].shard;
      const bool large = shard.last.bytes > options_.split_bytes;
      const bool busy = shard.last.writes_per_second > options_.split_writes_per_second;
      if ((!large && !busy) || shard.slots.size() < 2 || !may_change(i)) continue;
      const uint16_t middle = shard.slots.nth(shard.slots.size() / 2);
      propose(i, {ActionKind::kSplit, {}, {}, middle},
              large ? fmt::format("split {} at slot {}: it has {} MiB, the limit is {}", name(i), middle,
                                  shard.last.bytes >> 20, options_.split_bytes >> 20)
                    : fmt::format("split {} at slot {}: it has {} writes/s, the limit is {}", name(i), middle,
                                  shard.last.writes_per_second, options_.split_writes_per_second));
    }
  }

  // The numbers of the nodes that are up, the heaviest first.
  std::vector<size_t> heaviest_first(uint64_t NodeView::*weight) const {
    std::vector<size_t> order;
    for (size_t n = 0; n < at_.nodes().size(); ++n)
      if (node(n).up) order.push_back(n);
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return std::pair(node(b).*weight, a) < std::pair(node(a).*weight, b); });
    return order;
  }

  // Whether it lessens the difference of the two by enough, one of them being outside the band.
  static bool worth(const Mean& mean, uint64_t from, uint64_t to, uint64_t weight) {
    return (mean.above(from) || mean.below(to)) && from > to + weight + mean.margin;
  }

  void balance_replicas() {
    const Mean mean = at_.mean_weight();
    for (size_t from : heaviest_first(&NodeView::weight)) {
      // What is best to move: the heaviest that fits, so that few moves do.
      std::vector<size_t> shards = node(from).shards;
      std::sort(shards.begin(), shards.end(), [&](size_t a, size_t b) {
        return std::pair(at_.shards()[b].weight, a) < std::pair(at_.shards()[a].weight, b);
      });
      for (size_t shard : shards) {
        if (!room(Urgency::kOther)) return;
        const uint64_t weight = at_.shards()[shard].weight;
        if (!worth(mean, node(from).weight, at_.least_weight(), 0)) break;
        if (!worth(mean, node(from).weight, at_.least_weight(), weight) || !may_change(shard)) continue;
        auto to = at_.lightest(shard, from, crowd(shard, from));
        if (!to || !worth(mean, node(from).weight, node(*to).weight, weight)) continue;
        std::string reason = moves(shard, from, *to) + ": " + imbalance(mean, from, *to);
        propose(shard, move(from, *to), std::move(reason));
      }
    }
  }

  std::string imbalance(const Mean& mean, size_t from, size_t to) const {
    if (node(from).shards.size() > node(to).shards.size() + 1)
      return fmt::format("n{} has {} replicas, n{} has {}, the mean is {}", id(from), node(from).shards.size(), id(to),
                         node(to).shards.size(), at_.mean_replicas());
    return fmt::format("by size and load n{} has {}% and n{} {}% of the mean", id(from),
                       node(from).weight * 100 / std::max<uint64_t>(mean.value, 1), id(to),
                       node(to).weight * 100 / std::max<uint64_t>(mean.value, 1));
  }

  // The voter that leads least, among those that may lead and are free.
  std::optional<size_t> lightest_leader(size_t shard) const {
    std::optional<size_t> best;
    for (size_t voter : voters(shard)) {
      if (!node(voter).up || !at_.free(voter) || at_.shards()[shard].leader == voter) continue;
      if (!best || node(voter).leader_weight < node(*best).leader_weight) best = voter;
    }
    return best;
  }

  void balance_leaders() {
    const Mean mean = at_.mean_leader_weight();
    for (size_t from : heaviest_first(&NodeView::leader_weight)) {
      for (size_t shard : node(from).shards) {
        if (!room(Urgency::kOther)) return;
        if (at_.shards()[shard].leader != from || !may_change(shard)) continue;
        auto to = lightest_leader(shard);
        if (!to || !worth(mean, node(from).leader_weight, node(*to).leader_weight, at_.shards()[shard].leader_weight))
          continue;
        std::string reason =
            fmt::format("have n{} lead {} instead of n{}: n{} leads {}, n{} leads {}, the mean is {}", id(*to),
                        name(shard), id(from), id(from), node(from).leads, id(*to), node(*to).leads, at_.mean_leads());
        propose(shard, {ActionKind::kTransfer, {}, node(*to).id}, std::move(reason));
      }
    }
  }

  const Map& map_;
  std::span<const Liveness> liveness_;
  const PlanOptions& options_;
  Placement at_;
  Plan plan_;
};

}  // namespace

Plan plan(const Map& map, std::span<const Liveness> liveness, const PlanOptions& options) {
  if (!map.cluster()) return {};
  return Planner(map, liveness, options).run();
}

}  // namespace mneme::shard
