// What of a simulated machine's disk survives its processes: files and directories behind a page cache, and the faults
// that strike them.
//
// Fault model. Without faults the disk does what a local Linux file system does (tests/contract).
//   - Cache: a write reaches the page cache at once, a sync makes durable what was done before it was asked for. Kill:
//     the cache survives.
//   - Power loss: of what was not synced any part may survive that has with every operation those that it needs, and
//     every such part does in some run: file_content.h says what sectors and sizes need, disk_tree.h what entries do.
//     A sector (512 bytes) is written wholly or not at all. A file's content, its size and its entries are
//     independent. Stricter orders (ext4's journal and data=ordered) leave some of these states; that a file system
//     shows what other files once held (ext4's data=writeback) is not modelled (Pillai et al., OSDI '14).
//   - Failed sync: each sector that it should have written has any one of its versions, the size is written; all is
//     clean, so that a later sync succeeds without writing it; it is read from the cache as if nothing had happened
//     until power is lost (ext4 and XFS in Rebello et al., ATC '20). Syncs of directories do not fail: a file system
//     that cannot write its journal stops altogether.
//   - Bit rot: some bits of a durable sector flip, seen once the cache is gone. Latent sector error: a sector cannot be
//     read until it is written as a whole, nor can a part of it be written; seen at once, unless there is an unsynced
//     write of it. A read that reaches one returns what is before it.
//   - Full: writes that need more space fail with kNoSpace; those into allocated space succeed.
//   - Slow: every operation takes longer by a factor.
// Each strikes where its method says, and its choices are named by the plan item that is the cause.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sim/disk_tree.h"
#include "sim/fate.h"

namespace mneme::sim {

class World;

struct DiskOptions {
  int64_t write_ns = 15'000;  // each takes base to 2 * base, now and then (tail_ppm) up to tail
  int64_t sync_ns = 150'000;
  int64_t read_ns = 60'000;
  int64_t tail_ns = 10'000'000;
  uint32_t tail_ppm = 5'000;
};

// Time and waiting are in MachineDisk.
class DiskState {
 public:
  DiskState(World& world, uint32_t actor, DiskOptions options);

  void power_loss();

  // A new, empty disk. While no process runs.
  void wipe();
  // Strike at once, and say what they hit, "" when there was nothing to hit.
  std::string rot(uint64_t cause);
  std::string make_unreadable(uint64_t cause);
  // Strikes the next sync of a file.
  void fail_next_sync() { fail_next_sync_ = true; }
  // Last until told.
  void set_full(bool full) { full_ = full; }
  void set_slowness(uint32_t factor) { slowness_ = factor; }
  // Ends all that lasts, and takes back what has not struck yet.
  void cancel_failures();

  // Whether processes see something of that name.
  bool contains(const std::string& path) const { return tree_.find(path) != nullptr; }
  const DiskOptions& options() const { return options_; }

 private:
  friend class MachineDisk;
  friend class MachineFile;
  // A sync that ends now; `operations` is what it was asked to cover. False: it fails.
  bool sync_file(const std::shared_ptr<Inode>& inode, uint64_t operations);
  void settle(Inode& inode, uint64_t size_version, Choice choice, uint64_t cause);
  std::shared_ptr<Inode> pick_file(uint64_t cause) const;
  uint64_t pick_sector(const Inode& inode, uint64_t cause) const;

  World& world_;
  uint32_t actor_;
  DiskOptions options_;
  DiskTree tree_;
  uint64_t power_losses_ = 0;
  uint64_t operations_ = 0;
  bool fail_next_sync_ = false;
  bool full_ = false;
  uint32_t slowness_ = 1;
};

}  // namespace mneme::sim
