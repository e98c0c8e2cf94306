#include "core/wal/inspect.h"

#include <fmt/format.h>

#include "core/raft/text.h"
#include "core/wal/record.h"
#include "core/wal/replay.h"
#include "core/wal/segment_file.h"

namespace mneme::wal {

namespace {

using Line = std::function<void(std::string_view)>;

std::string_view name_of(HeaderCheck check) {
  switch (check) {
    case HeaderCheck::kValid: return "valid";
    case HeaderCheck::kZero: return "not written";
    case HeaderCheck::kDamaged: return "damaged";
    case HeaderCheck::kNewer: return "of a newer version";
  }
  return "?";
}

std::string_view name_of(raft::EntryKind kind) {
  switch (kind) {
    case raft::EntryKind::kNoop: return "noop";
    case raft::EntryKind::kData: return "data";
    case raft::EntryKind::kConfig: return "config";
  }
  return "?";
}

std::string stated(const raft::LogPosition& position) {
  return fmt::format("{} of term {}", position.index.value, position.term.value);
}

std::string text_of(const Record& r) {
  switch (r.type) {
    case RecordType::kEntry:
      return fmt::format("entry {}, {}, {} bytes", stated(r.position), name_of(r.entry_kind), r.payload.size());
    case RecordType::kHardState:
      return fmt::format("term {}, vote {}", r.hard_state.term.value, raft::text_of(r.hard_state.vote));
    case RecordType::kCheckpoint:
      return fmt::format("{} {} at {}", r.restart ? "restart after checkpoint" : "checkpoint", r.checkpoint_id,
                         stated(r.checkpoint));
    case RecordType::kSuspect: return r.suspect ? "suspect" : "no longer suspect";
    case RecordType::kRemoved:
      return r.has_generation ? fmt::format("replica of generation {} removed", r.generation) : "removed";
    case RecordType::kBegun: return fmt::format("replica of generation {} begins", r.generation);
    case RecordType::kSplitOff:
      return fmt::format("restart after {}, as split off group {} by its entry {}", stated(r.checkpoint),
                         r.origin.parent.value, stated(r.origin.entry));
    case RecordType::kSummary:
      return fmt::format("summary: term {}, vote {}, checkpoint {} at {}, last entry {}{}", r.hard_state.term.value,
                         raft::text_of(r.hard_state.vote), r.checkpoint_id, stated(r.checkpoint), stated(r.last),
                         r.suspect ? ", suspect" : "");
  }
  return "?";
}

void row(const Line& line, std::string_view offset, std::string_view sequence, std::string_view synced,
         std::string_view group, std::string_view what) {
  line(fmt::format("{:>9}  {:>9}  {:>9}  {:>6}  {}", offset, sequence, synced, group, what));
}

void frame_row(const Line& line, const FoundFrame& frame, std::string_view what) {
  const FrameHeader& h = frame.header;
  row(line, fmt::to_string(frame.offset()), fmt::to_string(h.sequence), fmt::to_string(h.synced_sequence), "-", what);
}

void records_of(const Line& line, ByteView records) {
  for (Reader reader(records); !reader.at_end();) {
    auto record = decode_record(reader);
    if (!record) return row(line, "", "", "", "", record.error().message);
    row(line, "", "", "", record->group ? fmt::to_string(record->group.value) : "others", text_of(*record));
  }
}

void header_lines(const Line& line, const DecodedSegmentHeader& decoded, uint64_t file_bytes) {
  if (decoded.any(HeaderCheck::kNewer)) line(fmt::format("format version {}", decoded.version));
  if (decoded.copies[0] != HeaderCheck::kValid || decoded.copies[1] != HeaderCheck::kValid)
    line(fmt::format("header {}, its copy {}", name_of(decoded.copies[0]), name_of(decoded.copies[1])));
  if (!decoded.header) return;
  const SegmentHeader& h = *decoded.header;
  line(fmt::format("segment {} of log {:016x}, format version {}, {} bytes in use of {}", h.segment, h.log_id,
                   kFormatVersion, h.segment_bytes, file_bytes));
  line(fmt::format("cluster {:016x}, node {}, incarnation {:016x}", h.identity.cluster.value, h.identity.node.value,
                   h.identity.incarnation.value));
  if (h.void_segment)
    line(fmt::format("a repair: all from byte {} of segment {} up to here is void", h.void_offset, h.void_segment));
}

}  // namespace

Result<void> inspect(env::Disk& disk, const std::string& path, const Line& line) {
  const size_t slash = path.rfind('/');
  const auto named = segment_of_name(std::string_view(path).substr(slash == std::string::npos ? 0 : slash + 1));
  auto loaded = TRY(load_segment(disk, path, named.value_or(0), UINT64_MAX));
  Image& image = loaded.image;
  if (image.bytes.size() < kSegmentHeaderBytes) {
    line(fmt::format("no segment: {} bytes", loaded.file_bytes));
    return {};
  }
  // A copy under another name: believe the header about the number, its checksum then confirms it.
  if (!named) image.segment = load_le<uint64_t>(image.bytes.data() + 8);
  const auto decoded = decode_segment_header(ByteView(image.bytes).first(kSegmentHeaderBytes), image.segment);
  header_lines(line, decoded, loaded.file_bytes);
  uint64_t limit = image.bytes.size();
  uint64_t sequence = 0;
  uint64_t hash = 0;
  if (decoded.header) {
    image.log_id = decoded.header->log_id;
    limit = std::min(limit, decoded.header->segment_bytes / kSector * kSector);
    sequence = decoded.header->first_sequence;
    hash = decoded.header->previous_hash;
  }

  row(line, "offset", "sequence", "synced", "group", "what");
  uint64_t offset = kSegmentHeaderBytes;
  Bytes scratch;
  while (auto frame = frame_at(image, offset, limit)) {
    const FrameHeader& h = frame->header;
    if (!decoded.header && offset == kSegmentHeaderBytes) {
      sequence = h.sequence;
      hash = h.previous_hash;
    }
    if (frame->check != FrameCheck::kIntact || h.sequence != sequence || h.previous_hash != hash) break;
    frame_row(line, *frame,
              fmt::format("{} of {} records, {} bytes{}", h.summary() ? "summary" : "frame", h.records,
                          frame->layout.total, frame->state_copy_good ? "" : ", copies of its state records damaged"));
    auto records = payload_of(bytes_of(image, *frame), h, scratch);
    if (records)
      records_of(line, *records);
    else
      row(line, "", "", "", "", records.error().message);
    offset = frame->end();
    hash = h.hash;
    ++sequence;
  }

  const Cut cut = judge(image, offset, limit, sequence, hash, nullptr);
  switch (cut.verdict) {
    case Verdict::kClean: line(fmt::format("ends at byte {}: {} bytes are free", offset, limit - offset)); break;
    case Verdict::kTorn:
      line(fmt::format("ends at byte {}: frame {} was never written completely", offset, sequence));
      break;
    case Verdict::kDamagedTail:
      line(fmt::format("stops at byte {}: frame {} is damaged: {}; nothing in this segment says whether it was durable",
                       offset, sequence, cut.what));
      break;
    case Verdict::kDamagedMiddle:
      line(fmt::format("stops at byte {}: frame {} is damaged: {}; it was durable, as a later frame says", offset,
                       sequence, cut.what));
      break;
  }
  for (auto frame = next_frame(image, offset, limit); frame; frame = next_frame(image, frame->end(), limit)) {
    const bool intact = frame->check == FrameCheck::kIntact;
    frame_row(line, *frame,
              intact                              ? "behind the stop: a frame that checks"
              : frame->check == FrameCheck::kTorn ? "behind the stop: a torn frame"
              : frame->state_copy_good            ? "behind the stop: a damaged frame, its state records are known"
                                                  : "behind the stop: a damaged frame");
    if (!intact && frame->state_copy_good && frame->header.state_bytes != 0)
      records_of(line, state_of(image, *frame));
    else if (auto records = payload_of(bytes_of(image, *frame), frame->header, scratch); intact && records)
      records_of(line, *records);
  }
  return {};
}

}  // namespace mneme::wal
