#include "core/base/hash.h"
#include "core/kv/errors.h"
#include "core/kv/execute.h"
#include "core/kv/table.h"

namespace mneme::kv {

using namespace protocol;

std::optional<Value> Reading::find(std::string_view key) {
  std::optional<Value> value = store.find(key);
  if (value && value->expire_at_ms != 0 && value->expire_at_ms <= now_ms) expiry_due = true;
  return value;
}

namespace {

// Replies that several values add up to are bounded here, because their size does not follow from the command's.
bool too_long(std::string& out, size_t begin) {
  if (out.size() - begin <= limits::kMaxReplyBytes) return false;
  out.resize(begin);
  put_error(out, kReplyTooLong);
  return true;
}

void put_value_or_null(std::string& out, const std::optional<Value>& value) {
  if (value) {
    put_bulk(out, value->bytes);
  } else {
    put_null(out);
  }
}

void get_many(Args keys, Reading& reading, std::string& out) {
  size_t begin = out.size();
  put_array(out, keys.size());
  for (std::string_view key : keys) {
    put_value_or_null(out, reading.find(key));
    if (too_long(out, begin)) return;
  }
}

void count_existing(Args keys, Reading& reading, std::string& out) {
  int64_t count = 0;
  for (std::string_view key : keys) count += reading.find(key).has_value();
  put_integer(out, count);
}

void get_range(Args args, Reading& reading, std::string& out) {
  auto first = parse_integer(args[2]);
  auto last = parse_integer(args[3]);
  if (!first || !last) return put_error(out, kNotAnInteger);
  auto value = reading.find(args[1]);
  int64_t size = value ? static_cast<int64_t>(value->bytes.size()) : 0;
  int64_t from = *first;
  int64_t to = *last;
  if (size == 0 || (from < 0 && to < 0 && from > to)) return put_bulk(out, {});
  if (from < 0) from = std::max<int64_t>(size + from, 0);
  if (to < 0) to = std::max<int64_t>(size + to, 0);
  to = std::min(to, size - 1);
  if (from > to) return put_bulk(out, {});
  put_bulk(out, value->bytes.substr(static_cast<size_t>(from), static_cast<size_t>(to - from + 1)));
}

enum class TimeForm { kLeftSeconds, kLeftMs, kAtSeconds, kAtMs };

void time_to_live(std::string_view key, TimeForm form, Reading& reading, std::string& out) {
  auto value = reading.find(key);
  if (!value) return put_integer(out, -2);
  if (value->expire_at_ms == 0) return put_integer(out, -1);
  bool absolute = form == TimeForm::kAtSeconds || form == TimeForm::kAtMs;
  int64_t ms = absolute ? value->expire_at_ms : std::max<int64_t>(value->expire_at_ms - reading.now_ms, 0);
  bool whole_ms = form == TimeForm::kLeftMs || form == TimeForm::kAtMs;
  put_integer(out, whole_ms ? ms : ms / 1000 + (ms % 1000 >= 500));
}

// Collects bulk strings whose number is known only at the end.
class ArrayReply {
 public:
  void add(std::string_view bytes) {
    put_bulk(items_, bytes);
    ++count_;
  }
  size_t bytes() const { return items_.size(); }
  bool too_long() const { return bytes() > limits::kMaxReplyBytes; }
  void write(std::string& out) const {
    if (too_long()) return put_error(out, kReplyTooLong);
    put_array(out, count_);
    out += items_;
  }

