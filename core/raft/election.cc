// Elections (Raft 5.2, 5.4.1), pre-vote and leader stickiness (thesis 9.6, 4.2.3). A suspect (raft.h) neither stands
// nor votes.
#include <utility>

#include "core/raft/state.h"

namespace mneme::raft {

namespace {

Tally tally(const Core& c, const std::vector<ReplicaId>& voters) {
  Tally t{.voters = voters.size()};
  for (const Ballot& b : c.ballots) {
    if (!std::binary_search(voters.begin(), voters.end(), b.voter)) continue;
    if (b.answer == Answer::kGranted) ++t.granted;
    if (b.answer == Answer::kRefused) ++t.refused;
  }
  return t;
}

// A joint configuration needs a majority of each half (Raft section 6).
bool has_won(const Core& c) {
  const Configuration& now = c.members.now();
  return tally(c, now.voters).won() && (!now.joint() || tally(c, now.outgoing).won());
}

bool has_lost(const Core& c) {
  const Configuration& now = c.members.now();
  return tally(c, now.voters).lost() || (now.joint() && tally(c, now.outgoing).lost());
}

// The first answer counts.
void count(Core& c, ReplicaId voter, Answer answer) {
  for (Ballot& b : c.ballots)
    if (b.voter == voter && b.answer == Answer::kNone) b.answer = answer;
}

void hand_out_ballots(Core& c) {
  c.ballots.clear();
  for (ReplicaId voter : c.members.now().electorate()) c.ballots.push_back({voter});
}

bool is_at_least_as_recent(LogPosition candidate, LogPosition own) {
  return candidate.term != own.term ? candidate.term > own.term : candidate.index >= own.index;
}

void ask_for_pre_votes(Core& c) {
  for (ReplicaId voter : c.members.now().electorate()) {
    if (voter == c.config.id) continue;
    Message m = message_to(c, voter, MessageType::kPreVote);
    m.term = c.hard.term.next();
    m.log = c.log.last_position();
    send(c, std::move(m));  // binds nobody, so nothing need be durable
  }
}

void decide(Core& c) {
  if (has_won(c)) {
    if (c.role == Role::kPreCandidate) return start_election(c);
    return start_leading(c);
  }
  // A pre-candidate waits for its timer: refusals are not sent to it.
  if (c.role == Role::kCandidate && has_lost(c)) become_follower(c, ReplicaId());
}

}  // namespace

void start_election(Core& c) {
  const bool transferred = c.transferred;
  enter_term(c, c.hard.term.next());
  c.role = Role::kCandidate;
  c.hard.vote = c.config.id;
  rearm_election_timer(c);
  hand_out_ballots(c);
  // Not before the own vote is durable: after a crash this replica could otherwise vote for another in the same term.
  // Nor before the log is that the request boasts of: a shorter one could win in the next life with votes given to this
  // one.
  for (const Ballot& ballot : c.ballots) {
    if (ballot.voter == c.config.id) continue;
    Message m = message_to(c, ballot.voter, MessageType::kVote);
    m.log = c.log.last_position();
    m.transfer = transferred;
    send_after_persist(c, std::move(m));
  }
}

void draw_patience(Core& c) {
  uint64_t cause = (c.hard.term.value << 16) + (c.attempt & 0xffff);
  Duration extra = c.chance.draw_below(c.config.election_timeout, Site::kElectionTimeout, c.config.id.value, cause);
  c.patience = c.config.election_timeout + extra;
  if (c.chance.rarely(Site::kHastyElection, cause)) c.patience = extra / 8;
}

void rearm_election_timer(Core& c) {
  draw_patience(c);
  c.election_at = c.now + c.patience;
}

// Drawn apart from the patience of the same attempt: the others are told of the same thing at about the same time.
void stand_soon(Core& c) {
  const uint64_t cause = (c.hard.term.value << 16) + (++c.attempt & 0xffff);
  const Duration delay = c.config.heartbeat_interval / 2;
  c.election_at =
      std::min(c.election_at, c.now + c.chance.draw_below(delay, Site::kElectionTimeout, c.config.id.value, cause));
}

// Also a voter that is being removed, until it knows that this is committed: the others may need what only its log has
// (thesis 4.2.2).
bool may_campaign(const Core& c) {
  if (c.votes || c.votes_outgoing) return true;
  return c.members.index() > c.commit && c.members.at(c.members.index().prev()).votes(c.config.id);
}

bool leader_is_fresh(const Core& c) {
  if (c.resting) return true;                // its owner sees to it that the leader's node is not a dead one
  if (c.role == Role::kLeader) return true;  // check-quorum does
  return c.leader && c.now - c.leader_heard < c.config.election_timeout;
}

void start_pre_vote(Core& c) {
  note_activity(c);
  if (c.suspect || !may_campaign(c)) {
    // A leader that rests would not find it: this asks for no vote that counts, but wakes.
    const bool asks = c.config.may_rest && c.members.now().has(c.config.id);
    if (asks) ++c.attempt;
    rearm_election_timer(c);
    return asks ? ask_for_pre_votes(c) : void();
  }
  if (is_bound(c)) {
    c.election_at = c.leader_heard + c.config.election_timeout;
    return;
  }
  if (c.role == Role::kCandidate) c.probes.reached(Probe::election_lost);
  if (c.hard.term.value + 2 >= kMaxNumber) return;
  c.role = Role::kPreCandidate;
  c.leader = {};
  fail_reads(c);
  ++c.attempt;
  rearm_election_timer(c);
  hand_out_ballots(c);
  count(c, c.config.id, Answer::kGranted);
  if (has_won(c)) return start_election(c);
  ask_for_pre_votes(c);
}

bool follow(Core& c, ReplicaId from) {
  if (c.role == Role::kLeader) return false;
  if (c.term_leader && c.term_leader != from) return false;
  if (c.role != Role::kFollower) become_follower(c, from);
  c.leader = c.term_leader = from;
  c.leader_heard = c.now;
  c.election_at = c.now + c.patience;
  return true;
}

void on_pre_vote(Core& c, const Message& m) {
  Message reply = message_to(c, m.from, MessageType::kPreVoteReply);
  if (m.term <= c.hard.term) {  // it is behind and must learn the term
    reply.reject = true;
    return send_reply(c, std::move(reply));
  }
  if (c.suspect) return c.probes.reached(Probe::suspect_did_not_vote);
  if (leader_is_fresh(c) || is_bound(c)) return c.probes.reached(Probe::pre_vote_refused);
  if (!is_at_least_as_recent(m.log, c.log.last_position())) return;
  reply.term = m.term;
  send(c, std::move(reply));
}

void on_vote(Core& c, const Message& m) {
  Message reply = message_to(c, m.from, MessageType::kVoteReply);
  bool free = c.hard.vote ? c.hard.vote == m.from : !c.leader;
  if (c.suspect || !free || (is_bound(c) && !m.transfer) || !is_at_least_as_recent(m.log, c.log.last_position())) {
    reply.reject = true;
    return send_reply(c, std::move(reply));
  }
  if (c.role != Role::kFollower) become_follower(c, ReplicaId());
  c.probes.reached(Probe::vote_given);
  c.hard.vote = m.from;
  c.election_at = c.now + c.patience;
  send_after_persist(c, std::move(reply));
}

void on_vote_reply(Core& c, const Message& m) {
  bool pre = m.type == MessageType::kPreVoteReply;
  if (c.role != (pre ? Role::kPreCandidate : Role::kCandidate)) return;
  if (m.term != (pre ? c.hard.term.next() : c.hard.term)) return;
  if (pre && m.reject) return;
  count(c, m.from, m.reject ? Answer::kRefused : Answer::kGranted);
  decide(c);
}

void count_own_vote(Core& c) {
  if (c.role != Role::kCandidate || c.hard_durable != c.hard) return;
  count(c, c.config.id, Answer::kGranted);
  decide(c);
}

}  // namespace mneme::raft
