#include <limits>

#include "core/kv/errors.h"
#include "core/kv/execute.h"

namespace mneme::kv {

using namespace protocol;

namespace {

enum class Unit { kSeconds, kMs };

void put_expire_error(std::string& out, std::string_view command) {
  ((out += "-ERR invalid expire time in '") += command) += "' command\r\n";
}

// The log time at which something set to live that long (or until then) expires; nothing after putting an error.
std::optional<int64_t> positive_deadline(std::string_view text, Unit unit, bool absolute, int64_t now_ms,
                                         std::string_view command, std::string& out) {
  auto number = parse_integer(text);
  if (!number) {
    put_error(out, kNotAnInteger);
    return std::nullopt;
  }
  int64_t ms = *number;
  if (ms <= 0 || __builtin_mul_overflow(ms, unit == Unit::kSeconds ? 1000 : 1, &ms) ||
      __builtin_add_overflow(ms, absolute ? 0 : now_ms, &ms)) {
    put_expire_error(out, command);
    return std::nullopt;
  }
  return ms;
}

// Gives an existing or new key its value; a deadline that has passed already leaves no key.
void put_until(Store& store, std::string_view key, std::string_view bytes, int64_t deadline_ms) {
  if (deadline_ms <= store.log_time_ms()) {
    store.erase(key);
  } else {
    store.put(key, {Kind::kString, bytes, deadline_ms});
  }
}

void put_value_or_null(std::string& out, const std::optional<Value>& value) {
  if (value) {
    put_bulk(out, value->bytes);
  } else {
    put_null(out);
  }
}

// The options of SET and GETEX. The two share Redis's rules of what excludes what.
struct Options {
  bool only_new = false;
  bool only_existing = false;
  bool get = false;
  bool keep_ttl = false;
  bool persist = false;
  enum class Expiry { kNone, kEx, kPx, kExat, kPxat } expiry = Expiry::kNone;
  std::string_view time;

