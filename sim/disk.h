// The simulated disk of one machine: files and directories that survive, with a page cache in front.
//
// Fault model:
//   - Every write goes to the page cache at once; a sync makes durable what was written before it was asked for. Kill:
//     the cache survives. Power loss: each sector (512 bytes) written and not synced is on the disk or not, by its own
//     choice; a file's unsynced new size holds or not; unsynced changes of directory entries hold or not, each by its
//     own choice, but never a change without the earlier ones to the same name; a rename holds as a whole.
//   - A failed sync: each sector it should have written was written or not by its own choice; all are marked clean, so
//     that a later sync succeeds without writing them; the process goes on reading them from the cache until power is
//     lost.
//   - Bit rot: some bits of a durable sector flip; seen once the cache is gone. Latent sector error: reading that
//   sector
//     fails until it is written again.
//   - Full: writes that need more space fail with kNoSpace; those into allocated space succeed.
//   - Slow: every operation takes longer by a factor.
// Operations of one process overlap; each takes a latency of its own. Two processes of one machine never overlap.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/base/limits.h"
#include "core/env/disk.h"
#include "core/fiber/fiber.h"
#include "sim/event.h"
#include "sim/fate.h"
#include "sim/sparse_bytes.h"

namespace mneme::sim {

class World;
class Machine;

struct DiskOptions {
  int64_t write_ns = 15'000;  // each takes base to 2 * base, now and then (tail_ppm) up to tail
  int64_t sync_ns = 150'000;
  int64_t read_ns = 60'000;
  int64_t tail_ns = 10'000'000;
  uint32_t tail_ppm = 5'000;
};

struct Inode {
  uint64_t number = 0;
  SparseBytes cached;   // what processes read
  SparseBytes durable;  // what a power loss leaves, but for the choices made then
  struct Range {
    uint64_t begin = 0;
    uint64_t end = 0;
  };
  std::vector<Range> dirty;       // written and not synced, in order
  uint64_t cleaned = 0;           // how many ranges have left `dirty` so far
  std::set<uint64_t> unreadable;  // sectors with a latent error
  bool directory = false;
  uint64_t locked_by_boot = 0;
};

// What survives processes. Pure state; time and waiting are in MachineDisk.
class DiskState {
 public:
  DiskState(World& world, uint32_t actor, DiskOptions options);

  void power_loss();
  // Everything is gone: a new, empty disk.
  void wipe();
  // Planned damage; `cause` names the plan item. Each says what it hit, or "" when there was nothing to hit.
  std::string rot(uint64_t cause);
  std::string make_unreadable(uint64_t cause);
  void fail_next_sync() { fail_next_sync_ = true; }
  void cancel_failures() { fail_next_sync_ = false; }
  void set_full(bool full) { full_ = full; }
  void set_slowness(uint32_t factor) { slowness_ = factor; }

  uint64_t bytes_used() const;
  bool contains(const std::string& path) const { return cached_.contains(path); }
  const DiskOptions& options() const { return options_; }

 private:
  friend class MachineDisk;
  friend class MachineFile;
  // A change of directory entries not yet synced: `names` are the entries it touches, to their new inode or none. A
  // sync of either directory makes it durable as a whole; they differ for a rename across directories.
  struct Change {
    std::string directory;
    std::string other_directory;
    std::vector<std::pair<std::string, std::shared_ptr<Inode>>> names;
    bool crosses() const { return directory != other_directory; }
    bool touches_a_name_of(const Change& other) const;
  };
  using Entries = std::map<std::string, std::shared_ptr<Inode>>;  // by full path

  std::shared_ptr<Inode> find(const std::string& path) const;
  void change(Change change);
  void hold(const Change& change);  // makes it durable
  void sync_directory(const std::string& directory);
  void sync_ranges(Inode& inode, size_t count);  // makes the first `count` dirty ranges durable
  void fail_sync(Inode& inode, uint64_t cause);
  std::shared_ptr<Inode> pick_file(uint64_t cause) const;
  bool is_directory(const std::string& path) const;
  static std::string parent(const std::string& path);

  World& world_;
  uint32_t actor_;
  DiskOptions options_;
  Entries cached_;
  Entries durable_;
  std::vector<Change> changes_;
  uint64_t inodes_ = 0;
  uint64_t power_losses_ = 0;
  uint64_t operations_ = 0;
  bool fail_next_sync_ = false;
  bool full_ = false;
  uint32_t slowness_ = 1;
};

// The disk as one process sees it.
class MachineDisk final : public env::Disk {
 public:
  MachineDisk(Machine& machine, DiskState& state);
  ~MachineDisk() override;

  Result<std::unique_ptr<env::File>> open(const std::string& path, env::OpenMode mode) override;
  Result<std::vector<std::string>> list(const std::string& directory) override;
  Result<void> make_dir(const std::string& path) override;
  Result<void> rename(const std::string& from, const std::string& to) override;
  Result<void> remove(const std::string& path) override;
  Result<void> sync_dir(const std::string& directory) override;
  Result<std::unique_ptr<env::DirectoryLock>> lock(const std::string& directory) override;

  // The process crashed: wakes the fibers that wait for operations.
  void crashed();
  size_t open_files() const { return open_files_; }

 private:
  friend class MachineFile;
  struct Operation;
  enum class Kind : uint8_t { kRead, kWrite, kSync, kMeta };
  // Suspends for as long as an operation takes; throws Cancelled when the process crashed meanwhile.
  void take_time(Kind kind, uint64_t bytes);

  Machine& machine_;
  DiskState& state_;
  std::vector<Operation*> pending_;
  size_t open_files_ = 0;
};

}  // namespace mneme::sim
