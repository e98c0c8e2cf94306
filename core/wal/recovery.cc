// Log::open(): what is done at the disk around replay.h, in an order in which a crash at any point is harmless.
//
//   1. Reading, and the verdict. Nothing is changed, so an error leaves all the evidence.
//   2. Segments at the end that were never begun are removed: they hold nothing that anybody was told.
//   3. What is kept of the last segment and may not be durable is written again, the same bytes, so a torn write
//   changes
//      nothing; behind it, what was dropped becomes zeros, part of which leaves a torn frame torn. Then both are
//      synced, and the directory.
//   4. A repair begins its segment. Before that is durable the verdict is as it was; afterwards the cut is decided.
//   5. Segments that a repair made void are removed; the next life would do it.
#include <fmt/format.h>

#include <algorithm>

#include "core/base/check.h"
#include "core/wal/log.h"
#include "core/wal/replay.h"
#include "core/wal/segment_file.h"

namespace mneme::wal {

namespace {

// Overwritten with zeros behind the tail whatever is read there: the last life may have dropped something and failed to
// sync that, which leaves zeros in the page cache and the dropped bytes on the disk.
constexpr uint64_t kRezeroBytes = 64 * limits::kKiB;

}  // namespace

struct Recovery {
  struct Segment {
    uint64_t number = 0;
    uint64_t file_bytes = 0;
    DecodedSegmentHeader decoded;
    uint64_t limit = 0;  // frames end by here
  };

  Log& log;
  Env& env = log.env_;
  std::vector<Segment> segments{};      // all at first; then those that belong to the log, ascending
  std::vector<uint64_t> never_begun{};  // descending
  std::vector<uint64_t> void_ones{};
  Cut cut{};

  std::string path(uint64_t segment) const { return segment_path(log.options_.directory, segment); }

  Result<void> run() {
    TRY(read_headers());
    TRY(find_last());
    if (segments.empty()) return create();
    TRY(find_chain());
    TRY(replay());
    TRY(decide());
    for (uint64_t segment : never_begun) TRY(log.remove_segment(segment));
    TRY(settle_tail());
    TRY(write_headers());
    if (repairs()) TRY(repair());
    for (uint64_t segment : void_ones) TRY(log.remove_segment(segment));
    hand_over();
    return {};
  }

  Result<void> make_directory() {
    const std::string& directory = log.options_.directory;
    if (directory.empty()) return {};
    TRY(env.disk.make_dir(directory));
    const size_t slash = directory.rfind('/');
    return env.disk.sync_dir(slash == std::string::npos ? "" : directory.substr(0, slash));
  }

  Result<void> read_headers() {
    auto names = env.disk.list(log.options_.directory);
    if (!names && names.error().code == ErrorCode::kNotFound) return {};
    for (const std::string& name : TRY(std::move(names)))
      if (auto number = segment_of_name(name)) segments.push_back({.number = *number});
    for (Segment& segment : segments) {
      auto loaded = TRY(load_segment(env.disk, path(segment.number), segment.number, kSegmentHeaderBytes));
      loaded.image.bytes.resize(kSegmentHeaderBytes);  // a file that was just created may be shorter
      segment.file_bytes = loaded.file_bytes;
      segment.decoded = decode_segment_header(loaded.image.bytes, segment.number);
      TRY(check_header(segment));
    }
    return {};
  }

  Result<void> check_header(const Segment& segment) {
    if (!segment.decoded.header) {
      if (!segment.decoded.any(HeaderCheck::kNewer)) return {};
      return fail(ErrorCode::kUnsupported,
                  fmt::format("{} has format version {}, this program knows {}: start the newer program again",
                              path(segment.number), segment.decoded.version, kFormatVersion));
    }
    const SegmentHeader& h = *segment.decoded.header;
    if (h.identity != log.identity_)
      return fail(ErrorCode::kInvalid,
                  fmt::format("{} belongs to node {} of cluster {:016x}, incarnation {:016x}, not to node {} of "
                              "cluster {:016x}, incarnation {:016x}: give this node its own directory",
                              path(segment.number), h.identity.node.value, h.identity.cluster.value,
                              h.identity.incarnation.value, log.identity_.node.value, log.identity_.cluster.value,
                              log.identity_.incarnation.value));
    if (log.log_id_ != 0 && h.log_id != log.log_id_)
      return fail(ErrorCode::kCorrupt,
                  fmt::format("{} belongs to another log than the segments before it: the directory was mixed up, "
                              "restore it from a backup or replace the node",
                              path(segment.number)));
    log.log_id_ = h.log_id;
    if (segment.file_bytes < h.segment_bytes || h.segment_bytes % kSector != 0 || h.segment_bytes < start_bytes({}))
      return fail(ErrorCode::kCorrupt,
                  fmt::format("{} has {} bytes, its header says {}: it was cut short, restore it from a backup or "
                              "replace the node",
                              path(segment.number), segment.file_bytes, h.segment_bytes));
    return {};
  }

