// What of a simulated machine's disk survives its processes: files and directories behind a page cache, and the faults
// that strike them.
//
// Fault model. Without faults the disk does what a local Linux file system does (tests/contract).
//   - Cache: a write reaches the page cache at once, a sync makes durable what was done before it was asked for. Kill:
//     the cache survives. Evict: what is clean leaves it, as it may at any time on a machine short of memory.
//   - Power loss: of what was not synced any part may survive that has with every operation those that it needs, and
//     every such part does in some run: file_content.h says what sectors and sizes need, disk_tree.h what entries do.
//     A sector (512 bytes) is written wholly or not at all. A file's content, its size and its entries are
//     independent. Stricter orders (ext4's journal and data=ordered) leave some of these states; that a file system
//     shows what other files once held (ext4's data=writeback) is not modelled (Pillai et al., OSDI '14).
//   - Failed sync: each sector that it should have written has any one of its versions, the size is written; all is
//     clean, so that a later sync succeeds without writing it; it is read from the cache as if nothing had happened
//     until evicted (ext4 and XFS in Rebello et al., ATC '20). Syncs of directories do not fail: a file system that
//     cannot write its journal stops altogether.
//   - Lost write: of a write that a sync makes durable all or a run of sectors is dropped by the device. Misdirected
//     write: it lands in another place, of the same file or another one, and is missing where it belongs. Both are
//     reported as done and seen once the cache is gone. File systems' own blocks are not struck.
//   - Lying flush: syncs, of directories too, report success and do nothing. What they promised becomes durable with
//     the next honest sync, of whatever file or directory, or is left to the next power loss. That loses all of it, as
//     often as not: a drive's cache is lost as a whole.
//   - Bit rot: some bits of a durable sector flip, or a bit or a byte of what was made durable last, seen once the
//   cache
//     is gone. Latent sector error: a sector cannot be read until it is written as a whole, nor can a part of it be
//     written; seen at once, unless there is an unsynced write of it. A read that reaches one returns what is before
//     it, as at any place when reads are short. Writes are never short: env::File has the loop inside
//     (tests/unit/contract cuts the real one's short).
//   - Full: what needs no further page is written, the rest fails with kNoSpace, within one write too. Every file takes
//     the pages of its size, holes included; a removed one takes none, even while it is open. Either nothing is to be
//     had whatever is removed (somebody else takes it), or there is a limit to all files together.
//   - Slow: every operation takes longer by a factor. Hung: none completes until told, those under way included; a
//     crash frees them.
//   - Wiped: empty. Old copy: all is as it was durable when the copy was taken.
// Each strikes where its method says, and its choices are named by the plan item that is the cause.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
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
  // Keeps what is durable now, in place of an earlier copy; and makes everything as it was then, while no process runs.
  // They say how much that is, "" when it is nothing.
  std::string take_copy();
  std::string restore_copy();

  // Strike at once, and say what they hit, "" when there was nothing to hit.
  std::string rot(uint64_t cause);
  std::string make_unreadable(uint64_t cause);
  // One bit of the write that was made durable last, or a byte; likelier near a sector's beginning,
  // where headers are.
  std::string rot_last_written(uint64_t cause);
  std::string evict();
  // Strikes the next sync of a file.
  void fail_next_sync() { fail_next_sync_ = true; }
  // Strike the next syncs of files that have something to write, one each, and record then what they hit.
  void lose_next_write(uint64_t cause) { strays_.push_back({cause, false}); }
  void misdirect_next_write(uint64_t cause) { strays_.push_back({cause, true}); }
  void cancel_stray_writes() { strays_.clear(); }  // those that have not struck yet
  // Last until told.
  void set_lying(bool lying) { lying_ = lying; }
  // Makes durable what lying syncs promised.
  void keep_promises();
  void set_full(bool full) { full_ = full; }
  void set_space(uint64_t bytes) { space_ = bytes; }  // for all files together; UINT64_MAX: no limit
  void set_short_reads(uint32_t ppm) { short_reads_ppm_ = ppm; }
  void set_slowness(uint32_t factor) { slowness_ = factor; }
  void set_hung(bool hung) { hung_ = hung; }
  // Ends all that lasts, and takes back what has not struck yet.
  void cancel_failures();

  // Whether processes see something of that name.
  bool contains(const std::string& path) const { return tree_.find(path) != nullptr; }
  // Of a file, as processes see it; 0 when there is none.
  uint64_t size(const std::string& path) const;
  // What processes see in a directory: files, and their bytes. Nothing when there is none of that name.
  struct Contents {
    uint64_t files = 0;
    uint64_t bytes = 0;
  };
  Contents contents(const std::string& directory) const;
  uint64_t bytes_used() const;  // by all files, as set_space() counts them
  const DiskOptions& options() const { return options_; }

 private:
  friend class MachineDisk;
  friend class MachineFile;
  struct Stray {
    uint64_t cause;
    bool misdirected;
  };
  struct Promise {
    std::shared_ptr<Inode> inode;
    uint64_t operations;  // on the file's content; of a directory none
  };

  // A sync that ends now; `operations` is what it was asked to cover. False: it fails.
  bool sync_file(const std::shared_ptr<Inode>& inode, uint64_t operations);
  void sync_directory(const std::shared_ptr<Inode>& directory);
  void promise(const std::shared_ptr<Inode>& inode, uint64_t operations);
  void sync_with_stray(Inode& inode, uint64_t operations, const FileContent::Run& run, const Stray& stray);
  FileContent::Run pick_run(const std::vector<FileContent::Run>& runs, uint64_t cause) const;
  std::string misdirect(const std::vector<FileContent::DurableSector>& sectors, const Inode& from, uint64_t first,
                        uint64_t cause);
  void settle(Inode& inode, uint64_t size_version, Choice choice, uint64_t cause);
  std::shared_ptr<Inode> pick_file(uint64_t cause) const;
  uint64_t pick_sector(const Inode& inode, uint64_t cause) const;
  uint64_t room(const Inode& inode) const;  // how large the file may get
  bool has_room_for_entry() const { return !full_ && (space_ == UINT64_MAX || bytes_used() < space_); }

  World& world_;
  uint32_t actor_;
  DiskOptions options_;
  DiskTree tree_;
  std::optional<DiskTree> copy_;
  uint64_t power_losses_ = 0;
  uint64_t operations_ = 0;
  bool fail_next_sync_ = false;
  std::vector<Stray> strays_;
  std::weak_ptr<Inode> last_written_;
  FileContent::Run last_run_;
  bool lying_ = false;
  std::vector<Promise> promises_;
  bool full_ = false;
  uint64_t space_ = UINT64_MAX;
  uint32_t short_reads_ppm_ = 0;
  uint32_t slowness_ = 1;
  bool hung_ = false;
};

}  // namespace mneme::sim
