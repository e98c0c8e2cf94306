// Functions on their way from helper threads to the reactor's thread: the one place where threads meet.
#pragma once

#include <functional>
#include <mutex>
#include <vector>

#include "net/event_loop.h"

namespace mneme::net {

class EventLoop::Mailbox final : public env::Completions::Source {
 public:
  Mailbox();
  ~Mailbox() override;

  // Any thread.
  void post(std::move_only_function<void()> fn);

  // The reactor's thread.
  int descriptor() const { return descriptor_; }
  void ready(uint32_t) override { arrived_ = true; }
  void run_arrived();
  void close();  // what is there and what comes later is dropped

 private:
  int descriptor_;
  bool arrived_ = false;
  std::vector<std::move_only_function<void()>> running_;

  std::mutex mutex_;
  std::vector<std::move_only_function<void()>> posted_;
  bool closed_ = false;
};

}  // namespace mneme::net
