// Raft for one group, as a pure library: messages and time in; entries to persist, messages to send and entries to
// apply out. No I/O, no clock, no thread, no fiber.
//
// The contract, in the manner of etcd-io/raft's Ready with asynchronous storage writes. The owner loops:
//
//   1. feed it: step(), tick(), propose(), read_index(); nothing is sent or stored by these calls;
//   2. if has_ready(), take ready():
//        - send `messages` at once, in parallel with the disk;
//        - hand `hard_state`, `entries` and `clear_suspect` to the log, in the order of the Readys' numbers;
//        - if `snapshot` is set, replace the state by that checkpoint's; it counts as applied;
//        - apply `committed`, in order, then call applied(); these entries are durable here;
//        - serve `reads` whose index is applied;
//   3. when everything of Ready n and all before it is durable, call persisted(n), and send n's
//      `messages_after_persist` (votes granted, appends accepted). They must never leave before.
//
// The leader counts itself only up to what it has persisted. A crash may happen between any two steps; what was durable
// is handed to the constructor of the next life.
//
// Suspect replicas (after "Protocol-aware recovery for consensus-based storage", FAST '18). A replica whose log lost a
// part that may have been acknowledged starts suspect: it neither votes nor stands for election, because the log it
// would compare with is shorter than the one it once acknowledged; not even when all voters are suspect, for then a
// committed entry may be gone from all of them, and standing still is better than a wrong answer. (Losing power does
// not make a replica suspect: a log that was merely torn can be told from one that was damaged, core/wal/format.h.) Its
// acknowledgements and its answers to read rounds are marked and add nothing to a majority, because it may also have
// forgotten a term, in which it agreed with another leader; they count only together with all others'. It stops being
// suspect when a leader, in answer to a kRestore sent in this life, has said how far its log reaches, and this replica
// has made its own durable log equal to that leader's up to there: everything that this replica ever acknowledged and
// that was committed is in there. The leader answers after a read round has shown that it still leads. What cannot be
// restored is a vote: the owner must see to it that a HardState is never in the part that may be lost (for instance by
// waiting, for a Ready that has one, until a later record is durable too).
//
// Rest (after CockroachDB's quiescent ranges and TiKV's hibernating regions). With Config::may_rest, a leader whose
// group has had nothing to do for a few heartbeats, every member being in step and answering, says so in a last
// heartbeat and falls silent, and so does a follower whose log is exactly the leader's. Neither has a timer then:
// next_deadline() is kNever. Anything that the owner asks of a resting replica wakes it, and so does any other message
// from a member. That a node is gone is for the owners to notice, who watch each other per pair of nodes and not per
// group; see wake(). Nothing but time rests on this: a heartbeat of rest that is lost, late or doubled costs a wake-up.
//
// Leases (thesis 6.4.1). With Config::lease, a leader need not ask around for each read: a voter that has heard from it
// votes for nobody else for an election timeout, so who has had a majority's answers to something *sent* less than the
// lease ago still leads, by its own clock and with the clocks' drift taken off. This is the one place where being right
// depends on time: the monotonic clocks of the group must keep to Config::drift_ppm, suspended machines included, and
// every `now` must be read after that which it is said of: the question, the message, the life's beginning. A voter
// that restarts has forgotten what it promised and waits an election timeout before it votes. The leader gives its
// lease up before it hands over (for the rest of its term once it has told the heir, whose request for votes may come
// late and overrides promises), while a change of membership is not committed, and when told to (revoke_lease()).

#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "core/base/chance.h"
#include "core/base/error.h"
#include "core/base/time.h"
#include "core/raft/configuration.h"
#include "core/raft/types.h"

