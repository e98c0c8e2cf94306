#include "sim/sparse_bytes.h"

#include <algorithm>

#include "core/base/hash.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::sim;

namespace {

constexpr uint64_t kSector = SparseBytes::kSector;

Bytes all(const SparseBytes& sparse) {
  Bytes bytes(sparse.size(), 0xEE);
  sparse.read(0, bytes);
  return bytes;
}

std::vector<uint64_t> sectors_with_content(const Bytes& plain) {
  std::vector<uint64_t> numbers;
  for (uint64_t begin = 0; begin < plain.size(); begin += kSector) {
    const auto sector = ByteView(plain).subspan(begin, std::min<uint64_t>(kSector, plain.size() - begin));
    if (std::any_of(sector.begin(), sector.end(), [](uint8_t byte) { return byte != 0; }))
      numbers.push_back(begin / kSector);
  }
  return numbers;
}

}  // namespace

TEST_CASE("sparse bytes are what plain bytes would be, whatever is written, copied and cut", "[sim][disk]") {
  uint64_t draws = 0;
  auto below = [&](uint64_t bound) { return mix(++draws) % bound; };
  for (int round = 0; round < 200; ++round) {
    const uint64_t most = (round % 4 == 0 ? 100 : 8) * kSector;
    // Two, as a file has a cached and a durable content.
    SparseBytes sparse[2];
    Bytes plain[2];
    for (int step = 0; step < 60; ++step) {
      const size_t one = below(2);
      // Half of the places are at a sector's edge, as nearly all are in a log.
      auto place = [&](uint64_t bound) {
        const uint64_t drawn = below(bound + 1);
        return below(2) ? drawn : drawn / kSector * kSector;
      };
      switch (below(4)) {
        case 0: {
          const uint64_t size = place(most);
          sparse[one].resize(size);
          plain[one].resize(size);
          break;
        }
        case 1:
        case 2: {
          const uint64_t begin = place(plain[one].size());
          const uint64_t end = begin + place(plain[one].size() - begin);
          const Bytes data(end - begin, static_cast<uint8_t>(below(3)));
          sparse[one].write(begin, data);
          std::copy(data.begin(), data.end(), plain[one].begin() + static_cast<std::ptrdiff_t>(begin));
          break;
        }
        default: {
          const uint64_t common = std::min(plain[0].size(), plain[1].size());
          const uint64_t begin = place(common);
          const uint64_t end = begin + place(common - begin);
          sparse[one].copy(sparse[1 - one], begin, end);
          std::copy(plain[1 - one].begin() + static_cast<std::ptrdiff_t>(begin),
                    plain[1 - one].begin() + static_cast<std::ptrdiff_t>(end),
                    plain[one].begin() + static_cast<std::ptrdiff_t>(begin));
        }
      }
      // Both: what one shares with the other must not change when the other does.
      for (size_t i : {0, 1}) {
        REQUIRE(all(sparse[i]) == plain[i]);
        REQUIRE(sparse[i].written_sectors() == sectors_with_content(plain[i]));
      }
      const uint64_t begin = place(plain[one].size());
      Bytes part(place(plain[one].size() - begin), 0xEE);
      sparse[one].read(begin, part);
      REQUIRE(std::equal(part.begin(), part.end(), plain[one].begin() + static_cast<std::ptrdiff_t>(begin)));
    }
  }
}

TEST_CASE("zeros take no memory, written over something or at the end of a large file", "[sim][disk]") {
  SparseBytes sparse;
  sparse.resize(uint64_t{1} << 40);
  const Bytes zeros(64 * kSector);
  sparse.write(sparse.size() - zeros.size(), zeros);
  CHECK(sparse.written_sectors().empty());
  sparse.write(3 * kSector, Bytes(2 * kSector, 'x'));
  CHECK(sparse.written_sectors() == std::vector<uint64_t>{3, 4});
  sparse.write(3 * kSector + 1, ByteView(zeros).first(2 * kSector - 1));
  CHECK(sparse.written_sectors() == std::vector<uint64_t>{3});
  sparse.write(0, zeros);
  CHECK(sparse.written_sectors().empty());
}
