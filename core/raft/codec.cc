#include "core/raft/codec.h"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "core/base/limits.h"

namespace mneme::raft {

namespace {

constexpr uint8_t kVersion = 1;
constexpr uint8_t kReject = 1;
constexpr uint8_t kSuspect = 2;
constexpr uint8_t kTransfer = 4;
constexpr uint8_t kRest = 8;

template <class Container>
void write_entry(const Entry& entry, Container& out) {
  Writer w(out);
  w.id(entry.term);
  w.id(entry.index);
  w.u8(static_cast<uint8_t>(entry.kind));
  w.u8(0);
  w.blob(entry.payload && entry.kind != EntryKind::kNoop ? std::string_view(*entry.payload) : std::string_view());
}

void write_position(Writer<std::string>& w, LogPosition position) {
  w.id(position.index);
  w.id(position.term);
}

LogPosition read_position(Reader& r) {
  LogPosition position;
  position.index = r.id<LogIndex>();
  position.term = r.id<Term>();
  return position;
}

}  // namespace

void encode_entry(const Entry& entry, std::string& out) { write_entry(entry, out); }
void encode_entry(const Entry& entry, Bytes& out) { write_entry(entry, out); }

void encode(const Message& message, std::string& out) {
  size_t size = kMessageHeaderBytes;
  for (const Entry& entry : message.entries) size += encoded_size(entry);
  out.reserve(out.size() + size);
  Writer w(out);
  w.u8(kVersion);
  w.u8(static_cast<uint8_t>(message.type));
  w.u8(static_cast<uint8_t>((message.reject ? kReject : 0) | (message.suspect ? kSuspect : 0) |
                            (message.transfer ? kTransfer : 0) | (message.rest ? kRest : 0)));
  w.u8(0);
  w.id(message.from);
  w.id(message.to);
  w.id(message.term);
  write_position(w, message.log);
  write_position(w, message.hint);
  w.id(message.commit);
  w.u64(message.round);
  w.u32(static_cast<uint32_t>(message.entries.size()));
  for (const Entry& entry : message.entries) write_entry(entry, out);
}

Result<Entry> decode_entry(Reader& reader) {
  Entry entry;
  entry.term = reader.id<Term>();
  entry.index = reader.id<LogIndex>();
  uint8_t kind = reader.u8();
  uint8_t flags = reader.u8();
  uint32_t length = reader.u32();
  if (!reader.ok()) return fail(ErrorCode::kCorrupt, "a log entry ends within its header");
  if (kind > static_cast<uint8_t>(EntryKind::kConfig))
    return fail(ErrorCode::kUnsupported, fmt::format("log entry {} is of unknown kind {}", entry.index.value, kind));
  if (flags != 0)
    return fail(ErrorCode::kUnsupported, fmt::format("log entry {} has unknown flags {}", entry.index.value, flags));
  if (length > limits::kMaxEntryBytes - kEntryHeaderBytes)
    return fail(ErrorCode::kTooLarge, fmt::format("log entry {} claims {} bytes", entry.index.value, length));
  if (length > reader.remaining())
    return fail(ErrorCode::kCorrupt, fmt::format("log entry {} ends within its payload", entry.index.value));
  entry.kind = static_cast<EntryKind>(kind);
  if (entry.kind == EntryKind::kNoop && length != 0)
    return fail(ErrorCode::kCorrupt, fmt::format("log entry {} is a no-op with a payload", entry.index.value));
  std::string_view payload = as_text(reader.raw(length));
  if (entry.kind != EntryKind::kNoop) entry.payload = std::make_shared<const std::string>(payload);
  return entry;
}

Result<Message> decode(std::string_view bytes) {
  if (bytes.size() > limits::kMaxPeerFrameBytes)
    return fail(ErrorCode::kTooLarge, fmt::format("a raft message of {} bytes", bytes.size()));
  Reader r(bytes);
  uint8_t version = r.u8();
  if (r.ok() && version != kVersion)
    return fail(ErrorCode::kUnsupported, fmt::format("a raft message of version {}", version));
  uint8_t type = r.u8();
  uint8_t flags = r.u8();
  uint8_t zero = r.u8();
  Message m;
  m.from = r.id<ReplicaId>();
  m.to = r.id<ReplicaId>();
  m.term = r.id<Term>();
  m.log = read_position(r);
  m.hint = read_position(r);
  m.commit = r.id<LogIndex>();
  m.round = r.u64();
  uint32_t count = r.u32();
  if (!r.ok()) return fail(ErrorCode::kCorrupt, "a raft message ends within its header");
  if (type < static_cast<uint8_t>(MessageType::kPreVote) || type > static_cast<uint8_t>(kLastMessageType))
    return fail(ErrorCode::kUnsupported, fmt::format("a raft message of unknown type {}", type));
  if ((flags & ~(kReject | kSuspect | kTransfer | kRest)) != 0 || zero != 0)
    return fail(ErrorCode::kUnsupported, fmt::format("a raft message with unknown flags {}", flags));
  m.type = static_cast<MessageType>(type);
  m.reject = (flags & kReject) != 0;
  m.suspect = (flags & kSuspect) != 0;
  m.transfer = (flags & kTransfer) != 0;
  m.rest = (flags & kRest) != 0;
  if (count > r.remaining() / kEntryHeaderBytes)
    return fail(ErrorCode::kCorrupt, fmt::format("a raft message claims {} entries", count));
  m.entries.reserve(count);
  for (uint32_t i = 0; i < count; ++i) m.entries.push_back(TRY(decode_entry(r)));
  if (!r.at_end()) return fail(ErrorCode::kCorrupt, "a raft message has bytes after its end");
  return m;
}

}  // namespace mneme::raft
