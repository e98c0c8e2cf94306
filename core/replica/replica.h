// One replica of one group, of which a node has many: Raft, its part of the log that they share, and the state machine
// that the committed entries drive.
//
// Raft and the state machine are pure; this is the shell that moves things between them, the log and the other
// replicas. Everything here runs on one reactor. step(), propose() and read() never suspend; what they cause is done in
// the replica's next turn (driver.h). Calls that suspend say so; whoever makes them holds the replica, which may be
// removed meanwhile.
//
// Reads are linearizable: a batch of reads is answered from the state once it is certain what was committed before them
// and all of that is applied: at the leader after a round of heartbeats (thesis 6.4), or at once under a lease, at a
// follower when the leader has answered (raft::Raft::read_index()). A leader's read that meets a key whose time has
// come first commits the time.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/env/env.h"
#include "core/fiber/scope.h"
#include "core/fiber/sync.h"
#include "core/kv/state_machine.h"
#include "core/raft/raft.h"
#include "core/replica/call.h"
#include "core/replica/checkpoint_store.h"
#include "core/replica/driver.h"
#include "core/replica/forwarded.h"
#include "core/replica/log_clock.h"
#include "core/replica/log_writer.h"
#include "core/replica/observer.h"

namespace mneme::replica {

struct ReplicaConfig {
  GroupId group;
  raft::Config raft;
  kv::ShardState shard;             // that it begins with, the same on all replicas; nothing: the log will say
  std::string directory;            // of this group's checkpoints
  size_t checkpoint_log_bytes = 0;  // a checkpoint is taken when so much was applied since the last
  uint64_t keep_entries = 0;        // kept in memory behind a checkpoint, for followers that lag a little
  size_t checkpoint_chunk_bytes = 256 * limits::kKiB;
};

// Carries messages to other replicas. Neither call suspends; both may lose what they carry.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual void send(GroupId group, const raft::Message& message) = 0;
  // Sends checkpoint `id` to message.to, then the message (a kSnapshot); on failure calls Replica::snapshot_failed().
  virtual void send_snapshot(GroupId group, const raft::Message& message, uint64_t checkpoint_id) = 0;
};

class Replica;

// What a replica tells the node that it is part of. No call suspends.
class Host {
 public:
  virtual ~Host() = default;
  // It has seen another leader, or that there is none.
  virtual void leader_changed(Replica& replica) = 0;
  // It has applied something that changed the shard, its configuration or, of the meta group, the shard map; or begun
  // anew with a snapshot's.
  virtual void shard_changed(Replica& replica) = 0;
  // It has applied the split of its shard, which is that entry; `child` has the state that the new group begins with.
  virtual void split(Replica& parent, const raft::LogPosition& entry, const kv::SplitRequest& request,
                     std::unique_ptr<kv::StateMachine> child) = 0;
};

// What all replicas of a reactor share. All of it outlives them.
struct Shared {
  Env& env;
  LogWriter& log;
  Driver& driver;
  Transport& transport;
  Forwarded& forwarded;
  Host& host;
  Observer* observer = nullptr;  // may be null
};

// While one is there what the replica has applied can happen again after a crash: it begins no checkpoint and keeps its
// part of the log where it is. Whoever would give it a snapshot, or remove it, asks is_held() and waits.
class Hold {
 public:
  explicit Hold(std::shared_ptr<Replica> replica);
  ~Hold();
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;
  const Replica& replica() const { return *replica_; }

 private:
  std::shared_ptr<Replica> replica_;
};

// What a replica begins with beyond what the log has of it.
struct Beginning {
  // The state where its log begins; null: its checkpoint's, to be loaded, or nothing.
  std::shared_ptr<kv::StateMachine> machine = nullptr;
  // Of the one that it was split off, for as long as it has no checkpoint of its own.
  std::unique_ptr<Hold> parent = nullptr;
  bool newborn = false;  // this is its first life
  // Up to this entry the log is known to be committed: it is applied before anything else, and what is split off by it
  // is told to the host. 0: nothing is known.
  LogIndex committed = {};
};

