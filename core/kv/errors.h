// The texts of errors that more than one file answers, exactly as Redis 7.0 words them.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "core/base/ids.h"
#include "core/base/limits.h"
#include "core/protocol/reply.h"

namespace mneme::kv {

inline constexpr std::string_view kSyntaxError = "ERR syntax error";
inline constexpr std::string_view kNotAnInteger = "ERR value is not an integer or out of range";
inline constexpr std::string_view kOutOfMemory = "OOM command not allowed when used memory > 'maxmemory'.";
inline constexpr std::string_view kStringTooLong = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
// Ours.
inline constexpr std::string_view kKeyTooLong = "ERR key exceeds maximum allowed size of 65535 bytes";
static_assert(limits::kMaxKeyBytes == 65535);
inline constexpr std::string_view kCommandTooLong = "ERR command exceeds maximum allowed size";
inline constexpr std::string_view kReplyTooLong = "ERR reply exceeds maximum allowed size, ask for less at once";
inline constexpr std::string_view kNotInTransaction = "ERR Command not allowed inside a transaction";
inline constexpr std::string_view kNotServed = "CLUSTERDOWN Hash slot not served";
inline constexpr std::string_view kNotReplicated = "ERR command is not executed by the state machine";

inline std::string unknown_session(SessionId id) { return fmt::format("EXPIRED session {} is unknown", id.value); }

inline void put_arity_error(std::string& out, std::string_view command) {
  ((out += "-ERR wrong number of arguments for '") += command) += "' command\r\n";
}

}  // namespace mneme::kv
