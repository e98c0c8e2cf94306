// Reading replies: how long one is, and what is in it. For bytes that came from elsewhere; nothing is trusted.
//
// Both RESP2 and RESP3 are understood; attributes and streamed replies are refused (reply.h has the types). Every reply
// is bounded: limits::kMaxReplyBytes in all, kMaxReplyDepth aggregates inside each other, kMaxInlineBytes for a line.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/protocol/progress.h"

namespace mneme::protocol {

inline constexpr size_t kMaxReplyDepth = 32;
inline constexpr size_t kMaxReplyElements = 1024 * 1024;  // of a Reply tree, all levels together

// Finds the end of one reply after another in a stream, in time linear in their length however they are fragmented.
// Called with all bytes received and not yet consumed; after kDone the caller drops `length` bytes.
class ReplyParser {
 public:
  enum class Dialect : uint8_t {
    kAny,        // what a server may send
    kCanonical,  // the form of reply.h: no RESP2 null `$-1`
  };
  struct Step {
    Progress progress;
    size_t length = 0;  // kDone: of the whole reply
    size_t need = 0;    // kMore: at least that many more bytes
    Error error = {};   // kError: further calls are not allowed
  };

  explicit ReplyParser(Dialect dialect = Dialect::kAny) : dialect_(dialect) {}

  [[nodiscard]] Step next(std::string_view unconsumed);

 private:
  Step read_line(std::string_view bytes, std::string_view& line);
  Step read_piece(std::string_view bytes);
  Step read_blob(std::string_view bytes);
  Step enter(std::string_view type, int64_t elements);

  Dialect dialect_;
  size_t at_ = 0;       // all before it was decoded
  size_t scanned_ = 0;  // up to where the line at at_ holds no CR
  size_t blob_ = 0;     // > 0: where the blob that is being received ends, its CR LF included
  size_t depth_ = 0;
  std::array<uint64_t, kMaxReplyDepth + 1> missing_{};  // elements still to come at each depth
};

// The length of the first reply in `bytes`, which must be canonical and complete: what downgrade and to_resp3 may then
// be given. An incomplete one is kInvalid like a malformed one.
[[nodiscard]] Result<size_t> reply_length(std::string_view bytes);

struct Reply {
  enum class Kind : uint8_t {
    kSimple,     // text
    kError,      // text, with its prefix; blob errors too
    kInteger,    // integer
    kBulk,       // text
    kNull,       // RESP3 null, RESP2 null bulk and null array
    kBoolean,    // integer, 0 or 1
    kDouble,     // text: never parsed here
    kBigNumber,  // text
    kVerbatim,   // text, without its format
    kArray,      // elements
    kMap,        // elements: key, value, key, value
    kSet,        // elements
    kPush,       // elements
  };
  Kind kind = Kind::kNull;
  int64_t integer = 0;
  std::string text;
  std::vector<Reply> elements;

  bool operator==(const Reply&) const = default;
};

// Exactly one reply, of either version.
[[nodiscard]] Result<Reply> parse_reply(std::string_view bytes);

}  // namespace mneme::protocol
