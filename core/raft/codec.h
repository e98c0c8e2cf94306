// The bytes of raft's messages between peers and of entries in messages and in the write-ahead log.
//
// All numbers are little-endian. A message, version 1:
//
//   offset size
//        0    1  version, 1
//        1    1  type (MessageType)
//        2    1  flags: 1 reject, 2 suspect, 4 transfer, 8 rest; others must be 0
//        3    1  must be 0
//        4    8  from
//       12    8  to
//       20    8  term
//       28   16  log: index, term
//       44   16  hint: index, term
//       60    8  commit
//       68    8  round
//       76    4  number of entries, which follow to the end
//
// Flags and types that came later are sent only where the option of Config that needs them is on: it must not be, while
// a member runs a build that knows less.
//
// An entry: 8 term, 8 index, 1 kind (EntryKind), 1 flags (must be 0), 4 payload length, payload.
//
// Decoding never trusts a count or a length before it has seen that the input is long enough. It checks the form, not
// the meaning: whether entries are dense or a sender is known is Raft::step's business.
#pragma once

#include <string>
#include <string_view>

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/raft/types.h"

namespace mneme::raft {

inline constexpr size_t kEntryHeaderBytes = 8 + 8 + 1 + 1 + 4;
inline constexpr size_t kMessageHeaderBytes = 80;

inline size_t encoded_size(const Entry& entry) { return kEntryHeaderBytes + entry.payload_bytes(); }

// Appended to `out`. The payload of a kNoop is not written.
void encode(const Message& message, std::string& out);
void encode_entry(const Entry& entry, std::string& out);
void encode_entry(const Entry& entry, Bytes& out);

// kUnsupported: a version, kind or flag of a newer build. kTooLarge: over kMaxPeerFrameBytes or kMaxEntryBytes.
// kCorrupt: anything else that is not a whole message, or bytes after it.
Result<Message> decode(std::string_view bytes);
// Takes one entry from the reader, whose position is unspecified after an error.
Result<Entry> decode_entry(Reader& reader);

}  // namespace mneme::raft
