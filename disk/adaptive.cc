#include "disk/engine.h"

namespace mneme::disk {

namespace {

// A sync that blocks the thread spares two changes of thread, and the requests that come meanwhile make one large group
// commit instead of several small ones. One that does not block lets them be read in the meantime. Synced SETs a second
// in thousands by connections, with a server that does nothing else (two cores, shared with the load generator):
//
//     connections    1    4    16    50   256  1000
//     inline       7.8   17    58   100   100    79
//     thread       5.6   14    48    94    96    65
//     io_uring     5.0   14    48    71   100    74
//
// So inline wins until connections keep the thread busy without a pause; from there on nothing is lost by giving it up,
// and heartbeats and reads do not wait.
constexpr size_t kBusyFrom = 256;
// Copying this much into the page cache takes about 20 us; more than that is felt by the others.
constexpr size_t kSmallBytes = 64 * 1024;
// With a sync the copy is the lesser part. What many pipelining clients write at once, 130 KiB of 800 commands, takes a
// tenth less time inline.
constexpr size_t kSmallSyncedBytes = 256 * 1024;

class AdaptiveEngine final : public Engine {
 public:
  AdaptiveEngine(fiber::Scheduler& scheduler, std::unique_ptr<Engine> other, std::function<size_t()> busy)
      : here_(make_blocking_engine(scheduler)), other_(std::move(other)), busy_(std::move(busy)) {}

  int64_t read(int descriptor, uint64_t offset, std::span<uint8_t> into) override {
    return choose(into.size()).read(descriptor, offset, into);
  }
  int64_t write(int descriptor, uint64_t offset, ByteView data) override {
    return choose(data.size()).write(descriptor, offset, data);
  }
  int64_t write_and_sync(int descriptor, uint64_t offset, ByteView data, bool only_these) override {
    return choose(data.size(), kSmallSyncedBytes).write_and_sync(descriptor, offset, data, only_these);
  }
  // Nobody waits for an answer to these, and how long they take is not known here: a sync of what has gathered in the
  // page cache, of a whole segment of zeros for one, would hold everything up for a tenth of a second.
  int64_t sync(int descriptor) override { return other_->sync(descriptor); }
  void call(const std::function<void()>& work) override { other_->call(work); }

 private:
  Engine& choose(size_t size, size_t small = kSmallBytes) {
    return size <= small && busy_() < kBusyFrom ? *here_ : *other_;
  }

  std::unique_ptr<Engine> here_;
  std::unique_ptr<Engine> other_;
  std::function<size_t()> busy_;
};

}  // namespace

std::unique_ptr<Engine> make_adaptive_engine(fiber::Scheduler& scheduler, std::unique_ptr<Engine> other,
                                             std::function<size_t()> busy) {
  return std::make_unique<AdaptiveEngine>(scheduler, std::move(other), std::move(busy));
}

}  // namespace mneme::disk
