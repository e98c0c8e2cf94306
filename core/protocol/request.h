// What a Redis client sends: RESP arrays of bulk strings, and inline commands.
//
// Follows the RESP2 specification and, where that is silent, what Redis 7 does (the lines below were checked against
// redis-server 7.0): which lengths are numbers, how an inline line is split, what is ignored, and the exact sentence of
// each protocol error. Bounds are those of core/base/limits.h:
//
//   more than kMaxCommandArgs arguments             ERR Protocol error: invalid multibulk length
//   arguments of more than kMaxCommandBytes in all  ERR Protocol error: invalid bulk length, at the header that
//   oversteps no end of line within kMaxInlineBytes           ERR Protocol error: too big inline request
//                                                   (too big mbulk count string, too big bulk count string in headers)
//
// Stricter than Redis, which skips two bytes unseen: a header line must end in CR LF (else its length is invalid) and
// so must a bulk string ("ERR Protocol error: expected CRLF after bulk string"), because a client that miscounts would
// have part of a value executed as a command. Different from Redis in inline lines: a NUL byte is a byte like any
// other.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/limits.h"
#include "core/protocol/progress.h"

namespace mneme::protocol {

// A decimal integer as Redis commands and headers have it: an optional '-', no '+', no blanks, no leading zeros, no
// "-0".
[[nodiscard]] std::optional<int64_t> parse_integer(std::string_view text);

// Incremental and zero-copy. The connection owns one contiguous read buffer and calls next() with all bytes that were
// received and not yet consumed; after each call it drops `consumed` bytes from the front, whatever the progress. While
// a command is incomplete its bytes stay in the buffer, which may move between calls (a move costs a pass over its
// arguments); bytes seen are not scanned again, so that the cost of a command is linear in its length however it is
// fragmented. How a stream is fragmented never changes what comes out.
class RequestParser {
 public:
  struct Step {
    Progress progress;
    size_t consumed = 0;
    // kDone: the command, never empty. Valid until the buffer moves or next() is called again.
    std::span<const std::string_view> args;
    // kMore: no command will be complete before this many further bytes have arrived. What a client announces is not
    // what it sends: use it to size a read, but let memory grow with what has arrived.
    size_t need = 0;
    // kError: the sentence for the client, with its "ERR ", valid as long as the parser. The connection is then closed;
    // further calls answer the same.
    std::string_view error;
  };

  RequestParser() = default;
  RequestParser(const RequestParser&) = delete;
  RequestParser& operator=(const RequestParser&) = delete;

  [[nodiscard]] Step next(std::string_view unconsumed);

 private:
  enum class Line : uint8_t { kRead, kPartial, kBad };

  Line read_header(std::string_view bytes, std::string_view too_big, std::string_view invalid, int64_t& value);
  Line find_line(std::string_view bytes, char terminator, std::string_view too_big, size_t& found);
  Line read_inline(std::string_view bytes);
  bool split_inline(std::string_view line);
  void begin_command();
  void rebase(std::string_view bytes);
  Line bad(std::string_view sentence);
  Step more(std::string_view bytes, size_t consumed);
  Step failed(size_t consumed);

  // All positions count from the front of the unconsumed bytes.
  size_t at_ = 0;         // where decoding goes on
  size_t scanned_ = 0;    // up to where the line that begins at at_ is known to hold no terminator
  size_t remaining_ = 0;  // arguments still to come; 0: between commands
  size_t total_ = 0;      // bytes of all arguments announced so far
  int64_t bulk_ = -1;     // length of the argument that begins at at_; -1: its header is still to come
  uintptr_t origin_ = 0;  // where the bytes lay in memory when args_ was last made valid
  std::vector<std::string_view> args_;
  std::string unquoted_;  // arguments of an inline command
  std::string error_;
};

// What a client sends: appends a RESP array of bulk strings to a string that the caller owns.
void put_command(std::string& out, std::span<const std::string_view> args);
inline void put_command(std::string& out, std::initializer_list<std::string_view> args) {
  put_command(out, std::span(args.begin(), args.size()));
}

}  // namespace mneme::protocol