class Replica final : public std::enable_shared_from_this<Replica>, private Call::Register, private kv::ReplySink {
 public:
  // From what the log recovered for the group. Suspends. It takes its first turn by itself.
  static Result<std::shared_ptr<Replica>> open(const Shared& shared, ReplicaConfig config, wal::GroupState recovered,
                                               Beginning beginning = {});
  ~Replica();

  // Ends it while the node goes on: takes part in nothing any more, and settles what waits. Its files stay, and so does
  // what the log says of it.
  void retire();
  bool retired() const { return retired_; }
  bool is_held() const { return holds_ > 0; }

  void step(raft::Message message);
  void snapshot_failed(ReplicaId to);
  void unreachable(NodeId to);
  // That checkpoint is of no use: takes another one, as soon as there is something to be added to it.
  void renew_checkpoint(uint64_t checkpoint_id);

  // Settles `call` at once with kNotDone when this is not the leader, or it can take no more; otherwise later.
  void propose(Call& call);
  // The same for a batch without writes.
  void read(Call& call);

  // A snapshot's file was received, finished and loaded: it becomes the state if raft says so when it sees `message`.
  void snapshot_received(raft::Message message, std::shared_ptr<CheckpointStore::Keep> checkpoint,
                         std::shared_ptr<kv::StateMachine> machine);

  GroupId group() const { return config_.group; }
  ReplicaId id() const { return config_.raft.id; }
  const raft::Raft& raft() const { return raft_; }
  const kv::StateMachine& machine() const { return *machine_; }
  // The shard map as it will be when all that the log has is applied, unless some of it is replaced before.
  [[nodiscard]] shard::Map map_ahead() const;
  CheckpointStore& checkpoints() { return checkpoints_; }
  LogIndex checkpoint_index() const { return checkpoint_id_ == 0 ? LogIndex() : checkpoint_.index; }
  uint64_t checkpoint_id() const { return checkpoint_id_; }  // of the newest that is complete; 0: none
  // Begins to hand leadership to the voter on that node, or, of 0, to the one that can best take it
  // (raft::Raft::transfer). kUnavailable: this replica does not lead, or hands over already; kInvalid: no such voter.
  Result<void> hand_over(NodeId to = {});
  // It leads, and has applied all that earlier leaders have left: what the machine says of the shard is then current,
  // but for what has_change_pending().
  bool leads() const;
  // Something that changes the shard's epoch is in the log, and not applied yet.
  bool has_change_pending() const;
  // Proposes a command that no client waits for, such as those of core/kv/internal.h. Whether anything becomes of it is
  // to be seen in the machine.
  void propose_internal(const std::vector<std::string>& words);
  // Begins to change who belongs to the group (raft::Raft::propose_change).
  Result<void> change(const raft::Change& change);
  // Stands for election now, unless it leads or stands already and is being voted on.
  void campaign();
  // The process that ran on that node has ended: raft::Raft::leader_gone().
  void process_ended(NodeId node);
  // raft::Raft::wake().
  void end_rest();
  // Makes it need no segment of the log but those of its last entries: appends the entries after its checkpoint again
  // when they are at most so many bytes, and otherwise asks for a checkpoint. Suspends until the former are durable.
  void leave_old_segments(uint64_t most_bytes);
  // Suspends until it is known what became of all that was proposed here.
  void wait_for_proposals() {
    proposals_settled_.wait_until([this] { return proposed_.empty(); });
  }
  // Suspends until another leader is known, or this one is no longer; may wake for nothing.
  void wait_for_leader_change() { leader_changed_.wait(); }
  uint64_t applied_entries() const { return applied_entries_; }

  bool receiving_snapshot = false;  // whoever receives one for it says so here

 private:
  struct ReadCall {
    Call* call;
    LogIndex ready_at;  // 0: not confirmed yet
  };
  struct Staged {
    raft::LogPosition position;
    std::shared_ptr<CheckpointStore::Keep> checkpoint;
    std::shared_ptr<kv::StateMachine> machine;
  };

  friend class Driver;
  friend class Hold;

