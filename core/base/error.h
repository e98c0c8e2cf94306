// Errors are values: Result<T> is std::expected<T, Error>, and an Error has a code and a sentence.
//
// The sentence names the thing (file, flag, peer) and, where a person can do something about it, says what. It is
// written for that person; the code is for the program. Exceptions carry only cancellation (core/fiber/fiber.h).
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace mneme {

enum class ErrorCode : uint8_t {
  kInvalid,      // the caller's input is wrong: a flag, a command, a file of theirs
  kNotFound,     // no such file, key, peer
  kExists,       // it is there already
  kBusy,         // somebody else holds it: port, directory
  kRefused,      // the other side, or a rule of ours, says no; nothing happened
  kUnavailable,  // not now: no leader, no connection
  kTimeout,      // a deadline passed; what was asked may still happen
  kClosed,       // the stream, channel or file is closed
  kTooLarge,     // over a bound of limits.h
  kNoSpace,      // the disk is full
  kIo,           // the disk or the network failed
  kCorrupt,      // bytes that we once wrote no longer check
  kUnsupported,  // a version or feature that this build does not know
};

[[nodiscard]] std::string_view name_of(ErrorCode code);

struct [[nodiscard]] Error {
  ErrorCode code;
  std::string message;
};

template <class T>
using Result = std::expected<T, Error>;

// Makes the failed side of any Result: `return fail(ErrorCode::kInvalid, "...")`.
[[nodiscard]] inline std::unexpected<Error> fail(ErrorCode code, std::string message) {
  return std::unexpected<Error>(Error{code, std::move(message)});
}

}  // namespace mneme

// The value of a Result, or return its error from the enclosing function. The one control-flow macro.
#define TRY(expression)                                                       \
  ({                                                                          \
    auto&& try_result_ = (expression);                                        \
    if (!try_result_) [[unlikely]]                                            \
      return std::unexpected<::mneme::Error>(std::move(try_result_).error()); \
    std::move(try_result_).value();                                           \
  })