 private:
  size_t count_ = 0;
  std::string items_;
};

void list_keys(std::string_view pattern, Reading& reading, std::string& out) {
  ArrayReply reply;
  reading.store.visit({}, [&](std::string_view key, const Value& value) {
    if (value.expire_at_ms != 0 && value.expire_at_ms <= reading.now_ms) reading.expiry_due = true;
    if (glob_matches(pattern, key)) reply.add(key);
    return !reply.too_long();
  });
  reply.write(out);
}

struct ScanOptions {
  std::string_view pattern = "*";
  bool strings = true;  // the only type there is is wanted
  int64_t count = 10;
};

// [COUNT n] [MATCH pattern] [TYPE type], or the error's text.
std::optional<std::string_view> parse_scan_options(Args words, ScanOptions& options) {
  for (size_t i = 0; i < words.size(); i += 2) {
    if (i + 1 == words.size()) return kSyntaxError;
    if (equals_ignoring_case(words[i], "count")) {
      auto number = parse_integer(words[i + 1]);
      if (!number) return kNotAnInteger;
      if (*number < 1) return kSyntaxError;
      options.count = *number;
    } else if (equals_ignoring_case(words[i], "match")) {
      options.pattern = words[i + 1];
    } else if (equals_ignoring_case(words[i], "type")) {
      options.strings = equals_ignoring_case(words[i + 1], "string");
    } else {
      return kSyntaxError;
    }
  }
  return {};
}

// One call's work, whatever COUNT says.
constexpr size_t kMaxScannedKeys = 16 * 1024;
constexpr size_t kEnoughScanBytes = limits::kMiB;

// mneme.scan from begin end [COUNT n] [MATCH pattern] [TYPE type]: from the key `from` on, in byte order, looks at keys
// of the slots from `begin` on and below `end`. Answers the key to go on from, null when there are no more, and an
// array of those that match. Without state here, so that SCAN goes on where a shard has been split or moved.
void scan_slots(Args args, Reading& reading, std::string& out) {
  auto begin = parse_integer(args[2]);
  auto end = parse_integer(args[3]);
  if (!begin || !end || *begin < 0 || *end > kSlots) return put_error(out, "ERR Invalid slot");
  ScanOptions options;
  if (auto wrong = parse_scan_options(args.subspan(4), options)) return put_error(out, *wrong);
  ArrayReply reply;
  std::optional<std::string> goes_on_from;
  size_t seen = 0;
  reading.store.visit(args[1], [&](std::string_view key, const Value& value) {
    if (options.count == 0 || seen == kMaxScannedKeys || reply.bytes() > kEnoughScanBytes) {
      goes_on_from = key;
      return false;
    }
    ++seen;
    const uint16_t slot = slot_of(key);
    if (slot < *begin || slot >= *end) return true;
    --options.count;
    if (value.expire_at_ms != 0 && value.expire_at_ms <= reading.now_ms) reading.expiry_due = true;
    if (options.strings && glob_matches(options.pattern, key)) reply.add(key);
    return true;
  });
  put_array(out, 2);
  if (goes_on_from) {
    put_bulk(out, *goes_on_from);
  } else {
    put_null(out);
  }
  reply.write(out);
}

// RANGE start end [LIMIT n] [PREFIX]: keys from `start` on and below `end`, each followed by its value. An empty end is
// no end. With PREFIX the keys that begin with `end` belong to the range too, so that RANGE p p PREFIX lists those that
// begin with p.
void range(Args args, Reading& reading, std::string& out) {
  std::string_view end = args[2];
  bool prefix = false;
  int64_t limit = INT64_MAX;
  for (size_t i = 3; i < args.size(); ++i) {
    if (equals_ignoring_case(args[i], "prefix")) {
      prefix = true;
    } else if (equals_ignoring_case(args[i], "limit") && i + 1 < args.size()) {
      auto number = parse_integer(args[++i]);
      if (!number) return put_error(out, kNotAnInteger);
      if (*number < 0) return put_error(out, "ERR value is out of range, must be positive");
      limit = *number;
    } else {
      return put_error(out, kSyntaxError);
    }
  }
  ArrayReply reply;
  reading.store.visit(args[1], [&](std::string_view key, const Value& value) {
    if (limit-- == 0) return false;
    if (!end.empty() && !(key < end) && !(prefix && key.starts_with(end))) return false;
    if (value.expire_at_ms != 0 && value.expire_at_ms <= reading.now_ms) reading.expiry_due = true;
    reply.add(key);
    reply.add(value.bytes);
    return !reply.too_long();
  });
  reply.write(out);
}

void random_key(Reading& reading, std::string& out) {
  auto key = reading.store.some_key(reading.pick);
  if (!key) return put_null(out);
  reading.find(*key);
  put_bulk(out, *key);
}

void count_keys(Reading& reading, std::string& out) {
  if (reading.store.next_expiry_ms() <= reading.now_ms) reading.expiry_due = true;
  put_integer(out, static_cast<int64_t>(reading.store.size()));
}

std::optional<uint16_t> parse_slot(std::string_view text) {
  auto number = parse_integer(text);
  if (!number || *number < 0 || *number >= kSlots) return std::nullopt;
  return static_cast<uint16_t>(*number);
}

void count_keys_in_slot(Args args, Reading& reading, std::string& out) {
  if (!parse_integer(args[2])) return put_error(out, kNotAnInteger);
  auto slot = parse_slot(args[2]);
  if (!slot) return put_error(out, "ERR Invalid slot");
  if (reading.store.next_expiry_ms() <= reading.now_ms) reading.expiry_due = true;
  put_integer(out, static_cast<int64_t>(reading.store.size_of_slot(*slot)));
}

void list_keys_in_slot(Args args, Reading& reading, std::string& out) {
  auto count = parse_integer(args[3]);
  if (!parse_integer(args[2]) || !count) return put_error(out, kNotAnInteger);
  auto slot = parse_slot(args[2]);
  if (!slot || *count < 0) return put_error(out, "ERR Invalid slot or number of keys");
  ArrayReply reply;
  if (*count > 0) {
    reading.store.visit_slot(*slot, [&](std::string_view key, const Value& value) {
      if (value.expire_at_ms != 0 && value.expire_at_ms <= reading.now_ms) reading.expiry_due = true;
      reply.add(key);
      return --*count > 0 && !reply.too_long();
    });
  }
  reply.write(out);
}

void get_typed(std::string_view key, Reading& reading, std::string& out) {
  auto value = reading.find(key);
  if (!value) return put_null(out);
  put_array(out, 2);
  if (value->kind == Kind::kString) {
    put_bulk(out, "string");
    put_bulk(out, value->bytes);
  } else {
    put_bulk(out, "num");
    put_integer(out, parse_integer(value->bytes).value_or(0));
  }
}

void memory_usage(Args args, Reading& reading, std::string& out) {
  if (args.size() == 5 && equals_ignoring_case(args[3], "samples")) {
    auto samples = parse_integer(args[4]);
    if (!samples) return put_error(out, kNotAnInteger);
    if (*samples < 0) return put_error(out, kSyntaxError);
  } else if (args.size() != 3) {
    return put_error(out, kSyntaxError);
  }
  auto value = reading.find(args[2]);
  if (!value) return put_null(out);
  put_integer(out, static_cast<int64_t>(Table::bytes_of(args[2].size(), value->bytes.size())));
}

}  // namespace

void execute_read(CommandId id, Args args, Reading& reading, std::string& out) {
  switch (id) {
    case CommandId::kGet: return put_value_or_null(out, reading.find(args[1]));
    case CommandId::kMget: return get_many(args.subspan(1), reading, out);
    case CommandId::kExists:
    case CommandId::kTouch: return count_existing(args.subspan(1), reading, out);
    case CommandId::kStrlen: {
      auto value = reading.find(args[1]);
      return put_integer(out, value ? static_cast<int64_t>(value->bytes.size()) : 0);
    }
    case CommandId::kGetrange:
    case CommandId::kSubstr: return get_range(args, reading, out);
    case CommandId::kTtl: return time_to_live(args[1], TimeForm::kLeftSeconds, reading, out);
    case CommandId::kPttl: return time_to_live(args[1], TimeForm::kLeftMs, reading, out);
    case CommandId::kExpiretime: return time_to_live(args[1], TimeForm::kAtSeconds, reading, out);
    case CommandId::kPexpiretime: return time_to_live(args[1], TimeForm::kAtMs, reading, out);
    case CommandId::kType: return put_simple(out, reading.find(args[1]) ? "string" : "none");
    case CommandId::kScan: return put_error(out, kNotInTransaction);  // nodes do it, by mneme.scan
    case CommandId::kScanSlots: return scan_slots(args, reading, out);
    case CommandId::kKeys: return list_keys(args[1], reading, out);
    case CommandId::kRange: return range(args, reading, out);
    case CommandId::kRandomkey: return random_key(reading, out);
    case CommandId::kClusterCountkeysinslot: return count_keys_in_slot(args, reading, out);
    case CommandId::kClusterGetkeysinslot: return list_keys_in_slot(args, reading, out);
    case CommandId::kDbsize: return count_keys(reading, out);
    case CommandId::kGettyped: return get_typed(args[1], reading, out);
    case CommandId::kMemoryUsage: return memory_usage(args, reading, out);
    default: return put_error(out, kNotReplicated);
  }
}

}  // namespace mneme::kv
