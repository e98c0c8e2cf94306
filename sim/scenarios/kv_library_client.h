// A client process of the kv scenario that uses the client library, as an application would, with or without a session.
// What the library says is taken at its word and becomes the history: done is the reply, which must be the model's; not
// done must not be in any log; unknown may be. However often it sends a command again, the call is one operation, that
// may be executed once; only a read, which it sends again without a number, may be executed more often.
//
// A client that pipelines has as many fibers call at once as the plan sends commands together. A process that is killed
// leaves its calls open; its successor has a client, and a session, of its own.
#pragma once

#include <functional>

#include "core/client/client.h"
#include "sim/scenarios/kv_client_process.h"
#include "sim/scenarios/kv_scribe.h"
#include "sim/scenarios/plan.h"

namespace mneme::sim {

class KvLibraryClient final : public KvClientProcess, private client::Observer {
 public:
  // `nodes` says where nodes are, as of its call. `timeout`: how long silence is borne, and, times the client's
  // patience, a call may take.
  KvLibraryClient(World& world, KvLog& log, const PlannedClient& plan, uint32_t number,
                  std::function<std::vector<env::Address>()> nodes, Duration timeout)
      : scribe_(world, log, number), plan_(plan), nodes_(std::move(nodes)), timeout_(timeout) {}

  Result<void> run(Env& env) override;
  bool finished() const override { return next_ == plan_.operations.size(); }

 private:
  void sent(uint64_t tag, uint64_t stream, uint64_t nth) override;
  void perform(Env& env, client::Client& client, const PlannedOp& op);
  void perform_together(Env& env, client::Client& client, size_t first, size_t count);
  void conclude(size_t record, client::Answer answer);

  KvScribe scribe_;
  const PlannedClient& plan_;
  std::function<std::vector<env::Address>()> nodes_;
  Duration timeout_;
  size_t next_ = 0;
};

}  // namespace mneme::sim
