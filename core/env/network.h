// Byte streams between nodes and clients, as TCP gives them.
//
// Bytes arrive in order and without loss or duplication per stream and direction, in arbitrary pieces, or the stream
// breaks; nothing tells the sender how far the other side has read. A Stream and its Listener belong to one reactor.
// One fiber may read while another writes. Destroying a stream closes it without waiting: what was written and not sent
// is still sent where the connection allows it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "core/base/bytes.h"
#include "core/base/error.h"

namespace mneme::env {

// Host name or address, and port. Text form HOST:PORT, [HOST]:PORT for IPv6.
struct Address {
  std::string host;
  uint16_t port = 0;

  auto operator<=>(const Address&) const = default;
};

Result<Address> parse_address(std::string_view text);
std::string to_string(const Address& address);

class Stream {
 public:
  virtual ~Stream() = default;

  // Suspends until at least one byte is there; the number of bytes read, 0 when the other side has ended its direction.
  // kClosed: reset, or closed here. `into` is not empty. Cancellable.
  virtual Result<size_t> read(std::span<uint8_t> into) = 0;
  // Suspends until all of `data` is accepted for sending: back-pressure. kClosed: reset or closed here; some of `data`
  // may have been delivered. Cancellable, likewise.
  virtual Result<void> write(ByteView data) = 0;
  // Ends both directions at once; pending and later calls give kClosed. Callable from any fiber; does not suspend.
  virtual void close() = 0;
  // For logs: who is at the other end.
  virtual const Address& peer() const = 0;
  // Unique among the streams of this reactor's life; names the stream to observers.
  virtual uint64_t id() const = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;
  // Suspends until somebody connects. Errors that pass (too many open files) are waited out inside. Cancellable.
  virtual Result<std::unique_ptr<Stream>> accept() = 0;
  // The bound address; its port is the real one when 0 was asked for.
  virtual const Address& address() const = 0;
};

class Network {
 public:
  virtual ~Network() = default;
  // kBusy: the address is taken. kInvalid: no such local address.
  virtual Result<std::unique_ptr<Listener>> listen(const Address& address) = 0;
  // Suspends until connected; kRefused, kUnavailable (no route, no such host), kTimeout (the system's own).
  // Cancellable.
  virtual Result<std::unique_ptr<Stream>> connect(const Address& address) = 0;
};

// Reads exactly into.size() bytes. kClosed when the stream ends before. Suspends.
Result<void> read_exactly(Stream& stream, std::span<uint8_t> into);

}  // namespace mneme::env
