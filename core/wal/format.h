// The write-ahead log on disk, format version 1. All numbers are little-endian; a sector is limits::kSectorBytes (512).
//
// A log is a directory of files named wal-NNNNNNNNNNNNNNNN, the segment number in hexadecimal, dense from 1. A segment
// is created, filled with zeros to its full size and synced, and its directory synced, before anything else is written
// to it. A segment that was begun is never recycled. So every sector of a segment was written at most once (or again
// with the same bytes, or with zeros), and *a sector that is all zero was never written, or was discarded*. The format
// sees to it that no sector of a frame is all zero. Therefore, and because a disk writes a sector wholly or not at all:
//
//   a frame of which a sector is zero was never written completely, so never synced, so never acknowledged: torn;
//   a frame whose sectors are all there and do not check has rotted, and may have been acknowledged: damaged.
//
// Segment. Two copies of its header, a sector each, then frames without a gap, then zeros. A segment is *begun* by one
// write of header, copy and first frame, made only when all frames before are durable (`first_sequence` tells which).
//
//   header sector   0 u32 magic "MWLS"      4 u16 version        6 u16 copy: 0 or 1
//                   8 u64 segment number   16 u64 cluster id    24 u64 node id
//                  32 u64 incarnation      40 u64 log id: random, drawn when the log is created; ties frames to it
//                  48 u64 segment size     56 u64 sequence of the first frame
//                  64 u64 hash of the frame before that, wherever it is; 0: there is none
//                  72 u64 void segment, 80 u64 void offset: 0, or see Repair
//                  88 u32 cluster version  92 u32 reserved, 0
//                  96     fill (0xa5) up to
//                 504 u64 XXH3 of the 504 bytes before, seeded with seed(segment number, 512 * copy)
//   A later version keeps offsets 0, 4 and 504, so that any version can be told from damage.
//
// Frame: what one append made durable, for any number of groups. Begins on a sector.
//
//   0    header, kFrameHeaderBytes
//   112  records, `payload_bytes`
//        fill up to a multiple of 4; numbers (u32) of the frame's sectors that would have been all zero, which only a
//        value can cause: they are written as fill, and become zeros when read ("escapes"). A list and not a stamp in
//        each sector, so that records stay in one piece: writing costs one look per sector, reading nothing.
//        fill up to what comes next:
//   a frame that fits in one sector and has no state records ends here; every other ends with a *tail*, a second copy
//   of its header at the very end of its last sector, so that no single sector's damage hides what the frame was;
//   a frame with state records (all but entries) repeats these before the tail, in sectors that hold nothing else:
//   what the damage of one sector can take is entries, which peers have, and not a vote, which nobody else has.
//
//   frame header   0 u32 magic "MWLF", in the tail "MWLT"       4 u16 version    6 u16 header bytes
//                  8 u64 sequence: dense over the whole log    16 u64 segment   24 u64 own offset in the segment
//                 32 u64 hash of the frame before: its header's, at 104, which covers its payload's
//                 40 u64 synced sequence: all frames up to this one were durable when this frame was written
//                 48 u32 payload bytes  52 u32 state bytes  56 u32 escapes  60 u32 records
//                 64 u64 XXH3 of the frame from its header's end to the state records or the tail, as written
//                 72 u64 XXH3 of the frame from the state records to the tail; 0 without state records
//                 80 u32 flags (kSummaryFrame)  84 u32 cluster version  88 u64 log id  96 u64 epoch, reserved, 0
//                104 u64 XXH3 of the 104 bytes before, seeded with seed(segment, own offset)
//   A misplaced frame cannot pass: its seed, segment, offset and log id are another's.
//
// Records: see record.h. The first frame of a segment is a summary: one record for each group with all that is known of
// it but its entries, so that segments before are needed for entries only.
//
// Reading. Frames are read in order while each checks, has the next sequence and the hash of the one before. Where that
// ends, at the *cut*, of which the frame would have been number s:
//   - a later segment was begun and follows s - 1: the segment's end.
//   - a later segment was begun and follows a frame after s - 1, or somewhere behind the cut is a frame that says s was
//     synced: s was durable and is damaged, whatever the cut looks like ("middle").
//   - the first sector at the cut is zero, or a frame with a zero sector is there: torn, or nothing. It is dropped.
//   - everything else, unreadable sectors included: an ambiguous last frame, damaged ("tail").
// What is kept from the last segment and was not declared synced is written again, the same bytes, and synced: it may
// be in the page cache only, and a failed sync may have marked it clean. What is dropped is overwritten with zeros.
//
// Repair. When frames from s on are given up that may have been acknowledged (a replica with peers), nothing is
// overwritten. A new segment is begun whose header names the cut (void segment, void offset): all between the cut and
// the new segment is void from the moment that this one write is durable, and its summary holds every group's hard
// state and checkpoint, the void frames' included, with the mark that makes the group suspect. Until then all the
// evidence is there and leads to the same verdict; afterwards segments that are void altogether are removed.
// A repair's summary has a record at least, hence two sectors: one alone, rotted or not, is a torn beginning, which
// makes nothing void.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/ids.h"
#include "core/base/limits.h"

