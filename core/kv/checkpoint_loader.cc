#include <fmt/format.h>

#include "core/kv/checkpoint.h"
#include "core/kv/checkpoint_format.h"

namespace mneme::kv {

namespace {

std::unexpected<Error> corrupt(std::string_view what) {
  return fail(ErrorCode::kCorrupt, fmt::format("checkpoint is damaged: {}", what));
}

bool valid_num(std::string_view text) {
  auto number = parse_integer(text);
  return number && *number == static_cast<int32_t>(*number);
}

}  // namespace

CheckpointLoader::CheckpointLoader(Probes* probes)
    : machine_(std::make_unique<StateMachine>(probes)), probes_(probes) {}

Result<void> CheckpointLoader::feed(std::string_view bytes) {
  buffer_ += bytes;
  std::string_view rest = buffer_;
  while (rest.size() >= kBlockHeadBytes) {
    if (last_type_ == kEndBlock) return corrupt("bytes follow its end");
    Reader head(rest);
    size_t size = head.u32();
    uint8_t type = head.u8();
    head.raw(3);
    uint64_t checksum = head.u64();
    if (size > kMaxCheckpointBlockBytes) return corrupt(fmt::format("block {} has an impossible length", block_));
    if (rest.size() - kBlockHeadBytes < size) break;
    std::string_view payload = rest.substr(kBlockHeadBytes, size);
    if (block_checksum(identity_, block_, rest, payload) != checksum) {
      return corrupt(fmt::format("block {} does not match its checksum", block_));
    }
    TRY(take_block(type, payload));
    rest.remove_prefix(kBlockHeadBytes + size);
  }
  buffer_.erase(0, buffer_.size() - rest.size());
  return {};
}

Result<void> CheckpointLoader::take_block(uint8_t type, std::string_view payload) {
  auto place = [](uint8_t t) { return t == kEndBlock ? UINT8_MAX : t; };
  bool in_order = block_ == 0 ? type == kHeaderBlock : type != kHeaderBlock && place(type) >= place(last_type_);
  if (!in_order) return corrupt(fmt::format("block {} is out of order", block_));
  last_type_ = type;
  ++block_;
  switch (type) {
    case kHeaderBlock: return take_header(payload);
    case kRecordsBlock: return take_records(payload);
    case kSessionsBlock: return take_sessions(payload);
    case kMapBlock: return take_map(payload);
    case kEndBlock: return payload.empty() ? Result<void>() : corrupt("its end block is not empty");
    default: return fail(ErrorCode::kUnsupported, fmt::format("checkpoint has a block of unknown type {}", type));
  }
}

Result<void> CheckpointLoader::take_header(std::string_view payload) {
  Reader in(payload);
  std::string_view magic = as_text(in.raw(kCheckpointMagic.size()));
  uint32_t version = in.u32();
  uint32_t reserved = in.u32();
  if (!in.ok() || magic != kCheckpointMagic) return corrupt("it does not begin like one");
  if (version == 0 || version > kCheckpointVersion) {
    return fail(ErrorCode::kUnsupported, fmt::format("checkpoint has format version {}; this build reads version {}",
                                                     version, kCheckpointVersion));
  }
  machine_->applied_ = in.id<LogIndex>();
  term_ = in.id<Term>();
  int64_t log_time_ms = in.i64();
  records_ = in.u64();
  sessions_ = in.u64();
  digest_ = in.u64();
  const std::string_view configuration = version == 1 ? std::string_view() : in.blob();
  ShardState shard;
  if (version >= 3) {
    shard.epoch = in.id<Epoch>();
    shard.slots_epoch = in.id<Epoch>();
    machine_->sessions_.restore_forgotten(in.id<SessionId>());
    map_bytes_ = in.u64();
    auto slots = shard::SlotSet::decode(in);
    if (!slots) return corrupt(slots.error().message);
    shard.slots = std::move(*slots);
  }
  const bool valid = in.ok() && in.at_end() && reserved == 0 && log_time_ms >= 0 && shard.valid();
  if (!valid || map_bytes_ > limits::kMaxMapBytes) return corrupt("its header is not valid");
  machine_->set_shard(std::move(shard));
  machine_->table_.advance(log_time_ms, 0);
  machine_->set_configuration(configuration);
  identity_ = xxh3(payload);
  return {};
}

Result<void> CheckpointLoader::take_records(std::string_view payload) {
  Reader in(payload);
  Table& table = machine_->table_;
  while (!in.at_end()) {
    int64_t expire_at_ms = in.i64();
    uint8_t kind = in.u8();
    size_t key_size = in.u16();
    size_t value_size = in.u32();
    std::string_view key = as_text(in.raw(key_size));
    std::string_view bytes = as_text(in.raw(value_size));
    bool valid = in.ok() && expire_at_ms >= 0 && kind <= static_cast<uint8_t>(Kind::kNum) &&
                 bytes.size() <= limits::kMaxValueBytes &&
                 (kind != static_cast<uint8_t>(Kind::kNum) || valid_num(bytes));
    if (!valid) return corrupt("a record is not valid");
    if (table.record_count() > 0 && key <= last_key_) return corrupt("its records are out of order");
    if (machine_->shard_.begun() && !machine_->shard_.slots.contains(slot_of(key)))
      return corrupt("a record is of a slot that is not its shard's");
    table.put(key, {static_cast<Kind>(kind), bytes, expire_at_ms});
    last_key_ = key;
  }
  if (table.record_count() > records_) return corrupt("it has more records than its header says");
  return {};
}

Result<void> CheckpointLoader::take_sessions(std::string_view payload) {
  Reader in(payload);
  SessionTable& sessions = machine_->sessions_;
  while (!in.at_end()) {
    uint8_t item = in.u8();
    bool valid = false;
    if (item == kSessionItem) {
      auto id = in.id<SessionId>();
      int64_t last_used_ms = in.i64();
      uint64_t acknowledged = in.u64();
      valid = in.ok() && last_used_ms <= machine_->log_time_ms() && sessions.restore(id, last_used_ms, acknowledged);
    } else if (item == kReplyItem) {
      uint64_t sequence = in.u64();
      uint16_t slot = in.u16();
      std::string_view replies = in.blob();
      valid = in.ok() && sessions.restore_reply(sequence, slot, std::string(replies));
    }
    if (!valid) return corrupt("a session is not valid");
  }
  if (sessions.size() > sessions_) return corrupt("it has more sessions than its header says");
  return {};
}

Result<void> CheckpointLoader::take_map(std::string_view payload) {
  map_ += payload;
  if (payload.empty() || map_.size() > map_bytes_) return corrupt("its shard map is not as long as its header says");
  if (map_.size() < map_bytes_) return {};
  auto map = shard::Map::decode(map_);
  if (!map) return fail(map.error().code, fmt::format("checkpoint's shard map: {}", map.error().message));
  if (!map->cluster()) return corrupt("its shard map is of no cluster");
  machine_->map_ = std::move(*map);
  return {};
}

Result<std::unique_ptr<StateMachine>> CheckpointLoader::finish() && {
  if (last_type_ != kEndBlock || !buffer_.empty()) return corrupt("it is not complete");
  if (machine_->table_.record_count() != records_ || machine_->sessions_.size() != sessions_) {
    return corrupt("it has fewer records or sessions than its header says");
  }
  if (static_cast<bool>(machine_->map_.cluster()) != (map_bytes_ > 0)) return corrupt("its shard map is not complete");
  if (machine_->digest() != digest_) return corrupt("its contents do not match its digest");
  if (probes_ != nullptr) probes_->reached(Probe::checkpoint_loaded);
  return std::move(machine_);
}

}  // namespace mneme::kv
