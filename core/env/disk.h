// Files and directories, with the guarantees that a POSIX file system really gives and no others.
//
// A write reaches the page cache; only a sync that returns success makes it, and the file's size, durable. Directory
// entries (creation, renaming, removal) are durable only after sync_dir() of their directory. A sync that fails may
// have dropped any of the unsynced writes and marked them clean: the next sync proves nothing (Rebello et al., ATC
// '20), so the owner must not go on. Without a sync, a power loss leaves any subset of the unsynced writes, each torn
// at sectors of limits::kSectorBytes; a process kill leaves them all.
//
// Calls suspend until the operation is done and are not cancellable: buffers stay with the caller's stack frame, which
// waits. (In a simulated crash they throw Cancelled at once, the operation having been taken over or dropped.)
// Operations of different fibers run in any order; those of one fiber in its order. Paths are relative to the disk's
// root, separated by '/', without "." or "..", no part longer than 255 bytes; others give kInvalid.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/error.h"

namespace mneme::env {

class File {
 public:
  virtual ~File() = default;  // closes without syncing

  // The number of bytes read: fewer than asked for at the end of the file, 0 behind it; possibly fewer anywhere, so use
  // read_exactly() or read_up_to(). kIo: a sector cannot be read.
  virtual Result<size_t> read(uint64_t offset, std::span<uint8_t> into) = 0;
  // Writes all of `data`, growing the file where needed, or fails with some of it written. kNoSpace, kIo, kTooLarge.
  virtual Result<void> write(uint64_t offset, ByteView data) = 0;
  // write() and sync() in one operation, which may cost one system call and one suspension less.
  virtual Result<void> write_and_sync(uint64_t offset, ByteView data) = 0;
  // Makes everything written to this file so far durable. After kIo the file's unsynced content is unknown.
  virtual Result<void> sync() = 0;
  virtual Result<void> truncate(uint64_t size_bytes) = 0;
  virtual Result<uint64_t> size() = 0;
};

enum class OpenMode : uint8_t {
  kRead,       // must exist
  kReadWrite,  // must exist
  kCreate,     // for reading and writing; must not exist: kExists
};

// Held until destroyed, or until the process dies.
class DirectoryLock {
 public:
  virtual ~DirectoryLock() = default;
};

class Disk {
 public:
  virtual ~Disk() = default;
  virtual Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) = 0;
  // Names in the directory, sorted bytewise. kNotFound.
  virtual Result<std::vector<std::string>> list(const std::string& directory) = 0;
  // Success when it is there already; the parent must exist.
  virtual Result<void> make_dir(const std::string& path) = 0;
  // Replaces `to` when it exists, atomically. kExists: it does, and is a directory or to be replaced by one. kInvalid:
  // a directory below itself.
  virtual Result<void> rename(const std::string& from, const std::string& to) = 0;
  // A file, or an empty directory. kExists: it is not empty. kBusy: somebody holds its lock.
  virtual Result<void> remove(const std::string& path) = 0;
  virtual Result<void> sync_dir(const std::string& directory) = 0;
  // Excludes every other process from the directory. kBusy: somebody has it.
  virtual Result<std::unique_ptr<DirectoryLock>> lock(const std::string& directory) = 0;
};

// What every implementation refuses with kInvalid: see above. The root itself is "".
Result<void> check_path(std::string_view path, bool may_be_root);

// As many bytes as there are, up to into.size(). Suspends.
Result<size_t> read_up_to(File& file, uint64_t offset, std::span<uint8_t> into);
// Exactly into.size() bytes; kCorrupt when the file ends before. Suspends.
Result<void> read_exactly(File& file, uint64_t offset, std::span<uint8_t> into);
// The whole of a file of at most `max_bytes`; kTooLarge. Suspends.
Result<Bytes> read_file(Disk& disk, const std::string& path, size_t max_bytes);
// Replaces `path` by a file with this content so that after any crash either the old or the new one is there, whole:
// writes PATH.tmp, syncs it, renames, syncs the directory. Suspends.
Result<void> replace_file(Disk& disk, const std::string& directory, const std::string& name, ByteView content);

}  // namespace mneme::env
