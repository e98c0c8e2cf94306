// Groups that have nothing to do fall silent (raft.h; after CockroachDB's quiescence and TiKV's hibernate regions).
//
// The leader rests when it has said so; nobody confirms. Who did not hear it, or is not exactly where the leader is,
// stays awake: it answers the heartbeat, or its election timer runs out and it asks for pre-votes, and either wakes the
// leader, whose heartbeats then find it. A resting follower that is asked for a pre-vote wakes too but refuses, as one
// that hears its leader does; if the leader is gone for real, the follower's own timer runs from there.
//
// Each rest has a round of its own, and a follower takes part only in one that is newer than all it has heard from this
// leader. So a heartbeat of rest that comes late, or twice, does not put to sleep whom something newer has woken.
#include "core/raft/state.h"

namespace mneme::raft {

namespace {

// Timed heartbeats in a row that must find nothing to do. A few, so that a group with a little to do now and then does
// not pay for waking each time.
constexpr int kIdleHeartbeats = 3;

bool is_in_step(const Core& c, const Progress& p) {
  return p.match == c.log.last() && p.sure_match == c.log.last() && p.flow != Flow::kSnapshot && p.inflight() == 0 &&
         !p.suspect && !p.owes_check;
}

// All that this replica itself has is durable and committed, and it waits for nobody.
bool is_settled(const Core& c) {
  return c.commit == c.log.last() && c.log.persisted() == c.log.last() && c.hard_durable == c.hard && !c.suspect &&
         c.unstored.empty() && !reads_open(c);
}

bool is_idle(const Core& c) {
  return is_settled(c) && c.applied == c.commit && c.committed_in_term && c.votes && !c.members.now().joint() &&
         !c.transfer.to && !c.flush_due &&
         std::all_of(c.peers.begin(), c.peers.end(), [&](const Progress& p) { return is_in_step(c, p); });
}

void begin_rest(Core& c) {
  c.probes.reached(c.role == Role::kLeader ? Probe::leader_rested : Probe::follower_rested);
  c.resting = true;
}

}  // namespace

bool rest_if_idle(Core& c) {
  if (!c.config.may_rest) return false;
  if (!is_idle(c)) {
    c.idle_heartbeats = 0;
    return false;
  }
  if (++c.idle_heartbeats <= kIdleHeartbeats) return false;
  next_round(c);
  for (Progress& p : c.peers) {
    Message m = message_to(c, p.id, MessageType::kHeartbeat);
    m.rest = true;
    m.log = c.log.last_position();
    m.commit = c.commit;
    m.round = c.round;
    p.commit_told = c.commit;
    send(c, std::move(m));
  }
  begin_rest(c);
  return true;
}

bool rest_with_leader(Core& c, const Message& m, bool fresh) {
  if (!c.config.may_rest || !(fresh || c.resting)) return false;
  if (m.log != c.log.last_position() || m.commit != m.log.index || !is_settled(c)) return false;
  if (!c.resting) begin_rest(c);
  return true;
}

void note_activity(Core& c) {
  c.idle_heartbeats = 0;
  if (!c.resting) return;
  c.probes.reached(Probe::rest_ended);
  c.resting = false;
  if (c.role == Role::kLeader) {
    for (Progress& p : c.peers) p.heard = c.now;
    c.heartbeat_at = c.now + c.config.heartbeat_interval;
    c.check_at = c.now + c.config.election_timeout;
  } else {
    c.leader_heard = c.now;
    c.election_at = c.now + c.patience;
  }
}

void end_rest(Core& c) {
  if (!c.resting) return;
  note_activity(c);
  if (c.role == Role::kLeader) send_timed_heartbeats(c);
}

}  // namespace mneme::raft
