// Replies in their canonical form: RESP3 bytes, appended to a string that the caller owns.
//
// Every reply in Mneme (in the session table, between nodes, out of the state machine) has this form; a connection
// translates at its edge (core/protocol/resp.h, sexp.h). Follows the RESP3 specification of redis/redis-specifications,
// version 1.0, with one addition: a null that stands for an absent *array* (EXEC that was aborted, COMMAND INFO of an
// unknown command) is `*-1\r\n`, as in RESP2. RESP3 has only one null and so could not be translated back; to_resp3
// makes `_\r\n` of it, downgrade leaves it. It may stand wherever a reply may, nested too.
//
//   type       canonical          RESP2
//   simple     +text              the same
//   error      -PREFIX text       the same
//   integer    :7                 the same
//   bulk       $3 bytes           the same
//   array      *n elements        the same
//   null       _                  $-1
//   null array *-1                *-1 (RESP3: _)
//   boolean    #t #f              :1 :0
//   double     ,1.5 ,inf ,-inf    bulk
//   big number (123               bulk
//   map        %n pairs           *2n
//   set, push  ~n >n elements     *n
//   verbatim   =n txt:bytes       bulk, without its "txt:"
//   blob error !n bytes           -, each CR and LF in it a blank
// Attributes (|) and streamed replies ($?, *?) are never made and not understood.
#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

namespace mneme::protocol {

inline void put_header(std::string& out, char type, int64_t number) {
  char buffer[24];
  buffer[0] = type;
  auto end = std::to_chars(buffer + 1, buffer + sizeof buffer, number).ptr;
  *end++ = '\r';
  *end++ = '\n';
  out.append(buffer, end);
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
inline void put_null_array(std::string& out) { out += "*-1\r\n"; }
inline void put_boolean(std::string& out, bool value) { out += value ? "#t\r\n" : "#f\r\n"; }
// The number as it shall be shown: digits, "inf", "-inf", "nan".
inline void put_double(std::string& out, std::string_view number) { ((out += ',') += number) += "\r\n"; }
inline void put_big_number(std::string& out, std::string_view digits) { ((out += '(') += digits) += "\r\n"; }
// Text for people; `format` is three letters, "txt" or "mkd".
inline void put_verbatim(std::string& out, std::string_view format, std::string_view text) {
  put_header(out, '=', static_cast<int64_t>(format.size() + 1 + text.size()));
  (((out += format) += ':') += text) += "\r\n";
}
// The elements follow.
inline void put_array(std::string& out, size_t size) { put_header(out, '*', static_cast<int64_t>(size)); }
inline void put_set(std::string& out, size_t size) { put_header(out, '~', static_cast<int64_t>(size)); }
inline void put_push(std::string& out, size_t size) { put_header(out, '>', static_cast<int64_t>(size)); }
// That many pairs follow.
inline void put_map(std::string& out, size_t pairs) { put_header(out, '%', static_cast<int64_t>(pairs)); }

}  // namespace mneme::protocol