  Unit unit() const { return expiry == Expiry::kEx || expiry == Expiry::kExat ? Unit::kSeconds : Unit::kMs; }
  bool absolute() const { return expiry == Expiry::kExat || expiry == Expiry::kPxat; }
};

bool parse_options(Args words, bool set, Options& o) {
  using Expiry = Options::Expiry;
  for (size_t i = 0; i < words.size(); ++i) {
    std::string_view word = words[i];
    auto expiry_option = [&](std::string_view name, Expiry expiry) {
      if (!equals_ignoring_case(word, name) || o.keep_ttl || o.persist || i + 1 == words.size()) return false;
      if (o.expiry != Expiry::kNone && o.expiry != expiry) return false;
      o.expiry = expiry;
      o.time = words[++i];
      return true;
    };
    if (set && equals_ignoring_case(word, "nx") && !o.only_existing) {
      o.only_new = true;
    } else if (set && equals_ignoring_case(word, "xx") && !o.only_new) {
      o.only_existing = true;
    } else if (set && equals_ignoring_case(word, "get")) {
      o.get = true;
    } else if (set && equals_ignoring_case(word, "keepttl") && o.expiry == Expiry::kNone) {
      o.keep_ttl = true;
    } else if (!set && equals_ignoring_case(word, "persist") && o.expiry == Expiry::kNone) {
      o.persist = true;
    } else if (!expiry_option("ex", Expiry::kEx) && !expiry_option("px", Expiry::kPx) &&
               !expiry_option("exat", Expiry::kExat) && !expiry_option("pxat", Expiry::kPxat)) {
      return false;
    }
  }
  return true;
}

void set(Args args, Store& store, std::string& out) {
  std::string_view key = args[1];
  std::string_view bytes = args[2];
  if (args.size() == 3) {
    store.put(key, {Kind::kString, bytes, 0});
    return put_ok(out);
  }
  Options o;
  if (!parse_options(args.subspan(3), true, o)) return put_error(out, kSyntaxError);
  int64_t deadline = 0;
  if (o.expiry != Options::Expiry::kNone) {
    auto ms = positive_deadline(o.time, o.unit(), o.absolute(), store.log_time_ms(), "set", out);
    if (!ms) return;
    deadline = *ms;
  }
  auto before = store.find(key);
  bool done = !(o.only_new && before) && !(o.only_existing && !before);
  if (o.get) {
    put_value_or_null(out, before);
  } else if (done) {
    put_ok(out);
  } else {
    put_null(out);
  }
  if (!done) return;
  if (o.keep_ttl && before) deadline = before->expire_at_ms;
  if (deadline != 0) {
    put_until(store, key, bytes, deadline);
  } else {
    store.put(key, {Kind::kString, bytes, 0});
  }
}

void set_for(Args args, Unit unit, std::string_view command, Store& store, std::string& out) {
  auto deadline = positive_deadline(args[2], unit, false, store.log_time_ms(), command, out);
  if (!deadline) return;
  put_until(store, args[1], args[3], *deadline);
  put_ok(out);
}

void set_if_new(Args args, Store& store, std::string& out) {
  bool is_new = !store.find(args[1]);
  if (is_new) store.put(args[1], {Kind::kString, args[2], 0});
  put_integer(out, is_new);
}

void get_and_set(Args args, Store& store, std::string& out) {
  put_value_or_null(out, store.find(args[1]));
  store.put(args[1], {Kind::kString, args[2], 0});
}

void get_and_delete(std::string_view key, Store& store, std::string& out) {
  auto value = store.find(key);
  put_value_or_null(out, value);
  if (value) store.erase(key);
}

void get_and_expire(Args args, Store& store, std::string& out) {
  Options o;
  if (!parse_options(args.subspan(2), false, o)) return put_error(out, kSyntaxError);
  auto value = store.find(args[1]);
  if (!value) return put_null(out);
  if (o.expiry != Options::Expiry::kNone) {
    auto deadline = positive_deadline(o.time, o.unit(), o.absolute(), store.log_time_ms(), "getex", out);
    if (!deadline) return;
    put_bulk(out, value->bytes);
    if (*deadline <= store.log_time_ms()) {
      store.erase(args[1]);
    } else {
      store.set_expiry(args[1], *deadline);
    }
    return;
  }
  put_bulk(out, value->bytes);
  if (o.persist) store.set_expiry(args[1], 0);
}

void set_many(Args args, bool only_new, Store& store, std::string& out) {
  if (args.size() % 2 == 0) return put_arity_error(out, only_new ? "msetnx" : "mset");
  if (only_new) {
    for (size_t i = 1; i < args.size(); i += 2) {
      if (store.find(args[i])) return put_integer(out, 0);
    }
  }
  for (size_t i = 1; i < args.size(); i += 2) store.put(args[i], {Kind::kString, args[i + 1], 0});
  if (only_new) {
    put_integer(out, 1);
  } else {
    put_ok(out);
  }
}

// A missing key never matches. The value's time to live stays, as with INCR and APPEND.
void compare_and_set(Args args, Store& store, std::string& out) {
  auto value = store.find(args[1]);
  bool same = value && value->bytes == args[2];
  if (same) store.put(args[1], {Kind::kString, args[3], value->expire_at_ms});
  put_integer(out, same);
}

void set_num(Args args, Store& store, std::string& out) {
  auto number = parse_integer(args[2]);
  if (!number || *number < std::numeric_limits<int32_t>::min() || *number > std::numeric_limits<int32_t>::max()) {
    return put_error(out, kNotAnInteger);
  }
  store.put(args[1], {Kind::kNum, args[2], 0});
  put_ok(out);
}

void add(std::string_view key, int64_t amount, Store& store, std::string& out) {
  auto value = store.find(key);
  auto number = value ? parse_integer(value->bytes) : std::optional<int64_t>(0);
  if (!number) return put_error(out, kNotAnInteger);
  int64_t sum = 0;
  if (__builtin_add_overflow(*number, amount, &sum)) {
    return put_error(out, "ERR increment or decrement would overflow");
  }
  char digits[24];
  auto end = std::to_chars(digits, digits + sizeof digits, sum).ptr;
  store.put(key, {Kind::kString, {digits, end}, value ? value->expire_at_ms : 0});
  put_integer(out, sum);
}

void add_amount(Args args, bool negative, Store& store, std::string& out) {
  auto amount = parse_integer(args[2]);
  if (!amount) return put_error(out, kNotAnInteger);
  if (negative && *amount == std::numeric_limits<int64_t>::min()) {
    return put_error(out, "ERR decrement would overflow");
  }
  add(args[1], negative ? -*amount : *amount, store, out);
}

void append(Args args, Store& store, std::string& out) {
  auto value = store.find(args[1]);
  size_t size = (value ? value->bytes.size() : 0) + args[2].size();
  if (size > limits::kMaxValueBytes) return put_error(out, kStringTooLong);
  if (value) {
    std::string joined;
    joined.reserve(size);
    (joined += value->bytes) += args[2];
    store.put(args[1], {Kind::kString, joined, value->expire_at_ms});
  } else {
    store.put(args[1], {Kind::kString, args[2], 0});
  }
  put_integer(out, static_cast<int64_t>(size));
}

void set_range(Args args, Store& store, std::string& out) {
  auto offset = parse_integer(args[2]);
  if (!offset) return put_error(out, kNotAnInteger);
  if (*offset < 0) return put_error(out, "ERR offset is out of range");
  std::string_view part = args[3];
  auto value = store.find(args[1]);
  size_t size = value ? value->bytes.size() : 0;
  if (part.empty()) return put_integer(out, static_cast<int64_t>(size));
  if (static_cast<uint64_t>(*offset) > limits::kMaxValueBytes - part.size()) return put_error(out, kStringTooLong);
  auto from = static_cast<size_t>(*offset);
  std::string bytes(value ? value->bytes : std::string_view());
  bytes.resize(std::max(size, from + part.size()), '\0');
  part.copy(bytes.data() + from, part.size());
  store.put(args[1], {Kind::kString, bytes, value ? value->expire_at_ms : 0});
  put_integer(out, static_cast<int64_t>(bytes.size()));
}

struct ExpireConditions {
  bool if_none = false;
  bool if_some = false;
  bool if_later = false;
  bool if_earlier = false;

