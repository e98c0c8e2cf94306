// The content of one simulated file: what processes read, what is durable, and the operations between the two.
//
// The operations since the last sync form a graph, and what a power loss leaves is the effect, in the order of issue,
// of any part of it that has with every operation those that it needs:
//   - A write is a write of every sector that it touches, whole, as the sector then was. It needs the earlier writes of
//     the same sector, so that any version of a sector may be the one that survives, and the earlier truncations that
//     cut the whole sector off: what is written there afterwards lies elsewhere on the disk.
//   - A change of the size needs the earlier ones, and only them. A write grows the file page by page, so that any
//     page's end may be the size that survives; a truncation is one step, and zeros what it cuts off.
//   - Data behind the size that survives is lost; bytes never written are zeros.
// Pure: the choices are the caller's. Versions are kept only of sectors that are written again before a sync.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <vector>

#include "sim/sparse_bytes.h"

namespace mneme::sim {

class FileContent {
 public:
  static constexpr uint64_t kPage = 4096;

  // A run of sectors.
  struct Run {
    uint64_t first = 0;
    uint64_t count = 0;
  };

  FileContent() = default;
  explicit FileContent(const SparseBytes& durable) : cached_(durable), durable_(durable) {}

  const SparseBytes& cached() const { return cached_; }
  const SparseBytes& durable() const { return durable_; }
  uint64_t size() const { return cached_.size(); }

  void write(uint64_t offset, ByteView data);  // not empty
  void truncate(uint64_t size);

  // How many operations there have been: what a sync that is asked for now covers.
  uint64_t operations() const { return done_ + pending_.size(); }
  // Makes the first so many operations durable; nothing when an earlier call has done it.
  void sync(uint64_t operations);
  // The sectors of each of the writes that sync(operations) would make durable.
  std::vector<Run> unsynced_writes(uint64_t operations) const;

  // One of the states that a power loss may leave becomes the durable one, and no operation is pending any more.
  // `size_version` is below size_versions(), 0 being the durable size and the last one that of the cache;
  // choose(sector, n) is called for each written sector below that size, ascending, and says which of n >= 2 versions
  // it has, 0 being the durable one and n - 1 the newest.
  uint64_t size_versions() const;
  void settle(uint64_t size_version, const std::function<uint64_t(uint64_t sector, uint64_t versions)>& choose);
  // The cache forgets what it need not hold: what is read next, other than unsynced changes, comes from the disk.
  void evict();

  // Damage to what is durable, not seen through the cache.
  void flip(uint64_t offset, uint8_t mask);
  struct DurableSector {
    SparseBytes::Content content;
    bool readable = true;
  };
  DurableSector durable_sector(uint64_t sector) const;
  void overwrite(uint64_t sector, DurableSector with);  // nothing behind the end
  // Reading the sector fails until it is written again as a whole.
  void make_unreadable(uint64_t sector) { unreadable_.insert(sector); }
  // The first sector of those bytes that cannot be read. One that was written again can be, from the cache.
  std::optional<uint64_t> unreadable_in(uint64_t begin, uint64_t end) const;

 private:
  struct Operation {
    uint64_t begin = 0;  // the bytes written, none by a truncation
    uint64_t end = 0;
    uint64_t old_size = 0;
    uint64_t new_size = 0;
    bool is_write() const { return begin < end; }
    uint64_t first_sector() const { return begin / SparseBytes::kSector; }
    uint64_t end_sector() const { return (end + SparseBytes::kSector - 1) / SparseBytes::kSector; }
    bool writes(uint64_t sector) const { return is_write() && first_sector() <= sector && sector < end_sector(); }
    bool cuts(uint64_t sector) const { return new_size < old_size && new_size < (sector + 1) * SparseBytes::kSector; }
    bool cuts_off(uint64_t sector) const { return new_size < old_size && new_size <= sector * SparseBytes::kSector; }
    uint64_t growth_begin() const { return std::max(old_size, begin); }
    uint64_t size_steps() const;
  };
  // What a sector held between two pending operations, for which it has to be kept.
  struct Version {
    uint64_t since;  // the numbers of the operations: the one that made it
    uint64_t until;  // and the one that made the next
    uint64_t sector;
    SparseBytes::Content content;
  };

  void keep_versions(uint64_t first, uint64_t end);
  SparseBytes::Content version(uint64_t operation, uint64_t sector) const;
  uint64_t settle_size(uint64_t size_version);
  void settle_sector(uint64_t sector, uint64_t held_sizes,
                     const std::function<uint64_t(uint64_t sector, uint64_t versions)>& choose);

  SparseBytes cached_;
  SparseBytes durable_;
  std::vector<Operation> pending_;
  uint64_t done_ = 0;              // how many have left `pending_`; so the number of its first
  uint64_t touched_end_ = 0;       // sectors from here on have only their durable version
  std::vector<Version> versions_;  // by `until`
  std::set<uint64_t> unreadable_;
};

}  // namespace mneme::sim