  Result<Image> load(const Segment& segment) {
    const uint64_t bytes = segment.decoded.header ? segment.decoded.header->segment_bytes : segment.file_bytes;
    auto loaded = TRY(load_segment(env.disk, path(segment.number), segment.number, bytes));
    loaded.image.log_id = log.log_id_;
    return std::move(loaded.image);
  }

  // Takes those at the end that were never begun out of `segments`.
  Result<void> find_last() {
    for (; !segments.empty(); segments.pop_back()) {
      const Segment& last = segments.back();
      if (TRY(begun(last))) return {};
      never_begun.push_back(last.number);
    }
    if (!never_begun.empty() && never_begun.front() != 1)
      return fail(
          ErrorCode::kCorrupt,
          fmt::format("the log's segments before {} are missing: restore them from a backup or replace the node",
                      path(never_begun.back())));
    return {};
  }

  Result<bool> begun(const Segment& segment) {
    const DecodedSegmentHeader& decoded = segment.decoded;
    if (!decoded.header && !decoded.any(HeaderCheck::kZero)) return std::unexpected(lost_header(segment));
    const Image image = TRY(load(segment));
    if (decoded.header) return was_begun(image, *decoded.header, log.options_.has_peers);
    // Torn, unless there is more than the write that began it would have left.
    if (image.bytes.size() <= kSegmentHeaderBytes) return false;
    for (auto frame = next_frame(image, kSegmentHeaderBytes, image.bytes.size()); frame;
         frame = next_frame(image, frame->end(), image.bytes.size()))
      if (frame->offset() != kSegmentHeaderBytes) return std::unexpected(lost_header(segment));
    return false;
  }

  Error lost_header(const Segment& segment) const {
    return {ErrorCode::kCorrupt,
            fmt::format("{}: both copies of the segment's header are damaged: restore the file from a backup or "
                        "replace the node",
                        path(segment.number))};
  }

  // From the last segment back along what follows what.
  Result<void> find_chain() {
    std::vector<Segment> chain;
    for (uint64_t cut_offset = 0; !segments.empty();) {
      Segment segment = std::move(segments.back());
      segments.pop_back();
      if (!segment.decoded.header) return std::unexpected(lost_header(segment));
      const SegmentHeader h = *segment.decoded.header;
      segment.limit = cut_offset ? cut_offset : h.segment_bytes;
      if (segment.limit > h.segment_bytes || segment.limit % kSector != 0 || segment.limit < kSegmentHeaderBytes)
        return fail(ErrorCode::kCorrupt, fmt::format("{}: the segment after it names a cut at byte {}, which it cannot "
                                                     "have",
                                                     path(segment.number), segment.limit));
      chain.push_back(std::move(segment));
      const uint64_t before = h.void_segment ? h.void_segment : h.segment - 1;
      cut_offset = h.void_offset;
      for (; !segments.empty() && segments.back().number > before; segments.pop_back())
        void_ones.push_back(segments.back().number);
      if (!segments.empty() && segments.back().number != before)
        return fail(ErrorCode::kCorrupt,
                    fmt::format("{} is missing, although there are segments before and after it: restore it from a "
                                "backup or replace the node",
                                path(before)));
    }
    std::reverse(chain.begin(), chain.end());
    segments = std::move(chain);
    return {};
  }

  Result<void> replay() {
    Replay replay(log.options_.has_peers);
    for (size_t i = 0; i < segments.size(); ++i) {
      const Segment& segment = segments[i];
      const Image image = TRY(load(segment));
      const SegmentHeader* next = i + 1 < segments.size() ? &*segments[i + 1].decoded.header : nullptr;
      if (auto added = replay.add(image, *segment.decoded.header, segment.limit, next); !added)
        return fail(added.error().code, fmt::format("{}: {}; {}", path(segment.number), added.error().message,
                                                    added.error().code == ErrorCode::kUnsupported
                                                        ? "start the newer program again"
                                                        : "restore the log from a backup or replace the node"));
    }
    log.table_ = std::move(replay.table());
    cut = std::move(replay.cut());
    return {};
  }

  bool damaged() const { return cut.verdict == Verdict::kDamagedTail || cut.verdict == Verdict::kDamagedMiddle; }
  bool repairs() const { return damaged() && log.options_.has_peers; }

