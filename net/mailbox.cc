#include "net/mailbox.h"

#include <sys/eventfd.h>
#include <unistd.h>

namespace mneme::net {

EventLoop::Mailbox::Mailbox() : descriptor_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) { CHECK(descriptor_ >= 0); }
EventLoop::Mailbox::~Mailbox() { ::close(descriptor_); }

void EventLoop::Mailbox::post(std::move_only_function<void()> fn) {
  bool first;
  {
    std::lock_guard lock(mutex_);
    if (closed_) return;
    first = posted_.empty();
    posted_.push_back(std::move(fn));
  }
  if (!first) return;  // whoever put the first one rings
  const uint64_t one = 1;
  // Watched edge-triggered: every write is an event, and nobody needs to read the count back, which cannot overflow.
  [[maybe_unused]] ssize_t written = ::write(descriptor_, &one, sizeof one);
}

void EventLoop::Mailbox::run_arrived() {
  if (!arrived_) return;
  arrived_ = false;
  {
    std::lock_guard lock(mutex_);
    running_.swap(posted_);
  }
  for (auto& fn : running_) fn();
  running_.clear();
}

void EventLoop::Mailbox::close() {
  std::vector<std::move_only_function<void()>> dropped;
  std::lock_guard lock(mutex_);
  closed_ = true;
  dropped.swap(posted_);
}

}  // namespace mneme::net
