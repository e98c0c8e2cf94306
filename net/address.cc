#include "net/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>

#include "net/mailbox.h"

namespace mneme::net {

namespace {

Result<std::vector<SocketAddress>> look_up(const std::string& host, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* found = nullptr;
  if (int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &found); error != 0) {
    const std::string why = error == EAI_SYSTEM ? std::generic_category().message(errno) : ::gai_strerror(error);
    return fail(ErrorCode::kUnavailable, fmt::format("the name '{}' cannot be resolved: {}", host, why));
  }
  std::vector<SocketAddress> addresses;
  for (const addrinfo* info = found; info; info = info->ai_next) {
    if (info->ai_family != AF_INET && info->ai_family != AF_INET6) continue;
    SocketAddress& address = addresses.emplace_back();
    std::memcpy(&address.storage, info->ai_addr, info->ai_addrlen);
    address.size = info->ai_addrlen;
  }
  ::freeaddrinfo(found);
  if (addresses.empty())
    return fail(ErrorCode::kUnavailable, fmt::format("the name '{}' has no internet address", host));
  return addresses;
}

std::vector<SocketAddress> loopback() {
  std::vector<SocketAddress> addresses(2);
  auto* v4 = reinterpret_cast<sockaddr_in*>(&addresses[0].storage);
  v4->sin_family = AF_INET;
  v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  addresses[0].size = sizeof *v4;
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&addresses[1].storage);
  v6->sin6_family = AF_INET6;
  v6->sin6_addr = in6addr_loopback;
  addresses[1].size = sizeof *v6;
  return addresses;
}

// While one lives, threads start with all signals blocked: those are the reactor's.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockedSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t before_;
};

void set_port(SocketAddress& address, uint16_t port) {
  if (address.storage.ss_family == AF_INET)
    reinterpret_cast<sockaddr_in*>(&address.storage)->sin_port = htons(port);
  else
    reinterpret_cast<sockaddr_in6*>(&address.storage)->sin6_port = htons(port);
}

}  // namespace

env::Address to_address(const SocketAddress& address) {
  char text[INET6_ADDRSTRLEN] = "?";
  if (address.storage.ss_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&address.storage);
    ::inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
    return {text, ntohs(v4->sin_port)};
  }
  if (address.storage.ss_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&address.storage);
    if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
      ::inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], text, sizeof text);
    else
      ::inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
    return {text, ntohs(v6->sin6_port)};
  }
  return {text, 0};
}

// Shared with the thread, which touches nothing of it but `host`; the answer comes by post().
struct Resolver::Lookup {
  Lookup(fiber::Scheduler& scheduler, std::string name) : host(std::move(name)), answer(scheduler) {}
  const std::string host;
  fiber::Promise<Result<std::vector<SocketAddress>>> answer;
};

Result<std::vector<SocketAddress>> Resolver::resolve(const env::Address& address) {
  if (address.host.empty() || address.host.find('\0') != std::string::npos)
    return fail(ErrorCode::kInvalid, fmt::format("'{}' is not a host name", address.host));
  Result<std::vector<SocketAddress>> found = loopback();
  if (address.host != "localhost") found = look_up(address.host, AI_NUMERICHOST);
  if (!found) {
    std::erase_if(lookups_, [](const auto& lookup) { return lookup->answer.is_set(); });
    auto same = std::ranges::find(lookups_, address.host, [](const auto& lookup) { return lookup->host; });
    std::shared_ptr<Lookup> lookup = same != lookups_.end() ? *same : nullptr;
    if (!lookup) {
      lookup = std::make_shared<Lookup>(loop_.scheduler(), address.host);
      try {
        BlockedSignals blocked;
        std::thread([mailbox = loop_.mailbox(), lookup] {
          mailbox->post([lookup, answer = look_up(lookup->host, AI_ADDRCONFIG)]() mutable {
            lookup->answer.set(std::move(answer));
          });
        }).detach();
      } catch (const std::system_error& error) {
        return fail(ErrorCode::kUnavailable,
                    fmt::format("no thread to look up '{}' on: {}", address.host, error.what()));
      }
      lookups_.push_back(lookup);
    }
    found = lookup->answer.wait();
  }
  if (found)
    for (SocketAddress& each : *found) set_port(each, address.port);
  return found;
}

}  // namespace mneme::net
