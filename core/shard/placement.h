// The map as the planner sees it: who holds how much, as it will be when all that is under way has been done.
//
// Lives for one call of plan(). Nodes and shards are numbered here in the order of their ids, so that lower ids win
// ties.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "core/shard/planner.h"

namespace mneme::shard {

struct NodeView {
  NodeId id;
  size_t rack = 0;  // 0: not known
  bool up = false;  // by the map, and heard of lately: may be given replicas and leadership
  bool reachable = false;
  bool lost = false;
  bool draining = false;
  size_t leads = 0;
  uint64_t weight = 0;
  uint64_t leader_weight = 0;
  size_t busy = 0;             // operations that it works for
  std::vector<size_t> shards;  // of which it holds a voter
};

struct ShardView {
  const Shard* shard = nullptr;
  std::vector<size_t> voters;  // the nodes, by number
  std::optional<size_t> leader;
  uint64_t weight = 0;
  uint64_t leader_weight = 0;
  bool has_majority = false;  // of voters that were heard of lately
  bool changeable = false;    // that, and nothing under way
};

struct Mean {
  uint64_t value = 0;
  uint64_t margin = 0;

  bool above(uint64_t weight) const { return weight > value + margin; }
  bool below(uint64_t weight) const { return weight + margin < value; }
};

class Placement {
 public:
  // `map` outlives it.
  Placement(const Map& map, std::span<const Liveness> liveness, const PlanOptions& options);

  const std::vector<NodeView>& nodes() const { return nodes_; }
  const std::vector<ShardView>& shards() const { return shards_; }
  std::optional<size_t> number_of(NodeId id) const;
  size_t pending() const { return pending_; }
  // Over the nodes that are up.
  Mean mean_weight() const;
  Mean mean_leader_weight() const;
  size_t mean_replicas() const;
  size_t mean_leads() const;

  bool free(size_t node) const { return nodes_[node].busy < options_.max_pending_per_node; }
  // The shard's leader has room for another operation; true where there is none known.
  bool leader_free(size_t shard) const { return !shards_[shard].leader || free(*shards_[shard].leader); }

  // How many of the shard's replicas, except that on `except`, are in the node's rack; 0 if the rack is not known.
  size_t same_rack(size_t shard, std::optional<size_t> except, size_t rack) const;
  // The lightest free node that may get a replica of the shard, where at most `limit` others are in the same rack.
  std::optional<size_t> lightest(size_t shard, std::optional<size_t> except, size_t limit) const;
  // Whether there is such a node, free or not.
  bool has_room(size_t shard, std::optional<size_t> except, size_t limit) const;

  // Of all nodes that may get replicas and are free; UINT64_MAX: there are none.
  uint64_t least_weight() const;

  // As if the operation were done; it takes up its nodes and the shard.
  void assume(size_t shard, const Action& action);

 private:
  void add_nodes(std::span<const Liveness> liveness);
  void add_shards();
  void weigh();
  void occupy(size_t node);
  void hold(size_t node, size_t shard);
  void release(size_t node, size_t shard);
  void lead(size_t shard, std::optional<size_t> node);
  void enlist(size_t node);
  void strike(size_t node);
  Mean mean_of(uint64_t NodeView::*weight, uint64_t average_item) const;

  const Map& map_;
  const PlanOptions& options_;
  std::vector<NodeView> nodes_;
  std::vector<ShardView> shards_;
  size_t pending_ = 0;
  std::vector<std::vector<size_t>> up_in_rack_;
  // The nodes that may get replicas and are free, lightest first: in each rack, and the racks by their lightest.
  std::vector<std::set<std::pair<uint64_t, size_t>>> racks_;
  std::set<std::pair<uint64_t, size_t>> by_lightest_;
};

}  // namespace mneme::shard
