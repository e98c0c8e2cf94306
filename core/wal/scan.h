// Finding frames in the bytes of a segment, of which anything may be damaged. Pure; the rules are format.h's.
#pragma once

#include <optional>
#include <vector>

#include "core/wal/format.h"

namespace mneme::wal {

// A segment as it was read.
struct Image {
  uint64_t segment = 0;
  uint64_t log_id = 0;
  Bytes bytes;                       // whole sectors
  std::vector<uint64_t> unreadable;  // offsets of sectors that could not be read, ascending; their bytes are kFill

  ByteView sector(uint64_t offset) const { return ByteView(bytes).subspan(offset, kSector); }
  bool readable(uint64_t offset, uint64_t size = kSector) const;
  // Never written, or discarded.
  bool zero_sector(uint64_t offset) const { return is_zero(sector(offset)); }
};

enum class FrameCheck : uint8_t {
  kIntact,   // the records check (the copies behind them may not)
  kTorn,     // a sector was never written
  kDamaged,  // the rest
};

struct FoundFrame {
  FrameHeader header;  // `hash` is the tail's own when found_by_tail
  FrameLayout layout;
  FrameCheck check = FrameCheck::kDamaged;
  bool found_by_tail = false;    // the header itself is damaged
  bool state_copy_good = false;  // true also when there are no state records

  uint64_t offset() const { return header.offset; }
  uint64_t end() const { return header.offset + layout.total; }
};

// The frame that begins at `offset` and ends by `limit`, if its header checks.
[[nodiscard]] std::optional<FoundFrame> frame_at(const Image& image, uint64_t offset, uint64_t limit);
// The first frame that begins at `offset` or later and of which a header or a tail checks.
[[nodiscard]] std::optional<FoundFrame> next_frame(const Image& image, uint64_t offset, uint64_t limit);

[[nodiscard]] inline ByteView bytes_of(const Image& image, const FoundFrame& frame) {
  return ByteView(image.bytes).subspan(frame.offset(), frame.layout.total);
}
// Only when state_copy_good.
[[nodiscard]] inline ByteView state_of(const Image& image, const FoundFrame& frame) {
  return ByteView(image.bytes).subspan(frame.offset() + frame.layout.state_begin, frame.header.state_bytes);
}

// How many sectors from `offset` on are not zero, up to the first that is.
[[nodiscard]] uint64_t written_sectors(const Image& image, uint64_t offset, uint64_t limit);
// Where the last sector that is not zero ends; at least `offset`.
[[nodiscard]] uint64_t written_end(const Image& image, uint64_t offset, uint64_t limit);

}  // namespace mneme::wal
