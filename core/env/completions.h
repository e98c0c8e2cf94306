// How a real implementation of the environment learns that the kernel or a helper thread has finished something: what
// disk needs of the event loop, so that neither knows the other. Not part of Env: core itself never sees it.
#pragma once

#include <cstdint>
#include <functional>

#include "core/base/error.h"

namespace mneme::env {

class Completions {
 public:
  // Told on the reactor's thread, between two fibers. It may wake fibers; it must neither suspend nor watch or unwatch.
  class Source {
   public:
    virtual ~Source() = default;
    virtual void ready(uint32_t events) = 0;  // as epoll_event::events
  };

  virtual ~Completions() = default;
  // Calls `fn` soon on the reactor's thread, where it must not suspend. The one call allowed from any thread; those of
  // one thread are done in order. What is left when the reactor ends is dropped.
  virtual void post(std::move_only_function<void()> fn) = 0;
  // Tells `source` whenever the descriptor is readable, as long as it is, until unwatch(). kIo: the kernel refuses.
  virtual Result<void> watch(int descriptor, Source& source) = 0;
  virtual void unwatch(int descriptor) = 0;
};

}  // namespace mneme::env
