#include "core/node/router.h"

namespace mneme::node {

using replica::Outcome;

namespace {
constexpr Duration kPause = 5ms;  // before asking again where the answer was "not me"
}

Router::Router(Env& env, const Config& config, const Identity& identity, replica::Replica& replica, Peers& peers)
    : env_(env),
      config_(config),
      identity_(identity),
      replica_(replica),
      peers_(peers),
      // A new process must not use its predecessor's numbers: entries of both may be in the log.
      requests_(env.random.draw(Site::kRequestNumbers, identity.node.value, 0)) {}

kv::Origin Router::next_origin() {
  if (++requests_ == 0) ++requests_;
  return {identity_.node, identity_.incarnation, requests_};
}

void Router::attempt(replica::Call& call, Instant deadline) {
  const NodeId leader = replica_.raft().leader().node();
  call.forwarded_to = NodeId();
  if (leader == identity_.node) {
    if (call.commands.writes())
      replica_.propose(call);
    else
      replica_.read(call);
  } else if (!leader) {
    call.reason = "no leader is known";
    auto waited = fiber::with_deadline(env_.scheduler, env_.clock.timers(), deadline, [&]() -> Result<void> {
      replica_.wait_for_leader_change();
      return {};
    });
    call.settle(Outcome::kNotDone, "no leader is known");
    return;
  } else if (!peers_.forward(leader, call)) {
    call.settle(Outcome::kNotDone, "the leader cannot be reached");
  }
  auto waited = fiber::with_deadline(env_.scheduler, env_.clock.timers(), deadline, [&]() -> Result<void> {
    call.wait();
    return {};
  });
  if (!waited) {
    if (call.commands.writes())
      call.settle(Outcome::kUnknown, "no answer in time");
    else
      call.settle(Outcome::kNotDone, "no answer in time");
  }
}

Outcome Router::execute(const kv::Origin& origin, const replica::CommandList& commands, replica::ReplySet& replies,
                        std::string& reason) {
  const Instant deadline = env_.clock.now() + config_.request_timeout;
  replica::Call call(env_.scheduler, origin, commands);
  for (;;) {
    attempt(call, deadline);
    if (call.outcome != Outcome::kNotDone || env_.clock.now() + kPause >= deadline) break;
    env_.clock.sleep_for(env_.scheduler, kPause);
    call.reset();
  }
  if (call.outcome == Outcome::kUnknown) env_.trace.reached(Probe::outcome_unknown);
  replies = std::move(call.replies);
  reason = std::move(call.reason);
  return call.outcome;
}

}  // namespace mneme::node