  // Whether a key that expires at `current` (0: never) may be set to expire at `wanted`. Never is later than any time.
  bool allow(int64_t current, int64_t wanted) const {
    if (if_none && current != 0) return false;
    if (if_some && current == 0) return false;
    if (if_later && (current == 0 || wanted <= current)) return false;
    return !(if_earlier && current != 0 && wanted >= current);
  }
};

bool parse_conditions(Args words, ExpireConditions& c, std::string& out) {
  for (std::string_view word : words) {
    if (equals_ignoring_case(word, "nx")) {
      c.if_none = true;
    } else if (equals_ignoring_case(word, "xx")) {
      c.if_some = true;
    } else if (equals_ignoring_case(word, "gt")) {
      c.if_later = true;
    } else if (equals_ignoring_case(word, "lt")) {
      c.if_earlier = true;
    } else {
      out += "-ERR Unsupported option ";
      for (char ch : word) {
        if (ch == '\0') break;
        out += ch == '\r' || ch == '\n' ? ' ' : ch;
      }
      out += "\r\n";
      return false;
    }
  }
  if (c.if_none && (c.if_some || c.if_later || c.if_earlier)) {
    put_error(out, "ERR NX and XX, GT or LT options at the same time are not compatible");
    return false;
  }
  if (c.if_later && c.if_earlier) {
    put_error(out, "ERR GT and LT options at the same time are not compatible");
    return false;
  }
  return true;
}

// A time in the past is allowed and deletes the key.
void expire(Args args, Unit unit, bool absolute, std::string_view command, Store& store, std::string& out) {
  ExpireConditions conditions;
  if (!parse_conditions(args.subspan(3), conditions, out)) return;
  auto number = parse_integer(args[2]);
  if (!number) return put_error(out, kNotAnInteger);
  int64_t deadline = *number;
  if (__builtin_mul_overflow(deadline, unit == Unit::kSeconds ? 1000 : 1, &deadline) ||
      __builtin_add_overflow(deadline, absolute ? 0 : store.log_time_ms(), &deadline)) {
    return put_expire_error(out, command);
  }
  auto value = store.find(args[1]);
  if (!value || !conditions.allow(value->expire_at_ms, deadline)) return put_integer(out, 0);
  if (deadline <= store.log_time_ms()) {
    store.erase(args[1]);
  } else {
    store.set_expiry(args[1], deadline);
  }
  put_integer(out, 1);
}

void persist(std::string_view key, Store& store, std::string& out) {
  auto value = store.find(key);
  bool had_expiry = value && value->expire_at_ms != 0;
  if (had_expiry) store.set_expiry(key, 0);
  put_integer(out, had_expiry);
}

void erase_many(Args keys, Store& store, std::string& out) {
  int64_t count = 0;
  for (std::string_view key : keys) count += store.erase(key);
  put_integer(out, count);
}

void rename(Args args, bool only_new, Store& store, std::string& out) {
  auto value = store.find(args[1]);
  if (!value) return put_error(out, "ERR no such key");
  bool same = args[1] == args[2];
  if (only_new && (same || store.find(args[2]))) return put_integer(out, 0);
  if (!same) {
    store.put(args[2], *value);
    store.erase(args[1]);
  }
  if (only_new) {
    put_integer(out, 1);
  } else {
    put_ok(out);
  }
}

void copy(Args args, Store& store, std::string& out) {
  bool replace = false;
  for (size_t i = 3; i < args.size(); ++i) {
    if (equals_ignoring_case(args[i], "replace")) {
      replace = true;
    } else if (equals_ignoring_case(args[i], "db") && i + 1 < args.size()) {
      auto database = parse_integer(args[++i]);
      if (!database) return put_error(out, kNotAnInteger);
      if (*database < std::numeric_limits<int32_t>::min() || *database > std::numeric_limits<int32_t>::max()) {
        return put_error(out, "ERR value is out of range, value must between -2147483648 and 2147483647");
      }
      if (*database != 0) return put_error(out, "ERR DB index is out of range");
    } else {
      return put_error(out, kSyntaxError);
    }
  }
  if (args[1] == args[2]) return put_error(out, "ERR source and destination objects are the same");
  auto value = store.find(args[1]);
  if (!value || (!replace && store.find(args[2]))) return put_integer(out, 0);
  store.put(args[2], *value);
  put_integer(out, 1);
}

void flush(Args args, Store& store, std::string& out) {
  bool right = args.size() == 1 ||
               (args.size() == 2 && (equals_ignoring_case(args[1], "async") || equals_ignoring_case(args[1], "sync")));
  if (!right) return put_error(out, kSyntaxError);
  store.clear();
  put_ok(out);
}

}  // namespace

void execute_write(CommandId id, Args args, Store& store, std::string& out) {
  switch (id) {
    case CommandId::kSet: return set(args, store, out);
    case CommandId::kSetnx: return set_if_new(args, store, out);
    case CommandId::kSetex: return set_for(args, Unit::kSeconds, "setex", store, out);
    case CommandId::kPsetex: return set_for(args, Unit::kMs, "psetex", store, out);
    case CommandId::kGetset: return get_and_set(args, store, out);
    case CommandId::kGetdel: return get_and_delete(args[1], store, out);
    case CommandId::kGetex: return get_and_expire(args, store, out);
    case CommandId::kMset: return set_many(args, false, store, out);
    case CommandId::kMsetnx: return set_many(args, true, store, out);
    case CommandId::kCas: return compare_and_set(args, store, out);
    case CommandId::kSetnum: return set_num(args, store, out);
    case CommandId::kIncr: return add(args[1], 1, store, out);
    case CommandId::kDecr: return add(args[1], -1, store, out);
    case CommandId::kIncrby: return add_amount(args, false, store, out);
    case CommandId::kDecrby: return add_amount(args, true, store, out);
    case CommandId::kAppend: return append(args, store, out);
    case CommandId::kSetrange: return set_range(args, store, out);
    case CommandId::kExpire: return expire(args, Unit::kSeconds, false, "expire", store, out);
    case CommandId::kPexpire: return expire(args, Unit::kMs, false, "pexpire", store, out);
    case CommandId::kExpireat: return expire(args, Unit::kSeconds, true, "expireat", store, out);
    case CommandId::kPexpireat: return expire(args, Unit::kMs, true, "pexpireat", store, out);
    case CommandId::kPersist: return persist(args[1], store, out);
    case CommandId::kDel:
    case CommandId::kUnlink: return erase_many(args.subspan(1), store, out);
    case CommandId::kRename: return rename(args, false, store, out);
    case CommandId::kRenamenx: return rename(args, true, store, out);
    case CommandId::kCopy: return copy(args, store, out);
    case CommandId::kFlushall:
    case CommandId::kFlushdb: return flush(args, store, out);
    default: return put_error(out, kNotReplicated);
  }
}

}  // namespace mneme::kv
