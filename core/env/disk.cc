#include "core/env/disk.h"

#include <fmt/format.h>

namespace mneme::env {

namespace {
constexpr size_t kMaxNameBytes = 255;  // NAME_MAX of Linux
}

Result<void> check_path(std::string_view path, bool may_be_root) {
  if (path.empty() && may_be_root) return {};
  if (path.find('\0') != std::string_view::npos)
    return fail(ErrorCode::kInvalid, "a path below the data directory has a zero byte in it");
  for (std::string_view rest = path;;) {
    const size_t slash = rest.find('/');
    const std::string_view part = rest.substr(0, slash);
    if (part.empty() || part == "." || part == ".." || part.size() > kMaxNameBytes)
      return fail(ErrorCode::kInvalid, fmt::format("'{}' is not a path below the data directory", path));
    if (slash == std::string_view::npos) return {};
    rest.remove_prefix(slash + 1);
  }
}

Result<size_t> read_up_to(File& file, uint64_t offset, std::span<uint8_t> into) {
  size_t total = 0;
  while (total < into.size()) {
    size_t got = TRY(file.read(offset + total, into.subspan(total)));
    if (got == 0) break;
    total += got;
  }
  return total;
}

Result<void> read_exactly(File& file, uint64_t offset, std::span<uint8_t> into) {
  size_t got = TRY(read_up_to(file, offset, into));
  if (got != into.size())
    return fail(ErrorCode::kCorrupt,
                fmt::format("the file ends at byte {}, {} bytes early", offset + got, into.size() - got));
  return {};
}

Result<Bytes> read_file(Disk& disk, const std::string& path, size_t max_bytes) {
  auto file = TRY(disk.open(path, OpenMode::kRead));
  uint64_t size = TRY(file->size());
  if (size > max_bytes)
    return fail(ErrorCode::kTooLarge, fmt::format("{} has {} bytes, at most {} were expected", path, size, max_bytes));
  Bytes content(size);
  TRY(read_exactly(*file, 0, content));
  return content;
}

Result<void> replace_file(Disk& disk, const std::string& directory, const std::string& name, ByteView content) {
  const std::string path = directory.empty() ? name : directory + "/" + name;
  const std::string temporary = path + ".tmp";
  if (auto removed = disk.remove(temporary); !removed && removed.error().code != ErrorCode::kNotFound) return removed;
  auto file = TRY(disk.open(temporary, OpenMode::kCreate));
  TRY(file->write_and_sync(0, content));
  file.reset();
  TRY(disk.rename(temporary, path));
  return disk.sync_dir(directory);
}

}  // namespace mneme::env
