#include "core/wal/scan.h"

#include <algorithm>

namespace mneme::wal {

bool Image::readable(uint64_t offset, uint64_t size) const {
  auto it = std::lower_bound(unreadable.begin(), unreadable.end(), offset);
  return it == unreadable.end() || *it >= offset + size;
}

namespace {

bool has_zero_sector(const Image& image, uint64_t begin, uint64_t end) {
  for (; begin < end; begin += kSector)
    if (image.zero_sector(begin)) return true;
  return false;
}

FoundFrame examine(const Image& image, const FrameHeader& header, const FrameLayout& layout, bool by_tail) {
  FoundFrame found{.header = header, .layout = layout, .found_by_tail = by_tail};
  const ByteView frame = bytes_of(image, found);
  const size_t state_size = layout.tail_begin - layout.state_begin;
  found.state_copy_good = header.state_bytes == 0 ||
                          (image.readable(header.offset + layout.state_begin, layout.total - layout.state_begin) &&
                           xxh3(frame.subspan(layout.state_begin, state_size)) == header.state_hash);
  const bool payload_good =
      !by_tail && image.readable(header.offset, layout.state_begin) &&
      xxh3(frame.subspan(kFrameHeaderBytes, layout.state_begin - kFrameHeaderBytes)) == header.payload_hash;
  const bool tail_good =
      layout.tail_begin == layout.total ||
      decode_frame_header(frame.data() + layout.tail_begin, HeaderPlace::kTail, image.segment, image.log_id);
  if (payload_good && tail_good && found.state_copy_good)
    found.check = FrameCheck::kIntact;
  else if (has_zero_sector(image, header.offset, header.offset + layout.total))
    found.check = FrameCheck::kTorn;
  else
    found.check = payload_good ? FrameCheck::kIntact : FrameCheck::kDamaged;
  return found;
}

// The frame whose tail stands at the end of the sector at `offset`, if it does and the frame begins at `from` or later.
std::optional<FoundFrame> tail_at(const Image& image, uint64_t offset, uint64_t from) {
  const uint64_t end = offset + kSector;
  auto header = decode_frame_header(image.bytes.data() + end - kFrameHeaderBytes, HeaderPlace::kTail, image.segment,
                                    image.log_id);
  if (!header || header->offset < from || header->offset % kSector != 0) return std::nullopt;
  const FrameLayout layout = layout_of(*header);
  if (layout.tail_begin == layout.total || header->offset + layout.total != end) return std::nullopt;
  return examine(image, *header, layout, true);
}

}  // namespace

std::optional<FoundFrame> frame_at(const Image& image, uint64_t offset, uint64_t limit) {
  if (offset + kSector > limit) return std::nullopt;
  auto header = decode_frame_header(image.bytes.data() + offset, HeaderPlace::kFront, image.segment, image.log_id);
  if (!header || header->offset != offset) return std::nullopt;
  const FrameLayout layout = layout_of(*header);
  if (layout.total > limit - offset) return std::nullopt;
  return examine(image, *header, layout, false);
}

std::optional<FoundFrame> next_frame(const Image& image, uint64_t offset, uint64_t limit) {
  for (uint64_t at = offset; at < limit; at += kSector) {
    if (auto found = frame_at(image, at, limit)) return found;
    if (auto found = tail_at(image, at, offset)) return found;
  }
  return std::nullopt;
}

uint64_t written_sectors(const Image& image, uint64_t offset, uint64_t limit) {
  uint64_t count = 0;
  while (offset + count * kSector < limit && !image.zero_sector(offset + count * kSector)) ++count;
  return count;
}

uint64_t written_end(const Image& image, uint64_t offset, uint64_t limit) {
  for (uint64_t end = limit; end > offset; end -= kSector)
    if (!image.zero_sector(end - kSector)) return end;
  return offset;
}

}  // namespace mneme::wal
