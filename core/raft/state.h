// Private to core/raft: the state of one replica and the phases of the protocol as functions over it, a file each.
//
// Every phase may only queue output in `out`; Raft::ready() completes and hands it over.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "core/base/check.h"
#include "core/raft/log.h"
#include "core/raft/memberships.h"
#include "core/raft/progress.h"
#include "core/raft/quorum.h"
#include "core/raft/raft.h"

namespace mneme::raft {

// Terms, indices and rounds above this are nonsense: no history gets there, and below it nothing overflows.
inline constexpr uint64_t kMaxNumber = uint64_t{1} << 62;

// How long a leader waits for a snapshot before it sends the message again, in election timeouts. Broken connections
// and failed transfers are reported by the owner at once, so this only mends a message lost without a trace (a full
// queue). Early, a transfer that is still going on would be asked for twice; late costs only that one follower's lag,
// during which the others commit. Five lets an owner move a few seconds' worth of files; a longer transfer is its own
// to recognise.
inline constexpr int kSnapshotPatience = 5;

// Waits for the leader's next round, or at a follower for the next request to the leader.
struct WaitingRead {
  ReplicaId asker;   // 0: this replica's own
  uint64_t context;  // of the asker
};

struct PendingRead {
  uint64_t round;
  ReplicaId asker;
  ReadState read;
};

// A follower's read that the leader was asked for.
struct RequestedRead {
  uint64_t request;
  uint64_t context;
  Instant until;
};

// A suspect replica waits for this leader to prove its leadership (restore.cc).
struct PendingRestore {
  ReplicaId suspect;
  uint64_t nonce;
  uint64_t round;  // 0: not begun
  LogPosition last;
};

// A suspect's way back; forgotten with the term.
struct Restore {
  bool asked = false;
  Instant asked_at;
  uint64_t nonce = 0;
  std::optional<LogIndex> target;  // as answered by the leader
};

// Something other than entries that a Ready carries and that is not durable yet.
struct Unstored {
  uint64_t number;
  HardState hard;
  bool clears_suspect;
};

// A round and when it began, that is no later than the first message that carries it.
struct LeaseRound {
  uint64_t round;
  Instant begun;
};

enum class Answer : uint8_t { kNone, kGranted, kRefused };

struct Ballot {
  ReplicaId voter;
  Answer answer = Answer::kNone;
};

// A leader that hands over (thesis 3.10).
struct Transfer {
  ReplicaId to;  // 0: nobody
  Instant until;
  bool told = false;  // to campaign
};

struct Core {
  Core(Config config, Durable durable, Instant now, Chance& chance, Probes& probes);

  Config config;
  Chance& chance;
  Probes& probes;
  Instant now;  // the latest the owner said

  HardState hard;
  HardState hard_handed_out;
  HardState hard_durable;
  Log log;
  Memberships members;
  bool votes = false;           // is in the configuration's voters
  bool votes_outgoing = false;  // is in its outgoing voters
  LogIndex commit;
  LogIndex commit_handed_out;
  LogIndex applied;
  LogPosition checkpoint;  // the newest that can be sent; {0, 0}: none

  Role role = Role::kFollower;
  ReplicaId leader;
  ReplicaId term_leader;  // who was believed to lead this term; stays when `leader` is given up
  Instant leader_heard;
  uint64_t leader_round = 0;  // the latest that this term's leader was heard to be in
  // Equal to the log of this term's leader up to here; not lowered within a term.
  LogIndex verified;
  bool resting = false;
  bool suspect = false;
  bool clear_due = false;  // to be handed out
  bool clear_handed_out = false;
  Restore restore;

  Instant election_at;
  Duration patience{};          // drawn for this term and attempt
  uint64_t attempt = 0;         // elections tried in this term
  std::vector<Ballot> ballots;  // one for each that this candidacy asks
  bool transferred = false;     // the old leader asked for this candidacy

