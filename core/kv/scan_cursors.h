// Where the SCANs in progress at one node have got to: a bounded table of 64-bit ids to positions.
//
// Kept outside the replicated state, because a position is nothing that replicas must agree on. Ids are a keyed
// permutation of a counter: a number from before a restart, or from another node, is practically never one of ours, and
// an unknown one starts again from the first key, which SCAN's contract allows. A cursor stays valid until its scan has
// moved on twice, so that a client may repeat a call whose reply was lost; the least recently used goes first.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "core/base/limits.h"

namespace mneme::kv {

// strtoul, as Redis reads a cursor: a sign is accepted and wraps, no digits at all are 0, a NUL ends it.
[[nodiscard]] std::optional<uint64_t> parse_cursor(std::string_view text);

class ScanCursors {
 public:
  static constexpr size_t kMaxCursors = 4096;
  static constexpr size_t kMaxPositionBytes = 8 * limits::kMiB;

  // `key` should differ from start to start of the node.
  explicit ScanCursors(uint64_t key) : key_(key) {}

  // The key to go on from; "" for 0 and for an unknown cursor. The view holds until the next call.
  std::string_view position(uint64_t cursor);

  // Remembers that the scan which was at `cursor` goes on from `key`, and answers the new cursor, never 0.
  uint64_t advance(uint64_t cursor, std::string key);

  // The scan that was at `cursor` is complete.
  void finish(uint64_t cursor) { forget_before(cursor); }

  size_t size() const { return cursors_.size(); }

 private:
  struct Cursor {
    std::string key;
    uint64_t before = 0;  // the same scan's cursor before this one
    std::list<uint64_t>::iterator age;
  };
  void forget(uint64_t cursor);
  void forget_before(uint64_t cursor);

  uint64_t key_;
  uint64_t made_ = 0;
  size_t bytes_ = 0;
  std::unordered_map<uint64_t, Cursor> cursors_;
  std::list<uint64_t> ages_;  // least recently used first
};

}  // namespace mneme::kv
