// Records, what a frame consists of. Format version 1, little-endian, unaligned, one after another:
//
//   0 u8 type   1 u8 kind   2 u16 flags   4 u32 bytes of the body, which follows:   8 u64 group, and then for
//   entry (1)       16 u64 index  24 u64 term  32 u32 generation  36 u32 reserved  40 payload, to the body's end
//                   The generation is that of the replica (core/base/ids.h).
//                   kind: raft::EntryKind; flags: 1: has a payload, if only an empty one.
//                   Replaces everything of its group from its index on.
//   hard state (2)  16 u64 term  24 u64 vote
//   checkpoint (3)  16 u64 index  24 u64 term  32 u64 checkpoint id
//                   kind 1: the log restarts after it (an installed snapshot): entries are dropped, later ones too.
//   suspect (4)     kind 1: on, 0: off. Group 0: every group that the log has no other record of.
//   removed (5)     flags: 1: 16 u32 generation  20 u32 reserved. The node's replica is gone, with all of its records.
//                   With a generation, which is remembered for good: it and those before never begin again.
//   summary (6)     16 u64 term  24 u64 vote  32 u64 checkpoint index  40 its term  48 its id
//                   56 u64 last entry's index  64 its term      kind: suspect
//   begun (7)       16 u32 generation  20 u32 reserved. The node has a replica of that generation from here on. In a
//                   summary it stands before the group's; a group without one is of generation 0.
//   split off (8)   16 u64 index  24 u64 term  32 u64 parent  40 u64 index of the parent's entry  48 its term
//                   The log begins after (index, term). The state there is in no checkpoint yet: it is what the
//                   parent's entry, a split, gives its child, whose id is above the parent's. In a summary it stands
//                   before the group's, for as long as the group has no checkpoint.
// What is reserved is 0. All but entries are *state records*, which a frame holds twice.
#pragma once

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/raft/types.h"

namespace mneme::wal {

enum class RecordType : uint8_t {
  kEntry = 1,
  kHardState = 2,
  kCheckpoint = 3,
  kSuspect = 4,
  kRemoved = 5,
  kSummary = 6,
  kBegun = 7,
  kSplitOff = 8,
};

// Where the state of a group without a checkpoint comes from.
struct Origin {
  GroupId parent;           // 0: from nowhere, the group began with nothing
  raft::LogPosition entry;  // of the parent's log, which has it until this group has a checkpoint

  explicit operator bool() const { return static_cast<bool>(parent); }
  bool operator==(const Origin&) const = default;
};

struct Record {
  RecordType type = RecordType::kEntry;
  GroupId group;
  uint32_t generation = 0;      // kEntry, kBegun, kRemoved
  bool has_generation = false;  // kRemoved
  raft::EntryKind entry_kind = raft::EntryKind::kNoop;
  bool has_payload = false;
  bool restart = false;          // kCheckpoint
  bool suspect = false;          // kSuspect, kSummary
  raft::LogPosition position;    // kEntry
  raft::HardState hard_state;    // kHardState, kSummary
  raft::LogPosition checkpoint;  // kCheckpoint, kSummary, kSplitOff
  uint64_t checkpoint_id = 0;    // kCheckpoint, kSummary
  raft::LogPosition last;        // kSummary
  Origin origin;                 // kSplitOff
  ByteView payload;              // kEntry; points into the input
};

inline constexpr size_t kEntryRecordBytes = 40;  // without its payload

void encode_entry(Bytes& out, GroupId group, uint32_t generation, const raft::Entry& entry);
// Any but an entry.
void encode_state(Bytes& out, const Record& record);

// The next record. kUnsupported: a type or kind that this version does not know; kCorrupt: cut short or malformed.
Result<Record> decode_record(Reader& reader);

[[nodiscard]] raft::Entry entry_of(const Record& record);

}  // namespace mneme::wal
