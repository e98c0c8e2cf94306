// What a leader knows about one follower, and how it is sending to it.
//
// Flow (after etcd-io/raft): a probe sends one append and waits for the answer, to find where the logs part;
// replicating sends optimistically, up to a window of messages; during a snapshot nothing but a small probe is sent.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/time.h"
#include "core/raft/types.h"

namespace mneme::raft {

enum class Flow : uint8_t { kProbe, kReplicate, kSnapshot };

struct Progress {
  ReplicaId id;
  bool votes = false;           // is in the configuration's voters
  bool votes_outgoing = false;  // is in its outgoing voters
  Flow flow = Flow::kProbe;
  bool paused = false;         // probing: one message is out
  bool first_probe = true;     // nothing was sent since leadership or a new connection began
  bool suspect = false;        // by its last answer
  bool owes_check = false;     // a timed heartbeat is out; its reply tells whether anything sent before it got lost
  LogIndex match;              // durable there and equal to ours
  LogIndex sure_match;         // the same, as said in good standing (quorum.h)
  LogIndex next;               // what is sent next
  LogIndex commit_told;        // the highest commit index that it can know from what was sent
  LogIndex sent_before_check;  // last index sent before that heartbeat
  uint64_t doubt_round = 0;    // match is in doubt: an answer of this round or a later one tells; 0: it is not
  uint64_t round = 0;          // the latest read round it answered in this term
  uint64_t sure_round = 0;     // the same, in good standing
  Instant promised;            // when the round began that its promise to the leader counts from (lease.cc); 0: none
  Instant sure_promised;       // the same, given in good standing
  LogPosition snapshot;        // on its way there
  Instant snapshot_sent;
  Instant heard;  // when it last answered

  void probe_from(LogIndex from) {
    flow = Flow::kProbe;
    paused = false;
    next = from;
    commit_told = {};
    inflight_first_ = inflight_count_ = 0;
  }
  void replicate() {
    LogIndex told = commit_told;
    probe_from(match.next());
    commit_told = told;
    flow = Flow::kReplicate;
  }
  void send_snapshot(LogPosition position, Instant now) {
    probe_from(position.index.next());
    flow = Flow::kSnapshot;
    snapshot = position;
    snapshot_sent = now;
    commit_told = position.index;
  }

  // The last indices of appends that are out, oldest first.
  size_t inflight() const { return inflight_count_; }
  void sent_upto(LogIndex last, size_t window) {
    if (inflight_.size() != window) inflight_.resize(window);  // once: the window never changes
    inflight_[(inflight_first_ + inflight_count_++) % inflight_.size()] = last;
  }
  void answered_upto(LogIndex index) {
    while (inflight_count_ > 0 && inflight_[inflight_first_] <= index) {
      inflight_first_ = (inflight_first_ + 1) % inflight_.size();
      --inflight_count_;
    }
  }

 private:
  std::vector<LogIndex> inflight_;
  size_t inflight_first_ = 0;
  size_t inflight_count_ = 0;
};

}  // namespace mneme::raft
