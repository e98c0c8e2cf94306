// Hashes: XXH3 for checksums and trace folding, a 64-bit mixer for keyed decisions, CRC16 for slots.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/base/bytes.h"

namespace mneme {

// XXH3 with 64-bit result (xxhash 0.8 specification), as stored in every file and peer frame.
[[nodiscard]] uint64_t xxh3(ByteView bytes, uint64_t seed = 0);
[[nodiscard]] inline uint64_t xxh3(std::string_view text, uint64_t seed = 0) { return xxh3(as_bytes(text), seed); }

// Folds one word into a running 64-bit state: a full 64x64->128 multiply, both halves kept. Not for stored data.
[[nodiscard]] inline uint64_t fold(uint64_t state, uint64_t word) {
  auto product = static_cast<unsigned __int128>(state ^ 0x9e3779b97f4a7c15u) * (word ^ 0xe7037ed1a0b428dbu);
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64) ^ (word + (state << 1));
}

// A bijective finaliser (splitmix64): spreads every input bit over the result.
[[nodiscard]] inline uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// Redis Cluster's key slot: CRC16 (XMODEM) of the key, or of what stands between the first '{' and the next '}' when
// that is not empty, modulo 16,384.
inline constexpr uint16_t kSlots = 16384;
[[nodiscard]] uint16_t slot_of(std::string_view key);

}  // namespace mneme
