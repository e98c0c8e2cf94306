#include "net/tcp.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <cerrno>
#include <system_error>

#include "net/socket.h"

namespace mneme::net {

namespace {

constexpr int kBacklog = 4096;
constexpr size_t kDiscardedAtClose = 1 << 20;

std::string text_of(int error) { return std::generic_category().message(error); }

// Inherited by what a listener accepts (Linux), so that accepting costs one system call.
void set_options(int descriptor) {
  auto set = [&](int level, int option, int value) { ::setsockopt(descriptor, level, option, &value, sizeof value); };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 60);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 20);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
}

class TcpStream final : public env::Stream {
 public:
  TcpStream(EventLoop& loop, int descriptor, env::Address peer, uint64_t id)
      : loop_(loop), socket_(loop, descriptor), peer_(std::move(peer)), id_(id) {}
  ~TcpStream() override {
    CHECK(!socket_.has_waiters());
    close();
  }

  Result<size_t> read(std::span<uint8_t> into) override {
    CHECK(!into.empty());
    loop_.scheduler().throw_if_cancelled();
    loop_.scheduler().take_turns();
    for (;;) {
      if (!socket_.is_open()) return closed_here();
      if (socket_.readable()) {
        ssize_t got = ::recv(socket_.descriptor(), into.data(), into.size(), 0);
        const int error = got < 0 ? errno : 0;
        // A reset is reported once, to whichever direction asks first; the other would take what follows for an end.
        if (got == 0 && broken_) return broken(ECONNRESET);
        if (got >= 0) {
          // Less than asked for: nothing is left (epoll(7)), so the next call need not ask only to be told EAGAIN.
          if (static_cast<size_t>(got) < into.size()) socket_.drained();
          return static_cast<size_t>(got);
        }
        if (error == EINTR) continue;
        if (error != EAGAIN) return broken(error);
        socket_.drained();
        if (socket_.readable()) return broken(ECONNRESET);  // hung up, and nothing to read
      }
      socket_.wait_readable();
    }
  }

  Result<void> write(ByteView data) override {
    loop_.scheduler().throw_if_cancelled();
    loop_.scheduler().take_turns();
    while (!data.empty()) {
      if (!socket_.is_open()) return closed_here();
      ssize_t sent = ::send(socket_.descriptor(), data.data(), data.size(), MSG_NOSIGNAL);
      if (sent >= 0) {
        data = data.subspan(static_cast<size_t>(sent));
      } else if (errno == EAGAIN) {
        socket_.full();
        socket_.wait_writable();
      } else if (errno != EINTR) {
        return broken(errno);
      }
    }
    return {};
  }

  void close() override {
    if (!socket_.is_open()) return;
    // Closing over unread bytes makes the kernel send a reset, and the other side may lose the reply that explains why.
    ::recv(socket_.descriptor(), nullptr, kDiscardedAtClose, MSG_TRUNC | MSG_DONTWAIT);
    socket_.close();
  }

  const env::Address& peer() const override { return peer_; }
  uint64_t id() const override { return id_; }
  Socket& socket() { return socket_; }

 private:
  std::unexpected<Error> closed_here() const {
    return fail(ErrorCode::kClosed, fmt::format("the connection with {} was closed here", env::to_string(peer_)));
  }
  std::unexpected<Error> broken(int error) {
    broken_ = true;
    return fail(ErrorCode::kClosed,
                fmt::format("the connection with {} broke: {}", env::to_string(peer_), text_of(error)));
  }

  EventLoop& loop_;
  Socket socket_;
  const env::Address peer_;
  const uint64_t id_;
  bool broken_ = false;
};

}  // namespace

class TcpListener final : public env::Listener {
 public:
  TcpListener(TcpNetwork& network, int descriptor) : network_(network), socket_(network.loop_, descriptor) {}

