// The two hooks that pure code may be handed: where it may draw by chance, and where it reports having been.
//
// Chance is keyed: a draw names the site (which kind of choice) and the cause (what it is about), so that in the
// simulator removing one event leaves all other draws as they were. Real implementations ignore both and draw from the
// operating system. Probes only observe; nothing may depend on them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/base/time.h"

namespace mneme {

// Kinds of choice made by core. Values are part of every recorded seed: append only.
enum class Site : uint32_t {
  kElectionTimeout = 1,  // cause: term
  kClusterId = 2,
  kIncarnation = 3,
  kReconnectDelay = 4,  // cause: peer, attempt
  kRestoreNonce = 5,
  kReadRound = 6,
  kRequestNumbers = 7,
  kScanCursors = 8,
  kReadRequest = 9,
  kProcessLife = 10,
  // BUGGIFY sites: rare but legal behaviour.
  kShortBatch = 100,    // write-ahead log: take fewer batches into a frame than there are
  kEarlySegment = 101,  // write-ahead log: begin a new segment before the old one is full
  kEarlyCheckpoint = 102,
  kSmallAppend = 103,  // raft: send fewer entries than fit
  kTinyRead = 104,     // node: read a stream a few bytes at a time
  kTinySnapshotChunk = 105,
  kHastyElection = 106,   // raft: lose patience with the leader long before the timeout
  kEarlySnapshot = 107,   // raft: send a snapshot where entries would do
  kLateTimer = 108,       // replica: be late for a deadline
  kLateFlush = 109,       // log writer: let what is waiting wait a little longer
  kEagerCompact = 110,    // replica: keep no entries behind a checkpoint
  kSlowCheckpoint = 111,  // replica: take long over a checkpoint
  kSnapshotFirst = 112,   // raft: begin with a snapshot where a probe would do
  kEagerRewrite = 113,    // laggards: empty the log's oldest segment although the log is short
  // Of the client library.
  kClientPause = 200,  // cause: call, attempt; or peer, attempt
  kClientNode = 201,   // whom to ask when any will do; cause: call, attempt
};

class Chance {
 public:
  virtual ~Chance() = default;
  // 64 uniformly distributed bits.
  virtual uint64_t draw(Site site, uint64_t cause_a, uint64_t cause_b) = 0;
  // BUGGIFY: true now and then in simulations that enable the site, never in a real node.
  virtual bool rarely(Site site, uint64_t cause) = 0;

  // Uniformly distributed, shorter than `bound`, which is positive.
  Duration draw_below(Duration bound, Site site, uint64_t cause_a, uint64_t cause_b) {
    return Duration(static_cast<int64_t>(draw(site, cause_a, cause_b) % static_cast<uint64_t>(bound.count())));
  }
};

// States that matter and that the ensemble of simulations should reach. Order is free; names are what users see.
#define MNEME_PROBES(X)              \
  X(joint_configuration_entered)     \
  X(joint_configuration_left)        \
  X(configuration_rolled_back)       \
  X(second_change_refused)           \
  X(change_before_commit_refused)    \
  X(removed_leader_left)             \
  X(leadership_handed_over)          \
  X(torn_tail_dropped)               \
  X(damaged_tail_found)              \
  X(damaged_middle_found)            \
  X(suspect_restored_by_leader)      \
  X(suspect_did_not_vote)            \
  X(unsynced_tail_rewritten)         \
  X(sync_failed_node_ended)          \
  X(segment_rotated)                 \
  X(segments_freed)                  \
  X(checkpoint_completed)            \
  X(checkpoint_interrupted)          \
  X(checkpoint_loaded)               \
  X(snapshot_sent)                   \
  X(snapshot_installed)              \
  X(snapshot_over_diverged_log)      \
  X(election_won)                    \
  X(election_lost)                   \
  X(election_during_recovery)        \
  X(pre_vote_refused)                \
  X(check_quorum_stepped_down)       \
  X(uncommitted_overwritten)         \
  X(old_term_entry_not_counted)      \
  X(append_rejected)                 \
  X(read_index_confirmed)            \
  X(read_index_retried)              \
  X(read_deferred_no_commit_in_term) \
  X(forwarded_to_leader)             \
  X(outcome_unknown)                 \
  X(outcome_certain_after_overwrite) \
  X(session_retry_answered)          \
  X(session_expired)                 \
  X(key_expired)                     \
  X(expiry_committed_for_read)       \
  X(wiped_node_refused)              \
  X(old_connection_bytes_late)       \
  X(out_of_memory_refused)           \
  X(disk_full_met)                   \
  X(vote_given)                      \
  X(checkpoint_renewed)              \
  X(checkpoint_written)              \
  X(read_round_begun)                \
  X(acknowledged_entries_missing)    \
  X(replica_made)                    \
  X(replica_removed)                 \
  X(shard_split)                     \
  X(stale_epoch_refused)             \
  X(leader_rested)                   \
  X(follower_rested)                 \
  X(rest_ended)                      \
  X(follower_read_requested)         \
  X(follower_read_answered)          \
  X(lease_read_answered)             \
  X(laggard_rewritten)               \
  X(split_repeated)                  \
  X(split_lost)                      \
  X(node_known_from_log)

enum class Probe : uint16_t {
#define X(name) name,
  MNEME_PROBES(X)
#undef X
};

inline constexpr std::array kProbeNames = {
#define X(name) std::string_view(#name),
    MNEME_PROBES(X)
#undef X
};
inline constexpr size_t kProbeCount = kProbeNames.size();

class Probes {
 public:
  virtual ~Probes() = default;
  virtual void reached(Probe probe) = 0;
};

}  // namespace mneme
