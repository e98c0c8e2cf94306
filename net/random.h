// Chance for real nodes: the kernel's generator, fetched a buffer at a time. Nothing rare is provoked.
#pragma once

#include <array>

#include "core/env/random.h"

namespace mneme::net {

class SystemRandom final : public env::Random {
 public:
  uint64_t draw(Site site, uint64_t cause_a, uint64_t cause_b) override;
  bool rarely(Site, uint64_t) override { return false; }

 private:
  std::array<uint64_t, 32> buffer_;
  size_t left_ = 0;
};

}  // namespace mneme::net
