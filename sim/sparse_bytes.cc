#include "sim/sparse_bytes.h"

#include <algorithm>
#include <cstring>

#include "core/base/check.h"

namespace mneme::sim {

static constexpr SparseBytes::Sector kZeros{};

void SparseBytes::resize(uint64_t size) {
  if (size < size_) {
    const uint64_t kept = (size + kSector - 1) / kSector;
    sectors_.erase(sectors_.lower_bound(kept), sectors_.end());
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
  size_t held = 0;
  for (auto at = sectors_.lower_bound(offset / kSector); at != sectors_.end() && at->first * kSector < end; ++at) {
    const uint64_t from = std::max(at->first * kSector, offset);
    const uint64_t to = std::min((at->first + 1) * kSector, end);
    std::memcpy(into.data() + (from - offset), at->second->data() + from % kSector, to - from);
    held = to - offset;
  }
  return held;
}

void SparseBytes::write(uint64_t offset, ByteView data) {
  CHECK(offset <= size_ && data.size() <= size_ - offset);
  if (offset % kSector == 0 && data.size() % kSector == 0 && is_zero(data)) {
    sectors_.erase(sectors_.lower_bound(offset / kSector), sectors_.lower_bound((offset + data.size()) / kSector));
    return;
  }
  auto at = sectors_.lower_bound(offset / kSector);  // the first that is held, from the one to be written on
  while (!data.empty()) {
    const uint64_t number = offset / kSector;
    const ByteView part = data.first(std::min<uint64_t>(data.size(), kSector - offset % kSector));
    const bool held = at != sectors_.end() && at->first == number;
    const bool whole = part.size() == kSector;
    const bool zeros = std::memcmp(part.data(), kZeros.data(), part.size()) == 0;
    if (zeros && !held) {
      // Nothing changes.
    } else if (zeros && whole) {
      at = sectors_.erase(at);
    } else {
      auto sector = std::make_shared_for_overwrite<Sector>();
      if (!whole) *sector = held ? *at->second : kZeros;
      std::memcpy(sector->data() + offset % kSector, part.data(), part.size());
      if (zeros && *sector == kZeros) {
        at = sectors_.erase(at);
      } else {
        if (!held) at = sectors_.emplace_hint(at, number, nullptr);
        at->second = std::move(sector);
        ++at;
      }
    }
    offset += part.size();
    data = data.subspan(part.size());
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
    auto at = sectors_.erase(sectors_.lower_bound(first), sectors_.lower_bound(last));
    for (auto it = from.sectors_.lower_bound(first); it != from.sectors_.end() && it->first < last; ++it)
      sectors_.emplace_hint(at, *it);
    begin = last * kSector;
  }
  if (begin < end) copy_bytes(end);
}

SparseBytes::Content SparseBytes::sector(uint64_t number) const {
  auto found = sectors_.find(number);
  return found == sectors_.end() ? nullptr : found->second;
}

void SparseBytes::put_sector(uint64_t number, Content content) {
  CHECK(number * kSector < size_);
  if (content && size_ < (number + 1) * kSector) {
    Sector bytes = *content;
    std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(size_ % kSector), bytes.end(), uint8_t{0});
    content = std::make_shared<const Sector>(bytes);
  }
  if (content && *content != kZeros)
    sectors_.insert_or_assign(number, std::move(content));
  else
    sectors_.erase(number);
}

std::vector<uint64_t> SparseBytes::written_sectors() const {
  std::vector<uint64_t> numbers;
  numbers.reserve(sectors_.size());
  for (auto& [number, sector] : sectors_) numbers.push_back(number);
  return numbers;
}

}  // namespace mneme::sim
