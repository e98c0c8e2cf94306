// env::Network over TCP, IPv4 and IPv6.
//
// A socket that listens on "::" takes IPv4 connections too. Small writes leave at once (TCP_NODELAY); a peer that has
// silently gone is noticed by keep-alive probes within two minutes.
#pragma once

#include <cstdint>

#include "core/env/network.h"
#include "net/address.h"
#include "net/event_loop.h"

namespace mneme::net {

class TcpNetwork final : public env::Network {
 public:
  // The loop outlives it and all that it makes; it outlives its listeners.
  explicit TcpNetwork(EventLoop& loop) : loop_(loop), resolver_(loop) {}

  // Suspends when the address is a name that must be looked up. kRefused: not permitted.
  Result<std::unique_ptr<env::Listener>> listen(const env::Address& address) override;
  Result<std::unique_ptr<env::Stream>> connect(const env::Address& address) override;

 private:
  friend class TcpListener;
  Result<std::unique_ptr<env::Stream>> connect_to(const SocketAddress& target, const env::Address& named);

  EventLoop& loop_;
  Resolver resolver_;
  uint64_t streams_ = 0;
};

}  // namespace mneme::net