  Result<void> decide() {
    const std::string where =
        fmt::format("{}: frame {} at byte {} is damaged: {}", path(cut.segment), cut.sequence, cut.offset, cut.what);
    if (cut.verdict == Verdict::kTorn) {
      env.trace.reached(Probe::torn_tail_dropped);
      env::log(env.trace, env::Level::kInfo, "wal", "{}: dropped a frame at byte {} that was never written completely",
               path(cut.segment), cut.offset);
    }
    if (cut.verdict == Verdict::kDamagedMiddle) {
      env.trace.reached(Probe::damaged_middle_found);
      if (!log.options_.has_peers)
        return fail(ErrorCode::kCorrupt,
                    fmt::format("{}. What follows shows that it was acknowledged, and this node has no peers to "
                                "restore it from: restore the log from a backup",
                                where));
    }
    if (cut.verdict == Verdict::kDamagedTail) env.trace.reached(Probe::damaged_tail_found);
    if (repairs() && cut.hard_state_lost)
      return fail(ErrorCode::kCorrupt,
                  fmt::format("{}. It may have held a vote that is not recorded elsewhere, so this replica must not "
                              "vote again: replace the node",
                              where));
    if (damaged())
      env::log(env.trace, env::Level::kWarn, "wal", "{}; {}", where,
               repairs() ? "what follows is given up, and every group is suspect until a leader has restored it"
                         : "it is the last one, and taken for one that was never acknowledged");
    if (repairs()) {
      // Entries that were appended again, after which the segments that had them were freed, may be behind the cut.
      log.table_.mark_suspect();
      log.table_.drop_incomplete();
    }
    if (auto checked = log.table_.check(); !checked)
      return fail(checked.error().code, fmt::format("{}: {}; restore them from a backup or replace the node",
                                                    log.options_.directory, checked.error().message));
    return {};
  }

  // A segment has two copies of its header; where one is damaged, both are written again.
  Result<void> write_headers() {
    for (const Segment& segment : segments) {
      if (!segment.decoded.any(HeaderCheck::kDamaged) && !segment.decoded.any(HeaderCheck::kZero)) continue;
      auto file = TRY(env.disk.open(path(segment.number), env::OpenMode::kReadWrite));
      TRY(file->write_and_sync(0, encode(*segment.decoded.header)));
    }
    return {};
  }

  Result<void> settle_tail() {
    const auto& segment =
        *std::find_if(segments.begin(), segments.end(), [&](const Segment& s) { return s.number == cut.segment; });
    log.file_ = TRY(env.disk.open(path(cut.segment), env::OpenMode::kReadWrite));
    if (!cut.rewrite.empty()) {
      TRY(log.file_->write(cut.rewrite_offset, cut.rewrite));
      env.trace.reached(Probe::unsynced_tail_rewritten);
    }
    if (!repairs())
      TRY(fill_with_zeros(*log.file_, cut.offset,
                          std::max(cut.written_end, std::min(segment.limit, cut.offset + kRezeroBytes))));
    TRY(log.file_->sync());
    TRY(env.disk.sync_dir(log.options_.directory));
    log.offset_ = cut.offset;
    log.next_sequence_ = cut.sequence;
    log.previous_hash_ = cut.previous_hash;
    return {};
  }

  Result<void> repair() {
    const uint64_t last = segments.back().number;
    for (; segments.back().number != cut.segment; segments.pop_back()) void_ones.push_back(segments.back().number);
    return begin(last + 1, cut.segment, cut.offset);
  }

  Result<void> begin(uint64_t number, uint64_t void_segment, uint64_t void_offset) {
    const Bytes summary = log.table_.summary();
    SegmentHeader header;
    header.segment = number;
    header.identity = log.identity_;
    header.log_id = log.log_id_;
    header.segment_bytes = std::max<uint64_t>(log.options_.segment_bytes, start_bytes(summary));
    header.first_sequence = log.next_sequence_;
    header.previous_hash = log.previous_hash_;
    header.void_segment = void_segment;
    header.void_offset = void_offset;
    log.file_ = TRY(create_segment(env.disk, log.options_.directory, number, header.segment_bytes));
    const SegmentStart start = start_segment(header, summary, log.table_.summary_records());
    TRY(log.file_->write_and_sync(0, start.bytes));
    segments.push_back({.number = number, .decoded = {.header = header}});
    log.offset_ = start.bytes.size();
    log.previous_hash_ = start.frame.hash;
    ++log.next_sequence_;
    return {};
  }

  Result<void> create() {
    if (log.options_.must_exist)
      return fail(
          ErrorCode::kCorrupt,
          fmt::format("{}: the log is missing: restore it from a backup or replace the node", log.options_.directory));
    TRY(make_directory());
    // Never 0, which stands for a log that is not known.
    log.log_id_ =
        mix(env.random.draw(Site::kIncarnation, log.identity_.node.value, 1) ^ log.identity_.incarnation.value) | 1;
    TRY(begin(1, 0, 0));
    hand_over();
    return {};
  }

  void hand_over() {
    for (const Segment& segment : segments)
      log.segments_.push_back({segment.number, segment.decoded.header->segment_bytes});
    for (auto& [id, group] : log.table_.groups())
      log.recovered_.push_back({.group = id,
                                .generation = group.generation,
                                .hard_state = group.hard_state,
                                .checkpoint = group.checkpoint,
                                .checkpoint_id = group.checkpoint_id,
                                .origin = group.origin,
                                .entries = std::move(group.entries),
                                .suspect = group.suspect});
    log.table_.forget_entries();
  }
};

Result<std::unique_ptr<Log>> Log::open(Env env, Identity identity, Options options) {
  std::unique_ptr<Log> log(new Log(env, identity, std::move(options)));
  TRY(Recovery{*log}.run());
  return log;
}

}  // namespace mneme::wal
