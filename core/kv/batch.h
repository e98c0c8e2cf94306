// A batch: what one log entry of the store carries. A header, then commands to be executed in order, in one go.
//
// Format, version 1; integers little-endian:
//
//   offset size
//        0    1  format version (1)
//        1    1  flags: none defined, 0
//        2    2  reserved, 0
//        4    4  cluster version: the lowest format and behaviour that the cluster's nodes have agreed on
//        8    8  epoch of the shard's boundaries at which the proposer routed the commands
//       16    8  log time, milliseconds since the Unix epoch, signed (see table.h)
//       24    8  origin: node that proposed
//       32    8  origin: its incarnation
//       40    8  origin: its number for this proposal, by which it finds those who wait for the replies
//       48    4  number of commands; 0: the entry only moves log time ("time entry")
//       52    4  reserved, 0
//       56       the commands
//
//   A command:
//        0    1  flags: 1 in a transaction, 2 its first command, 4 its last (both for a transaction of one)
//        1    3  reserved, 0
//        4    4  number of arguments, the name included; at least 1
//        8    8  session, 0: none
//       16    8  sequence number within the session
//       24    8  ack: the client has the replies of all sequence numbers up to this one
//       32       the arguments, each a 4-byte length and that many bytes
//
// There is no checksum: the write-ahead log and the peer protocol have theirs. Commands of one transaction are adjacent
// and share session and sequence number. Nothing may follow the last command.
//
// A payload is input: it may come from another build or from a damaged disk. open() validates all of it before any
// command is looked at, so that a damaged entry is never applied by half.
#pragma once

#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/base/ids.h"
#include "core/kv/text.h"

namespace mneme::kv {

inline constexpr uint8_t kBatchVersion = 1;
inline constexpr size_t kBatchHeaderBytes = 56;
inline constexpr size_t kBatchCommandBytes = 32;  // without its arguments

struct Origin {
  NodeId node;
  Incarnation incarnation;
  uint64_t request = 0;

  bool operator==(const Origin&) const = default;
};

struct BatchHeader {
  uint32_t cluster_version = 0;
  Epoch epoch;
  int64_t log_time_ms = 0;
  Origin origin;

  bool operator==(const BatchHeader&) const = default;
};

enum BatchFlag : uint8_t { kInTransaction = 1, kFirstOfTransaction = 2, kLastOfTransaction = 4 };

struct CommandMeta {
  uint8_t flags = 0;
  SessionId session;
  uint64_t sequence = 0;
  uint64_t ack = 0;

  bool operator==(const CommandMeta&) const = default;
};

// Encodes into one string, each argument copied once.
class BatchBuilder {
 public:
  explicit BatchBuilder(const BatchHeader& header);

  // The caller has checked the arguments (check() in command.h), and keeps size() within limits::kMaxEntryBytes.
  void add(const CommandMeta& meta, Args args);

  size_t size() const { return payload_.size(); }
  size_t commands() const { return commands_; }
  // What add() would add.
  static size_t encoded_size(Args args);

  // Leaves the builder empty and unusable.
  std::string finish() &&;

 private:
  std::string payload_;
  uint32_t commands_ = 0;
};

// Sets the header's log time in an encoded payload: only the leader, at the end of a batch's way, knows it.
void set_log_time(std::string& payload, int64_t log_time_ms);

// Reads a validated payload, without copies: the arguments are views into it.
class BatchReader {
 public:
  // kUnsupported: a version or flag of a later build; kCorrupt: not a batch.
  static Result<BatchReader> open(std::string_view payload);

  const BatchHeader& header() const { return header_; }
  size_t commands() const { return commands_; }

  // False after the last command. Copying a reader copies its place, which is how to look ahead.
  bool next(CommandMeta& meta, std::vector<std::string_view>& args);

 private:
  BatchHeader header_;
  uint32_t commands_ = 0;
  std::string_view rest_;
};

}  // namespace mneme::kv
