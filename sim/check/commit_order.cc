#include "sim/check/commit_order.h"

#include <fmt/format.h>

namespace mneme::check {

std::optional<std::string> CommitOrder::add(uint64_t op, int64_t call_ns, std::optional<int64_t> return_ns) {
  ++added_;
  std::optional<std::string> wrong;
  if (return_ns && *return_ns < call_ns) {
    wrong = fmt::format("operation {} returned at {} ns, before it was called at {} ns", op, *return_ns, call_ns);
  } else if (return_ns && *return_ns < latest_call_ns_) {
    wrong = fmt::format(
        "operation {} was applied after operation {}, but had returned at {} ns, before {} was called at {} ns", op,
        latest_op_, *return_ns, latest_op_, latest_call_ns_);
  }
  if (call_ns > latest_call_ns_) {
    latest_call_ns_ = call_ns;
    latest_op_ = op;
  }
  return wrong;
}

}  // namespace mneme::check
