// A disk in memory for tests, with the crash behaviour that core/env/disk.h allows.
//
// Fault model. Writes go to a page cache; sync makes a file's written sectors and size durable, sync_dir the names in a
// directory. At a power loss each unsynced sector, each unsynced size and each unsynced name survives or not,
// independently; at a kill the cache stays. An operation that a crash interrupts is done for some of its sectors, or
// not. A sync told to fail makes some sectors durable and forgets that the others are not. A sector may be made
// unreadable until it is written again, a bit flipped, the space limited. All chances come from one seed.
//
// After a crash every operation throws Cancelled until restart(), as the disk of a dead process does.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "core/base/hash.h"
#include "core/env/disk.h"
#include "core/fiber/fiber.h"

namespace mneme::wal::test {

struct SplitMix {
  uint64_t state;
  uint64_t next() { return mix(state += 0x9e3779b97f4a7c15u); }
  uint64_t below(uint64_t bound) { return next() % bound; }
  bool chance(uint64_t percent) { return below(100) < percent; }
};

// Wakes whoever waits for the disk, first in, first out.
class Wakeups : public fiber::Idle {
 public:
  explicit Wakeups(fiber::Scheduler& scheduler) : scheduler_(scheduler) {}
  void pause() {
    waiting_.push_back(&scheduler_.current());
    scheduler_.park(false);
  }
  bool wait() override {
    if (waiting_.empty()) return false;
    fiber::Fiber* fiber = waiting_.front();
    waiting_.pop_front();
    scheduler_.wake(*fiber);
    return true;
  }

 private:
  fiber::Scheduler& scheduler_;
  std::deque<fiber::Fiber*> waiting_;
};

class MemoryDisk : public env::Disk {
 public:
  static constexpr size_t kSector = 512;
  enum class Crash : uint8_t { kKill, kPowerLoss };

  struct Inode {
    Bytes cache;
    Bytes durable;
    std::set<uint64_t> dirty;       // sectors
    std::set<uint64_t> unreadable;  // sectors
  };
  // Copyable: a test may go back to it, or try many futures.
  struct State {
    std::map<uint64_t, Inode> inodes;
    std::map<std::string, uint64_t> names;  // 0: a directory
    std::map<std::string, uint64_t> durable_names;
    uint64_t next_inode = 1;
  };

  MemoryDisk(Wakeups& wakeups, uint64_t seed) : wakeups_(wakeups), random_{seed} {}

  State state;
  uint64_t operations = 0;
  uint64_t syncs = 0;
  std::optional<uint64_t> capacity_bytes;

  void crash_at(uint64_t operation, Crash crash) { crash_at_ = {operation, crash}; }
  void fail_sync_at(uint64_t sync) { fail_sync_at_ = sync; }
  bool crashed() const { return crashed_; }
  void crash(Crash kind) {
    crashed_ = true;
    if (kind == Crash::kPowerLoss) lose_power();
  }
  void restart() {
    crashed_ = false;
    crash_at_.reset();
    fail_sync_at_.reset();
  }
  Inode& inode(const std::string& path) { return state.inodes.at(state.names.at(path)); }
  std::vector<std::string> files() const {
    std::vector<std::string> result;
    for (const auto& [name, id] : state.names)
      if (id != 0) result.push_back(name);
    return result;
  }
  void flip(const std::string& path, uint64_t offset, unsigned bit) {
    Inode& node = inode(path);
    node.cache.at(offset) ^= static_cast<uint8_t>(1u << bit);
    if (offset < node.durable.size() && !node.dirty.contains(offset / kSector))
      node.durable[offset] ^= static_cast<uint8_t>(1u << bit);
  }
  void make_unreadable(const std::string& path, uint64_t offset) { inode(path).unreadable.insert(offset / kSector); }

  Result<std::unique_ptr<env::File>> open(const std::string& path, env::OpenMode mode) override {
    step();
    auto it = state.names.find(path);
    if (mode == env::OpenMode::kCreate) {
      if (it != state.names.end()) return fail(ErrorCode::kExists, path + " exists");
      if (!state.names.contains(parent(path)) && !parent(path).empty())
        return fail(ErrorCode::kNotFound, parent(path) + " is missing");
      state.inodes[state.next_inode] = {};
      state.names[path] = state.next_inode;
      return std::make_unique<MemoryFile>(*this, state.next_inode++);
    }
    if (it == state.names.end()) return fail(ErrorCode::kNotFound, path + " is missing");
    return std::make_unique<MemoryFile>(*this, it->second);
  }
  Result<std::vector<std::string>> list(const std::string& directory) override {
    step();
    if (!directory.empty() && !state.names.contains(directory)) return fail(ErrorCode::kNotFound, directory);
    std::vector<std::string> result;
    for (const auto& [name, id] : state.names)
      if (parent(name) == directory) result.push_back(name.substr(directory.empty() ? 0 : directory.size() + 1));
    return result;
  }
  Result<void> make_dir(const std::string& path) override {
    step();
    state.names.emplace(path, 0);
    return {};
  }
  Result<void> rename(const std::string& from, const std::string& to) override {
    step();
    auto node = state.names.extract(from);
    if (node.empty()) return fail(ErrorCode::kNotFound, from);
    state.names[to] = node.mapped();
    return {};
  }
  Result<void> remove(const std::string& path) override {
    step();
    if (state.names.erase(path) == 0) return fail(ErrorCode::kNotFound, path);
    return {};
  }
  Result<void> sync_dir(const std::string& directory) override {
    step();
    std::erase_if(state.durable_names, [&](const auto& n) { return parent(n.first) == directory; });
    for (const auto& entry : state.names)
      if (parent(entry.first) == directory) state.durable_names.insert(entry);
    return {};
  }
  Result<std::unique_ptr<env::DirectoryLock>> lock(const std::string&) override {
    return fail(ErrorCode::kUnsupported, "no locks in these tests");
  }

