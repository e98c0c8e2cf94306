#include "sim/file_content.h"

#include <algorithm>

#include "core/base/check.h"

namespace mneme::sim {

namespace {

constexpr uint64_t kSector = SparseBytes::kSector;

uint64_t sectors_of(uint64_t bytes) { return (bytes + kSector - 1) / kSector; }

// Bytes of `sector` from the file's byte `size` on become zeros.
SparseBytes::Content cut(SparseBytes::Content content, uint64_t sector, uint64_t size) {
  if (!content || size >= (sector + 1) * kSector) return content;
  if (size <= sector * kSector) return nullptr;
  SparseBytes::Sector bytes = *content;
  std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(size % kSector), bytes.end(), uint8_t{0});
  return std::make_shared<const SparseBytes::Sector>(bytes);
}

}  // namespace

uint64_t FileContent::Operation::size_steps() const {
  if (new_size == old_size) return 0;
  return is_write() ? (new_size - 1) / kPage - growth_begin() / kPage + 1 : 1;
}

void FileContent::write(uint64_t offset, ByteView data) {
  CHECK(!data.empty());
  const uint64_t old_size = size();
  const Operation operation{offset, offset + data.size(), old_size, std::max(old_size, offset + data.size())};
  keep_versions(operation.first_sector(), operation.end_sector());
  if (operation.new_size != old_size) cached_.resize(operation.new_size);
  cached_.write(offset, data);
  pending_.push_back(operation);
  touched_end_ = std::max(touched_end_, operation.end_sector());
}

void FileContent::truncate(uint64_t size) {
  const uint64_t old_size = cached_.size();
  if (size == old_size) return;
  if (size < old_size) keep_versions(size / kSector, sectors_of(old_size));
  cached_.resize(size);
  pending_.push_back({0, 0, old_size, size});
  if (size < old_size) touched_end_ = std::max(touched_end_, sectors_of(old_size));
}

// Of the sectors [first, end), which the next operation changes.
void FileContent::keep_versions(uint64_t first, uint64_t end) {
  end = std::min(end, touched_end_);
  for (uint64_t sector = first; sector < end; ++sector)
    for (size_t i = pending_.size(); i-- > 0;)
      if (pending_[i].writes(sector) || pending_[i].cuts(sector)) {
        versions_.push_back({done_ + i, operations(), sector, cached_.sector(sector)});
        break;
      }
}

// What the sector held after that operation, which wrote it.
SparseBytes::Content FileContent::version(uint64_t operation, uint64_t sector) const {
  for (const Version& version : versions_)
    if (version.sector == sector && version.until > operation) return version.content;
  return cached_.sector(sector);
}

void FileContent::sync(uint64_t operations) {
  if (operations <= done_) return;
  const size_t count = operations - done_;
  CHECK(count <= pending_.size());
  for (size_t i = 0; i < count; ++i)
    if (pending_[i].new_size != pending_[i].old_size) durable_.resize(pending_[i].new_size);
  const uint64_t common = std::min(durable_.size(), cached_.size());
  for (size_t i = 0; i < count; ++i) {
    if (!pending_[i].is_write()) continue;
    const uint64_t end = std::min(pending_[i].end_sector() * kSector, common);
    const uint64_t begin = std::min(pending_[i].first_sector() * kSector, end);
    durable_.copy(cached_, begin, end);
    if (!unreadable_.empty())
      unreadable_.erase(unreadable_.lower_bound(pending_[i].first_sector()),
                        unreadable_.lower_bound(pending_[i].end_sector()));
  }
  // What is in the cache is too new where a later operation has been there.
  for (Version& version : versions_)
    if (version.since < operations && version.until >= operations && version.sector * kSector < durable_.size())
      durable_.put_sector(version.sector, std::move(version.content));
  std::erase_if(versions_, [&](const Version& version) { return version.since < operations; });
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(count));
  done_ = operations;
  if (pending_.empty()) touched_end_ = 0;
}

std::vector<FileContent::Run> FileContent::unsynced_writes(uint64_t operations) const {
  std::vector<Run> runs;
  for (size_t i = 0; i < pending_.size() && done_ + i < operations; ++i)
    if (pending_[i].is_write())
      runs.push_back({pending_[i].first_sector(), pending_[i].end_sector() - pending_[i].first_sector()});
  return runs;
}