namespace mneme::raft {

enum class Role : uint8_t { kFollower, kPreCandidate, kCandidate, kLeader };

struct Config {
  ReplicaId id;
  // Of the group's first life, sorted and on a node each: the configuration until the log or a checkpoint has one. Of
  // generation 0, or of a later one, the same in the eyes of all of them; what is added afterwards is of a higher one.
  // Empty for a replica that was added later: it learns from its leader who belongs to the group.
  std::vector<ReplicaId> voters;
  Duration election_timeout{1000ms};  // the actual one is drawn from [1, 2) times this, anew for every term
  Duration heartbeat_interval{200ms};
  // Of these, 0 is the value of limits.h.
  size_t max_append_bytes = 0;       // entries in one kAppend, unless the first alone is larger
  size_t max_inflight_appends = 0;   // kAppends out to one follower in pipelining
  size_t max_uncommitted_bytes = 0;  // payload accepted by propose() and not yet committed
  // A group that has nothing to do falls silent (see above); the same for all its replicas.
  bool may_rest = false;
  bool follower_reads = false;  // read_index() at one that does not lead asks the leader
  // Leases (see above): for so long a majority's answer stands for a round, at most an election timeout; 0: never. The
  // same for all replicas of the group, as is the election timeout, and on from its beginning or after all were
  // stopped.
  Duration lease{0};
  uint32_t drift_ppm = 0;  // no clock of the group loses more against another than this many microseconds in a second
};

// What the log and the checkpoint held when the node started.
struct Durable {
  HardState hard_state;
  LogPosition snapshot;        // where the log begins, a checkpoint's position; {0, 0}: at its beginning
  std::vector<Entry> entries;  // follow the snapshot without a gap
  bool suspect = false;
  bool newborn = false;         // it has had no life before, and so has promised no leader anything (leases)
  Configuration configuration;  // of where the log begins; without voters: none
  LogIndex applied;             // known to be committed, and applied already; at most the snapshot's: nothing more
  bool unsaved = false;         // there is no checkpoint that could be sent, though the log begins after something
};

struct ReadState {
  uint64_t context = 0;  // as given to read_index()
  LogIndex index;        // serve once this is applied
};

struct Ready {
  uint64_t number = 0;  // dense, from 1
  // To persist. `entries` may begin at or before the last persisted index: what is there from its first index on is
  // replaced. If `snapshot` is set, it comes first: the files are durable already, the log restarts after it.
  std::optional<HardState> hard_state;
  std::optional<LogPosition> snapshot;
  Configuration configuration;  // the snapshot's
  std::vector<Entry> entries;
  bool clear_suspect = false;
  std::vector<Message> messages;
  std::vector<Message> messages_after_persist;
  std::vector<Entry> committed;
  std::vector<ReadState> reads;
  std::vector<uint64_t> failed_reads;  // contexts whose leader is gone or silent: not served, safe to ask again

  bool needs_persisting() const { return hard_state || snapshot || !entries.empty() || clear_suspect; }
};

class Raft {
 public:
  // `chance` and `probes` outlive the Raft.
  Raft(Config config, Durable durable, Instant now, Chance& chance, Probes& probes);
  ~Raft();
  Raft(const Raft&) = delete;
  Raft& operator=(const Raft&) = delete;

  // A message from another replica of the group, not necessarily a member by what is known here. One that makes no
  // sense (another addressee, old term) is dropped or refused, never CHECKed. kSnapshot is stepped when its files are
  // durable here.
  void step(Message message, Instant now);
  // Does what is due at `now`. Call at next_deadline() or later; calling earlier is harmless.
  void tick(Instant now);
  [[nodiscard]] Instant next_deadline() const;

