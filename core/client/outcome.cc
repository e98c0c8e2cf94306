#include "core/client/outcome.h"

#include <utility>

namespace mneme::client {

namespace {

constexpr std::pair<std::string_view, Verdict> kPrefixes[] = {
    {"-UNCERTAIN", Verdict::kUncertain}, {"-MOVED", Verdict::kMoved},          {"-ASK", Verdict::kAsk},
    {"-TRYAGAIN", Verdict::kTryAgain},   {"-CLUSTERDOWN", Verdict::kUnserved}, {"-LOADING", Verdict::kUnserved},
    {"-EXPIRED", Verdict::kExpired},     {"-OOM", Verdict::kRefused},          {"-CROSSSLOT", Verdict::kRefused},
};

}  // namespace

Verdict judge(std::string_view reply) {
  if (!reply.starts_with('-')) return Verdict::kDone;
  const std::string_view word = reply.substr(0, reply.find_first_of(" \r"));
  for (auto& [prefix, verdict] : kPrefixes)
    if (word == prefix) return verdict;
  // Said under a general prefix, as Redis does.
  if (reply.starts_with("-ERR max number of clients reached")) return Verdict::kTurnedAway;
  if (reply.starts_with("-ERR session ") && reply.find("holds too many replies") != std::string_view::npos)
    return Verdict::kTryAgain;
  return Verdict::kDone;
}

}  // namespace mneme::client
