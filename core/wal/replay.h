// From segments, in order, to what the log says, where it ends and why. Pure; the rules are format.h's, Reading.
#pragma once

#include <string>

#include "core/wal/scan.h"
#include "core/wal/table.h"

namespace mneme::wal {

enum class Verdict : uint8_t { kClean, kTorn, kDamagedTail, kDamagedMiddle };

struct Cut {
  Verdict verdict = Verdict::kClean;
  uint64_t segment = 0;
  uint64_t offset = 0;
  uint64_t sequence = 0;       // of the first frame that is not kept
  uint64_t previous_hash = 0;  // of the last that is
  uint64_t written_end = 0;    // where zeros begin for good; in the last segment
  std::string what;            // is wrong there
  bool hard_state_lost = false;
  // Of the cut's segment: what is kept and was not declared synced, as it stands there.
  uint64_t rewrite_offset = 0;
  Bytes rewrite;
};

// What a reader that stopped at `offset`, where frame `sequence` after a frame of `previous_hash` should begin, is to
// think of it. `next` is the header of the segment that follows, null for the last. Fills in verdict, written_end,
// what.
[[nodiscard]] Cut judge(const Image& image, uint64_t offset, uint64_t limit, uint64_t sequence, uint64_t previous_hash,
                        const SegmentHeader* next);

// Whether a last segment whose header checks was begun for good. Not: a crash came first, and nothing depends on it.
// `trust_tail`: a damaged last frame counts as one that was durable.
[[nodiscard]] bool was_begun(const Image& image, const SegmentHeader& header, bool trust_tail);

class Replay {
 public:
  // `salvage_states`: behind a cut that is damaged, go on for hard states and checkpoints.
  explicit Replay(bool salvage_states) : salvage_states_(salvage_states), table_(Table::Keep::kEntries) {}

  // Segments that belong to the log, ascending, each with its successor's header. Frames end by `limit`. An error's
  // sentence continues "in this file, ...".
  Result<void> add(const Image& image, const SegmentHeader& header, uint64_t limit, const SegmentHeader* next);

  // When all were added.
  Table& table() { return table_; }
  Cut& cut() { return cut_; }

 private:
  Result<void> read(const Image& image, const SegmentHeader& header, uint64_t limit, const SegmentHeader* next);
  Result<void> salvage(const Image& image, uint64_t offset, uint64_t limit, const SegmentHeader* next);

  const bool salvage_states_;
  Table table_;
  Cut cut_;
  bool started_ = false;
  bool ended_ = false;     // the cut was found
  uint64_t sequence_ = 0;  // of the next frame, behind the cut too
  uint64_t hash_ = 0;
  Bytes scratch_;
};

}  // namespace mneme::wal
