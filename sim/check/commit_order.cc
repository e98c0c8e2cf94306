#include "sim/check/commit_order.h"

namespace mneme::check {

std::optional<uint64_t> CommitOrder::add(uint64_t op, int64_t call_ns, std::optional<int64_t> return_ns) {
  if (return_ns && *return_ns < latest_call_ns_) return latest_op_;
  if (call_ns > latest_call_ns_) {
    latest_call_ns_ = call_ns;
    latest_op_ = op;
  }
  return std::nullopt;
}

}  // namespace mneme::check
