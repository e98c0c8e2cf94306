// The follower's side of replication (Raft 5.3).
#include <utility>

#include "core/raft/state.h"

namespace mneme::raft {

namespace {

bool entries_make_sense(const Message& m) {
  LogPosition previous = m.log;
  for (const Entry& entry : m.entries) {
    if (entry.index != previous.index.next() || entry.term < previous.term || !entry.term || entry.term > m.term)
      return false;
    if (entry.kind == EntryKind::kConfig && (!entry.payload || !decode_configuration(*entry.payload))) return false;
    previous = {entry.index, entry.term};
  }
  return true;
}

void reject(Core& c, const Message& m) {
  c.probes.reached(Probe::append_rejected);
  Message reply = message_to(c, m.from, MessageType::kAppendReply);
  reply.reject = true;
  reply.log = m.log;
  reply.hint = c.log.last_with_term_at_most(m.log.index, m.log.term);
  reply.round = m.round;
  send_reply(c, std::move(reply));
}

}  // namespace

void acknowledge(Core& c, const Message& m, LogPosition upto) {
  c.verified = std::max(c.verified, upto.index);
  finish_restore_if_equal(c);
  Message reply = message_to(c, m.from, MessageType::kAppendReply);
  reply.suspect = c.suspect;
  reply.log = upto;
  reply.round = m.round;
  // Acknowledgements of one Ready leave together, and the last says all that those before it do.
  auto& waiting = c.out.messages_after_persist;
  if (!waiting.empty()) {
    Message& last = waiting.back();
    if (last.type == reply.type && last.to == reply.to && last.term == reply.term && !last.reject &&
        last.suspect == reply.suspect && last.log.index <= reply.log.index && last.round <= reply.round) {
      last = std::move(reply);
      return;
    }
  }
  send_after_persist(c, std::move(reply));
}

void on_append(Core& c, Message& m) {
  if (!entries_make_sense(m) || !follow(c, m.from)) return;
  c.leader_round = std::max(c.leader_round, m.round);
  if (!c.restore.asked) ask_restore(c);

  LogIndex tail(m.log.index.value + m.entries.size());
  size_t i = 0;
  if (m.log.index < c.commit) {
    // What is committed here is in every later leader's log (Raft 5.4.3), and may be forgotten already: not compared.
    if (tail <= c.commit) return acknowledge(c, m, {c.commit, *c.log.term_at(c.commit)});
    i = c.commit.value - m.log.index.value;
    if (m.entries[i - 1].term != c.log.term_at(c.commit)) return;  // contradicts what is committed
  } else if (!c.log.holds(m.log)) {
    return reject(c, m);
  }

  while (i < m.entries.size() && c.log.term_at(m.entries[i].index) == m.entries[i].term) ++i;
  if (i < m.entries.size() && m.entries[i].index <= c.log.last()) {
    if (m.entries[i].index <= std::max(c.commit, c.verified)) return;  // contradicts its own leader
    c.probes.reached(Probe::uncommitted_overwritten);
    truncate_from(c, m.entries[i].index);
  }
  LogPosition end = m.entries.empty() ? m.log : LogPosition{m.entries.back().index, m.entries.back().term};
  for (; i < m.entries.size(); ++i) append_entry(c, std::move(m.entries[i]));
  raise_commit(c, std::min(m.commit, tail));
  acknowledge(c, m, end);
}

void on_heartbeat(Core& c, const Message& m) {
  if (!follow(c, m.from)) return;
  const bool fresh = m.round > c.leader_round;
  c.leader_round = std::max(c.leader_round, m.round);
  // The leader speaks of what this replica once acknowledged to it. One in good standing still has that; a suspect may
  // have lost it, and have something else in its place.
  LogIndex known = c.suspect ? c.verified : std::max(c.verified, c.log.persisted());
  if (m.commit <= known) raise_commit(c, m.commit);
  if (m.rest && rest_with_leader(c, m, fresh)) return;
  end_rest(c);               // it is not where the leader rests
  if (m.round == 0) return;  // only told the commit index
  Message reply = message_to(c, m.from, MessageType::kHeartbeatReply);
  reply.round = m.round;
  send_reply(c, std::move(reply));
  ask_restore(c);
}

}  // namespace mneme::raft
