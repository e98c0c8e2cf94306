// What an answer says about a command's fate, and what may therefore be sent again. Pure.
#pragma once

#include <cstdint>
#include <string_view>

namespace mneme::client {

// What is known of a command. Nothing else may be concluded from a call.
enum class Outcome : uint8_t {
  kDone,     // it was executed, or refused for what it is: the reply is the command's own
  kNotDone,  // certainly not executed, and it will not be later
  kUnknown,  // it may have been executed, or may be yet
};

// What one reply means.
enum class Verdict : uint8_t {
  kDone,       // any reply that is not one of these
  kUncertain,  // -UNCERTAIN: the node does not know either
  // The command was not proposed:
  kMoved,     // -MOVED slot host:port: ask there from now on
  kAsk,       // -ASK slot host:port: ask there, this once
  kTryAgain,  // -TRYAGAIN, or a session that is to be acknowledged first
  kUnserved,  // -CLUSTERDOWN, -LOADING: this node cannot, another might
  // -OOM, -CROSSSLOT: the node refuses the command before it looks whether an earlier attempt was executed. The reply
  // is the command's own only if none can have been.
  kRefused,
  kTurnedAway,  // the connection was refused for want of room; nothing on it is executed
  // -EXPIRED: the session is gone, or the number's reply. Nothing is executed now; whether an earlier attempt was, this
  // does not say.
  kExpired,
};

// `reply`: as it came, one whole reply.
[[nodiscard]] Verdict judge(std::string_view reply);

// What a command is, as far as sending it again is concerned.
enum class Repeatable : uint8_t {
  kRead,      // changes nothing: always
  kNumbered,  // a number of a session: the first execution's reply comes again
  kNo,        // a second execution would be a second effect
};

// Whether to send a command again, of which the last attempt came out like this.
[[nodiscard]] constexpr bool may_repeat(Outcome attempt, Repeatable command) {
  if (attempt == Outcome::kDone) return false;
  return attempt == Outcome::kNotDone || command != Repeatable::kNo;
}

}  // namespace mneme::client
