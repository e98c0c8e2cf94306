// A client process of the kv scenario that moves amounts between accounts, and looks whether all of them together are
// still worth what they were: nothing.
//
// The accounts of one bank share a hash tag, and so a slot. A transfer is a transaction, MULTI, INCRBY -x, INCRBY +x,
// EXEC, on a connection of its own; whether it was executed, once, often or never, the bank's total is the same, as
// long as each is executed whole. So every total that is read, by MGET through the client library, must be 0, whatever
// became of transfers of unknown outcome: that needs no model and no other client's history. None of it is in the log
// of the run.
#pragma once

#include <functional>

#include "core/client/client.h"
#include "sim/scenarios/kv_client_process.h"
#include "sim/scenarios/plan.h"

namespace mneme::sim {

class World;

class KvTransferClient final : public KvClientProcess {
 public:
  // `nodes` says where nodes are, as of its call. `violated` takes what is wrong with a total, a sentence.
  KvTransferClient(World& world, const PlannedClient& plan, uint32_t number,
                   std::function<std::vector<env::Address>()> nodes, Duration timeout,
                   std::function<void(std::string)> violated)
      : world_(world),
        plan_(plan),
        number_(number),
        nodes_(std::move(nodes)),
        timeout_(timeout),
        violated_(std::move(violated)) {}

  Result<void> run(Env& env) override;
  bool finished() const override { return next_ == plan_.operations.size() && looked_; }

 private:
  void transfer(Env& env, const PlannedOp& op);
  void look(client::Client& client, uint32_t bank);

  World& world_;
  const PlannedClient& plan_;
  uint32_t number_;
  std::function<std::vector<env::Address>()> nodes_;
  Duration timeout_;
  std::function<void(std::string)> violated_;
  size_t next_ = 0;
  bool looked_ = false;  // at every bank, after the last operation
  uint64_t transfers_ = 0;
};

// The sum of what MGET of accounts answered; those that are not there are worth nothing. kInvalid: not such an answer.
Result<int64_t> total_of(const protocol::Reply& reply);

}  // namespace mneme::sim
