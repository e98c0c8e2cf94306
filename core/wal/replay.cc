#include "core/wal/replay.h"

#include <fmt/format.h>

#include <algorithm>

namespace mneme::wal {

Cut judge(const Image& image, uint64_t offset, uint64_t limit, uint64_t sequence, uint64_t previous_hash,
          const SegmentHeader* next) {
  Cut cut{.segment = image.segment, .offset = offset, .sequence = sequence, .previous_hash = previous_hash};
  cut.written_end = written_end(image, offset, limit);

  bool durable = next != nullptr;
  for (auto later = next_frame(image, offset, limit); later && !durable; later = next_frame(image, later->end(), limit))
    durable = later->header.sequence > sequence && later->header.synced_sequence >= sequence;

  const auto frame = next_frame(image, offset, limit);
  const bool here = frame && frame->offset() == offset;
  if (offset == limit || (image.zero_sector(offset) && image.readable(offset))) {
    cut.verdict = cut.written_end > offset ? Verdict::kTorn : Verdict::kClean;
    cut.what = "nothing is written there";
  } else if (!image.readable(offset)) {
    cut.verdict = Verdict::kDamagedTail;
    cut.what = "the sector cannot be read";
  } else if (!here) {
    cut.verdict = Verdict::kDamagedTail;
    cut.what = "its header does not check";
  } else if (frame->header.sequence != sequence) {
    cut.verdict = Verdict::kDamagedTail;
    cut.what = fmt::format("it has the number {}", frame->header.sequence);
  } else if (frame->check == FrameCheck::kTorn) {
    cut.verdict = Verdict::kTorn;
    cut.what = "a sector of it was never written";
  } else if (frame->found_by_tail) {
    cut.verdict = Verdict::kDamagedTail;
    cut.what = "its header does not check";
  } else if (frame->header.previous_hash != previous_hash) {
    cut.verdict = Verdict::kDamagedTail;
    cut.what = "it does not follow the frame before it";
  } else {
    cut.verdict = Verdict::kDamagedTail;
    cut.what = frame->check == FrameCheck::kDamaged ? "its records do not check" : "it is of the wrong kind";
  }
  if (durable) cut.verdict = Verdict::kDamagedMiddle;
  return cut;
}

bool was_begun(const Image& image, const SegmentHeader& header, bool trust_tail) {
  const uint64_t limit = image.bytes.size();
  auto first = frame_at(image, kSegmentHeaderBytes, limit);
  if (first && first->check == FrameCheck::kIntact && first->header.sequence == header.first_sequence) return true;
  switch (judge(image, kSegmentHeaderBytes, limit, header.first_sequence, header.previous_hash, nullptr).verdict) {
    case Verdict::kClean:
    case Verdict::kTorn: return false;
    case Verdict::kDamagedTail: break;
    case Verdict::kDamagedMiddle: return true;
  }
  // A repair's summary has two sectors at least. With one it was torn, and what its header calls void is all there is.
  const bool known = next_frame(image, kSegmentHeaderBytes, limit).has_value();
  if (header.void_segment && !known && written_sectors(image, kSegmentHeaderBytes, limit) < 2) return false;
  return trust_tail;
}

Result<void> Replay::add(const Image& image, const SegmentHeader& header, uint64_t limit, const SegmentHeader* next) {
  if (!started_) {
    started_ = true;
    sequence_ = header.first_sequence;
    hash_ = header.previous_hash;
    return read(image, header, limit, next);
  }
  if (!ended_) return read(image, header, limit, next);
  if (!salvage_states_) return {};
  sequence_ = header.first_sequence;
  return salvage(image, kSegmentHeaderBytes, limit, next);
}

Result<void> Replay::read(const Image& image, const SegmentHeader& header, uint64_t limit, const SegmentHeader* next) {
  const bool first_segment = cut_.segment == 0;
  cut_.segment = image.segment;
  uint64_t offset = kSegmentHeaderBytes;
  std::vector<std::pair<uint64_t, uint64_t>> kept;  // sequence and offset
  uint64_t synced = 0;
  while (auto frame = frame_at(image, offset, limit)) {
    const FrameHeader& h = frame->header;
    const bool expect_summary = offset == kSegmentHeaderBytes;
    if (frame->check != FrameCheck::kIntact || h.sequence != sequence_ || h.previous_hash != hash_ ||
        h.summary() != expect_summary)
      break;
    const ByteView records = TRY(payload_of(bytes_of(image, *frame), h, scratch_));
    const auto role = first_segment         ? Table::SummaryRole::kFirst
                      : header.void_segment ? Table::SummaryRole::kRepair
                                            : Table::SummaryRole::kRepeat;
    Result<void> applied = h.summary() ? table_.apply_summary(records, role) : table_.apply(records, image.segment);
    if (!applied)
      return fail(applied.error().code,
                  fmt::format("frame {} at byte {}: {}", h.sequence, offset, applied.error().message));
    kept.emplace_back(h.sequence, offset == kSegmentHeaderBytes ? 0 : offset);
    synced = h.synced_sequence;
    offset = frame->end();
    hash_ = h.hash;
    ++sequence_;
  }
  if (next && next->first_sequence == sequence_ && next->previous_hash == hash_) return {};

  cut_ = judge(image, offset, limit, sequence_, hash_, next);
  ended_ = true;
  auto unsynced = std::find_if(kept.begin(), kept.end(), [&](const auto& frame) { return frame.first > synced; });
  if (unsynced != kept.end()) {
    cut_.rewrite_offset = unsynced->second;
    cut_.rewrite.assign(image.bytes.begin() + static_cast<ptrdiff_t>(unsynced->second),
                        image.bytes.begin() + static_cast<ptrdiff_t>(offset));
  }
  const bool damaged = cut_.verdict == Verdict::kDamagedTail || cut_.verdict == Verdict::kDamagedMiddle;
  if (!damaged || !salvage_states_) return {};
  return salvage(image, offset, limit, next);
}

// Frames of which nothing is left to be recognised by are known to have had no state records if there are as many of
// them as sectors in their place: a frame with state records has two sectors or more, and a tail.
Result<void> Replay::salvage(const Image& image, uint64_t offset, uint64_t limit, const SegmentHeader* next) {
  std::vector<FoundFrame> frames;
  for (auto frame = next_frame(image, offset, limit); frame; frame = next_frame(image, frame->end(), limit))
    frames.push_back(*frame);
  std::vector<uint64_t> declared(frames.size(), next ? next->first_sequence - 1 : 0);  // synced, by what comes later
  for (size_t i = frames.size(); i-- > 1;) declared[i - 1] = std::max(declared[i], frames[i].header.synced_sequence);

  for (size_t i = 0; i < frames.size(); ++i) {
    const FoundFrame& frame = frames[i];
    const FrameHeader& h = frame.header;
    if (h.sequence - sequence_ != (frame.offset() - offset) / kSector) cut_.hard_state_lost = true;
    if (frame.check == FrameCheck::kTorn && h.sequence > declared[i]) return {};  // the end; never acknowledged
    if (frame.check != FrameCheck::kIntact && !frame.state_copy_good) {
      cut_.hard_state_lost = true;
    } else {
      const ByteView records = frame.check == FrameCheck::kIntact ? TRY(payload_of(bytes_of(image, frame), h, scratch_))
                                                                  : state_of(image, frame);
      TRY(table_.salvage(records, h.summary()));
      if (h.summary()) cut_.hard_state_lost = false;  // it says it all again
    }
    sequence_ = h.sequence + 1;
    offset = frame.end();
  }

  const uint64_t sectors = written_sectors(image, offset, limit);
  if (next ? next->first_sequence != sequence_ && next->first_sequence - sequence_ != sectors : sectors > 1)
    cut_.hard_state_lost = true;
  return {};
}

}  // namespace mneme::wal
