// Batches that this node sent to other nodes and that wait for their outcome there, by request number.
//
// The answer comes from the node asked, or, where this node has a replica of the group too, from applying the entry
// here, whichever is first: so an outcome is known although the connection broke. Where neither can come any more, it
// is not waited for.
#pragma once

#include <functional>
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
  // The connection to `node` broke: reads sent there are settled with kNotDone. Of writes nothing is known; where this
  // node has no replica of the group nothing more will be.
  void lost(NodeId node, const std::function<bool(GroupId)>& has_replica);
  // A replica here has applied an entry of `term`: what was sent to the leader of an earlier one, and did not come to
  // be applied before it, would have to be proposed anew.
  void outlived(GroupId group, Term term);

 private:
  template <class Fn>
  void for_each(Fn fn);
  void forget(Call& call) override { waiting_.erase(call.key_a); }

  std::map<uint64_t, Call*> waiting_;
};

}  // namespace mneme::replica
