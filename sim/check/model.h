// The sequential meaning of every operation, and what the search may know of it beforehand.
//
// step() is the truth and the one place where a new kind must be added. shape_of() is an optional summary of it that
// lets the checkers decide most steps by comparing two integers; a kind that it does not know is merely slower.
#pragma once

#include <optional>
#include <unordered_map>
#include <vector>

#include "sim/check/history.h"

namespace mneme::check {

// Which values nobody can tell apart. A value that no operation of the key asks for, and that cannot grow into one by
// appending, is *other*: states differing only in such a value allow the same futures. Where replies tell lengths,
// others of different length stay apart; where a key counts, integers are never other, nor are strings so short that
// appending might make an integer of them. (Longer strings that are no integers never become one by appending.)
class Abstraction {
 public:
  // `asked`: the contents that some operation's outcome depends on.
  Abstraction(std::vector<std::string> asked, bool appends, bool lengths, bool integers);
  bool is_other(std::string_view text) const;
  ValueId other(uint64_t length) const;

 private:
  std::vector<std::string> asked_;  // sorted
  bool appends_;
  bool lengths_;
  bool integers_;
};

// The values of a history and those computed while checking it: sums and appended strings. Once it has an abstraction,
// all values that come out of it are abstract. `base` must outlive it.
class Values {
 public:
  explicit Values(const Interner& base) : base_(base) {}
  // Before anything was computed by concat().
  void set_abstraction(Abstraction abstraction);

  ValueId abstract(ValueId id) const;
  ValueId intern(std::string_view text);
  ValueId concat(ValueId head, ValueId tail);
  uint64_t length(ValueId id) const;
  std::optional<int64_t> integer(ValueId id) const;
  // Not for others, whose contents are forgotten.
  std::string_view text(ValueId id) const;
  size_t memory() const;

  static bool is_other(ValueId id) { return (id & kOther) != 0; }
  static constexpr ValueId kOther = 0x80000000u;

 private:
  const Interner& base_;
  std::optional<Abstraction> abstraction_;
  Interner own_;  // ids from base_.size() on
  std::unordered_map<uint64_t, ValueId> sums_;
};

// A 64-bit integer in the one spelling that Redis accepts: no sign but '-', no leading zeros, no spaces.
std::optional<int64_t> parse_integer(std::string_view text);

// The state after the operation, or nothing when its reply is not possible in this state. An operation of unknown
// outcome is stepped as one whose reply nobody saw; that it may also never happen is up to the caller.
std::optional<ValueId> step(ValueId state, const Operation& op, Values& values);

enum class Pre : uint8_t { kAny, kIs, kIsNot, kAsk };  // kAsk: only step() can tell, before and after
enum class Post : uint8_t { kSame, kTo };

struct Shape {
  Pre pre = Pre::kAsk;
  Post post = Post::kTo;
  ValueId pre_value = kAbsent;
  ValueId to = kAbsent;
  bool total = false;       // possible in every state
  bool impossible = false;  // possible in none

  // It never changes the state: when possible it may as well be done at once.
  bool observes() const { return pre != Pre::kAsk && (post == Post::kSame || (pre == Pre::kIs && pre_value == to)); }
  // Possible in every state, and what was before is gone.
  bool overwrites() const { return pre == Pre::kAny && post == Post::kTo; }
};

// For an operation of unknown outcome: of the case that it takes effect and changes something.
Shape shape_of(const Operation& op, Values& values);

}  // namespace mneme::check
