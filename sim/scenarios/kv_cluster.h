// The store nodes of a kv run: their machines, starting and crashing them, and what each end of one means.
//
// A node ends by itself only for a reason, and which reasons are legitimate is part of what is checked: its disk failed
// or was full (it is started again), its files are damaged and damage was done to them, or it was wiped and the cluster
// refuses it (it is lost for good).
//
// Machines are numbered from 1: those that found the cluster, whose nodes have the same numbers, then spare ones, which
// are off until they join. A machine that lost its disk may join again, at another address, as a node of its own; which
// node is on which machine follows from the addresses in the shard map.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/fiber/scope.h"
#include "core/node/node.h"
#include "sim/machine.h"
#include "sim/scenarios/kv_oracle.h"
#include "sim/scenarios/options.h"

namespace mneme::sim {

inline constexpr uint16_t kKvPort = 6399;
class KvCluster {
 public:
  // All references outlive the cluster. `found` takes what is wrong.
  KvCluster(World& world, const Options& options, KvOracle& oracle, std::function<void(Finding)> found);

  // Machines 1 to size(). Later calls spawn in `scope`, which is the world's and outlives the run.
  void make_machines(fiber::Scope& scope);
  uint32_t founders() const { return static_cast<uint32_t>(options_[Option::nodes]); }
  uint32_t size() const { return founders() + static_cast<uint32_t>(options_[Option::joins]); }
  Machine& machine(uint32_t node) { return world_.machine(node); }
  // Where it listens.
  env::Address address(uint32_t node) const { return nodes_[node - 1].config.listen; }
  // Who the machine's node is in the cluster; 0: nobody yet.
  NodeId id(uint32_t node) const;
  // The machine that has the node's data; 0: none any more, or not one that is known yet.
  uint32_t machine_of(NodeId id) const;

  // Nothing happens when the node runs already, is lost, held down, or a spare one that has not joined.
  void boot(uint32_t node);
  // Has a spare machine join.
  void join(uint32_t node);
  // The machine loses power, and joins with an empty disk, as another node, when it is back after `down`.
  void replace(uint32_t node, WorldTime down);
  // The cluster has removed the machine's node for good: it is switched off.
  void retire(uint32_t node);
  void crash(uint32_t node, CrashKind kind);
  // The same, and starts it again after `down`.
  void crash_for(uint32_t node, CrashKind kind, WorldTime down);
  // Asks the process to end in good order, kills it when it takes too long, and starts it again `down` after its end.
  void stop_for(uint32_t node, WorldTime down);
  // Down until let_go(); held nodes are crashed if they run.
  void hold_down(uint32_t node);
  void let_go(uint32_t node);
  // From now on nothing is started any more.
  void stop() { stopping_ = true; }

  // Something of what its disk held is, or may be, damaged for good.
  void damage(uint32_t node);
  // Not a machine that is off, nor, in the recoverable regime, one of whose earlier disk a group still has a member.
  bool may_damage(uint32_t node) const;
  // All founders have become members.
  bool founded();
  // The machine loses power and its disk is empty when it is back after `down`.
  void wipe(uint32_t node, WorldTime down);
  bool damaged(uint32_t node) const { return nodes_[node - 1].damaged; }

  // Silent rollback; kv_faults.h states its limit.
  // Whether the node's disk may go back now to a state that it had in good standing. Always, when the limit is lifted.
  bool may_forget(uint32_t node) const;
  // From now on its disk may lack what it reported as durable. The next power loss will show it, if that may happen
  // then; otherwise the machine is only killed, and its page cache hides it.
  void doubt(uint32_t node);
  bool doubted(uint32_t node) const { return nodes_[node - 1].doubted; }
  // Its disk makes good what it promised, and is believed again.
  void redeem(uint32_t node);
  // The machine loses power, and its disk is as it was when the copy was taken when it is back after `down`.
  void put_back_copy(uint32_t node, WorldTime down);

  // Some machine has its data, and is not lost.
  bool alive(NodeId id) const {
    const uint32_t n = machine_of(id);
    return n != 0 && !nodes_[n - 1].off && !nodes_[n - 1].lost;
  }
  // Bit n: machine n takes part, is not lost, and its disk was never damaged.
  uint64_t whole() const;
  // The machine that leads the group, as far as the oracle sees; 0: none.
  uint32_t leader_of(GroupId group) const;
  // Whether every group can decide something with these machines alone (bit n), and will when the operation on it that
  // is under way has been carried out.
  bool able(uint64_t machines) const;
  // Whether every group must be able to when all machines are up: with replicas that are neither lost nor damaged, or,
  // as far as the oracle sees, in good standing again.
  bool sound() const;

  // What each node is doing, for a run that stands still; one line each.
  std::string account();

 private:
  struct Node {
    node::Config config;
    bool off = false;  // spare, and has not joined
    bool replaced = false;
    bool damaged = false;
    bool wiped = false;
    bool lost = false;
    bool held = false;
    bool doubted = false;
    std::map<GroupId, Term> doubted_in;
    node::Ending* ending = nullptr;  // of the process that runs
    bool asked = false;              // to end, since it was started
    WorldTime down = 0;              // after the end that it was asked for
    std::string last_end;            // why it ended by itself
  };
  void make_config(uint32_t node);
  std::vector<env::Address> others(uint32_t node) const;  // where nodes listen, to join through
  void ended(uint32_t node, Result<void> result);
  bool removed(uint32_t node) const;
  bool dispensable(uint32_t node) const;
  // By a configuration that may be in force.
  bool is_member(uint32_t node, GroupId group) const;
  std::map<GroupId, Term> terms(uint32_t node) const;  // of its replicas
  const raft::View* last_seen(uint32_t node, GroupId group) const;
  bool able(uint64_t machines, const shard::Shard& shard) const;
  void forgets(uint32_t node);

  World& world_;
  const Options& options_;
  KvOracle& oracle_;
  std::function<void(Finding)> found_;
  std::vector<Node> nodes_;
  fiber::Scope* scope_ = nullptr;
  bool stopping_ = false;
};

}  // namespace mneme::sim
