// What clients did to keys and what they were told: the input of every checker in this folder.
//
// An operation spans two events, its call and its return; all events of a history stand in one strict total order,
// their positions. Times in nanoseconds are for display only. Keys are independent of each other: whoever has an
// operation on several keys records one operation per key.
//
// An operation's outcome is one of: it happened and the reply is known; it did not happen; or nobody knows, and it may
// take effect at any position after its call, once, or never. The last has no return.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mneme::check {

using OpId = uint32_t;     // index into History::operations
using ValueId = uint32_t;  // index into History::values; equal contents have equal ids
using KeyId = uint32_t;    // index into History::keys
using Position = uint32_t;

inline constexpr ValueId kAbsent = 0;              // no value: the key is not there
inline constexpr ValueId kAnyValue = UINT32_MAX;   // of kExpire: whatever is present
inline constexpr Position kForever = UINT32_MAX;   // the return of an operation whose outcome nobody knows
inline constexpr uint32_t kNoClient = UINT32_MAX;  // operations that the store does by itself
inline constexpr int64_t kNoTime = -1;

// Each distinct byte string once. Id 0 is kAbsent and has no contents.
class Interner {
 public:
  Interner();
  ValueId intern(std::string_view text);
  // kAbsent when the text is not there.
  ValueId find(std::string_view text) const;
  // Valid until the next intern().
  std::string_view text(ValueId id) const;
  size_t size() const { return entries_.size(); }
  size_t memory() const;

 private:
  struct Entry {
    uint64_t offset;
    uint32_t size;
    uint32_t hash;
  };
  size_t slot_of(std::string_view text, uint32_t hash) const;
  void grow();

  std::string bytes_;
  std::vector<Entry> entries_;
  std::vector<uint32_t> slots_;  // open addressing, power of two, 0: free
};

// What a kind means is written once, in step() of model.cc. `a` and `b` are its arguments:
enum class Kind : uint8_t {
  kGet,     // reply kValue: what was there, or kAbsent
  kSet,     // a: written
  kDelete,  // reply kYes/kNo: it existed; or kNothing
  kCas,     // a: expected (may be kAbsent), b: written; reply kYes/kNo: swapped
  kIncr,    // amount; reply kNumber: the sum; an absent key counts as 0
  kAppend,  // a: appended; reply kNumber: resulting length, kValue: resulting value, or kNothing
  kSetNx,   // a: written if absent; reply kYes/kNo: written
  kGetSet,  // a: written; reply kValue: what was there before
  kExpire,  // by the store itself: absent, if what is there is a (or anything, when a is kAnyValue)
};

enum class ReplyKind : uint8_t {
  kNothing,  // done, and that is all
  kValue,    // reply_value
  kNumber,   // reply_number
  kYes,
  kNo,
  kNotAnInteger,  // refused, state unchanged: the value is not a 64-bit integer
  kOverflow,      // refused, state unchanged: the sum would not be a 64-bit integer
};

enum class Outcome : uint8_t { kOk, kFailed, kUnknown };

struct Operation {
  uint32_t client = kNoClient;
  KeyId key = 0;
  Kind kind = Kind::kGet;
  Outcome outcome = Outcome::kUnknown;
  ReplyKind reply = ReplyKind::kNothing;
  ValueId a = kAbsent;
  ValueId b = kAbsent;
  ValueId reply_value = kAbsent;
  Position call = 0;
  Position ret = kForever;
  int64_t amount = 0;
  int64_t reply_number = 0;
  int64_t call_ns = kNoTime;
  int64_t return_ns = kNoTime;
  // Where it stands in the order of changes, if that was told: the number of the version of the key, or of the whole
  // store, that it made or saw. 0: not told. Of use to find an order and no evidence against one (by_revision.h).
  uint64_t revision = 0;
};

struct Reply {
  ReplyKind kind = ReplyKind::kNothing;
  ValueId value = kAbsent;
  int64_t number = 0;

  static Reply nothing() { return {}; }
  static Reply of(ValueId value) { return {ReplyKind::kValue, value, 0}; }
  static Reply count(int64_t number) { return {ReplyKind::kNumber, kAbsent, number}; }
  static Reply yes(bool fact = true) { return {fact ? ReplyKind::kYes : ReplyKind::kNo, kAbsent, 0}; }
  static Reply error(ReplyKind kind) { return {kind, kAbsent, 0}; }
};

// Recorded in the order of events: each invoke() and each complete() takes the next position.
struct History {
  Interner values;
  Interner keys;  // ids from 1
  std::vector<Operation> operations;
  ValueId initial = kAbsent;  // what every key holds at first
  Position positions = 0;     // one past the last position in use

  ValueId value(std::string_view text) { return values.intern(text); }
  KeyId key(std::string_view text) { return keys.intern(text); }

  // Copies what `what` says is asked; the outcome is unknown until one of the calls below.
  OpId invoke(Operation what, int64_t now_ns = kNoTime);
  void complete(OpId id, Reply reply, int64_t now_ns = kNoTime);
  void did_not_happen(OpId id, int64_t now_ns = kNoTime);
};

// Arguments of each kind, for invoke(). Clients are numbered by the caller.
Operation get(uint32_t client, KeyId key);
Operation set(uint32_t client, KeyId key, ValueId value);
Operation del(uint32_t client, KeyId key);
Operation cas(uint32_t client, KeyId key, ValueId expected, ValueId value);
Operation incr(uint32_t client, KeyId key, int64_t amount);
Operation append(uint32_t client, KeyId key, ValueId suffix);
Operation setnx(uint32_t client, KeyId key, ValueId value);
Operation getset(uint32_t client, KeyId key, ValueId value);
Operation expire(KeyId key, ValueId value);

std::string_view name_of(Kind kind);

// "CAS 1 4", "GET", "SET \"x 0 1 y\"": what was asked; and "-> 5", "-> swapped", "-> ?": what was answered.
std::string describe_call(const Operation& op, const Interner& values);
std::string describe_reply(const Operation& op, const Interner& values);
// A value as a reader should see it: "absent", plain when it is short and simple, else quoted, escaped and cut.
std::string describe_value(ValueId id, const Interner& values);

}  // namespace mneme::check
