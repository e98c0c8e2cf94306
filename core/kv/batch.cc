#include "core/kv/batch.h"

#include <fmt/format.h>

#include "core/base/check.h"
#include "core/base/limits.h"

namespace mneme::kv {

namespace {

constexpr size_t kLogTimeOffset = 16;
constexpr size_t kCommandsAt = 48;
constexpr size_t kLengthBytes = 4;
constexpr uint8_t kKnownFlags = kInTransaction | kFirstOfTransaction | kLastOfTransaction;

CommandMeta load_meta(const char* from) {
  auto* at = reinterpret_cast<const uint8_t*>(from);
  CommandMeta meta;
  meta.flags = at[0];
  meta.session = SessionId(load_le<uint64_t>(at + 8));
  meta.sequence = load_le<uint64_t>(at + 16);
  meta.ack = load_le<uint64_t>(at + 24);
  return meta;
}

uint32_t load_u32(std::string_view from, size_t at) {
  return load_le<uint32_t>(reinterpret_cast<const uint8_t*>(from.data()) + at);
}

// The size of the command that `rest` begins with, 0 when it is not a whole and valid one.
size_t command_size(std::string_view rest) {
  if (rest.size() < kBatchCommandBytes) return 0;
  if ((load_u32(rest, 0) >> 8) != 0) return 0;
  uint32_t count = load_u32(rest, 4);
  if (count == 0 || count > limits::kMaxCommandArgs) return 0;
  size_t at = kBatchCommandBytes;
  for (uint32_t i = 0; i < count; ++i) {
    if (rest.size() - at < kLengthBytes) return 0;
    size_t size = load_u32(rest, at);
    at += kLengthBytes;
    if (rest.size() - at < size) return 0;
    at += size;
  }
  return at;
}

// Whether `meta` may follow `before` (null at the batch's beginning).
bool may_follow(const CommandMeta* before, const CommandMeta& meta) {
  bool inside = before != nullptr && (before->flags & kInTransaction) && !(before->flags & kLastOfTransaction);
  bool in_transaction = (meta.flags & kInTransaction) != 0;
  bool first = (meta.flags & kFirstOfTransaction) != 0;
  if (!in_transaction && meta.flags != 0) return false;
  if (inside != (in_transaction && !first)) return false;
  return !inside || (meta.session == before->session && meta.sequence == before->sequence);
}

}  // namespace

BatchBuilder::BatchBuilder(const BatchHeader& header) {
  Writer out(payload_);
  out.u8(kBatchVersion);
  out.u8(0);
  out.u16(0);
  out.u32(header.cluster_version);
  out.id(header.epoch);
  out.i64(header.log_time_ms);
  out.id(header.origin.node);
  out.id(header.origin.incarnation);
  out.u64(header.origin.request);
  out.u32(0);
  out.u32(0);
  CHECK(payload_.size() == kBatchHeaderBytes);
}

size_t BatchBuilder::encoded_size(Args args) {
  size_t size = kBatchCommandBytes + kLengthBytes * args.size();
  for (std::string_view arg : args) size += arg.size();
  return size;
}

void BatchBuilder::add(const CommandMeta& meta, Args args) {
  CHECK(!args.empty() && args.size() <= limits::kMaxCommandArgs);
  uint8_t head[kBatchCommandBytes] = {};
  head[0] = meta.flags;
  store_le(head + 4, static_cast<uint32_t>(args.size()));
  store_le(head + 8, meta.session.value);
  store_le(head + 16, meta.sequence);
  store_le(head + 24, meta.ack);
  size_t need = payload_.size() + encoded_size(args);
  if (need > payload_.capacity()) payload_.reserve(std::max(need, payload_.capacity() * 2));
  payload_.append(reinterpret_cast<const char*>(head), sizeof head);
  for (std::string_view arg : args) {
    uint8_t length[kLengthBytes];
    store_le(length, static_cast<uint32_t>(arg.size()));
    payload_.append(reinterpret_cast<const char*>(length), sizeof length);
    payload_.append(arg);
  }
  ++commands_;
}

void set_log_time(std::string& payload, int64_t log_time_ms) {
  CHECK(payload.size() >= kBatchHeaderBytes);
  store_le(reinterpret_cast<uint8_t*>(payload.data()) + kLogTimeOffset, log_time_ms);
}

std::string BatchBuilder::finish() && {
  store_le(reinterpret_cast<uint8_t*>(payload_.data()) + kCommandsAt, commands_);
  return std::move(payload_);
}

Result<BatchReader> BatchReader::open(std::string_view payload) {
  if (payload.size() < kBatchHeaderBytes || payload.size() > limits::kMaxEntryBytes) {
    return fail(ErrorCode::kCorrupt, fmt::format("log entry of {} bytes is not a batch of commands", payload.size()));
  }
  Reader in(payload);
  uint8_t version = in.u8();
  uint8_t flags = in.u8();
  uint16_t reserved = in.u16();
  if (version != kBatchVersion || flags != 0) {
    return fail(ErrorCode::kUnsupported,
                fmt::format("log entry has batch format {} with flags {}; this build reads format {}", version, flags,
                            kBatchVersion));
  }
  BatchReader reader;
  reader.header_.cluster_version = in.u32();
  reader.header_.epoch = in.id<Epoch>();
  reader.header_.log_time_ms = in.i64();
  reader.header_.origin.node = in.id<NodeId>();
  reader.header_.origin.incarnation = in.id<Incarnation>();
  reader.header_.origin.request = in.u64();
  reader.commands_ = in.u32();
  uint32_t reserved_too = in.u32();
  if (reserved != 0 || reserved_too != 0) return fail(ErrorCode::kCorrupt, "log entry's batch header is damaged");

  reader.rest_ = payload.substr(kBatchHeaderBytes);
  std::string_view rest = reader.rest_;
  CommandMeta before;
  for (uint32_t i = 0; i < reader.commands_; ++i) {
    size_t size = command_size(rest);
    if (size == 0) return fail(ErrorCode::kCorrupt, fmt::format("log entry's command {} is damaged", i));
    CommandMeta meta = load_meta(rest.data());
    if ((meta.flags & ~kKnownFlags) != 0) {
      return fail(ErrorCode::kUnsupported, fmt::format("log entry's command {} has unknown flags {}", i, meta.flags));
    }
    if (!may_follow(i == 0 ? nullptr : &before, meta)) {
      return fail(ErrorCode::kCorrupt, fmt::format("log entry's command {} breaks a transaction", i));
    }
    before = meta;
    rest.remove_prefix(size);
  }
  if ((before.flags & kInTransaction) && !(before.flags & kLastOfTransaction)) {
    return fail(ErrorCode::kCorrupt, "log entry's last transaction has no end");
  }
  if (!rest.empty()) {
    return fail(ErrorCode::kCorrupt, fmt::format("log entry has {} bytes after its last command", rest.size()));
  }
  return reader;
}

bool BatchReader::next(CommandMeta& meta, std::vector<std::string_view>& args) {
  if (rest_.empty()) return false;
  meta = load_meta(rest_.data());
  uint32_t count = load_u32(rest_, 4);
  args.resize(count);
  size_t at = kBatchCommandBytes;
  for (uint32_t i = 0; i < count; ++i) {
    size_t size = load_u32(rest_, at);
    args[i] = rest_.substr(at + kLengthBytes, size);
    at += kLengthBytes + size;
  }
  rest_.remove_prefix(at);
  return true;
}

}  // namespace mneme::kv
