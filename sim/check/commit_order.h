// The second oracle: the order in which the replicas applied the operations, as a candidate linearization.
//
// The order respects real time iff no operation in it returned before an earlier one was called, which a running
// maximum of the calls tells in constant time and memory. Whether the replies fit the order is checked elsewhere,
// against a model that applies it. Reads are added where they were served; an operation that was never applied is not
// added.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace mneme::check {

class CommitOrder {
 public:
  // `op` is the caller's name for the operation. Without a return the outcome is unknown to the client, or still open.
  // A return at the very time of a call counts as concurrent with it. Returns what is wrong, once per operation.
  std::optional<std::string> add(uint64_t op, int64_t call_ns, std::optional<int64_t> return_ns);
  uint64_t added() const { return added_; }
  // Of all added, the one called last.
  uint64_t latest() const { return latest_op_; }

 private:
  uint64_t added_ = 0;
  uint64_t latest_op_ = 0;  // whose call is the latest
  int64_t latest_call_ns_ = INT64_MIN;
};

}  // namespace mneme::check
