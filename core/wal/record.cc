#include "core/wal/record.h"

#include <fmt/format.h>

#include "core/base/check.h"
#include "core/base/limits.h"

namespace mneme::wal {

namespace {

constexpr size_t kPrefixBytes = 8;
constexpr uint16_t kHasPayload = 1;
constexpr uint16_t kHasGeneration = 1;

size_t body_bytes(RecordType type, bool has_generation) {
  switch (type) {
    case RecordType::kEntry: return kEntryRecordBytes - kPrefixBytes;
    case RecordType::kHardState: return 24;
    case RecordType::kCheckpoint: return 32;
    case RecordType::kSuspect: return 8;
    case RecordType::kRemoved: return has_generation ? 16 : 8;
    case RecordType::kBegun: return 16;
    case RecordType::kSummary: return 64;
    case RecordType::kSplitOff: return 48;
  }
  return 0;
}

void put_position(Writer<Bytes>& w, const raft::LogPosition& position) {
  w.id(position.index);
  w.id(position.term);
}

raft::LogPosition get_position(Reader& r) {
  raft::LogPosition position;
  position.index = r.id<LogIndex>();
  position.term = r.id<Term>();
  return position;
}

void put_hard_state(Writer<Bytes>& w, const raft::HardState& hard_state) {
  w.id(hard_state.term);
  w.id(hard_state.vote);
}

raft::HardState get_hard_state(Reader& r) {
  raft::HardState hard_state;
  hard_state.term = r.id<Term>();
  hard_state.vote = r.id<ReplicaId>();
  return hard_state;
}

}  // namespace

void encode_entry(Bytes& out, GroupId group, uint32_t generation, const raft::Entry& entry) {
  const size_t payload = entry.payload_bytes();
  CHECK(payload <= limits::kMaxEntryBytes);
  uint8_t r[kEntryRecordBytes];
  store_le(r + 0, static_cast<uint8_t>(RecordType::kEntry));
  store_le(r + 1, static_cast<uint8_t>(entry.kind));
  store_le(r + 2, entry.payload ? kHasPayload : uint16_t{0});
  store_le(r + 4, static_cast<uint32_t>(sizeof r - kPrefixBytes + payload));
  store_le(r + 8, group.value);
  store_le(r + 16, entry.index.value);
  store_le(r + 24, entry.term.value);
  store_le(r + 32, generation);
  store_le(r + 36, uint32_t{0});
  out.insert(out.end(), r, r + sizeof r);
  if (payload != 0) {
    ByteView bytes = as_bytes(*entry.payload);
    out.insert(out.end(), bytes.begin(), bytes.end());
  }
}

void encode_state(Bytes& out, const Record& record) {
  const bool marked = record.type == RecordType::kCheckpoint ? record.restart : record.suspect;
  Writer w(out);
  w.u8(static_cast<uint8_t>(record.type));
  w.u8(marked ? 1 : 0);
  w.u16(record.has_generation ? kHasGeneration : 0);
  w.u32(static_cast<uint32_t>(body_bytes(record.type, record.has_generation)));
  w.id(record.group);
  switch (record.type) {
    case RecordType::kEntry: CHECK(record.type != RecordType::kEntry); break;
    case RecordType::kHardState: put_hard_state(w, record.hard_state); break;
    case RecordType::kCheckpoint:
      put_position(w, record.checkpoint);
      w.u64(record.checkpoint_id);
      break;
    case RecordType::kSuspect: break;
    case RecordType::kRemoved:
      if (!record.has_generation) break;
      [[fallthrough]];
    case RecordType::kBegun:
      w.u32(record.generation);
      w.u32(0);
      break;
    case RecordType::kSummary:
      put_hard_state(w, record.hard_state);
      put_position(w, record.checkpoint);
      w.u64(record.checkpoint_id);
      put_position(w, record.last);
      break;
    case RecordType::kSplitOff:
      put_position(w, record.checkpoint);
      w.id(record.origin.parent);
      put_position(w, record.origin.entry);
      break;
  }
}

Result<Record> decode_record(Reader& reader) {
  const uint8_t type = reader.u8();
  const uint8_t kind = reader.u8();
  const uint16_t flags = reader.u16();
  const uint32_t bytes = reader.u32();
  Reader body(reader.raw(bytes));
  if (!reader.ok()) return fail(ErrorCode::kCorrupt, "a record is cut short");
  Record record;
  record.type = static_cast<RecordType>(type);
  const bool is_entry = record.type == RecordType::kEntry;
  record.has_generation = record.type == RecordType::kRemoved && flags == kHasGeneration;
  const size_t expected = body_bytes(record.type, record.has_generation);
  if (expected == 0)
    return fail(ErrorCode::kUnsupported, fmt::format("a record of type {}, which this version does not know", type));
  const uint16_t known_flags = is_entry ? kHasPayload : record.has_generation ? kHasGeneration : 0;
  if (kind > (is_entry ? static_cast<uint8_t>(raft::EntryKind::kConfig) : 1) || flags > known_flags)
    return fail(ErrorCode::kUnsupported, fmt::format("a record of type {} and kind {} with flags {:#x}, which this "
                                                     "version does not know",
                                                     type, kind, flags));
  if (is_entry ? bytes < expected : bytes != expected)
    return fail(ErrorCode::kCorrupt, fmt::format("a record of type {} has {} bytes", type, bytes));
  record.group = body.id<GroupId>();
  switch (record.type) {
    case RecordType::kEntry: {
      record.entry_kind = static_cast<raft::EntryKind>(kind);
      record.has_payload = flags == kHasPayload;
      record.position = get_position(body);
      record.generation = body.u32();
      const uint32_t reserved = body.u32();
      record.payload = body.raw(body.remaining());
      if (reserved != 0)
        return fail(ErrorCode::kUnsupported, "an entry with something that this version does not know");
      if (!record.has_payload && !record.payload.empty())
        return fail(ErrorCode::kCorrupt, "an entry without a payload has one");
      break;
    }
    case RecordType::kHardState: record.hard_state = get_hard_state(body); break;
    case RecordType::kCheckpoint:
      record.restart = kind == 1;
      record.checkpoint = get_position(body);
      record.checkpoint_id = body.u64();
      break;
    case RecordType::kSuspect: record.suspect = kind == 1; break;
    case RecordType::kRemoved:
      if (!record.has_generation) break;
      [[fallthrough]];
    case RecordType::kBegun:
      record.generation = body.u32();
      if (body.u32() != 0)
        return fail(ErrorCode::kUnsupported, "a replica with something that this version does not know");
      break;
    case RecordType::kSummary:
      record.suspect = kind == 1;
      record.hard_state = get_hard_state(body);
      record.checkpoint = get_position(body);
      record.checkpoint_id = body.u64();
      record.last = get_position(body);
      break;
    case RecordType::kSplitOff:
      record.checkpoint = get_position(body);
      record.origin.parent = body.id<GroupId>();
      record.origin.entry = get_position(body);
      if (!record.origin || record.origin.parent >= record.group)
        return fail(ErrorCode::kCorrupt, fmt::format("group {} is split off group {}, which cannot be",
                                                     record.group.value, record.origin.parent.value));
      break;
  }
  return record;
}

raft::Entry entry_of(const Record& record) {
  raft::Entry entry;
  entry.term = record.position.term;
  entry.index = record.position.index;
  entry.kind = record.entry_kind;
  if (record.has_payload) entry.payload = std::make_shared<const std::string>(as_text(record.payload));
  return entry;
}

}  // namespace mneme::wal
