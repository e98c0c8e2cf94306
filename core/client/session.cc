#include "core/client/session.h"

#include "core/base/check.h"
#include "core/base/limits.h"

namespace mneme::client {

namespace {
// Half: the acknowledgement that makes room travels with a later command.
constexpr uint64_t kWindow = limits::kMaxSessionReplies / 2;
}  // namespace

uint64_t Session::take() {
  advanced_.wait_until([this] { return taken_ - acknowledged() < kWindow; });
  open_.insert(++taken_);
  return taken_;
}

void Session::done_with(uint64_t number) {
  const uint64_t before = acknowledged();
  CHECK(open_.erase(number) == 1);
  if (acknowledged() != before) advanced_.notify_all();
}

}  // namespace mneme::client
