#include "sim/disk_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "sim/world.h"

namespace mneme::sim {

namespace {

constexpr uint64_t kSector = SparseBytes::kSector;
constexpr uint64_t kPage = FileContent::kPage;
constexpr uint64_t kHeaderBytes = 64;  // where many formats have what matters most

uint64_t whole_pages(uint64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }
uint64_t sectors_of(uint64_t bytes) { return (bytes + kSector - 1) / kSector; }

// The newest when the draw is small, so that benign values are.
uint64_t pick_version(uint64_t drawn, uint64_t versions) { return versions - 1 - Fate::scale(drawn, versions); }

}  // namespace

DiskState::DiskState(World& world, uint32_t actor, DiskOptions options)
    : world_(world), actor_(actor), options_(options) {}

void DiskState::settle(Inode& inode, uint64_t size_version, Choice choice, uint64_t cause) {
  inode.content.settle(size_version, [&](uint64_t sector, uint64_t versions) {
    return pick_version(world_.choose(choice, (uint64_t{actor_} << 32) + cause, inode.number, sector), versions);
  });
}

void DiskState::power_loss() {
  const uint64_t cause = ++power_losses_;
  const bool loses_all = !promises_.empty() && world_.chance(500'000, Choice::kBrokenPromise, actor_, cause);
  promises_.clear();
  tree_.lose_unsynced(
      [&](size_t i) { return !loses_all && world_.chance(500'000, Choice::kTornEntry, actor_, cause, i); });
  for (auto& [path, inode] : tree_.durable()) {
    if (inode->directory) continue;
    const uint64_t sizes = inode->content.size_versions();
    uint64_t size = 0;
    if (sizes > 1 && !loses_all)
      size = pick_version(world_.choose(Choice::kTornSize, (uint64_t{actor_} << 32) + cause, inode->number), sizes);
    if (loses_all)
      inode->content.settle(0, [](uint64_t, uint64_t) { return uint64_t{0}; });
    else
      settle(*inode, size, Choice::kTornSector, cause);
    inode->content.evict();
  }
}

void DiskState::wipe() {
  promises_.clear();
  tree_.become(DiskTree());
}

static std::string describe(const DiskTree& tree) {
  uint64_t files = 0;
  uint64_t bytes = 0;
  for (auto& [path, inode] : tree.durable()) {
    files += !inode->directory;
    bytes += inode->content.durable().size();
  }
  return files == 0 ? "" : fmt::format("{} files, {} bytes", files, bytes);
}

std::string DiskState::take_copy() {
  copy_ = tree_.copy_of_durable();
  return describe(*copy_);
}

std::string DiskState::restore_copy() {
  if (!copy_) return "";
  promises_.clear();
  tree_.become(*copy_);
  return describe(tree_);
}

// --- Damage

std::shared_ptr<Inode> DiskState::pick_file(uint64_t cause) const {
  std::vector<std::shared_ptr<Inode>> files;
  for (auto& [path, inode] : tree_.durable())
    if (!inode->directory && !inode->content.durable().empty()) files.push_back(inode);
  if (files.empty()) return nullptr;
  return files[Fate::scale(world_.choose(Choice::kDamagePlace, actor_, cause, 0), files.size())];
}

// One that holds something, if the file has any: damage to never-written space is rarely interesting.
uint64_t DiskState::pick_sector(const Inode& inode, uint64_t cause) const {
  const std::vector<uint64_t> written = inode.content.durable().written_sectors();
  const uint64_t drawn = world_.choose(Choice::kDamagePlace, actor_, cause, 1);
  return written.empty() ? Fate::scale(drawn, sectors_of(inode.content.durable().size()))
                         : written[Fate::scale(drawn, written.size())];
}

std::string DiskState::rot(uint64_t cause) {
  auto inode = pick_file(cause);
  if (!inode) return "";
  const uint64_t sector = pick_sector(*inode, cause);
  const uint64_t size = std::min<uint64_t>(kSector, inode->content.durable().size() - sector * kSector);
  const uint64_t flips = 1 + Fate::scale(world_.choose(Choice::kDamageBits, actor_, cause, 0), 8);
  for (uint64_t i = 1; i <= flips; ++i) {
    const uint64_t bit = Fate::scale(world_.choose(Choice::kDamageBits, actor_, cause, i), size * 8);
    inode->content.flip(sector * kSector + bit / 8, static_cast<uint8_t>(1u << (bit % 8)));
  }
  return fmt::format("file {} sector {}, {} bits", inode->number, sector, flips);
}

std::string DiskState::rot_last_written(uint64_t cause) {
  const std::shared_ptr<Inode> inode = last_written_.lock();
  if (!inode) return "";
  auto pick = [&](uint64_t nth, uint64_t n) {
    return Fate::scale(world_.choose(Choice::kDamageBits, actor_, cause, nth), n);
  };
  const uint64_t sector = last_run_.first + (pick(0, 2) == 0 ? 0 : pick(1, last_run_.count));
  if (sector * kSector >= inode->content.durable().size()) return "";  // cut off since
  const uint64_t size = std::min<uint64_t>(kSector, inode->content.durable().size() - sector * kSector);
  const uint64_t bit = pick(2, (pick(3, 4) != 0 ? std::min<uint64_t>(size, kHeaderBytes) : size) * 8);
  const bool one_bit = pick(4, 2) == 0;
  const auto mask = static_cast<uint8_t>(one_bit ? 1u << (bit % 8) : 1 + pick(5, 255));
  inode->content.flip(sector * kSector + bit / 8, mask);
  return fmt::format("file {} sector {}, byte {} xor {:#04x}", inode->number, sector, bit / 8, mask);
}

std::string DiskState::make_unreadable(uint64_t cause) {
  auto inode = pick_file(cause);
  if (!inode) return "";
  const uint64_t sector = pick_sector(*inode, cause);
  inode->content.make_unreadable(sector);
  return fmt::format("file {} sector {}", inode->number, sector);
}

std::string DiskState::evict() {
  size_t files = 0;
  for (auto& [path, inode] : tree_.cached()) {
    if (inode->directory || inode->content.size() == 0) continue;
    inode->content.evict();
    ++files;
  }
  return files == 0 ? "" : fmt::format("the cache of {} files", files);
}

// --- Syncs

bool DiskState::sync_file(const std::shared_ptr<Inode>& inode, uint64_t operations) {
  if (std::exchange(fail_next_sync_, false)) {
    settle(*inode, inode->content.size_versions() - 1, Choice::kFailedSyncSector, operations_);
    return false;
  }
  if (lying_) {
    promise(inode, operations);
    return true;
  }
  keep_promises();
  const std::vector<FileContent::Run> runs = inode->content.unsynced_writes(operations);
  if (!runs.empty()) {
    last_written_ = inode;
    last_run_ = runs.back();
  }
  if (!strays_.empty() && !runs.empty()) {
    const Stray stray = strays_.front();
    strays_.erase(strays_.begin());
    sync_with_stray(*inode, operations, pick_run(runs, stray.cause), stray);
  } else {
    inode->content.sync(operations);
  }
  return true;
}

void DiskState::sync_directory(const std::shared_ptr<Inode>& directory) {
  if (lying_) return promise(directory, 0);
  keep_promises();
  tree_.sync(*directory);
}

void DiskState::promise(const std::shared_ptr<Inode>& inode, uint64_t operations) {
  auto known = std::find_if(promises_.begin(), promises_.end(), [&](const Promise& p) { return p.inode == inode; });
  if (known == promises_.end())
    promises_.push_back({inode, operations});
  else
    known->operations = std::max(known->operations, operations);
}

void DiskState::keep_promises() {
  for (const Promise& promise : promises_) {
    if (promise.inode->directory)
      tree_.sync(*promise.inode);
    else
      promise.inode->content.sync(promise.operations);
  }
  promises_.clear();
}

// Half of the time all of a write, otherwise a part.
FileContent::Run DiskState::pick_run(const std::vector<FileContent::Run>& runs, uint64_t cause) const {
  auto pick = [&](uint64_t nth, uint64_t n) {
    return Fate::scale(world_.choose(Choice::kStrayWrite, actor_, cause, nth), n);
  };
  FileContent::Run run = runs[pick(0, runs.size())];
  if (pick(1, 2) == 0) return run;
  const uint64_t skipped = pick(2, run.count);
  return {run.first + skipped, 1 + pick(3, run.count - skipped)};
}

void DiskState::sync_with_stray(Inode& inode, uint64_t operations, const FileContent::Run& run, const Stray& stray) {
  auto sectors = [&] {
    std::vector<FileContent::DurableSector> contents;
    for (uint64_t i = 0; i < run.count; ++i) contents.push_back(inode.content.durable_sector(run.first + i));
    return contents;
  };
  const std::vector<FileContent::DurableSector> before = sectors();
  inode.content.sync(operations);
  const std::vector<FileContent::DurableSector> after = sectors();
  for (uint64_t i = 0; i < run.count; ++i) inode.content.overwrite(run.first + i, before[i]);
  std::string sentence =
      fmt::format("file {} sectors {} to {}: the write is ", inode.number, run.first, run.first + run.count - 1);
  sentence += stray.misdirected ? misdirect(after, inode, run.first, stray.cause) : "lost";
  world_.record(actor_, "fault", sentence);
}

// Says where they go.
std::string DiskState::misdirect(const std::vector<FileContent::DurableSector>& sectors, const Inode& from,
                                 uint64_t first, uint64_t cause) {
  auto inode = pick_file(cause);
  if (!inode) return "lost";
  uint64_t to = pick_sector(*inode, cause);
  if (inode.get() == &from && to == first) to = first + sectors.size();
  for (size_t i = 0; i < sectors.size(); ++i) inode->content.overwrite(to + i, sectors[i]);
  return fmt::format("misdirected to file {} sector {}", inode->number, to);
}

void DiskState::cancel_failures() {
  fail_next_sync_ = lying_ = full_ = hung_ = false;
  strays_.clear();
  space_ = UINT64_MAX;
  short_reads_ppm_ = 0;
  slowness_ = 1;
}

// --- Space

uint64_t DiskState::size(const std::string& path) const {
  const std::shared_ptr<Inode> found = tree_.find(path);
  return found ? found->content.size() : 0;
}

DiskState::Contents DiskState::contents(const std::string& directory) const {
  Contents contents;
  const std::shared_ptr<Inode> found = tree_.find(directory);
  if (!found) return contents;
  for (auto& [name, inode] : found->entries) {
    contents.files += !inode->directory;
    contents.bytes += inode->content.size();
  }
  return contents;
}

uint64_t DiskState::bytes_used() const {
  uint64_t total = 0;
  for (auto& [path, inode] : tree_.cached()) total += whole_pages(inode->content.size());
  return total;
}

uint64_t DiskState::room(const Inode& inode) const {
  const uint64_t allocated = whole_pages(inode.content.size());
  if (full_) return allocated;
  if (space_ == UINT64_MAX) return UINT64_MAX;
  const uint64_t used = bytes_used();
  return allocated + (used < space_ ? (space_ - used) / kPage * kPage : 0);
}

}  // namespace mneme::sim
