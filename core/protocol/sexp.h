// The S-expression protocol: length-prefixed frames of typed commands, each answered by one frame of replies.
//
// Frame, in both directions:
//
//   offset  bytes
//        0      4  length of the body, big-endian; at most limits::kMaxSexpFrameBytes, so that the first byte is 0
//        4         body: one list, its lexical form as core/protocol/sexp_reader.h has it
//
// Body of a request, commands being executed in order (at most kMaxSexpCommands; an empty list is answered by one):
//
//   body     = ( command* )
//   command  = (Set value value)        key, what it shall hold
//            | (Get value)
//            | (Delete value)
//   value    = (String atom) | (Num number)
//   number   = an atom of an optional '-' and decimal digits, within an int32
//
// As OCaml reads constructors, the first letter of a name may be small. As a key, (Num 7) is the key "7", the same key
// as (String 7). As a stored value it keeps its type.
//
// Body of the answer, one reply to each command, in the order of the commands:
//
//   body     = ( reply* )
//   reply    = (Save Committed)         to Set: it is durable and will be seen by every later Get
//            | (Got key value)          to Get
//            | (Deleted key)            to Delete: it was there, and the deletion is durable
//            | (Missing key)            to Get and Delete: no such key; nothing was changed
//            | (Error atom)             refused or impossible: this command changed nothing
//            | (Unknown atom)           it may or may not have happened, and may still happen
//
// `key` is the key as it was asked, type and all: a (Num 7) comes back as (Num 7). The text of Error and Unknown is a
// sentence for people; it is quoted when it has blanks, as every atom is. A reply is printed with one space between the
// parts of a list and between lists, none elsewhere: ((Save Committed) (Got (Num 7) (String x)) (Error "no such
// thing")).
//
// A frame whose body is not what is said above changes nothing and is answered by ((Error "...")), one reply however
// many commands it seemed to have; the connection stays usable, since where the next frame begins is known. After a
// length whose first byte is not 0 it is not: the same answer, then the connection is closed.
//
// An answer that would exceed a frame has the replies that do not fit replaced: Got and Missing by an Error, Deleted by
// Unknown (what happened must not be called an error). Save Committed always fits.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/protocol/progress.h"

namespace mneme::protocol {

inline constexpr size_t kSexpLengthBytes = 4;
inline constexpr size_t kMaxSexpCommands = 64 * 1024;  // in one frame

struct SexpValue {
  enum class Kind : uint8_t { kString, kNum };
  Kind kind = Kind::kString;
  std::string text;  // of a kString
  int32_t num = 0;   // of a kNum

  static SexpValue string(std::string_view text) { return {Kind::kString, std::string(text), 0}; }
  static SexpValue number(int32_t num) { return {Kind::kNum, {}, num}; }

  // What it is as a key, or without its type: the bytes, or the number in decimal.
  [[nodiscard]] std::string plain() const { return kind == Kind::kString ? text : std::to_string(num); }
  bool operator==(const SexpValue&) const = default;
};

struct SexpCommand {
  enum class Kind : uint8_t { kSet, kGet, kDelete };
  Kind kind = Kind::kGet;
  SexpValue key;
  SexpValue value;  // of a kSet
  bool operator==(const SexpCommand&) const = default;
};

struct SexpReply {
  enum class Kind : uint8_t { kSaved, kGot, kDeleted, kMissing, kError, kUnknown };
  Kind kind = Kind::kError;
  SexpValue key;     // of kGot, kDeleted, kMissing
  SexpValue value;   // of a kGot
  std::string text;  // of kError and kUnknown
  bool operator==(const SexpReply&) const = default;
};

// The first frame of the unconsumed bytes of a connection. Keeps nothing between calls.
struct SexpFrame {
  Progress progress;
  std::string_view body;   // kDone: a view into the bytes
  size_t consumed = 0;     // kDone: drop so many bytes when done with the body
  size_t need = 0;         // kMore: at least so many more bytes
  std::string_view error;  // kError: the length is not sane; the sentence for the answer
};
[[nodiscard]] SexpFrame next_sexp_frame(std::string_view unconsumed);

// The body of a request. Errors are kInvalid, or kTooLarge for too many commands; the message is for the client.
[[nodiscard]] Result<std::vector<SexpCommand>> parse_commands(std::string_view body);

// The body of an answer, for a client. Errors as above.
[[nodiscard]] Result<std::vector<SexpReply>> parse_sexp_replies(std::string_view body);

// Appends a whole request frame. kTooLarge when it exceeds a frame; then nothing is appended.
[[nodiscard]] Result<void> put_sexp_commands(std::string& out, std::span<const SexpCommand> commands);

// Appends one answer frame to a string that the caller owns and that nobody else may change until finish().
class SexpReplyWriter {
 public:
  // `commands`: how many replies will follow; so much room is kept for each of them as a short reply needs.
  SexpReplyWriter(std::string& out, size_t commands);

  void saved();
  void got(const SexpValue& key, const SexpValue& value);
  void deleted(const SexpValue& key);
  void missing(const SexpValue& key);
  void error(std::string_view sentence);
  void unknown(std::string_view sentence);

  // Every announced reply has been written. Nothing may follow.
  void finish();

 private:
  bool begin_reply(size_t size);
  void put(std::string_view name, const SexpValue& key, const SexpValue* value, std::string_view otherwise);
  void put(std::string_view name, std::string_view sentence, std::string_view otherwise);

  std::string& out_;
  size_t begin_;      // of the frame
  size_t remaining_;  // replies still to come
};

// A whole answer frame of one Error, for a frame that cannot be understood.
void put_sexp_error_frame(std::string& out, std::string_view sentence);

}  // namespace mneme::protocol
