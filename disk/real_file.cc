#include "disk/real_file.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <limits>

#include "disk/system_error.h"

namespace mneme::disk {

namespace {

bool again(int64_t result) { return result == -EINTR || result == -EAGAIN; }

// Where the kernel's signed offsets end.
bool beyond(uint64_t offset, size_t size) {
  constexpr uint64_t kLargest = std::numeric_limits<int64_t>::max();
  return offset > kLargest || size > kLargest - offset;
}

}  // namespace

class RealFile::Change {
 public:
  explicit Change(RealFile& file) : file_(file) {
    ++file_.changes_;
    ++file_.changing_;
  }
  ~Change() {
    ++file_.changes_;
    --file_.changing_;
  }

 private:
  RealFile& file_;
};

RealFile::RealFile(Engine& engine, int descriptor, std::string path, bool writable, bool fresh)
    : engine_(engine),
      descriptor_(descriptor),
      path_(std::move(path)),
      writable_(writable),
      synced_changes_(fresh ? 0 : std::numeric_limits<uint64_t>::max()) {}

RealFile::~RealFile() { ::close(descriptor_); }

Result<void> RealFile::check_writable(const char* operation) const {
  if (writable_) return {};
  return fail(ErrorCode::kInvalid, fmt::format("{} {}: the file is open for reading only", operation, path_));
}

Result<size_t> RealFile::read(uint64_t offset, std::span<uint8_t> into) {
  if (beyond(offset, into.size())) return 0;
  int64_t got;
  do got = engine_.read(descriptor_, offset, into);
  while (again(got));
  if (got < 0) return system_error("read", path_, -got);
  return static_cast<size_t>(got);
}

Result<void> RealFile::write(uint64_t offset, ByteView data) {
  TRY(check_writable("write"));
  if (beyond(offset, data.size())) return system_error("write", path_, EFBIG);
  Change change(*this);
  while (!data.empty()) {
    int64_t written = engine_.write(descriptor_, offset, data);
    if (again(written)) continue;
    if (written < 0) return system_error("write", path_, -written);
    if (written == 0) return system_error("write", path_, EIO);
    offset += static_cast<uint64_t>(written);
    data = data.subspan(static_cast<size_t>(written));
  }
  return {};
}

Result<void> RealFile::write_and_sync(uint64_t offset, ByteView data) {
  TRY(check_writable("write"));
  if (beyond(offset, data.size())) return system_error("write", path_, EFBIG);
  if (data.empty()) return sync();
  const bool only_these = synced_changes_ == changes_;
  const uint64_t begun = changes_;
  const bool alone = changing_ == 0;
  while (!data.empty()) {
    int64_t written = engine_.write_and_sync(descriptor_, offset, data, only_these);
    if (again(written)) continue;
    if (written <= 0) {
      ++changes_;  // some of it may be in the cache, and no sync says so
      return system_error("write and sync", path_, written == 0 ? EIO : -written);
    }
    offset += static_cast<uint64_t>(written);
    data = data.subspan(static_cast<size_t>(written));
  }
  if (!only_these && alone) synced_changes_ = begun;
  return {};
}

Result<void> RealFile::sync() {
  const uint64_t begun = changes_;
  const bool alone = changing_ == 0;
  int64_t result;
  do result = engine_.sync(descriptor_);
  while (again(result));
  if (result < 0) return system_error("sync", path_, -result);
  if (alone) synced_changes_ = begun;
  return {};
}

Result<void> RealFile::truncate(uint64_t size_bytes) {
  TRY(check_writable("truncate"));
  if (beyond(size_bytes, 0)) return system_error("truncate", path_, EFBIG);
  Change change(*this);
  int error = 0;
  engine_.call([&] {
    while (::ftruncate(descriptor_, static_cast<off_t>(size_bytes)) != 0) {
      error = errno;
      if (error != EINTR) return;
    }
    error = 0;
  });
  if (error != 0) return system_error("truncate", path_, error);
  return {};
}

// Answered from memory: the kernel keeps the attributes of open files there.
Result<uint64_t> RealFile::size() {
  struct stat status;
  if (::fstat(descriptor_, &status) != 0) return system_error("stat", path_, errno);
  return static_cast<uint64_t>(status.st_size);
}

}  // namespace mneme::disk
