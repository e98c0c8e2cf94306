// Who runs the cluster of a kv run: a process on a machine of its own that does what was planned, in the words that
// core/node/operator.h has for it.
//
// It looks at the shard map as the meta group's log has it, asks any node, and asks another one when that says nothing
// or cannot say; a refusal it takes as an answer. Several things may be under way at once, and then it may get in its
// own way, as two operators would.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "core/env/env.h"
#include "core/fiber/sync.h"
#include "sim/scenarios/fault.h"
#include "sim/scenarios/kv_cluster.h"
#include "sim/scenarios/options.h"

namespace mneme::sim {

class KvOperator {
 public:
  // All references outlive it. `number`: its machine's.
  KvOperator(World& world, KvCluster& cluster, const KvShape& shape, const Options& options, uint32_t number);

  // The process. Returns only when it is cancelled.
  Result<void> run(Env& env);
  // Begins an operation. Callable from anywhere.
  void begin(const Fault& operation);
  // Nothing more is begun, nor asked again.
  void end() { ended_ = true; }

 private:
  void perform(Env& env, const Fault& operation);
  void split(Env& env, const Fault& operation);
  void change_replicas(Env& env, const Fault& operation);
  void drain(Env& env, const Fault& operation);
  void remove(Env& env, const Fault& operation);
  const shard::Shard* pick_shard(const Fault& operation, bool data_only) const;
  // The reply, in RESP; empty: there was none.
  std::string ask(Env& env, const std::vector<std::string>& command);
  Result<std::string> ask(Env& env, uint32_t node, const std::vector<std::string>& command);

  World& world_;
  KvCluster& cluster_;
  const KvShape& shape_;
  const Options& options_;
  uint32_t number_;
  bool ended_ = false;
  uint64_t asked_ = 0;
  std::deque<Fault> to_do_;
  fiber::Condition wanted_;
};

}  // namespace mneme::sim
