// Batches that this node sent to other nodes and that wait for their outcome there, by request number.
//
// The answer comes from the node asked, or, where this node has a replica of the group too, from applying the entry
// here, whichever is first: so an outcome is known although the connection broke.
#pragma once

#include <map>

#include "core/replica/call.h"

namespace mneme::replica {

class Forwarded final : private Call::Register {
 public:
  // Settles `call` with what becomes of it. Undone when it is settled.
  void watch(Call& call) {
    waiting_[call.origin.request] = &call;
    call.registered(*this, call.origin.request, 0);
  }
  // Null when nobody here waits for that batch.
  Call* find(const kv::Origin& origin) const;

  // The answer of the node that was asked; ignored when the call is settled already. `leader`: whom it takes for the
  // leader, 0: it does not know.
  void answered(uint64_t request, Outcome outcome, ReplySet replies, std::string_view reason, NodeId leader);
  // The connection to `node` broke: reads sent there are settled with kNotDone; of writes nothing is known yet.
  void lost(NodeId node);

 private:
  void forget(Call& call) override { waiting_.erase(call.key_a); }

  std::map<uint64_t, Call*> waiting_;
};

}  // namespace mneme::replica
