#include <fmt/format.h>
#include <liburing.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "core/base/check.h"
#include "disk/engine.h"

namespace mneme::disk {

namespace {

class UringEngine final : public Engine, private env::Completions::Source {
 public:
  UringEngine(fiber::Scheduler& scheduler, env::Completions& completions)
      : scheduler_(scheduler), completions_(completions) {}

  ~UringEngine() override {
    if (!started_) return;
    CHECK(in_flight_ == 0);  // somebody waits for an operation of a disk that is gone
    completions_.unwatch(ring_.ring_fd);
    ::io_uring_queue_exit(&ring_);
  }

  Result<void> start() {
    // No flags: with IORING_SETUP_DEFER_TASKRUN results wait for a system call that epoll does not make.
    int error = -::io_uring_queue_init(kEntries, &ring_, 0);
    if (error != 0) return unsupported(std::generic_category().message(error));
    started_ = true;
    if (!(ring_.features & IORING_FEAT_NODROP)) return unsupported("the kernel is too old");
    io_uring_probe* probe = ::io_uring_get_probe_ring(&ring_);
    const bool complete = probe && io_uring_opcode_supported(probe, IORING_OP_READ) &&
                          io_uring_opcode_supported(probe, IORING_OP_WRITE) &&
                          io_uring_opcode_supported(probe, IORING_OP_FSYNC);
    ::io_uring_free_probe(probe);
    if (!complete) return unsupported("the kernel is too old");
    thread_ = TRY(make_thread_engine(scheduler_, completions_));
    return completions_.watch(ring_.ring_fd, *this);
  }

  int64_t read(int descriptor, uint64_t offset, std::span<uint8_t> into) override {
    return run([&](io_uring_sqe* entry) {
      ::io_uring_prep_read(entry, descriptor, into.data(), bounded(into.size()), offset);
    });
  }
  int64_t write(int descriptor, uint64_t offset, ByteView data) override {
    return run([&](io_uring_sqe* entry) {
      ::io_uring_prep_write(entry, descriptor, data.data(), bounded(data.size()), offset);
    });
  }
  int64_t write_and_sync(int descriptor, uint64_t offset, ByteView data, bool only_these) override {
    if (!only_these) {
      int64_t written = write(descriptor, offset, data);
      if (written < 0) return written;
      int64_t synced = sync(descriptor);
      return synced < 0 ? synced : written;
    }
    // One entry and one hop to a kernel thread; a linked pair of write and fsync takes 6 us longer.
    return run([&](io_uring_sqe* entry) {
      ::io_uring_prep_write(entry, descriptor, data.data(), bounded(data.size()), offset);
      entry->rw_flags = RWF_DSYNC;
    });
  }
  int64_t sync(int descriptor) override {
    return run([&](io_uring_sqe* entry) { ::io_uring_prep_fsync(entry, descriptor, IORING_FSYNC_DATASYNC); });
  }
  void call(const std::function<void()>& work) override { thread_->call(work); }

 private:
  // On the stack of the fiber that waits for it.
  struct Operation {
    fiber::Fiber* fiber;
    int64_t result = 0;
    bool done = false;
  };

  static constexpr unsigned kEntries = 256;

  static std::unexpected<Error> unsupported(const std::string& why) {
    return fail(ErrorCode::kUnsupported, fmt::format("io_uring cannot be used here: {}", why));
  }
  static unsigned bounded(size_t size) { return static_cast<unsigned>(std::min<size_t>(size, 1u << 30)); }

  template <class Prepare>
  int64_t run(Prepare prepare) {
    scheduler_.take_turns();  // what the page cache answers comes without parking
    io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
    CHECK(entry);  // every entry is submitted before another is taken
    prepare(entry);
    Operation operation{&scheduler_.current()};
    ::io_uring_sqe_set_data(entry, &operation);
    ++in_flight_;
    submit();
    reap();
    while (!operation.done) scheduler_.park(false);
    return operation.result;
  }

  void submit() {
    for (;;) {
      int submitted = ::io_uring_submit(&ring_);
      if (submitted == 1) return;
      // Short of memory, or of room for results: taking those that are there makes some.
      CHECK(submitted == -EINTR || submitted == -EAGAIN || submitted == -EBUSY || submitted == 0);
      reap();
    }
  }

  void reap() {
    io_uring_cqe* completion;
    while (::io_uring_peek_cqe(&ring_, &completion) == 0) {
      auto* operation = static_cast<Operation*>(::io_uring_cqe_get_data(completion));
      operation->result = completion->res;
      operation->done = true;
      ::io_uring_cqe_seen(&ring_, completion);
      --in_flight_;
      scheduler_.wake(*operation->fiber);
    }
  }
  void ready(uint32_t) override { reap(); }

  fiber::Scheduler& scheduler_;
  env::Completions& completions_;
  io_uring ring_{};
  bool started_ = false;
  size_t in_flight_ = 0;
  std::unique_ptr<Engine> thread_;
};

}  // namespace

Result<std::unique_ptr<Engine>> make_uring_engine(fiber::Scheduler& scheduler, env::Completions& completions) {
  auto engine = std::make_unique<UringEngine>(scheduler, completions);
  TRY(engine->start());
  return engine;
}

}  // namespace mneme::disk
