// Replies in their canonical form: RESP3 bytes, appended to a string that the caller owns.
//
// Every reply in Mneme (in the session table, between nodes, out of the state machine) has this form; a connection that
// speaks RESP2 or S-expressions translates at its edge (core/protocol/resp.h, sexp.h). Follows the RESP3 specification
// of redis/redis-specifications, version 1.0.
#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

namespace mneme::protocol {

inline void put_header(std::string& out, char type, int64_t number) {
  char buffer[24];
  auto end = std::to_chars(buffer, buffer + sizeof buffer, number).ptr;
  out += type;
  out.append(buffer, end);
  out += "\r\n";
}

inline void put_ok(std::string& out) { out += "+OK\r\n"; }
// Neither may contain CR or LF.
inline void put_simple(std::string& out, std::string_view text) { ((out += '+') += text) += "\r\n"; }
// `text` begins with its prefix: "ERR syntax error".
inline void put_error(std::string& out, std::string_view text) { ((out += '-') += text) += "\r\n"; }
inline void put_integer(std::string& out, int64_t number) { put_header(out, ':', number); }
inline void put_bulk(std::string& out, std::string_view bytes) {
  put_header(out, '$', static_cast<int64_t>(bytes.size()));
  (out += bytes) += "\r\n";
}
inline void put_null(std::string& out) { out += "_\r\n"; }
// The elements follow.
inline void put_array(std::string& out, size_t size) { put_header(out, '*', static_cast<int64_t>(size)); }
// That many pairs follow.
inline void put_map(std::string& out, size_t pairs) { put_header(out, '%', static_cast<int64_t>(pairs)); }

}  // namespace mneme::protocol
