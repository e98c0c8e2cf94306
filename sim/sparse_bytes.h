// The content of a simulated file: sectors that are immutable and shared by whoever holds the same bytes, and nothing
// at all for sectors of zeros. A write-ahead log is mostly preallocated zeros, and of what is written the page cache
// and the disk hold the same: neither costs memory, and a sync copies pointers.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/limits.h"

namespace mneme::sim {

class SparseBytes {
 public:
  static constexpr uint64_t kSector = limits::kSectorBytes;
  using Sector = std::array<uint8_t, kSector>;
  using Content = std::shared_ptr<const Sector>;  // of one sector; nullptr: zeros

  uint64_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  // What is added is zeros.
  void resize(uint64_t size);
  // Offsets and sizes stay below size(); copy() takes the same bytes of `from`, and both have them. read() says how
  // many bytes reach to the end of the last sector that is held: those behind are zeros.
  size_t read(uint64_t offset, std::span<uint8_t> into) const;
  void write(uint64_t offset, ByteView data);
  void copy(const SparseBytes& from, uint64_t begin, uint64_t end);
  // One sector by its number, which put_sector() takes below size(); bytes behind size() do not count.
  Content sector(uint64_t number) const;
  void put_sector(uint64_t number, Content content);
  // The numbers of those that are not all zeros, ascending: all that takes memory.
  std::vector<uint64_t> written_sectors() const;

 private:
  // So many sectors are held together: a file of a node has a few dozen groups, where a tree of sectors would be deep.
  static constexpr uint64_t kGroup = 32;
  using Group = std::array<Content, kGroup>;

  // Makes the sectors [first, last) zeros.
  void clear(uint64_t first, uint64_t last);

  // By the number of the first sector, divided by kGroup. No sector in it is all zeros; bytes of the last one behind
  // size() are zeros.
  std::map<uint64_t, Group> groups_;
  uint64_t size_ = 0;
};

}  // namespace mneme::sim
