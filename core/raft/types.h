// What Raft replicates, keeps and says: entries, hard state, messages. Plain data, no behaviour.
//
// Terms are those of the Raft paper (Ongaro and Ousterhout, extended version) and of Ongaro's thesis.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/ids.h"

namespace mneme::raft {

enum class EntryKind : uint8_t {
  kNoop = 0,    // committed by a new leader to learn what is committed; no payload
  kData = 1,    // opaque to raft
  kConfig = 2,  // the group's new configuration (configuration.h); raft's own
};

struct Entry {
  Term term;
  LogIndex index;
  EntryKind kind = EntryKind::kNoop;
  std::shared_ptr<const std::string> payload;  // shared by log, messages and apply; never changed; null for kNoop

  size_t payload_bytes() const { return payload ? payload->size() : 0; }
};

// Must be durable before any message that depends on it is sent.
struct HardState {
  Term term;
  ReplicaId vote;  // who got this node's vote in `term`; 0: nobody yet

  bool operator==(const HardState&) const = default;
};

// Where a snapshot or checkpoint stands in the log: it covers everything up to and including `index`.
struct LogPosition {
  LogIndex index;
  Term term;

  bool operator==(const LogPosition&) const = default;
};

enum class MessageType : uint8_t {
  kPreVote = 1,
  kPreVoteReply,
  kVote,
  kVoteReply,
  kAppend,       // entries follow `log`; an empty one probes
  kAppendReply,  // accepted: `log.index` is the last index known to match, durable there
  kHeartbeat,    // carries commit (bounded by the receiver's match) and the read round; 0: not answered
  kHeartbeatReply,
  kSnapshot,  // `log` is the snapshot's position; its files travel apart, before this message is stepped; its one entry
              // carries the configuration there
  kRestore,   // a suspect replica (see raft.h) asks the leader how far its log reaches
  kRestoreReply,
  kTimeoutNow,      // the leader hands over: campaign at once (thesis 3.10)
  kReadIndex,       // a follower asks what a linearizable read must see; `round`: its own name for the request, echoed
  kReadIndexReply,  // `commit`: the index
};
inline constexpr MessageType kLastMessageType = MessageType::kReadIndexReply;

struct Message {
  MessageType type = MessageType::kHeartbeat;
  bool reject = false;    // replies
  bool suspect = false;   // replies: said by a suspect replica (raft.h), does not count towards a majority
  bool transfer = false;  // kVote: the leader itself asked for this election
  bool rest = false;  // kHeartbeat: the group has nothing to do, no more will come (rest.cc); `log` is the leader's end
  ReplicaId from;
  ReplicaId to;
  Term term;         // the sender's; pre-votes: the term it would campaign in
  LogPosition log;   // kAppend: what the entries follow; votes: the candidate's last entry; replies: see above
  LogPosition hint;  // rejected kAppend: where the follower suggests to probe next (thesis 5.3, by term)
  LogIndex commit;
  uint64_t round = 0;  // read round, echoed by replies; kRestore: the nonce, echoed
  std::vector<Entry> entries;
};

}  // namespace mneme::raft
