#include "core/env/network.h"

#include <fmt/format.h>

#include <charconv>

namespace mneme::env {

Result<Address> parse_address(std::string_view text) {
  auto wrong = [&](std::string_view why) {
    return fail(ErrorCode::kInvalid, fmt::format("'{}' is not an address: {}; write HOST:PORT", text, why));
  };
  size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return wrong("it has no port");
  std::string_view host = text.substr(0, colon);
  std::string_view port = text.substr(colon + 1);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  else if (host.find(':') != std::string_view::npos)
    return wrong("an IPv6 host stands in brackets");
  if (host.empty()) return wrong("it has no host");
  uint16_t number = 0;
  auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (error != std::errc() || end != port.data() + port.size()) return wrong("the port is not a number up to 65535");
  return Address{std::string(host), number};
}

std::string to_string(const Address& address) {
  if (address.host.find(':') != std::string::npos) return fmt::format("[{}]:{}", address.host, address.port);
  return fmt::format("{}:{}", address.host, address.port);
}

Result<void> read_exactly(Stream& stream, std::span<uint8_t> into) {
  while (!into.empty()) {
    size_t got = TRY(stream.read(into));
    if (got == 0) return fail(ErrorCode::kClosed, "the other side closed the connection");
    into = into.subspan(got);
  }
  return {};
}

}  // namespace mneme::env
