#include "net/random.h"

#include <sys/random.h>

#include <cerrno>

#include "core/base/check.h"

namespace mneme::net {

uint64_t SystemRandom::draw(Site, uint64_t, uint64_t) {
  if (left_ == 0) {
    // Up to 256 bytes come whole once the kernel's generator is seeded (getrandom(2)); before, a signal may interrupt.
    ssize_t got;
    do got = ::getrandom(buffer_.data(), sizeof buffer_, 0);
    while (got < 0 && errno == EINTR);
    CHECK(got == static_cast<ssize_t>(sizeof buffer_));
    left_ = buffer_.size();
  }
  return buffer_[--left_];
}

}  // namespace mneme::net