  // Appends to the leader's log. kUnavailable: not the leader, or too much is uncommitted; nothing happened.
  Result<LogPosition> propose(std::shared_ptr<const std::string> payload, Instant now);
  // Begins to change who belongs to the group: appends the configuration that the change leads to, which is in force at
  // once. A joint one is ended by its leader, whoever that is by then. One change at a time. kUnavailable: not the
  // leader, or the last change or this leader's first entry is not committed yet: nothing happened, ask again.
  // kInvalid: the change makes no sense (configuration.h).
  Result<LogPosition> propose_change(const Change& change, Instant now);
  // Hands leadership to a voter, of 0 to the one that can best take it (thesis 3.10): no proposals are taken until it
  // leads, or an election timeout has passed without that. kUnavailable: not the leader, or handing over already.
  // kInvalid: not another voter.
  Result<void> transfer(ReplicaId to, Instant now);
  // ReadIndex (thesis 6.4): answers in a later Ready's `reads` or `failed_reads`. Calls between two Readys share one
  // round of heartbeats. Waits for the first commit of the term (thesis 6.4, step 1). With Config::follower_reads, one
  // that does not lead asks the leader that it knows, and fails what is not answered when that has changed or an
  // election timeout has passed. kUnavailable: it does not lead and may not ask or knows nobody to ask, or too many
  // reads are waiting.
  Result<void> read_index(uint64_t context, Instant now);
  // What was promised so far counts no longer: reads take a round until a majority has answered something sent after
  // this call. For the owner whose group stops serving a part of its keys, which others may serve next.
  void revoke_lease();

  [[nodiscard]] bool has_ready() const;
  Ready ready();
  void persisted(uint64_t ready_number);
  void applied(LogIndex index);

  // Entries up to `index` (applied, covered by a durable checkpoint) need not be kept in memory. The owner may keep
  // some for slow followers by passing a smaller index.
  void compact(LogIndex index);
  // The newest checkpoint that can be sent to followers; position of kSnapshot messages.
  void checkpoint_available(LogPosition position);
  // A kSnapshot's files did not get through: the leader may try again.
  void snapshot_failed(ReplicaId to);
  // The connection to `to` broke: what is in flight is lost, go back to probing.
  void unreachable(ReplicaId to);
  // The process of `leader` has ended: its machine says so, or another runs there. Who follows it calls nobody its
  // leader any more and stands for election within half a heartbeat interval. Only haste: who is wrong about it finds
  // no majority among those who hear of the leader, and a lease binds as ever.
  void leader_gone(ReplicaId leader, Instant now);
  // Campaigns now, as if the election timeout had passed.
  void campaign(Instant now);
  // Ends a rest: as if the others had been heard from just now, so that whoever is dead is noticed an election timeout
  // later. For the owner to call while a resting replica's leader is on a node that does not answer or has restarted;
  // and, where it leads itself, while that is so of a majority's nodes, or when a member's node has restarted. To be
  // repeated every now and then as long as it is so: a late message may have put the replica to rest again. Changes
  // nothing for one that does not rest.
  void wake(Instant now);

  // --- What observers may see; never changed by looking.
  ReplicaId id() const;
  Role role() const;
  Term term() const;
  ReplicaId vote() const;
  HardState durable_hard_state() const;
  ReplicaId leader() const;  // 0: unknown
  bool suspect() const;
  LogIndex commit() const;
  LogIndex applied() const;
  LogIndex persisted_index() const;
  LogIndex first_index() const;  // of the entries kept in memory
  LogIndex last_index() const;
  // Of an index in [first_index - 1, last_index]; otherwise nullopt.
  std::optional<Term> term_at(LogIndex index) const;
  // An index in [first_index, last_index]; valid until the next non-const call.
  const Entry& entry_at(LogIndex index) const;
  const Configuration& configuration() const;  // in force here
  LogIndex configuration_index() const;        // its entry's; at most first_index() - 1 when a checkpoint has it
  // The one in force when the log ended at `index`, which is not before first_index() - 1.
  const Configuration& configuration_at(LogIndex index) const;
  // What this leader believes that a member holds durably; 0 when not the leader.
  LogIndex match_index(ReplicaId member) const;
  ReplicaId transferring_to() const;  // 0: nobody
  bool committed_in_term() const;     // the leader has committed an entry of its own term
  bool resting() const;
  bool lease_valid(Instant now) const;  // a read asked now would need no round
  // When that ends if nothing more is heard, by this replica's clock; in the past, or 0: there is no lease.
  Instant lease_end() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

[[nodiscard]] std::string_view name_of(Role role);
[[nodiscard]] std::string_view name_of(MessageType type);

}  // namespace mneme::raft
