// Chance for the tests of this folder: the same numbers from the same seed, everywhere.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/hash.h"

namespace mneme::shard {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(mix(seed)) {}
  uint64_t operator()() { return mix(state_ += 0x9e3779b97f4a7c15u); }
  uint64_t below(uint64_t bound) { return (*this)() % bound; }
  bool one_in(uint64_t n) { return below(n) == 0; }
  // Small numbers and huge ones.
  uint64_t number() { return (*this)() >> below(64); }
  std::string text(size_t longest) {
    std::string text(below(longest + 1), 'x');
    for (char& c : text) c = static_cast<char>((*this)());
    return text;
  }
  // 1 to 3 bytes are others, or the end is missing, or there is more of it.
  void damage(std::string& bytes) {
    if (bytes.empty() || one_in(8)) bytes += text(3);
    if (bytes.empty()) return;
    if (one_in(8)) return bytes.resize(below(bytes.size()));
    for (uint64_t n = 1 + below(3); n > 0; --n) bytes[below(bytes.size())] = static_cast<char>((*this)());
  }

 private:
  uint64_t state_;
};

}  // namespace mneme::shard