uint64_t FileContent::size_versions() const {
  uint64_t versions = 1;
  for (const Operation& operation : pending_) versions += operation.size_steps();
  return versions;
}

// Says how many of the pending operations have their change of size on the disk.
uint64_t FileContent::settle_size(uint64_t size_version) {
  for (size_t i = 0; i < pending_.size(); ++i) {
    const Operation& operation = pending_[i];
    const uint64_t steps = operation.size_steps();
    if (size_version < steps) {
      if (size_version > 0) durable_.resize((operation.growth_begin() / kPage + size_version) * kPage);
      return i;
    }
    if (steps > 0) durable_.resize(operation.new_size);
    size_version -= steps;
  }
  CHECK(size_version == 0);
  return pending_.size();
}

void FileContent::settle(uint64_t size_version,
                         const std::function<uint64_t(uint64_t sector, uint64_t versions)>& choose) {
  const uint64_t held_sizes = settle_size(size_version);
  std::vector<uint64_t> written;
  for (const Operation& operation : pending_)
    if (operation.is_write())
      for (uint64_t sector = operation.first_sector(); sector < operation.end_sector(); ++sector)
        if (sector * kSector < durable_.size()) written.push_back(sector);
  std::sort(written.begin(), written.end());
  written.erase(std::unique(written.begin(), written.end()), written.end());
  for (uint64_t sector : written) settle_sector(sector, held_sizes, choose);
  done_ += pending_.size();
  pending_.clear();
  versions_.clear();
  touched_end_ = 0;
}

void FileContent::settle_sector(uint64_t sector, uint64_t held_sizes,
                                const std::function<uint64_t(uint64_t sector, uint64_t versions)>& choose) {
  std::vector<size_t> writes;
  for (size_t i = 0; i < pending_.size(); ++i) {
    if (i >= held_sizes && pending_[i].cuts_off(sector)) break;
    if (pending_[i].writes(sector)) writes.push_back(i);
  }
  if (writes.empty()) return;
  const uint64_t chosen = choose(sector, writes.size() + 1);
  CHECK(chosen <= writes.size());
  if (chosen == 0) return;
  const size_t write = writes[chosen - 1];
  SparseBytes::Content content = version(done_ + write, sector);
  for (size_t i = write + 1; i < held_sizes; ++i)
    if (pending_[i].cuts(sector)) content = cut(std::move(content), sector, pending_[i].new_size);
  durable_.put_sector(sector, std::move(content));
  unreadable_.erase(sector);
}

void FileContent::evict() {
  SparseBytes fresh = durable_;
  for (const Operation& operation : pending_)
    if (operation.new_size != operation.old_size) fresh.resize(operation.new_size);
  for (const Operation& operation : pending_) {
    if (!operation.is_write()) continue;
    const uint64_t end = std::min(operation.end_sector() * kSector, size());
    fresh.copy(cached_, std::min(operation.first_sector() * kSector, end), end);
  }
  cached_ = std::move(fresh);
}

void FileContent::flip(uint64_t offset, uint8_t mask) {
  uint8_t byte = 0;
  durable_.read(offset, {&byte, 1});
  byte ^= mask;
  durable_.write(offset, {&byte, 1});
}

FileContent::DurableSector FileContent::durable_sector(uint64_t sector) const {
  return {durable_.sector(sector), !unreadable_.contains(sector)};
}

void FileContent::overwrite(uint64_t sector, DurableSector with) {
  if (sector * kSector >= durable_.size()) return;
  durable_.put_sector(sector, std::move(with.content));
  if (with.readable)
    unreadable_.erase(sector);
  else
    unreadable_.insert(sector);
}

std::optional<uint64_t> FileContent::unreadable_in(uint64_t begin, uint64_t end) const {
  for (auto at = unreadable_.lower_bound(begin / kSector); at != unreadable_.end() && *at * kSector < end; ++at)
    if (std::none_of(pending_.begin(), pending_.end(), [&](const Operation& o) { return o.writes(*at); })) return *at;
  return std::nullopt;
}

}  // namespace mneme::sim