  Result<void> start(const SocketAddress& wanted) {
    const int one = 1;
    const int zero = 0;
    ::setsockopt(socket_.descriptor(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (wanted.storage.ss_family == AF_INET6)
      ::setsockopt(socket_.descriptor(), IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    set_options(socket_.descriptor());
    address_ = to_address(wanted);
    if (::bind(socket_.descriptor(), wanted.get(), wanted.size) != 0) return refused("bind", errno);
    if (::listen(socket_.descriptor(), kBacklog) != 0) return refused("listen", errno);
    SocketAddress bound;
    if (::getsockname(socket_.descriptor(), bound.get(), &bound.size) != 0) return refused("getsockname", errno);
    address_ = to_address(bound);
    return socket_.attach();
  }

  Result<std::unique_ptr<env::Stream>> accept() override {
    network_.loop_.scheduler().throw_if_cancelled();
    network_.loop_.scheduler().take_turns();
    for (;;) {
      SocketAddress peer;
      int descriptor = ::accept4(socket_.descriptor(), peer.get(), &peer.size, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (descriptor >= 0) {
        auto stream = std::make_unique<TcpStream>(network_.loop_, descriptor, to_address(peer), ++network_.streams_);
        if (stream->socket().attach()) return stream;
        wait_out_shortage();
        continue;
      }
      switch (errno) {
        case EAGAIN:
          socket_.drained();
          socket_.wait_readable();
          break;
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM: wait_out_shortage(); break;
        case EBADF:
        case EFAULT:
        case EINVAL:
        case ENOTSOCK:
        case EOPNOTSUPP:
          return fail(ErrorCode::kIo, fmt::format("accepting on {}: {}", env::to_string(address_), text_of(errno)));
        default: break;  // what became of one connection while it waited (accept(2)); the next may be well
      }
    }
  }

  const env::Address& address() const override { return address_; }

 private:
  // Whoever ends a connection frees what is missing, and nothing tells us of that.
  void wait_out_shortage() { network_.loop_.sleep_for(network_.loop_.scheduler(), 20ms); }

  Result<void> refused(const char* call, int error) const {
    ErrorCode code = error == EADDRINUSE                         ? ErrorCode::kBusy
                     : error == EACCES || error == EPERM         ? ErrorCode::kRefused
                     : error == EADDRNOTAVAIL || error == EINVAL ? ErrorCode::kInvalid
                                                                 : ErrorCode::kIo;
    return fail(code, fmt::format("cannot listen on {}: {}: {}", env::to_string(address_), call, text_of(error)));
  }

  TcpNetwork& network_;
  Socket socket_;
  env::Address address_;
};

Result<std::unique_ptr<env::Listener>> TcpNetwork::listen(const env::Address& address) {
  auto targets = resolver_.resolve(address);
  if (!targets)
    return fail(ErrorCode::kInvalid,
                fmt::format("cannot listen on {}: {}", env::to_string(address), targets.error().message));
  const SocketAddress& wanted = targets->front();
  int descriptor = ::socket(wanted.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor < 0) {
    ErrorCode code = errno == EAFNOSUPPORT ? ErrorCode::kInvalid : ErrorCode::kUnavailable;
    return fail(code, fmt::format("cannot listen on {}: socket: {}", env::to_string(address), text_of(errno)));
  }
  auto listener = std::make_unique<TcpListener>(*this, descriptor);
  TRY(listener->start(wanted));
  return listener;
}

Result<std::unique_ptr<env::Stream>> TcpNetwork::connect(const env::Address& address) {
  loop_.scheduler().throw_if_cancelled();
  auto targets = TRY(resolver_.resolve(address));
  Result<std::unique_ptr<env::Stream>> stream = fail(ErrorCode::kUnavailable, "");
  for (const SocketAddress& target : targets) {
    auto attempt = connect_to(target, address);
    if (attempt) return attempt;
    // Of several failures the one that says most: a machine that answers is there.
    if (stream.error().code != ErrorCode::kRefused) stream = std::move(attempt);
  }
  return stream;
}

Result<std::unique_ptr<env::Stream>> TcpNetwork::connect_to(const SocketAddress& target, const env::Address& named) {
  auto failed = [&](int error) {
    ErrorCode code = error == ECONNREFUSED ? ErrorCode::kRefused
                     : error == ETIMEDOUT  ? ErrorCode::kTimeout
                                           : ErrorCode::kUnavailable;
    return fail(code, fmt::format("cannot connect to {}: {}", env::to_string(named), text_of(error)));
  };
  int descriptor = ::socket(target.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return failed(errno);
  auto stream = std::make_unique<TcpStream>(loop_, descriptor, to_address(target), ++streams_);
  set_options(descriptor);
  bool connected = ::connect(descriptor, target.get(), target.size) == 0;
  if (!connected && errno != EINPROGRESS && errno != EINTR) return failed(errno);
  // Not earlier: a socket that is not even connecting is reported as hung up.
  TRY(stream->socket().attach());
  if (!connected) {
    stream->socket().full();
    stream->socket().wait_writable();
    int error = 0;
    socklen_t size = sizeof error;
    if (::getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    if (error != 0) return failed(error);
  }
  // With nobody listening on a port of the ephemeral range, a connection within the machine may meet itself.
  SocketAddress own;
  if (::getsockname(descriptor, own.get(), &own.size) == 0 && to_address(own) == to_address(target))
    return failed(ECONNREFUSED);
  return stream;
}

}  // namespace mneme::net
