// The ways of carrying out file operations for a fiber that waits. Each operation is tried once and answers as the
// system call does: a count, possibly short, or a negated errno.
//
// How long a sync takes is what a commit waits for, and where it runs decides who else waits. Measured for 300 bytes
// over a preallocated, zero-filled file (ext4, two cores): on the reactor's own thread 106 us, by io_uring 113, on a
// helper thread 150 to 200, the difference being wakes across threads; a file that grows costs half as much again.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/env/completions.h"
#include "core/fiber/fiber.h"

namespace mneme::disk {

class Engine {
 public:
  virtual ~Engine() = default;

  // All suspend, and cannot be cancelled.
  virtual int64_t read(int descriptor, uint64_t offset, std::span<uint8_t> into) = 0;
  virtual int64_t write(int descriptor, uint64_t offset, ByteView data) = 0;
  // As many bytes as it says are durable. With `only_these` it may leave earlier writes to the file unsynced.
  virtual int64_t write_and_sync(int descriptor, uint64_t offset, ByteView data, bool only_these) = 0;
  // Content and size.
  virtual int64_t sync(int descriptor) = 0;
  // Everything that is rare: opening, renaming, truncating. `work` must not throw.
  virtual void call(const std::function<void()>& work) = 0;
};

// On the reactor's own thread. Nobody else runs meanwhile, but for a turn now and then between two operations.
std::unique_ptr<Engine> make_blocking_engine(fiber::Scheduler& scheduler);

// On one helper thread, in order. kUnavailable: there is none to be had.
Result<std::unique_ptr<Engine>> make_thread_engine(fiber::Scheduler& scheduler, env::Completions& completions);

// By io_uring; what is rare goes to a helper thread. kUnsupported: missing, or forbidden as in many containers.
Result<std::unique_ptr<Engine>> make_uring_engine(fiber::Scheduler& scheduler, env::Completions& completions);

// Small operations on the reactor's own thread while `busy()` says that few others could use the time, through `other`
// in all other cases. See adaptive.cc for the rule.
std::unique_ptr<Engine> make_adaptive_engine(fiber::Scheduler& scheduler, std::unique_ptr<Engine> other,
                                             std::function<size_t()> busy);

}  // namespace mneme::disk
