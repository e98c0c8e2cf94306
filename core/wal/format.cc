#include "core/wal/format.h"

#include <algorithm>

#include "core/base/check.h"

namespace mneme::wal {

namespace {

constexpr uint32_t magic(const char (&text)[5]) {
  return static_cast<uint32_t>(text[0]) | static_cast<uint32_t>(text[1]) << 8 | static_cast<uint32_t>(text[2]) << 16 |
         static_cast<uint32_t>(text[3]) << 24;
}
constexpr uint32_t kSegmentMagic = magic("MWLS");
constexpr uint32_t kFrameMagic = magic("MWLF");
constexpr uint32_t kTailMagic = magic("MWLT");

constexpr size_t kSegmentHashAt = kSector - 8;
constexpr size_t kFrameHashAt = kFrameHeaderBytes - 8;

uint64_t seed(uint64_t segment, uint64_t offset) { return mix(segment) + offset; }

constexpr uint64_t round_up(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

void encode_copy(const SegmentHeader& h, uint16_t copy, uint8_t* sector) {
  std::memset(sector, kFill, kSector);
  store_le(sector + 0, kSegmentMagic);
  store_le(sector + 4, kFormatVersion);
  store_le(sector + 6, copy);
  store_le(sector + 8, h.segment);
  store_le(sector + 16, h.identity.cluster.value);
  store_le(sector + 24, h.identity.node.value);
  store_le(sector + 32, h.identity.incarnation.value);
  store_le(sector + 40, h.log_id);
  store_le(sector + 48, h.segment_bytes);
  store_le(sector + 56, h.first_sequence);
  store_le(sector + 64, h.previous_hash);
  store_le(sector + 72, h.void_segment);
  store_le(sector + 80, h.void_offset);
  store_le(sector + 88, kClusterVersion);
  store_le(sector + 92, uint32_t{0});
  store_le(sector + kSegmentHashAt, xxh3(ByteView(sector, kSegmentHashAt), seed(h.segment, copy * kSector)));
}

uint64_t encode_frame_header(const FrameHeader& h, uint32_t magic, uint8_t* to) {
  store_le(to + 0, magic);
  store_le(to + 4, kFormatVersion);
  store_le(to + 6, static_cast<uint16_t>(kFrameHeaderBytes));
  store_le(to + 8, h.sequence);
  store_le(to + 16, h.segment);
  store_le(to + 24, h.offset);
  store_le(to + 32, h.previous_hash);
  store_le(to + 40, h.synced_sequence);
  store_le(to + 48, h.payload_bytes);
  store_le(to + 52, h.state_bytes);
  store_le(to + 56, h.escapes);
  store_le(to + 60, h.records);
  store_le(to + 64, h.payload_hash);
  store_le(to + 72, h.state_hash);
  store_le(to + 80, h.flags);
  store_le(to + 84, kClusterVersion);
  store_le(to + 88, h.log_id);
  store_le(to + 96, uint64_t{0});
  uint64_t hash = xxh3(ByteView(to, kFrameHashAt), seed(h.segment, h.offset));
  store_le(to + kFrameHashAt, hash);
  return hash;
}

}  // namespace

FrameLayout layout_of(uint64_t payload_bytes, uint64_t state_bytes, uint64_t escapes) {
  FrameLayout layout;
  layout.escapes_begin = round_up(kFrameHeaderBytes + payload_bytes, 4);
  const uint64_t content_end = layout.escapes_begin + 4 * escapes;
  if (state_bytes != 0) {
    layout.state_begin = round_up(content_end, kSector);
    layout.total = layout.state_begin + round_up(state_bytes + kFrameHeaderBytes, kSector);
    layout.tail_begin = layout.total - kFrameHeaderBytes;
  } else if (content_end <= kSector) {
    layout.state_begin = layout.tail_begin = layout.total = kSector;
  } else {
    layout.total = round_up(content_end + kFrameHeaderBytes, kSector);
    layout.state_begin = layout.tail_begin = layout.total - kFrameHeaderBytes;
  }
  return layout;
}

std::array<uint8_t, kSegmentHeaderBytes> encode(const SegmentHeader& header) {
  std::array<uint8_t, kSegmentHeaderBytes> sectors;
  encode_copy(header, 0, sectors.data());
  encode_copy(header, 1, sectors.data() + kSector);
  return sectors;
}

DecodedSegmentHeader decode_segment_header(ByteView sectors, uint64_t segment) {
  CHECK(sectors.size() == kSegmentHeaderBytes);
  DecodedSegmentHeader result;
  for (uint16_t copy = 0; copy < 2; ++copy) {
    const uint8_t* s = sectors.data() + copy * kSector;
    if (is_zero(ByteView(s, kSector))) continue;
    HeaderCheck& check = result.copies[copy];
    check = HeaderCheck::kDamaged;
    if (load_le<uint32_t>(s) != kSegmentMagic) continue;
    if (load_le<uint64_t>(s + kSegmentHashAt) != xxh3(ByteView(s, kSegmentHashAt), seed(segment, copy * kSector)))
      continue;
    if (auto version = load_le<uint16_t>(s + 4); version != kFormatVersion) {
      check = HeaderCheck::kNewer;
      result.version = version;
      continue;
    }
    SegmentHeader h;
    h.segment = load_le<uint64_t>(s + 8);
    if (load_le<uint16_t>(s + 6) != copy || h.segment != segment) continue;
    h.identity.cluster = ClusterId(load_le<uint64_t>(s + 16));
    h.identity.node = NodeId(load_le<uint64_t>(s + 24));
    h.identity.incarnation = Incarnation(load_le<uint64_t>(s + 32));
    h.log_id = load_le<uint64_t>(s + 40);
    h.segment_bytes = load_le<uint64_t>(s + 48);
    h.first_sequence = load_le<uint64_t>(s + 56);
    h.previous_hash = load_le<uint64_t>(s + 64);
    h.void_segment = load_le<uint64_t>(s + 72);
    h.void_offset = load_le<uint64_t>(s + 80);
    check = HeaderCheck::kValid;
    if (!result.header) result.header = h;
  }
  return result;
}

std::optional<FrameHeader> decode_frame_header(const uint8_t* from, HeaderPlace place, uint64_t segment,
                                               uint64_t log_id) {
  if (load_le<uint32_t>(from) != (place == HeaderPlace::kFront ? kFrameMagic : kTailMagic)) return std::nullopt;
  FrameHeader h;
  h.sequence = load_le<uint64_t>(from + 8);
  h.segment = load_le<uint64_t>(from + 16);
  h.offset = load_le<uint64_t>(from + 24);
  h.hash = load_le<uint64_t>(from + kFrameHashAt);
  if (h.segment != segment || h.hash != xxh3(ByteView(from, kFrameHashAt), seed(segment, h.offset)))
    return std::nullopt;
  h.log_id = load_le<uint64_t>(from + 88);
  if ((log_id != 0 && h.log_id != log_id) || load_le<uint16_t>(from + 4) != kFormatVersion ||
      load_le<uint16_t>(from + 6) != kFrameHeaderBytes)
    return std::nullopt;
  h.previous_hash = load_le<uint64_t>(from + 32);
  h.synced_sequence = load_le<uint64_t>(from + 40);
  h.payload_bytes = load_le<uint32_t>(from + 48);
  h.state_bytes = load_le<uint32_t>(from + 52);
  h.escapes = load_le<uint32_t>(from + 56);
  h.records = load_le<uint32_t>(from + 60);
  h.payload_hash = load_le<uint64_t>(from + 64);
  h.state_hash = load_le<uint64_t>(from + 72);
  h.flags = load_le<uint32_t>(from + 80);
  return h;
}

void find_zero_sectors(ByteView frame, std::vector<uint32_t>& into) {
  into.clear();
  for (size_t at = kSector; at + kSector <= frame.size(); at += kSector)
    if (load_le<uint64_t>(frame.data() + at) == 0 && is_zero(frame.subspan(at, kSector)))
      into.push_back(static_cast<uint32_t>(at / kSector));
}

void seal_frame(Bytes& frame, FrameHeader& header, ByteView state, std::span<const uint32_t> escapes) {
  CHECK(frame.size() >= kFrameHeaderBytes);
  CHECK(frame.size() <= limits::kMaxFrameBytes);
  header.payload_bytes = static_cast<uint32_t>(frame.size() - kFrameHeaderBytes);
  header.state_bytes = static_cast<uint32_t>(state.size());
  header.escapes = static_cast<uint32_t>(escapes.size());
  const FrameLayout layout = layout_of(header);
  CHECK(header.offset % kSector == 0);

  frame.resize(layout.total, kFill);
  for (size_t i = 0; i < escapes.size(); ++i) {
    std::memset(frame.data() + escapes[i] * kSector, kFill, kSector);
    store_le(frame.data() + layout.escapes_begin + 4 * i, escapes[i]);
  }
  if (!state.empty()) std::memcpy(frame.data() + layout.state_begin, state.data(), state.size());

  const ByteView all(frame);
  header.payload_hash = xxh3(all.subspan(kFrameHeaderBytes, layout.state_begin - kFrameHeaderBytes));
  header.state_hash = state.empty() ? 0 : xxh3(all.subspan(layout.state_begin, layout.tail_begin - layout.state_begin));
  header.hash = encode_frame_header(header, kFrameMagic, frame.data());
  if (layout.tail_begin != layout.total) encode_frame_header(header, kTailMagic, frame.data() + layout.tail_begin);
}

Result<ByteView> payload_of(ByteView frame, const FrameHeader& header, Bytes& scratch) {
  const FrameLayout layout = layout_of(header);
  CHECK(frame.size() == layout.total);
  const ByteView written = frame.subspan(kFrameHeaderBytes, header.payload_bytes);
  if (header.escapes == 0) return written;
  scratch.assign(written.begin(), written.end());
  for (size_t i = 0; i < header.escapes; ++i) {
    const size_t begin = load_le<uint32_t>(frame.data() + layout.escapes_begin + 4 * i) * kSector;
    if (begin == 0 || begin + kSector > kFrameHeaderBytes + scratch.size())
      return fail(ErrorCode::kCorrupt, "a frame's list of zero sectors names one that it does not have");
    std::fill_n(scratch.begin() + static_cast<ptrdiff_t>(begin - kFrameHeaderBytes), kSector, uint8_t{0});
  }
  return ByteView(scratch);
}

}  // namespace mneme::wal