  Replica(const Shared& shared, ReplicaConfig config, raft::Durable durable, uint64_t checkpoint_id,
          Beginning beginning);

  void wake() {
    if (!retired_) driver_.wants_turn(*this);
  }
  void moved() {
    if (observer_ && !retired_) observer_->moved(config_.raft.id.node(), config_.group, raft_);
  }
  Result<void> turn();  // does not suspend
  void arm_timer();
  void refuse(Call& call, std::string_view why);
  Result<void> process();
  Result<void> handle(raft::Ready ready);
  void persist(raft::Ready& ready);
  Result<void> apply(const std::vector<raft::Entry>& entries);
  void install(const raft::LogPosition& position);
  void serve_reads();
  bool serve(Call& call);  // settles it; false: a time entry must be applied first
  void propose_time();
  void settle_applied(const raft::Entry& entry);
  void note_leader();
  bool needs_checkpoint() const { return parent_ || applied_bytes_ >= config_.checkpoint_log_bytes; }
  void want_checkpoint() { driver_.wants_checkpoint(*this); }
  void let_go();
  bool is_covered(LogIndex index) const;
  void append_again();
  Result<void> take_checkpoint();  // suspends
  int64_t log_time();

  void forget(Call& call) override;                                     // Call::Register
  void begin(const kv::BatchHeader& header, size_t commands) override;  // kv::ReplySink
  void reply(size_t position, kv::Outcome outcome, std::string_view reply) override;
  void stale(const kv::BatchHeader& header, size_t commands) override;
  void split(const kv::SplitRequest& request, std::unique_ptr<kv::StateMachine> child) override;

  Env& env_;
  LogWriter& log_;
  Driver& driver_;
  Transport& transport_;
  Forwarded& forwarded_;
  Host& host_;
  Observer* observer_;
  ReplicaConfig config_;
  CheckpointStore checkpoints_;
  std::shared_ptr<kv::StateMachine> machine_;
  raft::Raft raft_;
  LogClock clock_;
  fiber::Condition leader_changed_;
  fiber::Condition proposals_settled_;
  struct Tick : fiber::Timer {
    explicit Tick(Replica& r) : Timer([](Timer& t) { static_cast<Tick&>(t).replica.wake(); }), replica(r) {}
    Replica& replica;
  } tick_;

  std::map<std::pair<LogIndex, Term>, Call*> proposed_;  // by where its entry stands
  std::map<uint64_t, Call*> reading_;                    // waiting for the read round, by context
  std::deque<ReadCall> confirmed_;                       // waiting to be applied far enough
  uint64_t read_contexts_ = 0;
  LogIndex time_entry_;      // proposed to move log time; 0: none under way
  LogIndex internal_entry_;  // the last that was proposed internally in this term
  ReplicaId leader_seen_;
  Call* replying_ = nullptr;  // whose replies the entry being applied gives
  std::vector<Staged> staged_;

  // Asked for by leave_old_segments(); done in the next turn.
  struct Appending {
    Appending(fiber::Scheduler& scheduler, uint64_t bytes) : most_bytes(bytes), done(scheduler) {}
    const uint64_t most_bytes;
    fiber::Promise<bool> done;
  };
  std::shared_ptr<Appending> appending_again_;

  raft::LogPosition checkpoint_;
  uint64_t checkpoint_id_ = 0;
  std::shared_ptr<CheckpointStore::Keep> recorded_;  // the one that the durable log refers to
  Term applied_term_;
  size_t applied_bytes_ = 0;  // since the last checkpoint
  uint64_t applied_entries_ = 0;
  uint64_t doubtful_checkpoint_ = UINT64_MAX;  // could not be sent to a follower
  Term recovered_term_;
  bool heard_leader_ = false;
  bool retired_ = false;
  int holds_ = 0;
  std::unique_ptr<Hold> parent_;  // until a checkpoint is recorded
  // The driver's: one checkpoint at a time, and what was asked for meanwhile comes next.
  bool listed_for_turn_ = false;
  bool listed_for_checkpoint_ = false;
  bool taking_checkpoint_ = false;
  bool checkpoint_again_ = false;
};

}  // namespace mneme::replica
