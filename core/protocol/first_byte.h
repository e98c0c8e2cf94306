// Which protocol a connection speaks, told by the first byte it sends: all of them share one port.
#pragma once

#include <cstdint>

namespace mneme::protocol {

enum class Protocol : uint8_t {
  kResp,     // RESP array or inline command: core/protocol/resp.h
  kSexp,     // length-prefixed S-expressions: core/protocol/sexp.h
  kPeer,     // another node: core/protocol/peer.h
  kTls,      // a TLS handshake record
  kUnknown,  // close the connection
};

inline constexpr uint8_t kPeerFirstByte = 0xD7;  // not ASCII, not 0, not TLS
inline constexpr uint8_t kTlsFirstByte = 0x16;   // ContentType handshake, RFC 8446 section 5.1

// Every byte that can begin an inline command, an empty line included, means RESP; a S-expression frame is shorter than
// 16 MiB, so that the first byte of its big-endian length is 0.
[[nodiscard]] constexpr Protocol detect(uint8_t first) {
  if (first == 0) return Protocol::kSexp;
  if (first == kPeerFirstByte) return Protocol::kPeer;
  if (first == kTlsFirstByte) return Protocol::kTls;
  bool blank = first == ' ' || (first >= '\t' && first <= '\r');
  return blank || (first > ' ' && first < 0x7f) ? Protocol::kResp : Protocol::kUnknown;
}

}  // namespace mneme::protocol
