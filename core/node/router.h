// Finds out what became of a client's batch: proposes or reads here when this node leads, forwards to the leader when
// another does, waits for one when nobody does, and asks again only after answers that say that nothing happened.
#pragma once

#include "core/env/env.h"
#include "core/kv/batch.h"
#include "core/node/config.h"
#include "core/node/identity.h"
#include "core/node/peers.h"
#include "core/replica/replica.h"

namespace mneme::node {

class Router {
 public:
  Router(Env& env, const Config& config, const Identity& identity, replica::Replica& replica, Peers& peers);

  // Names a batch before it is executed, so that whoever watches can follow it.
  kv::Origin next_origin();
  // Suspends until the outcome is known or config.request_timeout has passed. kDone: one reply per command in
  // `replies`; otherwise `reason` says why.
  replica::Outcome execute(const kv::Origin& origin, const replica::CommandList& commands, replica::ReplySet& replies,
                           std::string& reason);

 private:
  void attempt(replica::Call& call, Instant deadline);

  Env& env_;
  const Config& config_;
  const Identity& identity_;
  replica::Replica& replica_;
  Peers& peers_;
  uint64_t requests_;
};

}  // namespace mneme::node
