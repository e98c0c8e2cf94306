#include "core/kv/state_machine.h"

#include <fmt/format.h>

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/kv/errors.h"

namespace mneme::kv {

using namespace protocol;

namespace {

// How many are removed per applied batch: more for batches of many commands, so that sweeping keeps up with adding.
constexpr size_t kSweptKeys = 256;
constexpr size_t kSweptSessions = 64;

// Keys that are fetched ahead at once: more of them would push each other out of the nearest caches.
constexpr size_t kMostExpected = 64;
constexpr size_t kFewRecords = 4096;  // are in the cache anyway

constexpr uint64_t kStateSeed = 0x6d6e656d652e6d31;
constexpr uint64_t kShardSeed = 0x6d6e656d652e6431;

// A session's id is its entry's index and its command's position there; a batch has fewer than 2^20 commands.
constexpr unsigned kPositionBits = 20;
static_assert(limits::kMaxEntryBytes / (kBatchCommandBytes + 4) < (size_t{1} << kPositionBits));

constexpr std::string_view kNotKept = "EXPIRED the reply was too long to be kept for a retry; the command was executed";

// What a session keeps in place of replies too long to keep; a command's reply is never empty.
constexpr std::string_view kNoReplies = {};

constexpr std::string_view kFewerKept = "ERR the transaction that first used this number had fewer commands";

const CommandSpec* find_spec(Args args) {
  std::string ignored;
  return check(args, ignored, Sender::kNode);
}

// What belongs to no shard. Nodes' reads do.
bool needs_no_shard(const CommandSpec& spec) {
  return (spec.is(kInternal) && spec.is(kWrite)) || spec.id == CommandId::kSessionOpen ||
         spec.id == CommandId::kSessionClose;
}

bool ends_unit(const CommandMeta& meta) { return !(meta.flags & kInTransaction) || (meta.flags & kLastOfTransaction); }

}  // namespace

StateMachine::StateMachine(Probes* probes, ShardState shard) : probes_(probes) {
  CHECK(shard.valid());
  set_shard(std::move(shard));
}

void StateMachine::set_shard(ShardState shard) {
  shard_ = std::move(shard);
  all_slots_ = shard_.slots.size() == kSlots;
  std::string bytes;
  Writer out(bytes);
  out.id(shard_.epoch);
  out.id(shard_.slots_epoch);
  shard_.slots.encode(bytes);
  shard_digest_ = shard_.begun() ? xxh3(bytes, kShardSeed) : 0;
}

std::optional<uint16_t> StateMachine::middle_slot() const {
  if (shard_.slots.size() < 2) return std::nullopt;
  std::vector<size_t> weights = table_.bytes_by_slot();
  size_t total = 0;
  // A slot weighs something even when it is empty, so that a shard without data is divided, too.
  for (size_t& weight : weights) total += ++weight;
  total -= kSlots - shard_.slots.size();  // which hold nothing
  std::optional<uint16_t> middle;
  size_t least = SIZE_MAX;
  size_t below = 0;
  for (shard::SlotRange range : shard_.slots.ranges()) {
    for (uint16_t slot = range.begin; slot < range.end; ++slot) {
      const size_t apart = std::max(2 * below, total) - std::min(2 * below, total);
      if (below > 0 && apart < least) {
        least = apart;
        middle = slot;
      }
      below += weights[slot];
    }
  }
  return middle;
}

SessionId StateMachine::id_at(size_t position) const { return SessionId(applied_.value << kPositionBits | position); }

uint64_t StateMachine::digest() const {
  uint64_t words[] = {table_.digest(), table_.record_count(), sessions_.digest(), sessions_.size(),
                      static_cast<uint64_t>(log_time_ms())};
  uint64_t digest = xxh3(ByteView(reinterpret_cast<const uint8_t*>(words), sizeof words), kStateSeed);
  if (!configuration_.empty()) digest = fold(digest, configuration_digest_);
  if (shard_.begun()) digest = fold(digest, shard_digest_);
  if (map_.cluster()) digest = fold(digest, map_digest());
  if (sessions_.forgotten()) digest = fold(digest, sessions_.forgotten().value);
  return digest;
}

bool StateMachine::sweep_pending() const {
  return table_.first_expiry_ms() <= log_time_ms() || sessions_.sweep_pending(log_time_ms());
}

void StateMachine::skip(LogIndex index) {
  CHECK(index == applied_.next());
  applied_ = index;
}

void StateMachine::configure(LogIndex index, std::string_view configuration) {
  skip(index);
  set_configuration(configuration);
  if (!shard_.begun()) return;
  ShardState raised = shard_;
  raised.epoch = raised.epoch.next();
  set_shard(std::move(raised));
}

void StateMachine::set_configuration(std::string_view configuration) {
  configuration_ = configuration;
  configuration_digest_ = configuration.empty() ? 0 : xxh3(configuration, kStateSeed);
}

// Nearly always the second argument is the key, and when it is not, nothing is lost but the hint.
bool StateMachine::expect(std::string_view payload) {
  if (table_.record_count() < kFewRecords) return true;
  if (auto reader = BatchReader::open(payload)) {
    while (expected_.size() < kMostExpected && reader->next(command_.meta, command_.args))
      if (command_.args.size() > 1) expected_.push_back(table_.expect(command_.args[1]));
  }
  return expected_.size() < kMostExpected;
}

void StateMachine::expected() {
  for (uint64_t key_hash : expected_) table_.expect_record(key_hash);
  expected_.clear();
}

Result<void> StateMachine::apply(LogIndex index, std::string_view payload, ReplySink& sink) {
  BatchReader reader = TRY(BatchReader::open(payload));
  skip(index);
  move_time(reader.header().log_time_ms, reader.commands());
  if (is_stale(reader)) {
    sink.stale(reader.header(), reader.commands());
    return {};
  }
  sink.begin(reader.header(), reader.commands());
  size_t position = 0;
  while (reader.next(command_.meta, command_.args)) position += apply_unit(reader, position, sink);
  return {};
}

bool StateMachine::is_stale(BatchReader reader) {
  if (!shard_.begun() || accepts(reader.header().epoch)) return false;
  while (reader.next(command_.meta, command_.args)) {
    const CommandSpec* spec = find_spec(command_.args);
    if (spec == nullptr || !spec->is(kInternal) || spec->is(kRead)) return true;
  }
  return false;
}

void StateMachine::change_map(shard::Map& map, std::string_view payload) {
  auto reader = BatchReader::open(payload);
  if (!reader) return;
  CommandMeta meta;
  std::vector<std::string_view> args;
  while (reader->next(meta, args)) {
    const CommandSpec* spec = find_spec(args);
    if (spec == nullptr || spec->id != CommandId::kShardMap) continue;
    if (auto command = shard::decode_command(args[1])) (void)map.apply(*command);
  }
}

bool StateMachine::serves(const CommandSpec& spec, Args args) const {
  if (all_slots_ || needs_no_shard(spec)) return true;
  bool served = shard_.begun();
  for_each_key(spec, args, [&](std::string_view key) { served = served && shard_.slots.contains(slot_of(key)); });
  return served;
}

void StateMachine::move_time(int64_t ms, size_t commands) {
  size_t keys = table_.advance(ms, kSweptKeys + 2 * commands);
  expired_keys_ += keys;
  if (keys > 0) reached(Probe::key_expired);
  size_t sessions = sessions_.sweep(log_time_ms(), kSweptSessions + 2 * commands);
  if (sessions > 0) reached(Probe::session_expired);
}

void StateMachine::open_session(SessionId id) {
  if (sessions_.open(id, log_time_ms()) > 0) reached(Probe::session_expired);
}

size_t StateMachine::apply_unit(BatchReader& reader, size_t position, ReplySink& sink) {
  CommandMeta meta = command_.meta;
  auto refuse = [&](std::string_view text) {
    return answer_unit(reader, position, sink, Outcome::kRefused, kNoReplies, text);
  };
  if (!serves_unit(reader)) return refuse(kNotServed);
  if (!meta.session) return execute_unit(reader, position, sink, nullptr);
  if (shard_.begun() && sessions_.never_seen(meta.session)) open_session(meta.session);
  uint16_t slot = slot_of_unit(reader);
  auto [verdict, kept] = sessions_.admit(meta.session, meta.sequence, slot, meta.ack, log_time_ms());
  switch (verdict) {
    case SessionTable::Verdict::kUnknown: return refuse(unknown_session(meta.session));
    case SessionTable::Verdict::kAcknowledged:
      return refuse(fmt::format("EXPIRED the reply to number {} of session {} was acknowledged", meta.sequence,
                                meta.session.value));
    case SessionTable::Verdict::kFull:
      return refuse(fmt::format("ERR session {} holds too many replies, acknowledge some with SESSION SEQ n ACK m",
                                meta.session.value));
    case SessionTable::Verdict::kRepeat: {
      reached(Probe::session_retry_answered);
      return answer_unit(reader, position, sink, Outcome::kRepeated, kept->replies,
                         kept->replies.empty() ? kNotKept : kFewerKept);
    }
    case SessionTable::Verdict::kExecute: break;
  }
  std::string replies;
  size_t commands = execute_unit(reader, position, sink, &replies);
  if (replies.size() > kMaxKeptBytes) replies = kNoReplies;
  sessions_.keep(meta.session, meta.sequence, slot, std::move(replies));
  return commands;
}

uint16_t StateMachine::slot_of_unit(BatchReader reader) const {
  const CommandSpec* spec = find_spec(command_.args);
  uint16_t slot = spec ? slot_of_command(*spec, command_.args) : kNoSlot;
  CommandMeta meta = command_.meta;
  std::vector<std::string_view> args;
  while (slot == kNoSlot && !ends_unit(meta) && reader.next(meta, args)) {
    spec = find_spec(args);
    if (spec) slot = slot_of_command(*spec, args);
  }
  return slot;
}

// All of it or nothing. What is not a command at all gets its own error.
bool StateMachine::serves_unit(BatchReader reader) const {
  if (all_slots_) return true;
  CommandMeta meta = command_.meta;
  std::vector<std::string_view> args = command_.args;
  for (;;) {
    const CommandSpec* spec = find_spec(args);
    if (spec != nullptr ? !serves(*spec, args) : !shard_.begun()) return false;
    if (ends_unit(meta)) return true;
    CHECK(reader.next(meta, args));
  }
}

size_t StateMachine::execute_unit(BatchReader& reader, size_t position, ReplySink& sink, std::string* kept) {
  size_t commands = 0;
  size_t reply_bytes = 0;
  for (;;) {
    reply_.clear();
    bool transaction = (command_.meta.flags & kInTransaction) != 0;
    bool enough = reply_bytes > limits::kMaxReplyBytes;
    execute(command_.args, transaction, enough, id_at(position + commands), sink, reply_);
    reply_bytes += reply_.size();
    if (kept != nullptr && kept->size() <= kMaxKeptBytes) Writer(*kept).blob(reply_);
    sink.reply(position + commands, Outcome::kExecuted, reply_);
    if (reply_.capacity() > limits::kMiB) reply_ = {};
    ++commands;
    if (ends_unit(command_.meta)) return commands;
    CHECK(reader.next(command_.meta, command_.args));
  }
}

size_t StateMachine::answer_unit(BatchReader& reader, size_t position, ReplySink& sink, Outcome outcome,
                                 std::string_view kept, std::string_view error) {
  Reader replies(kept);
  size_t commands = 0;
  for (;;) {
    reply_ = replies.at_end() ? std::string_view() : replies.blob();
    if (reply_.empty()) put_error(reply_, error);
    sink.reply(position + commands, outcome, reply_);
    ++commands;
    if (ends_unit(command_.meta)) return commands;
    CHECK(reader.next(command_.meta, command_.args));
  }
}

void StateMachine::execute(Args args, bool transaction, bool only_writes, SessionId own_id, ReplySink& sink,
                           std::string& out) {
  const CommandSpec* spec = check(args, out, Sender::kNode);
  if (spec == nullptr) return;
  if (spec->is(kLocal)) return put_error(out, kNotReplicated);
  if (transaction && spec->is(kNoMulti)) return put_error(out, kNotInTransaction);
  if (spec->is(kRead) && only_writes) return put_error(out, kReplyTooLong);
  if (spec->is(kRead)) {
    Reading reading{.store = table_, .now_ms = log_time_ms(), .pick = mix(own_id.value)};
    return execute_read(spec->id, args, reading, out);
  }
  if (spec->id == CommandId::kSessionOpen || spec->id == CommandId::kSessionClose) {
    return execute_session(*spec, args, own_id, out);
  }
  if (spec->is(kInternal)) return execute_internal(*spec, args, sink, out);
  execute_write(spec->id, args, table_, out);
}

void StateMachine::execute_session(const CommandSpec& spec, Args args, SessionId own_id, std::string& out) {
  if (spec.id == CommandId::kSessionOpen) {
    // Somebody made the number up and used it; the next entry has another.
    if (sessions_.all().contains(own_id.value))
      return put_error(out, fmt::format("ERR session {} is there already, open another", own_id.value));
    open_session(own_id);
    return put_integer(out, static_cast<int64_t>(own_id.value));
  }
  auto id = parse_integer(args[2]);
  if (!id) return put_error(out, kNotAnInteger);
  put_integer(out, sessions_.close(SessionId(static_cast<uint64_t>(*id)), log_time_ms()));
}

bool StateMachine::read(const CommandSpec& spec, Args args, const ReadOptions& options, std::string& out) const {
  CHECK(spec.is(kRead));
  if (!serves(spec, args)) {
    put_error(out, kNotServed);
    return false;
  }
  Reading reading{.store = table_, .now_ms = std::max(options.now_ms, log_time_ms()), .pick = options.pick};
  execute_read(spec.id, args, reading, out);
  return reading.expiry_due;
}

size_t StateMachine::growth(const CommandSpec& spec, Args args) const {
  if (!spec.is(kDenyOom)) return 0;
  if (spec.id == CommandId::kSessionOpen) return kSessionBytes;
  size_t argument_bytes = 0;
  for (std::string_view arg : args.subspan(1)) argument_bytes += arg.size();
  size_t keys = 0;
  for_each_key(spec, args, [&](std::string_view) { ++keys; });
  constexpr size_t kDigits = 20;  // of a number that INCR writes
  size_t growth = Table::bytes_of(0, 0) * keys + argument_bytes + kDigits;
  if (spec.id == CommandId::kCopy) {
    if (auto value = table_.find(args[1])) growth += value->bytes.size();
  } else if (spec.id == CommandId::kSetrange) {
    int64_t offset = parse_integer(args[2]).value_or(0);
    growth += static_cast<size_t>(std::clamp<int64_t>(offset, 0, limits::kMaxValueBytes));
  }
  return growth;
}

}  // namespace mneme::kv
