// When a file lets its engine sync no more than what is written, which is only right while nothing else is unsynced.
#include "disk/real_file.h"

#include <fcntl.h>
#include <unistd.h>

#include "disk/blocking.h"
#include "tests/contract/world.h"
#include "tests/unit/contract/real_world.h"

using namespace mneme;
using namespace mneme::contract;

namespace {

struct RecordingEngine final : disk::Engine {
  explicit RecordingEngine(fiber::Scheduler& scheduler) : released(scheduler) {}

  int64_t read(int descriptor, uint64_t offset, std::span<uint8_t> into) override {
    return disk::blocking_read(descriptor, offset, into);
  }
  int64_t write(int descriptor, uint64_t offset, ByteView data) override {
    released.wait_until([this] { return !holding_writes; });
    return disk::blocking_write(descriptor, offset, data);
  }
  int64_t write_and_sync(int descriptor, uint64_t offset, ByteView data, bool only_these) override {
    log += only_these ? "part " : "all ";
    if (failing) return -EIO;
    return disk::blocking_write(descriptor, offset, data.first(std::min(data.size(), longest)));
  }
  int64_t sync(int) override {
    log += "sync ";
    return failing ? -EIO : 0;
  }
  void call(const std::function<void()>& work) override { work(); }

  fiber::Condition released;
  bool holding_writes = false;
  bool failing = false;
  size_t longest = 1000;
  std::string log;
};

struct Fixture {
  std::unique_ptr<disk::RealFile> open(bool fresh) {
    const std::string path = directory.path() + "/file";
    int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT, 0644);
    REQUIRE(descriptor >= 0);
    return std::make_unique<disk::RealFile>(engine, descriptor, path, true, fresh);
  }
  template <class F>
  void run(F fn) {
    scheduler.run(loop, nullptr, fn);
  }

  TemporaryDirectory directory;
  fiber::Scheduler scheduler;
  net::EventLoop loop{scheduler};
  RecordingEngine engine{scheduler};
};

}  // namespace

TEST_CASE_METHOD(Fixture, "a part is synced alone only while all else is synced", "[disk]") {
  run([&] {
    auto file = open(true);
    const ByteView data = as_bytes("data");
    bool good = file->write_and_sync(0, data).has_value();
    good &= file->write(4, data).has_value();
    good &= file->write_and_sync(8, data).has_value();
    good &= file->write_and_sync(12, data).has_value();
    good &= file->truncate(50).has_value();
    good &= file->write_and_sync(16, data).has_value();
    good &= file->write(4, data).has_value();
    good &= file->sync().has_value();
    good &= file->write_and_sync(20, data).has_value();
    good &= file->write_and_sync(0, {}).has_value();
    CHECK(good);
    CHECK(engine.log == "part all part all sync part sync ");
  });
}

TEST_CASE_METHOD(Fixture, "what another process may have left unsynced is synced first", "[disk]") {
  run([&] {
    auto file = open(false);
    CHECK(file->write_and_sync(0, as_bytes("data")).has_value());
    CHECK(file->write_and_sync(0, as_bytes("data")).has_value());
    CHECK(engine.log == "all part ");
  });
}

TEST_CASE_METHOD(Fixture, "a write under way while a sync runs counts as unsynced", "[disk]") {
  run([&] {
    auto file = open(true);
    engine.holding_writes = true;
    auto result = fiber::with_scope(scheduler, [&](fiber::Scope& scope) {
      scope.spawn("writer", [&] { return file->write(0, as_bytes("late")); });
      loop.sleep_for(scheduler, Duration(0));
      CHECK(file->sync().has_value());
      engine.holding_writes = false;
      engine.released.notify_all();
    });
    CHECK(result.has_value());
    CHECK(file->write_and_sync(9, as_bytes("data")).has_value());
    CHECK(engine.log == "sync all ");
  });
}

TEST_CASE_METHOD(Fixture, "after a failure everything counts as unsynced", "[disk]") {
  run([&] {
    auto file = open(true);
    engine.failing = true;
    CHECK(is(file->write_and_sync(0, as_bytes("data")), ErrorCode::kIo));
    CHECK(is(file->sync(), ErrorCode::kIo));
    engine.failing = false;
    CHECK(file->write_and_sync(0, as_bytes("data")).has_value());
    CHECK(engine.log == "part sync all ");
  });
}

TEST_CASE_METHOD(Fixture, "short writes are continued, each part synced", "[disk]") {
  run([&] {
    auto file = open(true);
    engine.longest = 40;
    CHECK(file->write_and_sync(5, content(1, 100)).has_value());
    CHECK(engine.log == "part part part ");
    Bytes got(100);
    CHECK(env::read_exactly(*file, 5, got).has_value());
    CHECK(got == content(1, 100));
  });
}
