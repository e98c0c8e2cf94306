#include "core/wal/log.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/check.h"
#include "core/wal/record.h"
#include "core/wal/segment_file.h"

namespace mneme::wal {

namespace {

// No frame with these records is larger, whatever they contain.
uint64_t frame_bound(uint64_t payload_bytes, uint64_t state_bytes) {
  return layout_of(payload_bytes, state_bytes, payload_bytes / kSector).total;
}

}  // namespace

Log::Log(Env env, Identity identity, Options options)
    : env_(env), identity_(identity), options_(std::move(options)), changed_(env.scheduler) {
  CHECK(options_.segment_bytes % kSector == 0);
  CHECK(options_.segment_bytes >= kSegmentHeaderBytes + 4 * kSector);
  CHECK(options_.segment_bytes <= limits::kSegmentBytes);
  CHECK(options_.max_frame_bytes <= limits::kMaxFrameBytes);
}

Error Log::dead() const {
  return {ErrorCode::kIo, fmt::format("{}: the log failed; the node must end", options_.directory)};
}

// Runs an operation after whose failure, other than for want of space, nothing is known of the files any more.
template <class F>
Result<void> Log::guarded(F&& operation) {
  if (failed_) return std::unexpected(dead());
  Result<void> result = operation();
  if (failed_) return std::unexpected(dead());  // another operation did, meanwhile
  if (result || result.error().code == ErrorCode::kNoSpace) return result;
  failed_ = true;
  return fail(ErrorCode::kIo, fmt::format("{}: the log failed; the node must end", result.error().message));
}

Result<void> Log::append(Batch& batch) {
  CHECK(!appending_);
  struct Appending {
    explicit Appending(Log& l) : log(l) { log.appending_ = true; }
    ~Appending() {
      log.appending_ = false;
      if (!log.plan_wanted_) return;
      log.plan_wanted_ = false;
      if (!log.failed_) log.plan_freeing();
      log.changed_.notify_all();
    }
    Log& log;
  } appending(*this);
  if (failed_) return std::unexpected(dead());
  if (batch.empty()) return {};
  const uint64_t bound = frame_bound(batch.frame_.size() - kFrameHeaderBytes, batch.state_.size());
  CHECK(!batch.whole_ || bound <= limits::kMaxFrameBytes);
  if (batch.whole_ || bound <= options_.max_frame_bytes)
    return append_frame(batch.frame_, batch.state_, batch.records_);
  return append_in_parts(batch);
}

// What was written is taken out of the batch, so that what is left may be tried again.
Result<void> Log::append_in_parts(Batch& batch) {
  const ByteView all = ByteView(batch.frame_).subspan(kFrameHeaderBytes);
  Reader reader(all);
  Bytes frame(kFrameHeaderBytes);
  Bytes state;
  uint32_t records = 0;
  size_t written = 0;  // bytes, of which so many are states, in so many records
  size_t written_state = 0;
  uint32_t written_records = 0;
  auto append = [&]() -> Result<void> {
    auto appended = append_frame(frame, state, records);
    if (!appended) {
      batch.frame_.erase(batch.frame_.begin() + kFrameHeaderBytes,
                         batch.frame_.begin() + static_cast<ptrdiff_t>(kFrameHeaderBytes + written));
      batch.state_.erase(batch.state_.begin(), batch.state_.begin() + static_cast<ptrdiff_t>(written_state));
      batch.records_ -= written_records;
    }
    return appended;
  };
  while (!reader.at_end()) {
    const size_t begin = all.size() - reader.remaining();
    auto record = decode_record(reader);
    CHECK(record.has_value());
    const ByteView bytes = all.subspan(begin, all.size() - reader.remaining() - begin);
    const bool is_state = record->type != RecordType::kEntry;
    const size_t payload_after = frame.size() - kFrameHeaderBytes + bytes.size();
    const size_t state_after = state.size() + (is_state ? bytes.size() : 0);
    if (records != 0 && frame_bound(payload_after, state_after) > options_.max_frame_bytes) {
      TRY(append());
      written = begin;
      written_state += state.size();
      written_records += records;
      frame.resize(kFrameHeaderBytes);
      state.clear();
      records = 0;
    }
    frame.insert(frame.end(), bytes.begin(), bytes.end());
    if (is_state) state.insert(state.end(), bytes.begin(), bytes.end());
    ++records;
  }
  return append();
}

Result<void> Log::append_frame(Bytes& frame, const Bytes& state, uint32_t records) {
  find_zero_sectors(frame, escapes_);
  const uint64_t total = layout_of(frame.size() - kFrameHeaderBytes, state.size(), escapes_.size()).total;
  if (offset_ + total > segments_.back().bytes ||
      (prepared_ && env_.random.rarely(Site::kEarlySegment, next_sequence_)))
    TRY(guarded([&] { return begin_segment(total); }));

  // Before it is written: a record that recovery would refuse must not get into the log.
  const auto applied = table_.apply(ByteView(frame).subspan(kFrameHeaderBytes), segments_.back().number);
  if (!applied) check_failed(applied.error().message.c_str(), __FILE_NAME__, __LINE__);
  FrameHeader header;
  header.sequence = next_sequence_;
  header.segment = segments_.back().number;
  header.offset = offset_;
  header.previous_hash = previous_hash_;
  header.synced_sequence = next_sequence_ - 1;
  header.records = records;
  header.log_id = log_id_;
  seal_frame(frame, header, state, escapes_);

  auto written = file_->write_and_sync(offset_, frame);
  if (failed_) return std::unexpected(dead());
  if (!written) {
    failed_ = true;
    return fail(ErrorCode::kIo, fmt::format("{}: writing frame {} failed ({}); the node must end",
                                            segment_path(options_.directory, header.segment), header.sequence,
                                            written.error().message));
  }
  offset_ += total;
  previous_hash_ = header.hash;
  ++next_sequence_;
  return {};
}

// Everything before is durable already: each append returns only then.
Result<void> Log::begin_segment(uint64_t frame_bytes) {
  const Bytes summary = table_.summary();
  const uint64_t needed = start_bytes(summary) + frame_bytes;
  TRY(prepare());
  const uint64_t number = segments_.back().number + 1;
  if (prepared_bytes_ < needed) {  // for one large frame, or a summary of very many groups
    TRY(fill_with_zeros(*prepared_, prepared_bytes_, needed));
    TRY(prepared_->sync());
    prepared_bytes_ = needed;
  }
  SegmentHeader header;
  header.segment = number;
  header.identity = identity_;
  header.log_id = log_id_;
  header.segment_bytes = prepared_bytes_;
  header.first_sequence = next_sequence_;
  header.previous_hash = previous_hash_;
  const SegmentStart start = start_segment(header, summary, table_.summary_records());
  if (auto written = prepared_->write_and_sync(0, start.bytes); !written)
    return fail(ErrorCode::kIo,
                fmt::format("{}: {}", segment_path(options_.directory, number), written.error().message));
  file_ = std::move(prepared_);
  segments_.push_back({number, header.segment_bytes});
  offset_ = start.bytes.size();
  previous_hash_ = start.frame.hash;
  ++next_sequence_;
  env_.trace.reached(Probe::segment_rotated);
  return {};
}

Result<void> Log::prepare_next() {
  return guarded([this] { return prepare(); });
}

Result<void> Log::prepare() {
  if (preparing_) changed_.wait_until([this] { return !preparing_; });
  if (prepared_) return {};
  struct Preparing {
    explicit Preparing(Log& l) : log(l) { log.preparing_ = true; }
    ~Preparing() {
      log.preparing_ = false;
      log.changed_.notify_all();
    }
    Log& log;
  } preparing(*this);
  auto file = create_segment(env_.disk, options_.directory, segments_.back().number + 1, options_.segment_bytes);
  if (!file) {
    if (file.error().code == ErrorCode::kNoSpace) env_.trace.reached(Probe::disk_full_met);
    return std::unexpected(std::move(file).error());
  }
  prepared_ = std::move(*file);
  prepared_bytes_ = options_.segment_bytes;
  return {};
}

// Only while nothing is being appended: then all that the table says is durable.
void Log::plan_freeing() {
  CHECK(!appending_);
  free_below_ = table_.oldest_needed(segments_.back().number);
}

Result<void> Log::free_segments() {
  if (freeing_) return {};
  struct Freeing {
    explicit Freeing(Log& l) : log(l) { log.freeing_ = true; }
    ~Freeing() { log.freeing_ = false; }
    Log& log;
  } freeing(*this);
  return guarded([this]() -> Result<void> {
    if (appending_) {
      plan_wanted_ = true;
      changed_.wait_until([this] { return !plan_wanted_; });
    } else {
      plan_freeing();
    }
    while (!failed_ && segments_.size() > 1 && segments_.front().number < free_below_) {
      const uint64_t segment = segments_.front().number;
      TRY(remove_segment(segment));
      segments_.pop_front();
      table_.freed(segment);
      env_.trace.reached(Probe::segments_freed);
    }
    return {};
  });
}

std::vector<Laggard> Log::laggards() const {
  std::vector<Laggard> laggards;
  if (segments_.size() == 1) return laggards;
  for (const Table::Need& need : table_.needs())
    if (need.oldest_segment <= segments_.front().number) laggards.push_back({need.group, need.bytes});
  return laggards;
}

uint64_t Log::needed_bytes() const {
  uint64_t total = 0;
  for (const Table::Need& need : table_.needs()) total += need.bytes + 2 * kSector;
  return total;
}

// One at a time, each durable before the next: a crash must not leave a hole.
Result<void> Log::remove_segment(uint64_t segment) {
  TRY(env_.disk.remove(segment_path(options_.directory, segment)));
  return env_.disk.sync_dir(options_.directory);
}

uint64_t Log::bytes() const {
  uint64_t total = prepared_ ? prepared_bytes_ : 0;
  for (const SegmentInfo& segment : segments_) total += segment.bytes;
  return total;
}

}  // namespace mneme::wal
