// The public face, and what all phases share: queues, terms, the commit index, and the making of Readys.
#include "core/raft/raft.h"

#include <algorithm>
#include <utility>

#include "core/base/limits.h"
#include "core/raft/state.h"

namespace mneme::raft {

namespace {

Config with_defaults(Config config) {
  if (config.max_append_bytes == 0) config.max_append_bytes = limits::kMaxAppendBytes;
  if (config.max_inflight_appends == 0) config.max_inflight_appends = limits::kMaxInflightAppends;
  if (config.max_uncommitted_bytes == 0) config.max_uncommitted_bytes = limits::kMaxUncommittedBytes;
  CHECK(config.id);
  CHECK(config.voters.size() <= limits::kMaxNodes);
  CHECK(std::is_sorted(config.voters.begin(), config.voters.end()));
  for (ReplicaId id : config.voters)
    CHECK(std::count_if(config.voters.begin(), config.voters.end(),
                        [&](ReplicaId v) { return v.node() == id.node(); }) == 1);
  CHECK(config.election_timeout.count() > 0);
  CHECK(config.heartbeat_interval.count() > 0);
  CHECK(config.lease.count() >= 0);
  CHECK(config.lease <= config.election_timeout);
  CHECK(config.drift_ppm < 1'000'000);
  return config;
}

Configuration first_configuration(const Config& config, const Durable& durable) {
  if (!durable.configuration.voters.empty()) return durable.configuration;
  Configuration first;
  first.voters = config.voters;
  for (ReplicaId id : config.voters) first.generation = std::max(first.generation, id.generation());
  return first;
}

// Only from another replica, to this one, with numbers that can be: all else is noise, whoever sent it. It need not be
// a member: this replica may be the one that does not know yet.
bool makes_sense(const Core& c, const Message& m) {
  if (m.to != c.config.id || m.from == c.config.id || !m.from) return false;
  if (m.type < MessageType::kPreVote || m.type > kLastMessageType) return false;
  if (m.type == MessageType::kSnapshot ? m.entries.size() != 1 : m.type != MessageType::kAppend && !m.entries.empty())
    return false;
  return m.term && m.term.value < kMaxNumber && m.log.index.value < kMaxNumber && m.log.term <= m.term &&
         m.hint.index.value < kMaxNumber && m.commit.value < kMaxNumber;
}

bool is_from_leader(MessageType type) {
  return type == MessageType::kAppend || type == MessageType::kHeartbeat || type == MessageType::kSnapshot;
}

// The message is of an earlier term. Dropping it in silence could leave its sender there for good: a leader that this
// replica can no longer follow must learn why.
void answer_old_term(Core& c, const Message& m) {
  Message reply;
  if (is_from_leader(m.type)) {
    reply = message_to(c, m.from, MessageType::kAppendReply);
  } else if (m.type == MessageType::kVote) {
    reply = message_to(c, m.from, MessageType::kVoteReply);
  } else {
    return;
  }
  reply.reject = true;
  reply.log = m.log;
  send_reply(c, std::move(reply));
}

// Ends a rest. Somebody who is no member by what is known here may have been removed; only as a leader it has a say.
bool disturbs(const Core& c, const Message& m) {
  if (m.type == MessageType::kHeartbeat && m.rest) return false;
  return c.members.now().has(m.from) || is_from_leader(m.type);
}

// True if the message is to be handled in the present term.
bool settle_term(Core& c, const Message& m) {
  // Pre-votes and their grants speak of a term that nobody has entered.
  if (m.type == MessageType::kPreVote) return true;
  if (m.type == MessageType::kPreVoteReply && !m.reject) return true;
  if (m.term < c.hard.term) {
    answer_old_term(c, m);
    return false;
  }
  if (m.term == c.hard.term) return true;
  if (m.type == MessageType::kVote && !m.transfer && (leader_is_fresh(c) || is_bound(c))) {
    c.probes.reached(Probe::pre_vote_refused);
    return false;
  }
  become_follower(c, ReplicaId());
  enter_term(c, m.term);
  return true;
}

}  // namespace

struct Raft::State : Core {
  using Core::Core;
};

Core::Core(Config config_in, Durable durable, Instant now_in, Chance& chance_in, Probes& probes_in)
    : config(with_defaults(std::move(config_in))),
      chance(chance_in),
      probes(probes_in),
      now(now_in),
      hard(durable.hard_state),
      hard_handed_out(durable.hard_state),
      hard_durable(durable.hard_state),
      log(durable.snapshot, {}),
      members(durable.configuration.voters.empty() ? LogIndex() : durable.snapshot.index,
              first_configuration(config, durable)),
      commit(std::max(durable.snapshot.index, durable.applied)),
      commit_handed_out(commit),
      applied(commit),
      checkpoint(durable.unsaved ? LogPosition() : durable.snapshot),
      suspect(durable.suspect) {
  for (const Entry& entry : durable.entries)
    if (entry.kind == EntryKind::kConfig) members.append(entry.index, decode_configuration(*entry.payload).value());
  log = Log(durable.snapshot, std::move(durable.entries));
  CHECK(commit <= log.last());
  note_configuration(*this);
  // A damaged tail may have taken the term with it, never the knowledge that the entries themselves carry.
  if (Term last = log.last_position().term; last > hard.term) hard = {last, ReplicaId()};
  leader_heard = durable.newborn ? now - config.election_timeout : now;  // perhaps, in the life before
  rearm_election_timer(*this);
  if (alone()) election_at = now;  // there is nobody to wait for
}

Message message_to(const Core& c, ReplicaId to, MessageType type) {
  Message m;
  m.type = type;
  m.from = c.config.id;
  m.to = to;
  m.term = c.hard.term;
  return m;
}

void send(Core& c, Message m) { c.out.messages.push_back(std::move(m)); }

void send_after_persist(Core& c, Message m) { c.out.messages_after_persist.push_back(std::move(m)); }

void send_reply(Core& c, Message m) {
  m.suspect = c.suspect;
  if (c.hard_durable.term == c.hard.term) {
    send(c, std::move(m));
  } else {
    send_after_persist(c, std::move(m));
  }
}

void enter_term(Core& c, Term term) {
  CHECK(term > c.hard.term);
  c.hard = {term, ReplicaId()};
  // A vote that is overtaken before it was handed out to be made durable never is, so nobody may count it.
  std::erase_if(c.out.messages_after_persist,
                [](const Message& m) { return m.type == MessageType::kVote || m.type == MessageType::kVoteReply; });
  c.leader = {};
  fail_reads(c);
  c.term_leader = {};
  c.leader_round = 0;
  c.verified = {};
  c.restore = {};
  c.attempt = 0;
  c.transferred = false;
  draw_patience(c);
}

void become_follower(Core& c, ReplicaId leader) {
  if (c.role == Role::kCandidate) c.probes.reached(Probe::election_lost);
  note_activity(c);
  if (c.role == Role::kLeader) {
    fail_reads(c);
    c.peers.clear();
    c.transfer = {};
    c.committed_in_term = false;
    c.flush_due = false;
    c.uncommitted_bytes = 0;
    rearm_election_timer(c);
  }
  c.role = Role::kFollower;
  c.leader = leader;
}

void raise_commit(Core& c, LogIndex index) {
  if (index <= c.commit) return;
  CHECK(index <= c.log.last());
  if (c.role == Role::kLeader) {
    for (LogIndex i = c.commit.next(); i <= index; i = i.next()) {
      const Entry& entry = c.log.at(i);
      if (entry.term != c.hard.term) continue;
      c.committed_in_term = true;
      if (entry.kind == EntryKind::kData) c.uncommitted_bytes -= entry.payload_bytes();
    }
  }
  c.commit = index;
}

Raft::Raft(Config config, Durable durable, Instant now, Chance& chance, Probes& probes)
    : state_(std::make_unique<State>(std::move(config), std::move(durable), now, chance, probes)) {}

Raft::~Raft() = default;

void Raft::step(Message m, Instant now) {
  Core& c = *state_;
  c.now = std::max(c.now, now);
  if (!makes_sense(c, m)) return;
  if (c.resting && disturbs(c, m)) end_rest(c);
  if (!settle_term(c, m)) return;
  switch (m.type) {
    case MessageType::kPreVote: return on_pre_vote(c, m);
    case MessageType::kVote: return on_vote(c, m);
    case MessageType::kPreVoteReply:
    case MessageType::kVoteReply: return on_vote_reply(c, m);
    case MessageType::kAppend: return on_append(c, m);
    case MessageType::kAppendReply: return on_append_reply(c, m);
    case MessageType::kHeartbeat: return on_heartbeat(c, m);
    case MessageType::kHeartbeatReply: return on_heartbeat_reply(c, m);
    case MessageType::kSnapshot: return on_snapshot(c, m);
    case MessageType::kRestore: return on_restore(c, m);
    case MessageType::kRestoreReply: return on_restore_reply(c, m);
    case MessageType::kTimeoutNow: return on_timeout_now(c, m);
    case MessageType::kReadIndex: return on_read_index(c, m);
    case MessageType::kReadIndexReply: return on_read_index_reply(c, m);
  }
}

void Raft::tick(Instant now) {
  Core& c = *state_;
  c.now = std::max(c.now, now);
  if (c.resting) return;
  if (c.role == Role::kLeader) return leader_tick(c);
  expire_read_requests(c);
  if (c.now >= c.election_at) start_pre_vote(c);
}

Instant Raft::next_deadline() const {
  const Core& c = *state_;
  if (c.resting) return kNever;
  if (c.role != Role::kLeader) return std::min(c.election_at, read_requests_until(c));
  const Instant at = std::min(c.heartbeat_at, c.check_at);
  return c.transfer.to ? std::min(at, c.transfer.until) : at;
}

void Raft::leader_gone(ReplicaId leader, Instant now) {
  Core& c = *state_;
  c.now = std::max(c.now, now);
  if (c.role != Role::kFollower || !leader || c.leader != leader) return;
  note_activity(c);
  c.leader = {};
  fail_reads(c);
  stand_soon(c);
}

void Raft::campaign(Instant now) {
  Core& c = *state_;
  c.now = std::max(c.now, now);
  if (c.role != Role::kLeader) start_pre_vote(c);
}

void Raft::wake(Instant now) {
  Core& c = *state_;
  c.now = std::max(c.now, now);
  end_rest(c);
}

Result<LogPosition> Raft::propose(std::shared_ptr<const std::string> payload, Instant now) {
  Core& c = *state_;
  c.now = std::max(c.now, now);
  if (c.role != Role::kLeader) return fail(ErrorCode::kUnavailable, "this replica does not lead");
  if (c.transfer.to) return fail(ErrorCode::kUnavailable, "leadership is being handed over");
  size_t bytes = payload ? payload->size() : 0;
  if (c.uncommitted_bytes > 0 && c.uncommitted_bytes + bytes > c.config.max_uncommitted_bytes)
    return fail(ErrorCode::kUnavailable, "too much is proposed and not yet committed");
  return append_own(c, EntryKind::kData, std::move(payload));
}

Result<LogPosition> Raft::propose_change(const Change& change, Instant now) {
  Core& c = *state_;
  c.now = std::max(c.now, now);
  return begin_change(c, change);
}

Result<void> Raft::transfer(ReplicaId to, Instant now) {
  Core& c = *state_;
  c.now = std::max(c.now, now);
  return begin_transfer(c, to);
}

Result<void> Raft::read_index(uint64_t context, Instant now) {
  Core& c = *state_;
  c.now = std::max(c.now, now);
  return ask_read(c, context);
}

void Raft::revoke_lease() { raft::revoke_lease(*state_); }

bool Raft::has_ready() const {
  const Core& c = *state_;
  const Ready& out = c.out;
  return !out.messages.empty() || !out.messages_after_persist.empty() || !out.reads.empty() ||
         !out.failed_reads.empty() || out.snapshot || c.hard != c.hard_handed_out || c.log.has_unstored() ||
         c.clear_due || c.flush_due || c.commit_handed_out < std::min(c.commit, c.log.persisted()) || round_due(c) ||
         request_due(c);
}

Ready Raft::ready() {
  Core& c = *state_;
  if (round_due(c)) begin_round(c);
  if (request_due(c)) send_read_request(c);
  if (c.flush_due) flush(c);

  Ready ready = std::exchange(c.out, Ready{});
  ready.number = ++c.ready_number;
  if (c.hard != c.hard_handed_out) ready.hard_state = c.hard_handed_out = c.hard;
  if (ready.snapshot) c.applied = std::max(c.applied, ready.snapshot->index);
  ready.entries = c.log.hand_out(ready.number);
  if (c.clear_due) {
    ready.clear_suspect = true;
    c.clear_due = false;
    c.clear_handed_out = true;
  }
  if (ready.hard_state || ready.clear_suspect) c.unstored.push_back({ready.number, c.hard, ready.clear_suspect});

  // Applied only when durable here too, so that a checkpoint never covers more than this replica's own log.
  LogIndex upto = std::min(c.commit, c.log.persisted());
  if (upto > c.commit_handed_out) {
    ready.committed.reserve(upto.value - c.commit_handed_out.value);
    while (c.commit_handed_out < upto) {
      c.commit_handed_out = c.commit_handed_out.next();
      ready.committed.push_back(c.log.at(c.commit_handed_out));
    }
  }

  if (ready.needs_persisting()) {
    c.needs_store_number = ready.number;
  } else if (c.stored_number >= c.needs_store_number) {
    // Everything that these depend on is durable already.
    for (Message& m : ready.messages_after_persist) ready.messages.push_back(std::move(m));
    ready.messages_after_persist.clear();
  }
  return ready;
}

void Raft::persisted(uint64_t number) {
  Core& c = *state_;
  CHECK(number <= c.ready_number);
  if (number <= c.stored_number) return;
  c.stored_number = number;
  c.log.stored(number);
  size_t done = 0;
  for (; done < c.unstored.size() && c.unstored[done].number <= number; ++done) {
    c.hard_durable = c.unstored[done].hard;
    if (c.unstored[done].clears_suspect) c.suspect = c.clear_handed_out = false;
  }
  c.unstored.erase(c.unstored.begin(), c.unstored.begin() + static_cast<ptrdiff_t>(done));
  count_own_vote(c);
  finish_restore_if_equal(c);
  if (c.role == Role::kLeader) advance_commit(c);
}

void Raft::applied(LogIndex index) {
  Core& c = *state_;
  CHECK(index <= c.commit_handed_out);
  c.applied = std::max(c.applied, index);
}

void Raft::compact(LogIndex index) {
  Core& c = *state_;
  CHECK(index <= c.applied);
  c.log.compact(index);
  c.members.compact(c.log.base().index);
}

void Raft::checkpoint_available(LogPosition position) {
  Core& c = *state_;
  CHECK(position.index <= c.applied);
  if (position.index > c.checkpoint.index) c.checkpoint = position;
}

void Raft::snapshot_failed(ReplicaId to) {
  if (Progress* p = state_->peer(to); p && p->flow == Flow::kSnapshot) unreachable(to);
}

void Raft::unreachable(ReplicaId to) {
  Progress* p = state_->peer(to);
  if (!p) return;
  // A snapshot may have been installed and only its answer lost, or it was refused by one that is further: asking costs
  // a round trip, sending again all its files.
  p->first_probe = p->flow != Flow::kSnapshot;
  p->probe_from(p->flow == Flow::kSnapshot ? std::max(p->match, p->snapshot.index).next() : p->match.next());
  p->paused = true;  // until a heartbeat is answered: sending to a broken connection at once would only spin
}

ReplicaId Raft::id() const { return state_->config.id; }
Role Raft::role() const { return state_->role; }
Term Raft::term() const { return state_->hard.term; }
ReplicaId Raft::vote() const { return state_->hard.vote; }
HardState Raft::durable_hard_state() const { return state_->hard_durable; }
ReplicaId Raft::leader() const { return state_->leader; }
bool Raft::suspect() const { return state_->suspect; }
LogIndex Raft::commit() const { return state_->commit; }
LogIndex Raft::applied() const { return state_->applied; }
LogIndex Raft::persisted_index() const { return state_->log.persisted(); }
LogIndex Raft::first_index() const { return state_->log.first(); }
LogIndex Raft::last_index() const { return state_->log.last(); }
std::optional<Term> Raft::term_at(LogIndex index) const { return state_->log.term_at(index); }
const Entry& Raft::entry_at(LogIndex index) const { return state_->log.at(index); }
const Configuration& Raft::configuration() const { return state_->members.now(); }
LogIndex Raft::configuration_index() const { return state_->members.index(); }
const Configuration& Raft::configuration_at(LogIndex index) const { return state_->members.at(index); }
ReplicaId Raft::transferring_to() const { return state_->transfer.to; }
bool Raft::committed_in_term() const { return state_->committed_in_term; }
bool Raft::resting() const { return state_->resting; }
Instant Raft::lease_end() const { return raft::lease_end(*state_); }
bool Raft::lease_valid(Instant now) const { return has_lease(*state_, std::max(now, state_->now)); }

LogIndex Raft::match_index(ReplicaId member) const {
  if (state_->role != Role::kLeader) return {};
  if (member == state_->config.id) return state_->log.persisted();
  const Progress* p = state_->peer(member);
  return p ? p->match : LogIndex();
}

std::string_view name_of(Role role) {
  switch (role) {
    case Role::kFollower: return "follower";
    case Role::kPreCandidate: return "pre-candidate";
    case Role::kCandidate: return "candidate";
    case Role::kLeader: return "leader";
  }
  return "unknown";
}

std::string_view name_of(MessageType type) {
  switch (type) {
    case MessageType::kPreVote: return "pre-vote";
    case MessageType::kPreVoteReply: return "pre-vote-reply";
    case MessageType::kVote: return "vote";
    case MessageType::kVoteReply: return "vote-reply";
    case MessageType::kAppend: return "append";
    case MessageType::kAppendReply: return "append-reply";
    case MessageType::kHeartbeat: return "heartbeat";
    case MessageType::kHeartbeatReply: return "heartbeat-reply";
    case MessageType::kSnapshot: return "snapshot";
    case MessageType::kRestore: return "restore";
    case MessageType::kRestoreReply: return "restore-reply";
    case MessageType::kTimeoutNow: return "timeout-now";
    case MessageType::kReadIndex: return "read-index";
    case MessageType::kReadIndexReply: return "read-index-reply";
  }
  return "unknown";
}

}  // namespace mneme::raft
