// The leader's side of replication (Raft 5.3, 5.4.2; flow control after etcd-io/raft) and check-quorum (thesis 6.2).
//
// Nothing is sent per proposal: what is due to a follower is worked out when a Ready is taken, so that all proposals
// between two Readys share a message. A new commit index rides on the next append; if nothing is on the way to a
// follower, a heartbeat of round 0 tells it at once. That one is not answered: it costs one small message per follower
// and commit on an otherwise idle group, and nothing on a busy one.
#include <utility>

#include "core/raft/codec.h"
#include "core/raft/state.h"

namespace mneme::raft {

namespace {

bool must_tell_commit(const Core& c, const Progress& p) {
  return p.flow == Flow::kReplicate && p.next > c.log.last() && p.inflight() == 0 &&
         p.commit_told < std::min(c.commit, p.match);
}

bool can_append(const Core& c, const Progress& p) {
  switch (p.flow) {
    // Also with nothing to send, to one that has said how far it is as a suspect only.
    case Flow::kProbe: return !p.paused && (p.match < c.log.last() || (!p.suspect && p.sure_match < p.match));
    case Flow::kReplicate: return p.next <= c.log.last() && p.inflight() < c.config.max_inflight_appends;
    case Flow::kSnapshot: return false;
  }
  return false;
}

Message append_message(const Core& c, const Progress& p, LogPosition after) {
  Message m = message_to(c, p.id, MessageType::kAppend);
  m.log = after;
  m.commit = c.commit;
  m.round = c.round;
  return m;
}

void send_heartbeat(Core& c, Progress& p, uint64_t round) {
  Message m = message_to(c, p.id, MessageType::kHeartbeat);
  m.commit = std::min(c.commit, p.match);
  m.round = round;
  p.commit_told = std::max(p.commit_told, m.commit);
  send(c, std::move(m));
}

// How many entries from `from` on go into one message: at least one if there is one.
size_t entries_that_fit(Core& c, const Progress& p, LogIndex from) {
  size_t count = 0;
  size_t bytes = 0;
  for (LogIndex i = from; i <= c.log.last(); i = i.next()) {
    bytes += encoded_size(c.log.at(i));
    if (count > 0 && bytes > c.config.max_append_bytes) break;
    ++count;
  }
  if (count > 1 && c.chance.rarely(Site::kSmallAppend, (p.id.value << 48) ^ from.value)) count = 1;
  return count;
}

// To one that is being probed only as the first thing: a follower that is further than the checkpoint refuses it, and
// is probed then.
bool may_send_snapshot_early(Core& c, const Progress& p) {
  if (p.flow == Flow::kProbe && !p.first_probe) return false;
  return c.checkpoint.index > p.match && c.checkpoint.index >= c.log.base().index &&
         c.chance.rarely(p.flow == Flow::kProbe ? Site::kSnapshotFirst : Site::kEarlySnapshot,
                         (p.id.value << 48) ^ p.next.value);
}

void send_append(Core& c, Progress& p) {
  LogIndex before = p.next.prev();
  std::optional<Term> term = c.log.term_at(before);
  const bool early = term && may_send_snapshot_early(c, p);
  p.first_probe = false;
  if (!term || early) return send_snapshot(c, p);
  Message m = append_message(c, p, {before, *term});
  size_t count = entries_that_fit(c, p, p.next);
  m.entries.reserve(count);
  LogIndex tail(before.value + count);
  for (LogIndex i = p.next; i <= tail; i = i.next()) m.entries.push_back(c.log.at(i));
  p.commit_told = std::max(p.commit_told, std::min(c.commit, tail));
  if (p.flow == Flow::kProbe) {
    p.paused = true;
  } else {
    p.next = tail.next();
    p.sent_upto(tail, c.config.max_inflight_appends);
  }
  send(c, std::move(m));
}

// A follower in good standing refuses to append after what it has acknowledged. Either this is an old message, or its
// disk has gone back to an earlier state without its knowledge (a copy restored, a flush that was none). One that has
// what it acknowledged accepts an append after it, so it is asked again: if it refuses something that was sent since
// and match has not risen, its word is void. A round marks what was sent since.
bool has_forgotten(Core& c, Progress& p, const Message& m) {
  if (p.doubt_round != 0) return m.round >= p.doubt_round;
  std::optional<Term> term = c.log.term_at(p.match);
  if (!term) return false;  // what follows is forgotten here too: it will be sent a snapshot
  next_round(c);
  p.doubt_round = c.round;
  send_empty_append(c, p, {p.match, *term});
  return false;
}

void on_rejected(Core& c, Progress& p, const Message& m) {
  if (p.flow == Flow::kSnapshot) return;  // it has not got the snapshot yet
  if (m.log.index <= p.match) {
    // Only a replica that lost part of its log can lack what it acknowledged. A suspect knows that it did.
    if (!m.suspect) {
      if (!has_forgotten(c, p, m)) return;
      c.probes.reached(Probe::acknowledged_entries_missing);
      p.sure_match = {};
      p.doubt_round = 0;
      p.probe_from(m.log.index.next());
    }
    p.match = {};
  }
  if (p.flow == Flow::kProbe && m.log.index != p.next.prev()) return;  // answers an earlier probe
  // A whole term of ours that it cannot have is skipped at once (Raft 5.3, end).
  LogIndex shared = c.log.last_with_term_at_most(m.hint.index, m.hint.term).index;
  p.probe_from(std::max(p.match.next(), std::min(m.log.index, shared.next())));
  c.flush_due = true;
}

void check_quorum(Core& c) {
  auto when = [](Instant t) { return static_cast<uint64_t>(std::max<int64_t>(t.ns, 0)); };
  auto heard = [&](const Progress& p) { return std::pair(when(p.heard), when(p.heard)); };
  Instant quorum_heard{static_cast<int64_t>(agreed(c, when(c.now), heard))};
  c.check_at = quorum_heard + c.config.election_timeout;
  if (c.check_at > c.now) return;
  c.probes.reached(Probe::check_quorum_stepped_down);
  become_follower(c, ReplicaId());
}

}  // namespace

void send_empty_append(Core& c, Progress& p, LogPosition after) { send(c, append_message(c, p, after)); }

void start_leading(Core& c) {
  CHECK(c.role == Role::kCandidate);
  c.probes.reached(Probe::election_won);
  c.role = Role::kLeader;
  c.leader = c.term_leader = c.config.id;
  c.heartbeat_at = c.check_at = kNever;
  c.lease_forfeited = false;
  note_configuration(c);
  revoke_lease(c);
  // The group's first leader writes down whom it began with, so that a log tells everything to those who join.
  if (c.members.index())
    append_own(c, EntryKind::kNoop, nullptr);
  else
    append_own(c, EntryKind::kConfig, std::make_shared<const std::string>(encode(c.members.now())));
}

void advance_commit(Core& c) {
  auto stored = [](const Progress& p) { return std::pair(p.sure_match.value, p.match.value); };
  LogIndex index(agreed(c, c.log.persisted().value, stored));
  if (index <= c.commit) return settle_configuration(c);
  if (c.log.term_at(index) != c.hard.term) {
    c.probes.reached(Probe::old_term_entry_not_counted);
    return;
  }
  raise_commit(c, index);
  c.flush_due = true;
  settle_configuration(c);
}

void on_append_reply(Core& c, const Message& m) {
  Progress* p = c.role == Role::kLeader ? c.peer(m.from) : nullptr;
  if (!p) return;
  p->heard = c.now;
  p->suspect = m.suspect;
  on_round_answered(c, *p, m);
  if (m.reject) return on_rejected(c, *p, m);
  std::optional<Term> term = c.log.term_at(m.log.index);
  if (m.log.index > c.log.last() || (term && *term != m.log.term)) return;  // not an entry of ours

  bool news = m.log.index > p->match || (!m.suspect && m.log.index > p->sure_match);
  if (m.log.index > p->match) p->doubt_round = 0;
  p->match = std::max(p->match, m.log.index);
  if (!m.suspect) p->sure_match = std::max(p->sure_match, m.log.index);
  p->answered_upto(m.log.index);
  if (p->flow == Flow::kProbe || (p->flow == Flow::kSnapshot && p->match >= p->snapshot.index)) p->replicate();
  p->next = std::max(p->next, p->match.next());
  if (c.transfer.to == p->id && !c.transfer.told && p->sure_match == c.log.last()) send_timeout_now(c);
  if (news) {
    advance_commit(c);
    if (!(p = c.role == Role::kLeader ? c.peer(m.from) : nullptr)) return;  // changed with the configuration
  }
  if (can_append(c, *p) || must_tell_commit(c, *p)) c.flush_due = true;
}

void on_heartbeat_reply(Core& c, const Message& m) {
  Progress* p = c.role == Role::kLeader ? c.peer(m.from) : nullptr;
  if (!p) return;
  p->heard = c.now;
  p->suspect = m.suspect;
  on_round_answered(c, *p, m);
  if (!p->owes_check) return;
  p->owes_check = false;
  switch (p->flow) {
    case Flow::kProbe:
      p->paused = false;
      if (can_append(c, *p)) c.flush_due = true;
      break;
    case Flow::kReplicate:
      // It has answered a heartbeat that was sent after entries which it has not acknowledged: either they are on their
      // way to its disk, or they got lost. An empty append asks which, unless what it would follow is forgotten here.
      // It also asks one who is restored to say again, in good standing, what it said as a suspect.
      if ((m.suspect ? p->match : p->sure_match) >= p->sent_before_check) break;
      if (std::optional<Term> term = c.log.term_at(p->next.prev())) {
        send_empty_append(c, *p, {p->next.prev(), *term});
      } else {
        p->probe_from(p->match.next());
        c.flush_due = true;
      }
      break;
    case Flow::kSnapshot:
      send_empty_append(c, *p, p->snapshot);  // it may be there, with its answer lost
      break;
  }
}

void send_heartbeats(Core& c, bool timed) {
  for (Progress& p : c.peers) {
    send_heartbeat(c, p, c.round);
    if (!timed) continue;
    p.owes_check = true;
    p.sent_before_check = p.next.prev();
  }
}

void send_timed_heartbeats(Core& c) {
  c.heartbeat_at = c.now + c.config.heartbeat_interval;
  if (c.config.lease > Duration::zero()) next_round(c);
  send_heartbeats(c, true);
}

void leader_tick(Core& c) {
  if (c.now >= c.check_at) check_quorum(c);
  if (c.transfer.to && c.now >= c.transfer.until) c.transfer = {};
  if (c.role != Role::kLeader || c.now < c.heartbeat_at) return;
  for (Progress& p : c.peers) {
    if (p.flow != Flow::kSnapshot || c.now - p.snapshot_sent < kSnapshotPatience * c.config.election_timeout) continue;
    p.probe_from(p.match.next());
    p.paused = true;  // and sent again only to a follower that answers
  }
  retry_rounds(c);
  if (!rest_if_idle(c)) send_timed_heartbeats(c);
}

void flush(Core& c) {
  c.flush_due = false;
  for (Progress& p : c.peers) {
    while (can_append(c, p)) send_append(c, p);
    if (must_tell_commit(c, p)) send_heartbeat(c, p, 0);
  }
}

}  // namespace mneme::raft
