// A session's numbers, as its client keeps them: which are in use, and up to where all are done with.
//
// A number is taken for one command and stays with it through all its attempts; it is never taken again. What is done
// with is acknowledged by later commands, and then the nodes refuse to execute it, however late an attempt arrives: so
// a call that was given up holds nothing back.
#pragma once

#include <cstdint>
#include <set>

#include "core/base/ids.h"
#include "core/fiber/sync.h"

namespace mneme::client {

class Session {
 public:
  Session(fiber::Scheduler& scheduler, SessionId id) : id_(id), advanced_(scheduler) {}

  SessionId id() const { return id_; }
  // All numbers up to this one are done with.
  uint64_t acknowledged() const { return open_.empty() ? taken_ : *open_.begin() - 1; }
  // Suspends while so many numbers are waiting to be acknowledged that the nodes would refuse one more. Cancellable.
  uint64_t take();
  void done_with(uint64_t number);

 private:
  SessionId id_;
  uint64_t taken_ = 0;
  std::set<uint64_t> open_;
  fiber::Condition advanced_;
};

}  // namespace mneme::client
