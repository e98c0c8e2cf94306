#include "core/replica/forwarded.h"

namespace mneme::replica {

Call* Forwarded::find(const kv::Origin& origin) const {
  if (waiting_.empty()) return nullptr;
  auto found = waiting_.find(origin.request);
  return found != waiting_.end() && found->second->origin == origin ? found->second : nullptr;
}

void Forwarded::answered(uint64_t request, Outcome outcome, ReplySet replies, std::string_view reason, NodeId leader) {
  auto found = waiting_.find(request);
  if (found == waiting_.end()) return;
  Call& call = *found->second;
  call.replies = std::move(replies);
  call.leader = leader;
  call.settle(outcome, reason);
}

void Forwarded::lost(NodeId node) {
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    Call* call = next->second;
    ++next;
    if (call->forwarded_to == node && !call->commands.writes())
      call->settle(Outcome::kNotDone, "the connection to the leader was lost");
  }
}

}  // namespace mneme::replica
