#include <fmt/format.h>
#include <signal.h>

#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

#include "core/base/check.h"
#include "disk/blocking.h"
#include "disk/engine.h"

namespace mneme::disk {

namespace {

class ThreadEngine final : public Engine {
 public:
  ThreadEngine(fiber::Scheduler& scheduler, env::Completions& completions)
      : scheduler_(scheduler), completions_(completions) {}

  Result<void> start() {
    // Signals are the reactor's, so the thread starts with all of them blocked.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    Result<void> result;
    try {
      thread_ = std::thread([this] { serve(); });
    } catch (const std::system_error& error) {
      result = fail(ErrorCode::kUnavailable, fmt::format("no thread for the disk: {}", error.what()));
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return result;
  }

  ~ThreadEngine() override {
    if (!thread_.joinable()) return;
    {
      std::lock_guard lock(mutex_);
      CHECK(!first_);  // somebody waits for an operation of a disk that is gone
      ending_ = true;
    }
    wanted_.notify_one();
    thread_.join();
  }

  int64_t read(int descriptor, uint64_t offset, std::span<uint8_t> into) override {
    return run([=] { return blocking_read(descriptor, offset, into); });
  }
  int64_t write(int descriptor, uint64_t offset, ByteView data) override {
    return run([=] { return blocking_write(descriptor, offset, data); });
  }
  int64_t write_and_sync(int descriptor, uint64_t offset, ByteView data, bool) override {
    return run([=] { return blocking_write_and_sync(descriptor, offset, data); });
  }
  int64_t sync(int descriptor) override {
    return run([=] { return blocking_sync(descriptor); });
  }
  void call(const std::function<void()>& work) override {
    run([&] {
      work();
      return int64_t{0};
    });
  }

 private:
  // On the stack of the fiber that waits for it.
  struct Task {
    virtual int64_t execute() = 0;
    fiber::Fiber* fiber = nullptr;
    Task* next = nullptr;
    int64_t result = 0;
    bool done = false;  // the reactor's thread only
  };

  template <class F>
  int64_t run(F fn) {
    struct Call final : Task {
      explicit Call(F& f) : fn(f) {}
      int64_t execute() override { return fn(); }
      F& fn;
    } task(fn);
    task.fiber = &scheduler_.current();
    {
      std::lock_guard lock(mutex_);
      (last_ ? last_->next : first_) = &task;
      last_ = &task;
    }
    wanted_.notify_one();
    while (!task.done) scheduler_.park(false);
    return task.result;
  }

  void serve() {
    for (;;) {
      Task* task;
      {
        std::unique_lock lock(mutex_);
        wanted_.wait(lock, [this] { return first_ || ending_; });
        if (!first_) return;
        task = first_;
        first_ = task->next;
        if (!first_) last_ = nullptr;
      }
      task->result = task->execute();
      completions_.post([this, task] {
        task->done = true;
        scheduler_.wake(*task->fiber);
      });
    }
  }

  fiber::Scheduler& scheduler_;
  env::Completions& completions_;
  std::mutex mutex_;
  std::condition_variable wanted_;
  Task* first_ = nullptr;
  Task* last_ = nullptr;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<Engine>> make_thread_engine(fiber::Scheduler& scheduler, env::Completions& completions) {
  auto engine = std::make_unique<ThreadEngine>(scheduler, completions);
  TRY(engine->start());
  return engine;
}

}  // namespace mneme::disk
