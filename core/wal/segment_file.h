// Segment files: their names, reading them whatever is wrong with them, creating and beginning them.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/env/disk.h"
#include "core/wal/format.h"
#include "core/wal/scan.h"

namespace mneme::wal {

[[nodiscard]] std::string segment_path(const std::string& directory, uint64_t segment);
[[nodiscard]] std::optional<uint64_t> segment_of_name(std::string_view name);

struct LoadedSegment {
  Image image;  // whole sectors, at most as many bytes as asked for; log_id is the caller's to set
  uint64_t file_bytes = 0;
};
// Sectors that cannot be read are noted in the image. Suspends. kCorrupt: larger than any segment.
Result<LoadedSegment> load_segment(env::Disk& disk, const std::string& path, uint64_t segment, uint64_t max_bytes);

// Creates the file, or replaces one that was never begun, fills it with zeros and makes it and its name durable.
// Suspends. kNoSpace: nothing is left behind, if that can be helped.
Result<std::unique_ptr<env::File>> create_segment(env::Disk& disk, const std::string& directory, uint64_t segment,
                                                  uint64_t bytes);
Result<void> fill_with_zeros(env::File& file, uint64_t begin, uint64_t end);

// What to write at offset 0 to begin a segment: both headers and the summary. `frame` tells its end and hash.
struct SegmentStart {
  Bytes bytes;
  FrameHeader frame;
};
[[nodiscard]] SegmentStart start_segment(const SegmentHeader& header, const Bytes& summary, uint32_t records);
[[nodiscard]] uint64_t start_bytes(const Bytes& summary);

}  // namespace mneme::wal
