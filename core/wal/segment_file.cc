#include "core/wal/segment_file.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/check.h"

namespace mneme::wal {

namespace {

constexpr size_t kReadBytes = 256 * limits::kKiB;
// A segment made larger for one frame that did not fit.
constexpr uint64_t kMaxFileBytes = 4 * limits::kSegmentBytes;

constexpr std::array<uint8_t, 128 * limits::kKiB> kZeros{};

// Reads what can be read of [offset, offset + into.size()), sector by sector once a read has failed.
Result<void> read_around_errors(env::File& file, uint64_t offset, std::span<uint8_t> into,
                                std::vector<uint64_t>& unreadable) {
  auto got = env::read_up_to(file, offset, into);
  if (got) {
    if (*got == into.size()) return {};
    return fail(ErrorCode::kCorrupt, fmt::format("the file ends at byte {} while it is read", offset + *got));
  }
  if (got.error().code != ErrorCode::kIo) return std::unexpected(std::move(got).error());
  if (into.size() > kSector) {
    for (size_t at = 0; at < into.size(); at += kSector)
      TRY(read_around_errors(file, offset + at, into.subspan(at, kSector), unreadable));
    return {};
  }
  std::fill(into.begin(), into.end(), kFill);
  unreadable.push_back(offset);
  return {};
}

Result<void> create_filled(env::Disk& disk, const std::string& directory, env::File& file, uint64_t bytes) {
  for (uint64_t at = 0; at < bytes; at += limits::kWritebackBytes) {
    TRY(fill_with_zeros(file, at, std::min<uint64_t>(at + limits::kWritebackBytes, bytes)));
    TRY(file.sync());
  }
  return disk.sync_dir(directory);
}

}  // namespace

std::string segment_path(const std::string& directory, uint64_t segment) {
  return fmt::format("{}{}wal-{:016x}", directory, directory.empty() ? "" : "/", segment);
}

std::optional<uint64_t> segment_of_name(std::string_view name) {
  constexpr std::string_view kPrefix = "wal-";
  if (name.size() != kPrefix.size() + 16 || !name.starts_with(kPrefix)) return std::nullopt;
  uint64_t segment = 0;
  for (char c : name.substr(kPrefix.size())) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit && !(c >= 'a' && c <= 'f')) return std::nullopt;
    segment = segment << 4 | static_cast<uint64_t>(digit ? c - '0' : c - 'a' + 10);
  }
  return segment;
}

Result<LoadedSegment> load_segment(env::Disk& disk, const std::string& path, uint64_t segment, uint64_t max_bytes) {
  auto file = TRY(disk.open(path, env::OpenMode::kRead));
  LoadedSegment loaded;
  loaded.file_bytes = TRY(file->size());
  if (loaded.file_bytes > kMaxFileBytes)
    return fail(ErrorCode::kCorrupt, fmt::format("{} has {} bytes, more than any segment", path, loaded.file_bytes));
  const uint64_t size = std::min(loaded.file_bytes, max_bytes) / kSector * kSector;
  Image& image = loaded.image;
  image.segment = segment;
  image.bytes.resize(size);
  for (uint64_t at = 0; at < size; at += kReadBytes) {
    auto part = std::span(image.bytes).subspan(at, std::min<uint64_t>(kReadBytes, size - at));
    if (auto read = read_around_errors(*file, at, part, image.unreadable); !read)
      return fail(read.error().code, fmt::format("{}: {}", path, read.error().message));
  }
  return loaded;
}

Result<void> fill_with_zeros(env::File& file, uint64_t begin, uint64_t end) {
  while (begin < end) {
    const uint64_t size = std::min<uint64_t>(kZeros.size(), end - begin);
    TRY(file.write(begin, ByteView(kZeros).first(size)));
    begin += size;
  }
  return {};
}

Result<std::unique_ptr<env::File>> create_segment(env::Disk& disk, const std::string& directory, uint64_t segment,
                                                  uint64_t bytes) {
  const std::string path = segment_path(directory, segment);
  auto file = disk.open(path, env::OpenMode::kCreate);
  if (!file && file.error().code == ErrorCode::kExists) {
    TRY(disk.remove(path));
    file = disk.open(path, env::OpenMode::kCreate);
  }
  if (!file) return file;
  auto filled = create_filled(disk, directory, **file, bytes);
  if (!filled) {
    file->reset();
    if (filled.error().code == ErrorCode::kNoSpace) static_cast<void>(disk.remove(path));
    return fail(filled.error().code, fmt::format("{}: {}", path, filled.error().message));
  }
  return file;
}

uint64_t start_bytes(const Bytes& summary) {
  return kSegmentHeaderBytes + layout_of(summary.size(), summary.size(), 0).total;
}

SegmentStart start_segment(const SegmentHeader& header, const Bytes& summary, uint32_t records) {
  SegmentStart start;
  start.frame.sequence = header.first_sequence;
  start.frame.segment = header.segment;
  start.frame.offset = kSegmentHeaderBytes;
  start.frame.previous_hash = header.previous_hash;
  start.frame.synced_sequence = header.first_sequence - 1;
  start.frame.records = records;
  start.frame.flags = kSummaryFrame;
  start.frame.log_id = header.log_id;
  Bytes frame(kFrameHeaderBytes + summary.size());
  if (!summary.empty()) std::memcpy(frame.data() + kFrameHeaderBytes, summary.data(), summary.size());
  seal_frame(frame, start.frame, summary, {});  // no sector of a summary is zero: every record has a type

  const auto sectors = encode(header);
  start.bytes.assign(sectors.begin(), sectors.end());
  start.bytes.insert(start.bytes.end(), frame.begin(), frame.end());
  CHECK(start.bytes.size() == start_bytes(summary));
  return start;
}

}  // namespace mneme::wal
