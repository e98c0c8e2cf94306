#include "net/socket.h"

#include <unistd.h>

#include <utility>

#include "core/base/check.h"

namespace mneme::net {

Socket::~Socket() {
  CHECK(!reader_);
  CHECK(!writer_);
  close();
}

void Socket::close() {
  if (descriptor_ < 0) return;
  loop_.unwatch(descriptor_);  // closing alone would leave it registered while a forked child has it open
  ::close(std::exchange(descriptor_, -1));
  wake(readable_, reader_);
  wake(writable_, writer_);
}

void Socket::ready(uint32_t events) {
  constexpr uint32_t kBroken = EPOLLHUP | EPOLLERR;
  if (events & (kBroken | EPOLLRDHUP)) ended_ = true;
  if (events & (kBroken | EPOLLRDHUP | EPOLLIN)) wake(readable_, reader_);
  if (events & (kBroken | EPOLLOUT)) wake(writable_, writer_);
}

void Socket::wait(bool& worth_while, fiber::Fiber*& waiter) {
  fiber::Scheduler& scheduler = loop_.scheduler();
  scheduler.throw_if_cancelled();
  if (worth_while) return;
  CHECK(!waiter);  // one fiber a direction
  waiter = &scheduler.current();
  scheduler.park(true);
  if (!waiter) return;
  waiter = nullptr;
  throw fiber::Cancelled{};
}

void Socket::wake(bool& worth_while, fiber::Fiber*& waiter) {
  worth_while = true;
  if (waiter) loop_.scheduler().wake(*std::exchange(waiter, nullptr));
}

}  // namespace mneme::net
