// env::File over a descriptor.
#pragma once

#include <cstdint>
#include <string>

#include "core/env/disk.h"
#include "disk/engine.h"

namespace mneme::disk {

class RealFile final : public env::File {
 public:
  // Takes the descriptor over. `path` is for error sentences. `fresh`: the file was made just now, so nothing of it can
  // be waiting for a sync; in one that was there, a process that died may have left such writes.
  RealFile(Engine& engine, int descriptor, std::string path, bool writable, bool fresh);
  ~RealFile() override;

  Result<size_t> read(uint64_t offset, std::span<uint8_t> into) override;
  Result<void> write(uint64_t offset, ByteView data) override;
  Result<void> write_and_sync(uint64_t offset, ByteView data) override;
  Result<void> sync() override;
  Result<void> truncate(uint64_t size_bytes) override;
  Result<uint64_t> size() override;

 private:
  class Change;
  Result<void> check_writable(const char* operation) const;

  Engine& engine_;
  const int descriptor_;
  const std::string path_;
  const bool writable_;
  // Counts the beginning and the end of every change. What a sync made durable is all there is when no change was under
  // way as it began and the count is still what it was then; only then may write_and_sync() leave the rest unsynced.
  uint64_t changes_ = 0;
  uint64_t synced_changes_;
  size_t changing_ = 0;
};

}  // namespace mneme::disk
