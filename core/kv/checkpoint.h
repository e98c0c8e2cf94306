// A checkpoint: the whole state at one applied (index, term), as a stream of bytes written while the state moves on.
//
// Two replicas at the same applied index write the same bytes, whatever their histories and however the stream is cut
// into chunks: records in key order, sessions by id, no capacity, no padding, no time of writing.
//
// Format, version 3; integers little-endian. The stream is a sequence of blocks, numbered from 0:
//
//   offset size
//        0    4  length of the payload
//        4    1  type: 0 header (the first block and no other), 1 records, 2 sessions, 4 shard map, 3 end (the last and
//                no other), in this order
//        5    3  reserved, 0
//        8    8  XXH3 of the payload. Seed: XXH3 of the checkpoint's identity (8 bytes), the block's number (8 bytes)
//        and
//                the block's first 8 bytes, so that neither a block of another checkpoint, nor one in another place,
//                nor a false length can pass
//       16       the payload
//
//   Header payload:
//        0    8  magic "MNEMECKP"
//        8    4  format version (3)
//       12    4  reserved, 0
//       16    8  applied index
//       24    8  its term
//       32    8  log time, milliseconds
//       40    8  number of records, expired but not yet swept ones included
//       48    8  number of sessions
//       56    8  digest of the state (StateMachine::digest)
//       64       the group's configuration, as StateMachine::configure() was given it: a 4-byte length and bytes
//                then the shard's epoch, 8, and that of its slots, 8; 0 and 0: it has not begun
//                the highest id of a session that was forgotten (session.h), 8; 0: none
//                length of the shard map, 8; 0: none
//                the shard's slots, as core/shard/slot_set.h writes them
//   Versions 1 and 2 are still read: a shard that has not begun. Version 2 ends with the configuration, version 1
//   before it.
//   The identity is the XXH3 of the header payload; for the header block itself it is 0.
//
//   Records payload: records with ascending keys, over all blocks:
//        0    8  expiry, log time in milliseconds, 0: never
//        8    1  kind (store.h)
//        9    2  key length
//       11    4  value length
//       15       key, value
//   A block ends with the record that fills it to 64 KiB or more.
//
//   Sessions payload: items, cut into blocks in the same way; sessions ascend by id, replies by (sequence, slot):
//        0    1  1: a session: id u64, last use i64, acknowledged u64
//             1  2: a kept reply of the session before: sequence u64, slot u16, replies as a 4-byte length and bytes
//
//   Map payload: what shard::Map::encode() writes, cut after each 64 KiB.
//
//   End payload: empty. Nothing follows it.
//
// There being no records (no sessions, no map), there is no block of that type.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/base/ids.h"
#include "core/kv/state_machine.h"

namespace mneme::kv {

inline constexpr uint32_t kCheckpointVersion = 3;
inline constexpr size_t kCheckpointBlockBytes = 64 * limits::kKiB;  // a block is at least this full, but for the last
inline constexpr size_t kMaxCheckpointBlockBytes =
    kCheckpointBlockBytes + limits::kMaxValueBytes + limits::kMaxKeyBytes + 1024;

// Writes the state as it is when the writer is made, however it changes afterwards: of every key and session that is
// about to change and was not written yet, it first takes a copy. Those copies, held_bytes(), are the price of not
// stopping; in the worst case they are as large as the state. The shard map is copied at once.
//
// The state machine outlives the writer and has at most one at a time.
class CheckpointWriter final : private TableObserver, private SessionObserver {
 public:
  // `term` is that of the entry last applied.
  CheckpointWriter(StateMachine& machine, Term term);
  ~CheckpointWriter() override;
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // The next bytes of the stream, at most `max_bytes` (at least 1) of them; empty when all were given. A call does work
  // for about a block or for `max_bytes`, whichever is more.
  std::string next_chunk(size_t max_bytes);
  bool done() const { return phase_ == Phase::kDone && given_ == pending_.size(); }

  LogIndex index() const { return index_; }
  Term term() const { return term_; }
  size_t held_bytes() const { return held_bytes_; }

 private:
  enum class Phase : uint8_t { kRecords, kSessions, kMap, kEnd, kDone };
  struct OldRecord {
    Kind kind;
    int64_t expire_at_ms;
    std::string value;
  };

  void before_change(std::string_view key, const Record* record) override;
  void before_change(SessionId id, const Session* session) override;
  void write_header();
  void write_records();
  void write_sessions();
  void write_map();
  void write_block(uint8_t type, std::string_view payload);
  void stop();

  StateMachine& machine_;
  LogIndex index_;
  Term term_;
  Phase phase_ = Phase::kRecords;
  uint64_t identity_ = 0;
  uint64_t block_ = 0;
  std::string next_key_;       // records below it are written
  uint64_t next_session_ = 0;  // sessions below it are written
  std::string session_block_;  // items that did not fill a block yet
  // What the not yet written ones that have changed since were; nothing: they did not exist.
  std::map<std::string, std::optional<OldRecord>, std::less<>> old_records_;
  std::map<uint64_t, std::optional<Session>> old_sessions_;
  std::string map_;  // encoded
  size_t map_written_ = 0;
  size_t held_bytes_ = 0;
  std::string pending_;  // encoded; the first given_ bytes were handed out
  size_t given_ = 0;
};

// Builds a state machine from a stream, cut in any way. Checks everything: a stream that was damaged, cut short, put
// together from several or written by another version gives an error, and no state.
class CheckpointLoader {
 public:
  explicit CheckpointLoader(Probes* probes = nullptr);

  // kCorrupt or kUnsupported; after an error the loader is of no more use. Buffers at most one block.
  Result<void> feed(std::string_view bytes);
  // After the last byte: the state, complete and with the digest that the writer had.
  Result<std::unique_ptr<StateMachine>> finish() &&;

  // Known once the header was fed.
  LogIndex index() const { return machine_->applied(); }
  Term term() const { return term_; }

 private:
  Result<void> take_block(uint8_t type, std::string_view payload);
  Result<void> take_header(std::string_view payload);
  Result<void> take_records(std::string_view payload);
  Result<void> take_sessions(std::string_view payload);
  Result<void> take_map(std::string_view payload);

  std::unique_ptr<StateMachine> machine_;
  Probes* probes_;
  Term term_;
  uint64_t identity_ = 0;
  uint64_t block_ = 0;
  uint64_t records_ = 0;  // as the header says
  uint64_t sessions_ = 0;
  uint64_t digest_ = 0;
  uint64_t map_bytes_ = 0;
  std::string map_;
  uint8_t last_type_ = 0;
  std::string last_key_;
  std::string buffer_;
};

}  // namespace mneme::kv
