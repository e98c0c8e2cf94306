// A non-blocking socket, owned, on which one fiber may wait to receive and one to send.
//
// It is registered with the event loop once, edge-triggered, so that waiting costs no system call: an edge that comes
// before anybody waits is remembered. Whoever uses it tries the system call first and waits when it says EAGAIN.
#pragma once

#include <cstdint>

#include "core/fiber/fiber.h"
#include "net/event_loop.h"

namespace mneme::net {

class Socket final : public env::Completions::Source {
 public:
  Socket(EventLoop& loop, int descriptor) : loop_(loop), descriptor_(descriptor) {}
  ~Socket() override;
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  Result<void> attach() { return loop_.watch_socket(descriptor_, *this); }
  int descriptor() const { return descriptor_; }
  bool is_open() const { return descriptor_ >= 0; }
  bool has_waiters() const { return reader_ || writer_; }
  // Wakes who waits; from then on is_open() is false.
  void close();

  // Whether trying to receive can give anything.
  bool readable() const { return readable_; }
  // The last attempt left nothing behind: the next edge will tell of more. After the other side has ended there may be
  // no further edge, so then an attempt stays worth while.
  void drained() { readable_ = ended_; }
  void full() { writable_ = false; }
  // Suspend until an attempt is worth while or the socket is closed. Cancellable.
  void wait_readable() { wait(readable_, reader_); }
  void wait_writable() { wait(writable_, writer_); }

  void ready(uint32_t events) override;

 private:
  void wait(bool& worth_while, fiber::Fiber*& waiter);
  void wake(bool& worth_while, fiber::Fiber*& waiter);

  EventLoop& loop_;
  int descriptor_;
  bool readable_ = true;
  bool writable_ = true;
  bool ended_ = false;
  fiber::Fiber* reader_ = nullptr;
  fiber::Fiber* writer_ = nullptr;
};

}  // namespace mneme::net
