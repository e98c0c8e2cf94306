#include "disk/blocking.h"

#include <unistd.h>

#include <cerrno>

#include "disk/engine.h"

namespace mneme::disk {

int64_t blocking_read(int descriptor, uint64_t offset, std::span<uint8_t> into) {
  ssize_t got = ::pread(descriptor, into.data(), into.size(), static_cast<off_t>(offset));
  return got >= 0 ? got : -errno;
}

int64_t blocking_write(int descriptor, uint64_t offset, ByteView data) {
  ssize_t written = ::pwrite(descriptor, data.data(), data.size(), static_cast<off_t>(offset));
  return written >= 0 ? written : -errno;
}

// On Linux it makes the size durable too, when that has changed: without it the data could not be read back.
int64_t blocking_sync(int descriptor) { return ::fdatasync(descriptor) == 0 ? 0 : -errno; }

int64_t blocking_write_and_sync(int descriptor, uint64_t offset, ByteView data) {
  int64_t written = blocking_write(descriptor, offset, data);
  if (written < 0) return written;
  int64_t synced = blocking_sync(descriptor);
  return synced < 0 ? synced : written;
}

namespace {

class BlockingEngine final : public Engine {
 public:
  explicit BlockingEngine(fiber::Scheduler& scheduler) : scheduler_(scheduler) {}

  int64_t read(int descriptor, uint64_t offset, std::span<uint8_t> into) override {
    scheduler_.take_turns();
    return blocking_read(descriptor, offset, into);
  }
  int64_t write(int descriptor, uint64_t offset, ByteView data) override {
    scheduler_.take_turns();
    return blocking_write(descriptor, offset, data);
  }
  int64_t write_and_sync(int descriptor, uint64_t offset, ByteView data, bool) override {
    scheduler_.take_turns();
    return blocking_write_and_sync(descriptor, offset, data);
  }
  int64_t sync(int descriptor) override {
    scheduler_.take_turns();
    return blocking_sync(descriptor);
  }
  void call(const std::function<void()>& work) override {
    scheduler_.take_turns();
    work();
  }

 private:
  fiber::Scheduler& scheduler_;
};

}  // namespace

std::unique_ptr<Engine> make_blocking_engine(fiber::Scheduler& scheduler) {
  return std::make_unique<BlockingEngine>(scheduler);
}

}  // namespace mneme::disk
