// How a suspect replica comes back into good standing (raft.h; "Protocol-aware recovery for consensus-based storage").
//
// The suspect asks its leader (kRestore). The leader notes how far its log reaches and first proves by a read round
// that it still leads. It must: the suspect may have lost the memory of a later term, in which it acknowledged entries
// to another leader, and could make nobody wiser about that. The majority that answers the round without it has a
// member in common with any majority that it was part of, and that member would not have answered.
#include <utility>

#include "core/base/hash.h"
#include "core/raft/state.h"

namespace mneme::raft {

void on_restore(Core& c, const Message& m) {
  Progress* p = c.role == Role::kLeader ? c.peer(m.from) : nullptr;
  if (!p) return;
  p->heard = c.now;
  for (PendingRestore& restore : c.restores) {
    if (restore.suspect != m.from) continue;
    if (restore.nonce == m.round) return;  // on its way already
    restore = c.restores.back();
    c.restores.pop_back();
    break;
  }
  c.restores.push_back({m.from, m.round, 0, c.log.last_position()});
  // It may lack what it has acknowledged in an earlier life: begin again where its log ends now.
  p->match = {};
  if (p->flow != Flow::kSnapshot) {
    p->probe_from(std::min(c.log.last(), m.log.index).next());
    c.flush_due = true;
  }
}

void answer_restores(Core& c, uint64_t confirmed_round) {
  auto is_proved = [&](const PendingRestore& r) { return r.round != 0 && r.round <= confirmed_round; };
  for (const PendingRestore& restore : c.restores) {
    if (!is_proved(restore)) continue;
    Message m = message_to(c, restore.suspect, MessageType::kRestoreReply);
    m.log = restore.last;
    m.round = restore.nonce;
    send(c, std::move(m));
  }
  std::erase_if(c.restores, is_proved);
}

void ask_restore(Core& c) {
  if (!c.suspect || c.restore.target || c.clear_due || c.clear_handed_out) return;
  if (!c.restore.asked) {
    // The time is part of the cause so that the next life, perhaps in the same term, draws another.
    uint64_t cause = fold(c.hard.term.value, static_cast<uint64_t>(c.now.ns));
    c.restore.nonce = c.chance.draw(Site::kRestoreNonce, c.config.id.value, cause);
    c.restore.asked = true;
  } else if (c.now - c.restore.asked_at < c.config.heartbeat_interval / 2) {
    return;  // heartbeats of read rounds come fast, the answer's own among them
  }
  c.restore.asked_at = c.now;
  Message m = message_to(c, c.leader, MessageType::kRestore);
  m.log = c.log.last_position();
  m.round = c.restore.nonce;
  send_reply(c, std::move(m));
}

void on_restore_reply(Core& c, const Message& m) {
  if (c.role != Role::kFollower || c.leader != m.from || !c.restore.asked || c.restore.nonce != m.round) return;
  c.restore.target = m.log.index;
  finish_restore_if_equal(c);
}

void finish_restore_if_equal(Core& c) {
  if (!c.suspect || !c.restore.target || c.clear_due || c.clear_handed_out) return;
  LogIndex target = *c.restore.target;
  if (c.verified < target || c.log.persisted() < target || c.hard_durable.term != c.hard.term) return;
  c.probes.reached(Probe::suspect_restored_by_leader);
  c.clear_due = true;
}

}  // namespace mneme::raft
