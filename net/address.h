// Addresses as the kernel has them, and where names are looked up.
#pragma once

#include <sys/socket.h>

#include <memory>
#include <vector>

#include "core/env/network.h"
#include "core/fiber/sync.h"
#include "net/event_loop.h"

namespace mneme::net {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_storage);

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

// An IPv4 address that came through an IPv6 socket is written as IPv4.
env::Address to_address(const SocketAddress& address);

// What a name stands for, in the order in which to try. Numbers and "localhost" are answered at once; any other name is
// looked up on a thread of its own, because getaddrinfo() blocks, for as long as the name servers take, and cannot be
// called off: a cancelled caller leaves it behind. Lookups of the same name under way are shared, so their number is
// bounded by that of the names.
class Resolver {
 public:
  explicit Resolver(EventLoop& loop) : loop_(loop) {}

  // Never empty. kUnavailable: the name is unknown now; kInvalid: not a name. Suspends; cancellable.
  Result<std::vector<SocketAddress>> resolve(const env::Address& address);

 private:
  struct Lookup;
  EventLoop& loop_;
  std::vector<std::shared_ptr<Lookup>> lookups_;
};

}  // namespace mneme::net
