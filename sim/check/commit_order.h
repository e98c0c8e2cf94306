// The second oracle: the order in which the replicas applied the operations, as a candidate linearization.
//
// The order respects real time iff no operation in it returned before an earlier one was called, which a running
// maximum of the calls tells in constant time and memory. Whether the replies fit the order is checked elsewhere,
// against a model that applies it. Reads are added where they were served; an operation that was never applied is not
// added.
#pragma once

#include <cstdint>
#include <optional>

namespace mneme::check {

class CommitOrder {
 public:
  // `op` is the caller's name for the operation. Without a return the outcome is unknown to the client, or still open.
  // A return at the very time of a call counts as concurrent with it. Returns the operation before this one in the
  // order that was called only after this one had returned, if there is one (of several, the one called last).
  std::optional<uint64_t> add(uint64_t op, int64_t call_ns, std::optional<int64_t> return_ns);

 private:
  uint64_t latest_op_ = 0;
  int64_t latest_call_ns_ = INT64_MIN;
};

}  // namespace mneme::check
