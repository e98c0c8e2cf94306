// What must hold of one replica, of each of its steps, and of all replicas together (Raft figure 3), checked from
// outside.
//
// Each check answers with a sentence that names node, term and index, or with nothing. One replica's checks are O(1);
// those of the cluster are O(1) per step plus, once per replica and index, a look at what it newly committed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/raft/raft.h"

namespace mneme::raft {

// What a replica showed at one moment of one life.
struct View {
  ReplicaId id;
  Role role = Role::kFollower;
  Term term;
  ReplicaId vote;
  HardState durable;
  ReplicaId leader;
  bool suspect = false;
  LogIndex commit;
  Term commit_term;
  LogIndex applied;
  LogIndex persisted;
  Term persisted_term;
  LogIndex first;
  LogIndex last;
  LogIndex configuration;  // where the one in force stands
  Term last_term;
  bool committed_in_term = false;
  bool resting = false;
  bool lease = false;  // at the latest moment that it knows of
  bool operator==(const View&) const = default;
};

[[nodiscard]] View view_of(const Raft& raft);

// `now` is view_of(raft), which the caller has anyway.
[[nodiscard]] std::optional<std::string> check_state(const Raft& raft, const View& now);

// `before` and `after` belong to the same life: across a restart commit and applied begin again at the checkpoint.
[[nodiscard]] std::optional<std::string> check_transition(const View& before, const View& after);
// The same, and that the log still has what it must have kept: committed entries, and a leader's own log.
[[nodiscard]] std::optional<std::string> check_transition(const View& before, const Raft& after, const View& now);

// Election safety, leader completeness, log matching of committed entries, state machine safety; and the promises on
// which they rest: nobody leads without durable votes of a majority, a leader begins without beliefs about what others
// hold and commits only what is durable on a majority (of each half, where the configuration is joint), who begins a
// new life has what was durable in the last one, or knows that something may be lost; and configurations follow each
// other on the legal path only. Remembers, for as long as it lives, every leader by term, every committed entry by
// index (24 bytes each), and what each replica was seen to hold durably in each term.
class ClusterInvariants {
 public:
  // After every step of any replica, before another replica can learn of it; it need not be called for one that does
  // not lead and whose view_of() is what it was at the last call.
  std::optional<std::string> observe(const Raft& raft);
  // Once when a replica begins a life, and then observe(): its commit index may begin again; its term, its vote and its
  // log may not, unless it is suspect.
  std::optional<std::string> restarted(const Raft& raft);
  // The replica's disk has gone back to an earlier state without its knowledge: what it was seen to have promised
  // counts no longer, in no conclusion that is drawn from now on.
  void rolled_back(ReplicaId node);

 private:
  struct Committed {
    Term term;
    uint64_t hash;  // of kind and payload
    Term known_in;  // a term in or before which it was committed is at most this
  };
  struct Seen {
    ReplicaId node;
    LogIndex checked;             // committed entries up to here agree with the record
    Term led;                     // the last term in which it was seen to lead
    Configuration configuration;  // in force when it was last seen
  };

  // What a replica was seen to have promised with its disk, over all its lives. Damage that it notices may take it away
  // later; what was concluded from it before stays right.
  struct Durable {
    ReplicaId node;
    std::vector<HardState> votes;      // by term
    std::vector<LogPosition> reached;  // by term: the last entry of that term that was durable as the log's last
    HardState hard;                    // when last seen
    LogPosition last;                  // the end of what was durable then
  };

  Seen& seen(ReplicaId node);
  Durable& durable(ReplicaId node);
  void note_durable(const Raft& raft);
  // Of `voters`, in words where they are too few.
  std::optional<std::string> too_few_votes(const std::vector<ReplicaId>& voters, ReplicaId leader, Term term) const;
  std::optional<std::string> too_few_holders(const std::vector<ReplicaId>& voters, LogPosition position) const;
  std::optional<std::string> check_leader(const Raft& raft, Seen& seen);
  std::optional<std::string> check_committed(const Raft& raft, Seen& seen);
  std::optional<std::string> check_commit_rule(const Raft& raft, const Seen& seen);
  std::optional<std::string> check_configuration(const Raft& raft, LogIndex index, const Entry& entry);
  LogIndex last_committed() const { return LogIndex(first_.value + committed_.size() - 1); }
  const Committed& committed(LogIndex index) const { return committed_[index.value - first_.value]; }

  std::vector<Seen> seen_;                             // few
  std::vector<Durable> durable_;                       // few
  std::unordered_map<uint64_t, ReplicaId> leader_of_;  // looked up only
  LogIndex first_{1};                                  // of committed_
  std::vector<Committed> committed_;
  std::optional<Configuration> configuration_;  // as of the last committed entry; unknown before the first
};

}  // namespace mneme::raft
