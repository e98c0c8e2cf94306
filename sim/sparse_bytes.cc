#include "sim/sparse_bytes.h"

#include <algorithm>
#include <cstring>

#include "core/base/check.h"

namespace mneme::sim {

static constexpr SparseBytes::Sector kZeros{};

void SparseBytes::clear(uint64_t first, uint64_t last) {
  for (auto at = groups_.lower_bound(first / kGroup); at != groups_.end() && at->first * kGroup < last;) {
    const uint64_t begin = at->first * kGroup;
    if (first <= begin && begin + kGroup <= last) {
      at = groups_.erase(at);
      continue;
    }
    for (uint64_t sector = std::max(first, begin); sector < std::min(last, begin + kGroup); ++sector)
      at->second[sector - begin] = nullptr;
    ++at;
  }
}

void SparseBytes::resize(uint64_t size) {
  if (size < size_) {
    const uint64_t kept = (size + kSector - 1) / kSector;
    clear(kept, (size_ + kSector - 1) / kSector);
    // So that growing again brings zeros.
    write(size, ByteView(kZeros).first(std::min(kept * kSector, size_) - size));
  }
  size_ = size;
}

size_t SparseBytes::read(uint64_t offset, std::span<uint8_t> into) const {
  CHECK(offset <= size_ && into.size() <= size_ - offset);
  if (into.empty()) return 0;  // it may have no address
  std::fill(into.begin(), into.end(), uint8_t{0});
  const uint64_t end = offset + into.size();
  const uint64_t first = offset / kSector;
  const uint64_t last = (end + kSector - 1) / kSector;
  size_t held = 0;
  for (auto at = groups_.lower_bound(first / kGroup); at != groups_.end() && at->first * kGroup < last; ++at) {
    const uint64_t begin = at->first * kGroup;
    for (uint64_t number = std::max(first, begin); number < std::min(last, begin + kGroup); ++number) {
      const Content& content = at->second[number - begin];
      if (!content) continue;
      const uint64_t from = std::max(number * kSector, offset);
      const uint64_t to = std::min((number + 1) * kSector, end);
      std::memcpy(into.data() + (from - offset), content->data() + from % kSector, to - from);
      held = to - offset;
    }
  }
  return held;
}

void SparseBytes::write(uint64_t offset, ByteView data) {
  CHECK(offset <= size_ && data.size() <= size_ - offset);
  if (offset % kSector == 0 && data.size() % kSector == 0 && is_zero(data))
    return clear(offset / kSector, (offset + data.size()) / kSector);
  while (!data.empty()) {
    const uint64_t number = offset / kSector;
    const ByteView part = data.first(std::min<uint64_t>(data.size(), kSector - offset % kSector));
    offset += part.size();
    data = data.subspan(part.size());
    auto group = groups_.find(number / kGroup);
    const bool held = group != groups_.end() && group->second[number % kGroup];
    const bool zeros = is_zero(part);
    if (zeros && !held) continue;  // nothing changes
    if (!held) group = groups_.try_emplace(group, number / kGroup);
    Content& content = group->second[number % kGroup];
    auto sector = std::make_shared_for_overwrite<Sector>();
    if (part.size() < kSector) *sector = content ? *content : kZeros;
    std::memcpy(sector->data() + (offset - part.size()) % kSector, part.data(), part.size());
    if (zeros && *sector == kZeros)
      content = nullptr;
    else
      content = std::move(sector);
  }
}

void SparseBytes::copy(const SparseBytes& from, uint64_t begin, uint64_t end) {
  CHECK(begin <= end && end <= size_ && end <= from.size_);
  auto copy_bytes = [&](uint64_t to) {  // within one sector
    Sector bytes;
    const auto part = std::span(bytes).first(to - begin);
    from.read(begin, part);
    write(begin, part);
    begin = to;
  };
  if (begin % kSector != 0) copy_bytes(std::min(end, (begin / kSector + 1) * kSector));
  const uint64_t first = begin / kSector;
  const uint64_t last = end / kSector;  // exclusive
  if (first < last) {
    clear(first, last);
    for (auto at = from.groups_.lower_bound(first / kGroup); at != from.groups_.end() && at->first * kGroup < last;
         ++at) {
      Group& group = groups_[at->first];
      const uint64_t of_group = at->first * kGroup;
      for (uint64_t number = std::max(first, of_group); number < std::min(last, of_group + kGroup); ++number)
        group[number - of_group] = at->second[number - of_group];
    }
    begin = last * kSector;
  }
  if (begin < end) copy_bytes(end);
}

SparseBytes::Content SparseBytes::sector(uint64_t number) const {
  auto found = groups_.find(number / kGroup);
  return found == groups_.end() ? nullptr : found->second[number % kGroup];
}

void SparseBytes::put_sector(uint64_t number, Content content) {
  CHECK(number * kSector < size_);
  if (content && size_ < (number + 1) * kSector) {
    Sector bytes = *content;
    std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(size_ % kSector), bytes.end(), uint8_t{0});
    content = std::make_shared<const Sector>(bytes);
  }
  if (content && *content != kZeros)
    groups_[number / kGroup][number % kGroup] = std::move(content);
  else
    clear(number, number + 1);
}

std::vector<uint64_t> SparseBytes::written_sectors() const {
  std::vector<uint64_t> numbers;
  for (const auto& [number, group] : groups_)
    for (uint64_t i = 0; i < kGroup; ++i)
      if (group[i]) numbers.push_back(number * kGroup + i);
  return numbers;
}

}  // namespace mneme::sim
