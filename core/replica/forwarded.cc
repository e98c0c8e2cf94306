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

template <class Fn>
void Forwarded::for_each(Fn fn) {
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    Call& call = *next->second;
    ++next;
    fn(call);  // may settle it
  }
}

void Forwarded::lost(NodeId node, const std::function<bool(GroupId)>& has_replica) {
  constexpr std::string_view kLost = "the connection to the leader was lost";
  for_each([&](Call& call) {
    if (call.forwarded_to != node) return;
    if (!call.commands.writes())
      call.settle(Outcome::kNotDone, kLost);
    else if (!has_replica(call.forwarded_in))
      call.settle(Outcome::kUnknown, kLost);
    else
      call.cut_off = true;
  });
}

void Forwarded::outlived(GroupId group, Term term) {
  for_each([&](Call& call) {
    if (call.cut_off && call.forwarded_in == group && call.forwarded_at < term)
      call.settle(Outcome::kUnknown, "the leader that was asked is one no more");
  });
}

}  // namespace mneme::replica