 private:
  class MemoryFile : public env::File {
   public:
    MemoryFile(MemoryDisk& disk, uint64_t id) : disk_(disk), id_(id) {}
    Result<size_t> read(uint64_t offset, std::span<uint8_t> into) override {
      disk_.step();
      const Inode& node = disk_.state.inodes.at(id_);
      if (offset >= node.cache.size()) return size_t{0};
      const size_t size = std::min<size_t>(into.size(), node.cache.size() - offset);
      for (uint64_t s = offset / kSector; s * kSector < offset + size; ++s)
        if (node.unreadable.contains(s)) return fail(ErrorCode::kIo, "a sector cannot be read");
      std::memcpy(into.data(), node.cache.data() + offset, size);
      return size;
    }
    Result<void> write(uint64_t offset, ByteView data) override {
      const bool dies = disk_.enter();
      Inode& node = disk_.state.inodes.at(id_);
      if (offset + data.size() > node.cache.size()) {
        if (disk_.over_capacity(offset + data.size() - node.cache.size()))
          return fail(ErrorCode::kNoSpace, "the disk is full");
        node.cache.resize(offset + data.size());
      }
      for (uint64_t s = offset / kSector; s * kSector < offset + data.size(); ++s) {
        if (dies && disk_.random_.chance(50)) continue;
        const uint64_t begin = std::max(offset, s * kSector);
        const uint64_t end = std::min<uint64_t>(offset + data.size(), (s + 1) * kSector);
        std::memcpy(node.cache.data() + begin, data.data() + (begin - offset), end - begin);
        node.dirty.insert(s);
        node.unreadable.erase(s);
      }
      disk_.leave(dies);
      return {};
    }
    Result<void> write_and_sync(uint64_t offset, ByteView data) override {
      TRY(write(offset, data));
      return sync();
    }
    Result<void> sync() override {
      const bool dies = disk_.enter();
      ++disk_.syncs;
      const bool fails = disk_.fail_sync_at_ && disk_.syncs >= *disk_.fail_sync_at_;
      if (fails) disk_.fail_sync_at_.reset();
      Inode& node = disk_.state.inodes.at(id_);
      disk_.settle(node, fails || dies ? 50 : 100);
      if (!dies) node.dirty.clear();
      disk_.leave(dies);
      if (fails) return fail(ErrorCode::kIo, "the sync failed");
      return {};
    }
    Result<void> truncate(uint64_t size) override {
      disk_.step();
      disk_.state.inodes.at(id_).cache.resize(size);
      return {};
    }
    Result<uint64_t> size() override {
      disk_.step();
      return disk_.state.inodes.at(id_).cache.size();
    }

   private:
    MemoryDisk& disk_;
    uint64_t id_;
  };

  static std::string parent(const std::string& path) {
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? "" : path.substr(0, slash);
  }
  // True: the process dies in this operation.
  bool enter() {
    if (crashed_) throw fiber::Cancelled{};
    wakeups_.pause();
    if (crashed_) throw fiber::Cancelled{};
    ++operations;
    return crash_at_ && operations == crash_at_->operation;
  }
  void leave(bool dies) {
    if (!dies) return;
    crash(crash_at_->kind);
    throw fiber::Cancelled{};
  }
  void step() { leave(enter()); }
  bool over_capacity(uint64_t more) const {
    uint64_t used = 0;
    for (const auto& [name, id] : state.names)
      if (id != 0) used += state.inodes.at(id).cache.size();
    return capacity_bytes && used + more > *capacity_bytes;
  }
  // Each dirty sector becomes durable with this chance.
  void settle(Inode& node, uint64_t percent) {
    if (node.durable.size() != node.cache.size() && random_.chance(percent)) node.durable.resize(node.cache.size());
    for (uint64_t s : node.dirty) {
      if (!random_.chance(percent)) continue;
      const uint64_t begin = s * kSector;
      const uint64_t end = std::min<uint64_t>(begin + kSector, node.cache.size());
      if (begin >= end) continue;
      if (node.durable.size() < end) node.durable.resize(end);
      std::memcpy(node.durable.data() + begin, node.cache.data() + begin, end - begin);
    }
  }
  void lose_power() {
    for (auto& [id, node] : state.inodes) {
      settle(node, 50);
      node.dirty.clear();
      node.cache = node.durable;
    }
    std::map<std::string, uint64_t> names;
    for (const auto& [name, id] : state.durable_names)
      if (auto now = state.names.find(name); (now != state.names.end() && now->second == id) || random_.chance(50))
        names[name] = id;
    for (const auto& [name, id] : state.names)
      if (auto was = state.durable_names.find(name); was == state.durable_names.end() || was->second != id)
        if (random_.chance(50)) names[name] = id;
    std::erase_if(names, [&](const auto& n) { return !parent(n.first).empty() && !names.contains(parent(n.first)); });
    state.names = state.durable_names = std::move(names);
  }

  struct CrashAt {
    uint64_t operation;
    Crash kind;
  };
  Wakeups& wakeups_;
  SplitMix random_;
  bool crashed_ = false;
  std::optional<CrashAt> crash_at_;
  std::optional<uint64_t> fail_sync_at_;
};

}  // namespace mneme::wal::test