namespace mneme::wal {

inline constexpr size_t kSector = limits::kSectorBytes;
inline constexpr uint16_t kFormatVersion = 1;
inline constexpr uint32_t kClusterVersion = 1;
inline constexpr size_t kSegmentHeaderBytes = 2 * kSector;
inline constexpr size_t kFrameHeaderBytes = 112;
inline constexpr uint8_t kFill = 0xa5;
inline constexpr uint32_t kSummaryFrame = 1;

struct Identity {
  ClusterId cluster;
  NodeId node;
  Incarnation incarnation;

  bool operator==(const Identity&) const = default;
};

struct SegmentHeader {
  uint64_t segment = 0;
  Identity identity;
  uint64_t log_id = 0;
  uint64_t segment_bytes = 0;
  uint64_t first_sequence = 0;
  uint64_t previous_hash = 0;
  uint64_t void_segment = 0;
  uint64_t void_offset = 0;

  bool operator==(const SegmentHeader&) const = default;
};

struct FrameHeader {
  uint64_t sequence = 0;
  uint64_t segment = 0;
  uint64_t offset = 0;
  uint64_t previous_hash = 0;
  uint64_t synced_sequence = 0;
  uint32_t payload_bytes = 0;
  uint32_t state_bytes = 0;
  uint32_t escapes = 0;
  uint32_t records = 0;
  uint64_t payload_hash = 0;
  uint64_t state_hash = 0;
  uint32_t flags = 0;
  uint64_t log_id = 0;
  uint64_t hash = 0;  // set by seal_frame() and decode_frame_header()

  bool summary() const { return (flags & kSummaryFrame) != 0; }
};

// Offsets from the frame's beginning.
struct FrameLayout {
  size_t escapes_begin = 0;
  size_t state_begin = 0;  // where the payload's checksum ends
  size_t tail_begin = 0;   // == total: there is no tail
  size_t total = 0;
};
[[nodiscard]] FrameLayout layout_of(uint64_t payload_bytes, uint64_t state_bytes, uint64_t escapes);
[[nodiscard]] inline FrameLayout layout_of(const FrameHeader& header) {
  return layout_of(header.payload_bytes, header.state_bytes, header.escapes);
}

// Both copies.
[[nodiscard]] std::array<uint8_t, kSegmentHeaderBytes> encode(const SegmentHeader& header);

enum class HeaderCheck : uint8_t { kValid, kZero, kDamaged, kNewer };
struct DecodedSegmentHeader {
  HeaderCheck copies[2] = {HeaderCheck::kZero, HeaderCheck::kZero};
  std::optional<SegmentHeader> header;  // from the first valid copy
  uint16_t version = 0;                 // of a newer one

  bool any(HeaderCheck check) const { return copies[0] == check || copies[1] == check; }
};
// `sectors` has kSegmentHeaderBytes; `segment` is what the file's name says: a copy that says otherwise is damaged.
[[nodiscard]] DecodedSegmentHeader decode_segment_header(ByteView sectors, uint64_t segment);

enum class HeaderPlace : uint8_t { kFront, kTail };
// kFrameHeaderBytes at `from`. Absent unless everything checks for a frame of this log and segment at header.offset;
// that this is where it was found is for the caller to compare. Log id 0: of any log.
[[nodiscard]] std::optional<FrameHeader> decode_frame_header(const uint8_t* from, HeaderPlace place, uint64_t segment,
                                                             uint64_t log_id);

// Numbers of the sectors of a frame, given up to the payload's end, that are wholly payload and zero.
void find_zero_sectors(ByteView frame, std::vector<uint32_t>& into);

// Completes a frame in place: `frame` holds kFrameHeaderBytes of anything, then the records; `escapes` is
// find_zero_sectors() of it. Fills in the sizes and hashes of `header`; whoever calls has set the rest.
void seal_frame(Bytes& frame, FrameHeader& header, ByteView state, std::span<const uint32_t> escapes);

// The records of a sealed frame that checks, the escaped sectors restored; a view into `frame`, or into `scratch`.
Result<ByteView> payload_of(ByteView frame, const FrameHeader& header, Bytes& scratch);

}  // namespace mneme::wal
