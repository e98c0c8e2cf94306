// Every bound of the store, together, with the relations between them checked at compile time.
//
// Bounds on outside input are enforced where the input is decoded; the others are CHECKed where they are kept.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mneme::limits {

inline constexpr size_t kKiB = 1024;
inline constexpr size_t kMiB = 1024 * kKiB;

// Commands.
inline constexpr size_t kMaxKeyBytes = 64 * kKiB - 1;
inline constexpr size_t kMaxValueBytes = 8 * kMiB;
inline constexpr size_t kMaxCommandArgs = 64 * kKiB;
inline constexpr size_t kMaxCommandBytes = 12 * kMiB;  // all arguments of one command, and one batch in one entry
inline constexpr size_t kMaxInlineBytes = 64 * kKiB;   // an inline command's line, as Redis has it
inline constexpr size_t kMaxTransactionCommands = 16 * kKiB;  // queued between MULTI and EXEC

// S-expressions.
inline constexpr size_t kMaxSexpFrameBytes = 16 * kMiB - 1;  // so that the length's first byte is 0
inline constexpr size_t kMaxSexpDepth = 32;

// Connections.
inline constexpr size_t kMaxBatchCommands = 1024;          // commands of one connection in flight at once
inline constexpr size_t kReadChunkBytes = 64 * kKiB;       // asked of a stream at a time
inline constexpr size_t kKeptPeerBufferBytes = 16 * kKiB;  // memory that an empty buffer keeps; nodes have hundreds
inline constexpr size_t kMaxReplyBytes = 64 * kMiB;        // of one batch; more: the connection is closed
inline constexpr size_t kMaxClients = 10'000;

// Entries and peers.
inline constexpr size_t kMaxEntryBytes = 13 * kMiB;  // an encoded log entry with its header
inline constexpr size_t kMaxPeerFrameBytes = 16 * kMiB;
inline constexpr size_t kMaxAppendBytes = 1 * kMiB;        // entries in one append message, unless the first is larger
inline constexpr size_t kMaxInflightAppends = 64;          // append messages a leader has out to one follower
inline constexpr size_t kMaxWaitingReads = 16 * kKiB;      // of one replica, those that its followers ask for included
inline constexpr size_t kMaxUncommittedBytes = 64 * kMiB;  // proposals accepted and not committed
inline constexpr size_t kMaxPeerQueueBytes = 32 * kMiB;    // waiting to be sent to one peer; older messages are dropped
inline constexpr size_t kSnapshotChunkBytes = 256 * kKiB;
inline constexpr size_t kMaxNodes = 64;

// Clusters and shards.
inline constexpr size_t kMaxMembers = 4096;           // nodes of a cluster at a time
inline constexpr size_t kMaxMembersEver = 64 * kKiB;  // with those that were removed: their ids are remembered
inline constexpr size_t kMaxReplicas = 16;            // of one shard, learners included
inline constexpr size_t kMaxAddressBytes = 255;
inline constexpr size_t kMaxRackBytes = 64;
inline constexpr size_t kMaxMapBytes = 256 * kMiB;  // an encoded map: far above what the others allow

// Write-ahead log.
inline constexpr size_t kSectorBytes = 512;  // the unit that a disk writes wholly or not at all
inline constexpr size_t kMaxFrameBytes = 32 * kMiB;
inline constexpr size_t kSegmentBytes = 64 * kMiB;
// Large files are synced after so much each time: one sync at the end would keep the log's own syncs waiting.
inline constexpr size_t kWritebackBytes = 1 * kMiB;

// State machine.
inline constexpr size_t kMaxSessions = 100'000;
inline constexpr size_t kMaxSessionReplies = 1024;  // kept per session above its low-water mark

static_assert(kMaxValueBytes + kMaxKeyBytes < kMaxCommandBytes);
static_assert(kMaxCommandBytes < kMaxEntryBytes);
static_assert(kMaxEntryBytes < kMaxPeerFrameBytes);
static_assert(kMaxEntryBytes < kMaxFrameBytes);
static_assert(kMaxFrameBytes < kSegmentBytes);
static_assert(kMaxReplicas <= kMaxNodes);
static_assert(kMaxMembers * (2 * kMaxAddressBytes + kMaxRackBytes + 64) < kMaxEntryBytes);  // founding is one entry
static_assert(kMaxAppendBytes <= kMaxPeerFrameBytes);
static_assert(kSegmentBytes % kSectorBytes == 0);

}  // namespace mneme::limits
