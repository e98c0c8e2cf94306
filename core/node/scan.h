// SCAN over all shards: where a scan has got to, which shard is asked next, and the client's reply.
//
// Pure; the router drives it:
//
//   Scan scan = TRY(Scan::open(args, cursors));
//   while (!scan.enough()) {
//     Scan::Ask ask = scan.next(map);
//     ... has the owner of ask.slot execute ask.args; is refused because of its epoch: goes round with a newer map
//     TRY(scan.take(reply));
//   }
//   scan.answer(cursors, out);
//
// A position is a list of segments: slots, and the key from which on they are still to be looked at. The first segment
// is asked for first, of the owner of its first slot, for as many of its slots as that one has in a row. Nothing in it
// depends on which shards there are, so a scan goes on over splits and moves, and a key that is there all the time is
// returned at least once: its slot is in a segment until the key was looked at.
//
// A client's cursor is a number in a table of positions (core/kv/scan_cursors.h), one per node. What the table does not
// know, as after a restart or on another node, starts again, which SCAN's contract allows. Until answer() the cursor
// that the client came with is left alone, so that a call that fails may be repeated.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/kv/command.h"
#include "core/kv/scan_cursors.h"
#include "core/shard/map.h"

namespace mneme::node {

// More are drawn together, by looking at some keys again. As many shards must split around a scan for that.
inline constexpr size_t kMaxScanSegments = 16;
// In one call, where shards turn out to have fewer keys than were wanted.
inline constexpr size_t kMaxScanAsks = 8;

struct ScanSegment {
  shard::SlotRange slots;
  std::string from;  // "" is the first key that there can be

  bool operator==(const ScanSegment&) const = default;
};

// Neighbours in ascending order, to the last slot. Empty: the scan is complete.
using ScanPosition = std::vector<ScanSegment>;

// As the table of cursors keeps it: of each segment its first slot (2 bytes), the slot after its last, and the key with
// its length (4 bytes) before it; little-endian.
[[nodiscard]] std::string encode(const ScanPosition& position);
[[nodiscard]] ScanPosition decode_scan_position(std::string_view bytes);  // what encode() wrote

// Takes note that the slots of `range`, which begins with the position's first slot and ends within its first segment,
// were looked at up to below `next`, or to the end if that is null.
void advance(ScanPosition& position, shard::SlotRange range, const std::string_view* next);

class Scan {
 public:
  struct Ask {
    const kv::CommandSpec* spec;
    uint16_t slot;  // whose owner is to be asked
    kv::Args args;  // until next() or take() is called, or the scan moved
  };

  // Of a client's SCAN that passed check(); `args` outlive it. kInvalid: the message is an error reply's text.
  static Result<Scan> open(kv::Args args, kv::ScanCursors& cursors);

  // Whether answer() may be called: some keys were found or there are none, a shard objects, or enough was asked.
  bool enough() const { return enough_; }
  // The cluster is founded.
  Ask next(const shard::Map& map);
  // The canonical reply to what next() asked for last. kCorrupt if it cannot be one.
  Result<void> take(std::string_view reply);
  // The client's reply; moves its cursor on.
  void answer(kv::ScanCursors& cursors, std::string& out) const;

 private:
  Scan() = default;

  uint64_t cursor_ = 0;
  kv::Args options_;
  ScanPosition position_;
  shard::SlotRange asked_;
  size_t asks_ = 0;
  bool enough_ = false;
  std::string begin_;  // asked_ in decimal, for words_
  std::string end_;
  std::vector<std::string_view> words_;
  size_t count_ = 0;
  std::string keys_;   // as they came
  std::string error_;  // a shard's error reply
};

}  // namespace mneme::node