  // Leaders only.
  std::vector<Progress> peers;  // the other members, in their order
  Transfer transfer;
  Instant heartbeat_at;
  Instant check_at;
  bool committed_in_term = false;
  bool flush_due = false;   // there may be something to send to followers
  int idle_heartbeats = 0;  // timed ones in a row that found nothing to do
  size_t uncommitted_bytes = 0;
  uint64_t round = 1;                      // the latest read round; rises for ever
  std::vector<PendingRead> reads_pending;  // by round
  std::vector<PendingRestore> restores;
  std::vector<LeaseRound> lease_rounds;  // of the last lease, by round; some may be left out
  bool lease_forfeited = false;          // for this term

  std::vector<WaitingRead> reads_waiting;      // leaders and followers
  std::vector<RequestedRead> reads_requested;  // followers; by request
  uint64_t read_request = 0;                   // the last that was sent in this life; 0: none

  Ready out;
  uint64_t ready_number = 0;
  uint64_t needs_store_number = 0;  // the last Ready with something to persist
  uint64_t stored_number = 0;
  std::vector<Unstored> unstored;

  // Nobody else has to be asked for anything, nor told.
  bool alone() const { return votes && members.now().voters.size() == 1 && !members.now().joint() && !learners(); }
  bool learners() const { return !members.now().learners.empty(); }
  Progress* peer(ReplicaId id) {
    for (Progress& p : peers)
      if (p.id == id) return &p;
    return nullptr;
  }
};

// How far the voters have come, of both halves if the configuration is joint (Raft section 6): what a majority of each
// has reached (quorum.h). `own` is this replica's number; `said` gives a peer's, in good standing and at all. A replica
// that is no voter, or not any more, adds nothing, and be it the leader.
template <class Said>
uint64_t agreed(const Core& c, uint64_t own, Said&& said) {
  auto by = [&](const std::vector<ReplicaId>& voters, bool self, bool Progress::*votes) {
    Agreement agreement;
    if (self) agreement.add(own, own);
    for (const Progress& p : c.peers) {
      if (!(p.*votes)) continue;
      auto [sure, any] = said(p);
      agreement.add(sure, any);
    }
    return agreement.reached(voters.size());
  };
  const Configuration& now = c.members.now();
  const uint64_t upto = by(now.voters, c.votes, &Progress::votes);
  return now.joint() ? std::min(upto, by(now.outgoing, c.votes_outgoing, &Progress::votes_outgoing)) : upto;
}

// --- raft.cc: what all phases share.

Message message_to(const Core& c, ReplicaId to, MessageType type);
// At once, in parallel with the disk.
void send(Core& c, Message m);
// When everything known now is durable.
void send_after_persist(Core& c, Message m);
// A reply that promises nothing but its term: at once if the term is durable. A crash could otherwise make this replica
// forget a term that it has spoken in. That alone would break no rule (who begins a term stores it first, and a vote or
// an acknowledgement is stored before it is given), but so "a replica never says a term lower than one it said before"
// can be relied upon, by peers and by checkers, at the cost of one wait for the disk per term.
void send_reply(Core& c, Message m);
// Enters a later term: nothing of the old one counts any more.
void enter_term(Core& c, Term term);
// Gives up leading or campaigning; the term stays.
void become_follower(Core& c, ReplicaId leader);
void raise_commit(Core& c, LogIndex index);

// --- membership.cc: the log's operations, with the configurations that it carries.

// A kConfig entry's payload was decoded by whoever made or received it.
void append_entry(Core& c, Entry entry);
// Of the leader's own: in its term, at the end of its log.
LogPosition append_own(Core& c, EntryKind kind, std::shared_ptr<const std::string> payload);
void truncate_from(Core& c, LogIndex index);
void restart_at(Core& c, LogPosition position, Configuration configuration);
// Works out what follows from the configuration in force.
void note_configuration(Core& c);
// The leader's next step once the configuration in force is committed: ends a joint one; leaves if it has no part in
// it.
void settle_configuration(Core& c);
Result<LogPosition> begin_change(Core& c, const Change& change);
Result<void> begin_transfer(Core& c, ReplicaId to);
void send_timeout_now(Core& c);
void on_timeout_now(Core& c, const Message& m);

// --- election.cc

// For this term and attempt; the running timer keeps its deadline.
void draw_patience(Core& c);
void rearm_election_timer(Core& c);
bool may_campaign(const Core& c);
// Lets the election timer fire within half a heartbeat interval.
void stand_soon(Core& c);
void start_pre_vote(Core& c);
void start_election(Core& c);
// Somebody who must be believed leads this term. False: that contradicts what is known, drop the message.
[[nodiscard]] bool follow(Core& c, ReplicaId from);
void on_pre_vote(Core& c, const Message& m);
void on_vote(Core& c, const Message& m);
void on_vote_reply(Core& c, const Message& m);
void count_own_vote(Core& c);
// Heard from a live leader so recently that nobody else may disturb it.
bool leader_is_fresh(const Core& c);

// --- replication.cc: the leader's side.

void start_leading(Core& c);
void on_append_reply(Core& c, const Message& m);
void on_heartbeat_reply(Core& c, const Message& m);
// `timed`: of the schedule, so it is also a check of what was sent before; otherwise it only carries the round.
void send_heartbeats(Core& c, bool timed);
void send_timed_heartbeats(Core& c);
void leader_tick(Core& c);
void advance_commit(Core& c);
// Sends every follower what it can take.
void flush(Core& c);
void send_empty_append(Core& c, Progress& p, LogPosition after);

// --- follower.cc

// Tells the leader that this log equals its own up to there; goes when all of it is durable.
void acknowledge(Core& c, const Message& m, LogPosition upto);
void on_append(Core& c, Message& m);
void on_heartbeat(Core& c, const Message& m);

// --- read_index.cc

Result<void> ask_read(Core& c, uint64_t context);
// Whether ready() has a round of heartbeats to begin.
bool round_due(const Core& c);
bool reads_open(const Core& c);  // somebody waits for an answer
bool may_wait(const Core& c);    // there is room for another read
void answer_read(Core& c, ReplicaId asker, ReadState read);
void wait_or_answer(Core& c, ReplicaId asker, uint64_t context);
void begin_round(Core& c);
void retry_rounds(Core& c);
void on_round_answered(Core& c, Progress& p, const Message& m);
// What enough voters have answered by now is confirmed.
void settle_rounds(Core& c);
void fail_reads(Core& c);

// --- lease.cc

// Begins the next round, for whatever purpose.
void next_round(Core& c);
void note_promise(Core& c, Progress& p, const Message& m);
void revoke_lease(Core& c);
// By this replica's clock; long ago: it has none.
Instant lease_end(const Core& c);
bool has_lease(const Core& c, Instant now);
// Has promised, perhaps in an earlier life, to vote for nobody yet.
bool is_bound(const Core& c);

// --- follower_read.cc

// Whether ready() has a request to the leader to send.
bool request_due(const Core& c);
void send_read_request(Core& c);
Instant read_requests_until(const Core& c);
void expire_read_requests(Core& c);
void on_read_index(Core& c, const Message& m);
void on_read_index_reply(Core& c, const Message& m);

// --- snapshot.cc

void send_snapshot(Core& c, Progress& p);
void on_snapshot(Core& c, const Message& m);

// --- rest.cc

// At a timed heartbeat of the leader. True: the group rests, and has been told.
bool rest_if_idle(Core& c);
// Goes to rest with the leader if it is exactly where the leader is. `fresh`: newer than all that was heard in this
// term.
bool rest_with_leader(Core& c, const Message& m, bool fresh);
// There is something to do: ends a rest, as if the others had just been heard from, and says nothing.
void note_activity(Core& c);
// The same for a reason that the others may have to know: a leader shows itself.
void end_rest(Core& c);

// --- restore.cc

void on_restore(Core& c, const Message& m);
void on_restore_reply(Core& c, const Message& m);
void answer_restores(Core& c, uint64_t confirmed_round);
// A suspect that heard from its leader asks it, unless it asked a moment ago.
void ask_restore(Core& c);
void finish_restore_if_equal(Core& c);

}  // namespace mneme::raft
