#include "sim/disk_state.h"

#include <fmt/format.h>

#include <algorithm>

#include "sim/world.h"

namespace mneme::sim {

namespace {

constexpr uint64_t kSector = SparseBytes::kSector;
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
  tree_.lose_unsynced([&](size_t i) { return world_.chance(500'000, Choice::kTornEntry, actor_, cause, i); });
  for (auto& [path, inode] : tree_.durable()) {
    if (inode->directory) continue;
    const uint64_t sizes = inode->content.size_versions();
    uint64_t size = 0;
    if (sizes > 1)
      size = pick_version(world_.choose(Choice::kTornSize, (uint64_t{actor_} << 32) + cause, inode->number), sizes);
    settle(*inode, size, Choice::kTornSector, cause);
    inode->content.evict();
  }
}

void DiskState::wipe() { tree_.wipe(); }

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

std::string DiskState::make_unreadable(uint64_t cause) {
  auto inode = pick_file(cause);
  if (!inode) return "";
  const uint64_t sector = pick_sector(*inode, cause);
  inode->content.make_unreadable(sector);
  return fmt::format("file {} sector {}", inode->number, sector);
}

// --- Syncs

bool DiskState::sync_file(const std::shared_ptr<Inode>& inode, uint64_t operations) {
  if (std::exchange(fail_next_sync_, false)) {
    settle(*inode, inode->content.size_versions() - 1, Choice::kFailedSyncSector, operations_);
    return false;
  }
  inode->content.sync(operations);
  return true;
}

void DiskState::cancel_failures() {
  fail_next_sync_ = full_ = false;
  slowness_ = 1;
}

}  // namespace mneme::sim
