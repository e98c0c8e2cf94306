// Changes of membership (Raft section 6, thesis 4.3) and leadership transfer (thesis 3.10).
//
// A leader begins a change only when the last one is committed and so is an entry of its own term. A change of voters
// is joint, and needs a majority of the voters before it, so that two rival ones could not both commit anyway; the
// second condition is what a change of one server at a time rests on (the bug of the thesis), and is kept as a second
// line of defence. Whoever leads when a joint configuration is committed ends it, once majorities in good standing hold
// it. A leader that is in no half of the final one leads on until that is committed, without counting itself, and then
// leaves, naming the one who is furthest.
#include <utility>

#include "core/raft/state.h"

namespace mneme::raft {

namespace {

// Of the present configuration; those who stay keep what is known about them.
void renew_peers(Core& c) {
  const Configuration& now = c.members.now();
  std::vector<Progress> before = std::exchange(c.peers, {});
  for (ReplicaId id : now.members()) {
    if (id == c.config.id) continue;
    auto known = std::find_if(before.begin(), before.end(), [&](const Progress& p) { return p.id == id; });
    Progress& p = c.peers.emplace_back();
    if (known != before.end()) {
      p = std::move(*known);
    } else {
      p.id = id;
      p.probe_from(c.log.last().next());
      p.heard = c.now;
    }
    p.votes = std::binary_search(now.voters.begin(), now.voters.end(), id);
    p.votes_outgoing = std::binary_search(now.outgoing.begin(), now.outgoing.end(), id);
  }
  const bool alone = c.alone();
  c.heartbeat_at = alone ? kNever : std::min(c.heartbeat_at, c.now + c.config.heartbeat_interval);
  c.check_at = alone ? kNever : std::min(c.check_at, c.now + c.config.election_timeout);
  if (c.transfer.to && !now.votes(c.transfer.to)) c.transfer = {};
  std::erase_if(c.restores, [&](const PendingRestore& r) { return !now.has(r.suspect); });
}

// Who can best take over: by what it holds in good standing, then by when it last answered.
const Progress* heir(const Core& c) {
  const Progress* best = nullptr;
  for (const Progress& p : c.peers)
    if (p.votes && (!best || std::pair(p.sure_match, p.heard) > std::pair(best->sure_match, best->heard))) best = &p;
  return best;
}

// In good standing, not only with all voters' word: a suspect has no vote, so that a configuration in which the others
// are no majority could never elect a leader again, and only a leader restores it.
bool is_held_for_sure(const Core& c) {
  auto sure = [](const Progress& p) { return std::pair(p.sure_match.value, p.sure_match.value); };
  return agreed(c, c.log.persisted().value, sure) >= c.members.index().value;
}

}  // namespace

void append_entry(Core& c, Entry entry) {
  const bool changes = entry.kind == EntryKind::kConfig;
  if (changes) c.members.append(entry.index, decode_configuration(*entry.payload).value());
  c.log.append(std::move(entry));
  if (changes) note_configuration(c);
}

LogPosition append_own(Core& c, EntryKind kind, std::shared_ptr<const std::string> payload) {
  note_activity(c);
  const LogPosition position{c.log.last().next(), c.hard.term};
  if (kind == EntryKind::kData && payload) c.uncommitted_bytes += payload->size();
  append_entry(c, {position.term, position.index, kind, std::move(payload)});
  c.flush_due = true;
  return position;
}

void truncate_from(Core& c, LogIndex index) {
  c.log.truncate_from(index);
  if (!c.members.truncate_from(index)) return;
  c.probes.reached(Probe::configuration_rolled_back);
  note_configuration(c);
}

void restart_at(Core& c, LogPosition position, Configuration configuration) {
  c.log.restart_at(position, c.commit);
  c.members.restart_at(position.index, std::move(configuration));
  note_configuration(c);
}

void note_configuration(Core& c) {
  const Configuration& now = c.members.now();
  c.votes = std::binary_search(now.voters.begin(), now.voters.end(), c.config.id);
  c.votes_outgoing = std::binary_search(now.outgoing.begin(), now.outgoing.end(), c.config.id);
  if (c.role != Role::kLeader) return;
  renew_peers(c);
  settle_rounds(c);  // whoever was still to answer may not be asked any more
}

void settle_configuration(Core& c) {
  if (c.members.index() > c.commit || !c.committed_in_term) return;
  const Configuration& now = c.members.now();
  if ((now.joint() || !c.votes) && !is_held_for_sure(c)) return;
  if (now.joint()) {
    c.probes.reached(Probe::joint_configuration_left);
    append_own(c, EntryKind::kConfig, std::make_shared<const std::string>(encode(leave_joint(now))));
  } else if (!c.votes) {
    c.probes.reached(Probe::removed_leader_left);
    if (const Progress* next = heir(c)) {
      c.transfer = {next->id, c.now, false};
      send_timeout_now(c);
    }
    become_follower(c, ReplicaId());
  }
}

void send_timeout_now(Core& c) {
  c.transfer.told = true;
  c.lease_forfeited = true;
  c.probes.reached(Probe::leadership_handed_over);
  send(c, message_to(c, c.transfer.to, MessageType::kTimeoutNow));
}

void on_timeout_now(Core& c, const Message& m) {
  if (c.role != Role::kFollower || c.leader != m.from || c.suspect || !may_campaign(c)) return;
  if (c.hard.term.value + 2 >= kMaxNumber) return;
  c.transferred = true;
  start_election(c);
}

Result<LogPosition> begin_change(Core& c, const Change& change) {
  if (c.role != Role::kLeader) return fail(ErrorCode::kUnavailable, "this replica does not lead");
  if (c.transfer.to) return fail(ErrorCode::kUnavailable, "leadership is being handed over");
  if (c.members.now().joint() || c.members.index() > c.commit) {
    c.probes.reached(Probe::second_change_refused);
    return fail(ErrorCode::kUnavailable, "another change of membership is under way");
  }
  if (!c.committed_in_term) {
    c.probes.reached(Probe::change_before_commit_refused);
    return fail(ErrorCode::kUnavailable, "this leader has not committed anything yet");
  }
  const Configuration next = TRY(after_change(c.members.now(), change));
  if (next.joint()) c.probes.reached(Probe::joint_configuration_entered);
  return append_own(c, EntryKind::kConfig, std::make_shared<const std::string>(encode(next)));
}

Result<void> begin_transfer(Core& c, ReplicaId to) {
  if (c.role != Role::kLeader) return fail(ErrorCode::kUnavailable, "this replica does not lead");
  if (c.transfer.to) return fail(ErrorCode::kUnavailable, "leadership is being handed over already");
  const Progress* p = to ? c.peer(to) : heir(c);
  if (!p || !p->votes) return fail(ErrorCode::kInvalid, "leadership can only be handed to another voter");
  note_activity(c);
  c.transfer = {p->id, c.now + c.config.election_timeout, false};
  if (p->sure_match == c.log.last()) send_timeout_now(c);
  return {};
}

}  // namespace mneme::raft
