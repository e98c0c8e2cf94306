// The simulated disk without faults is the real file system: random programs of operations, mistakes included, run on
// both, and the result of every single operation must be the same, error codes too.
#include <fmt/format.h>

#include <array>

#include "core/base/hash.h"
#include "tests/contract/world.h"
#include "tests/test.h"
#include "tests/unit/contract/real_world.h"
#include "tests/unit/contract/simulated_world.h"

using namespace mneme;
using namespace mneme::contract;

namespace {

// Draws operations from its seed alone, whatever their results, and writes down each with what came of it.
class RandomProgram {
 public:
  RandomProgram(env::Disk& disk, uint64_t seed) : disk_(disk), numbers_(seed) {}

  std::vector<std::string> run(size_t steps) {
    std::vector<std::string> results;
    for (size_t i = 0; i < steps; ++i) {
      step();
      results.push_back(std::move(line_));
    }
    for (auto& file : files_) file.reset();
    for (auto& lock : locks_) lock.reset();
    everything_below("", results);
    return results;
  }

 private:
  // Arguments first, then the call: the order in which numbers are drawn must not depend on the compiler.
  void step() {
    switch (numbers_.below(20)) {
      case 0:
      case 1:
      case 2: return open();
      case 3: return close();
      case 4:
      case 5:
      case 6: return write(numbers_.below(4) == 0);
      case 7:
      case 8: return read();
      case 9: return truncate();
      case 10: return sync();
      case 11: return list();
      case 12:
      case 13: return make_dir();
      case 14:
      case 15: return rename();
      case 16:
      case 17: return remove();
      case 18: return sync_dir();
      default: return lock();
    }
  }

  template <class T, class F>
  void note(std::string call, const Result<T>& result, F&& show) {
    line_ = std::move(call) + " -> ";
    line_ += result ? show(*result) : fmt::format("error {}", name_of(result.error().code));
  }
  void note(std::string call, const Result<void>& result) {
    line_ = std::move(call) + (result ? " -> done" : fmt::format(" -> error {}", name_of(result.error().code)));
  }

  std::string path() {
    static const std::array<std::string, 10> strange = {"",
                                                        "..",
                                                        "n0/..",
                                                        "n0//n1",
                                                        "/n0",
                                                        "n1/",
                                                        ".",
                                                        "n0/./n1",
                                                        std::string(256, 'x'),
                                                        "n2/" + std::string(256, 'x')};
    if (numbers_.below(50) == 0) return strange[numbers_.below(strange.size())];
    if (numbers_.below(100) == 0) return std::string(255, 'x');
    std::string made = fmt::format("n{}", numbers_.below(4));
    while (numbers_.below(3) == 0) made += fmt::format("/n{}", numbers_.below(4));
    return made;
  }
  std::string directory() { return numbers_.below(3) == 0 ? "" : path(); }
  uint64_t offset() {
    if (numbers_.below(60) == 0) return std::numeric_limits<uint64_t>::max() - numbers_.below(3);
    const uint64_t drawn = numbers_.below(20'000);
    return numbers_.below(2) ? drawn : drawn / 512 * 512;
  }
  static std::string short_name(const std::string& path) {
    return path.size() < 40 ? "'" + path + "'" : fmt::format("'{}'...", path.substr(0, 10));
  }

  void open() {
    const std::string at = path();
    const auto mode = static_cast<env::OpenMode>(numbers_.below(3));
    const size_t slot = numbers_.below(files_.size());
    auto opened = disk_.open(at, mode);
    note(fmt::format("file {} = open {} {}", slot, short_name(at), static_cast<int>(mode)), opened,
         [](auto&) { return "done"; });
    files_[slot] = opened ? std::move(*opened) : nullptr;
  }
  void close() {
    const size_t slot = numbers_.below(files_.size());
    files_[slot].reset();
    line_ = fmt::format("close file {}", slot);
  }
  // One that is open, if there is any.
  env::File* file(std::string& call) {
    const size_t first = numbers_.below(files_.size());
    for (size_t i = 0; i < files_.size(); ++i)
      if (const size_t slot = (first + i) % files_.size(); files_[slot]) {
        call += fmt::format(" file {}", slot);
        return files_[slot].get();
      }
    line_ = call + ": no file is open";
    return nullptr;
  }
  void write(bool synced) {
    std::string call = synced ? "write and sync" : "write";
    const uint64_t at = offset();
    const Bytes data = content(numbers_.next(), 1 + numbers_.below(numbers_.below(3) == 0 ? 9'000 : 700));
    if (env::File* f = file(call)) {
      auto result = synced ? f->write_and_sync(at, data) : f->write(at, data);
      note(fmt::format("{} {}+{}", call, at, data.size()), result);
    }
  }
  void read() {
    std::string call = "read";
    const uint64_t at = offset();
    Bytes into(numbers_.below(12'000));
    env::File* f = file(call);
    if (!f) return;
    auto size = f->size();
    REQUIRE(size.has_value());
    note(fmt::format("{} of {} bytes, {}+{}", call, *size, at, into.size()), env::read_up_to(*f, at, into),
         [&](size_t got) { return fmt::format("{} bytes {:016x}", got, xxh3(ByteView(into).first(got))); });
  }
  void truncate() {
    std::string call = "truncate";
    const uint64_t size = offset();
    if (env::File* f = file(call)) note(fmt::format("{} to {}", call, size), f->truncate(size));
  }
  void sync() {
    std::string call = "sync";
    if (env::File* f = file(call)) note(call, f->sync());
  }
  void list() {
    const std::string at = directory();
    note("list " + short_name(at), disk_.list(at), [](const std::vector<std::string>& names) {
      std::string all;
      for (const std::string& name : names) all += short_name(name) + ' ';
      return all;
    });
  }
  void make_dir() {
    const std::string at = path();
    note("make directory " + short_name(at), disk_.make_dir(at));
  }
  void rename() {
    const std::string from = path();
    const std::string to = path();
    note(fmt::format("rename {} to {}", short_name(from), short_name(to)), disk_.rename(from, to));
  }
  void remove() {
    const std::string at = path();
    note("remove " + short_name(at), disk_.remove(at));
  }
  void sync_dir() {
    const std::string at = directory();
    note("sync directory " + short_name(at), disk_.sync_dir(at));
  }
  void lock() {
    const size_t slot = numbers_.below(locks_.size());
    if (numbers_.below(3) == 0) {
      locks_[slot].reset();
      line_ = fmt::format("release lock {}", slot);
      return;
    }
    const std::string at = directory();
    auto locked = disk_.lock(at);
    note(fmt::format("lock {} = lock {}", slot, short_name(at)), locked, [](auto&) { return "done"; });
    if (locked) locks_[slot] = std::move(*locked);
  }

  void everything_below(const std::string& directory, std::vector<std::string>& results) {
    auto names = disk_.list(directory);
    REQUIRE(names.has_value());
    for (const std::string& name : *names) {
      const std::string at = directory.empty() ? name : directory + "/" + name;
      if (auto bytes = env::read_file(disk_, at, limits::kMiB)) {
        results.push_back(fmt::format("{}: {} bytes {:016x}", short_name(at), bytes->size(), xxh3(*bytes)));
      } else {
        results.push_back(short_name(at) + "/");
        everything_below(at, results);
      }
    }
  }

  env::Disk& disk_;
  Numbers numbers_;
  std::array<std::unique_ptr<env::File>, 4> files_;
  std::array<std::unique_ptr<env::DirectoryLock>, 2> locks_;
  std::string line_;
};

template <class World>
std::vector<std::string> run(uint64_t seed, size_t steps) {
  World world;
  std::vector<std::string> results;
  if (!world.unavailable()) world.run([&] { results = RandomProgram(world.here().disk, seed).run(steps); });
  return results;
}

template <class Real>
void compare(uint64_t first_seed, uint64_t programs, size_t steps) {
  size_t succeeded = 0;
  for (uint64_t seed = first_seed; seed < first_seed + programs; ++seed) {
    const std::vector<std::string> real = run<Real>(seed, steps);
    if (real.empty()) {
      WARN("not tested: this way of waiting is not to be had here");
      return;
    }
    const std::vector<std::string> simulated = run<SimulatedWorld<false>>(seed, steps);
    std::string before;
    for (size_t i = 0; i < std::min(real.size(), simulated.size()); ++i) {
      INFO("seed " << seed << ", after" << before);
      REQUIRE(simulated[i] == real[i]);
      before += "\n  " + real[i];
      succeeded +=
          i < steps && real[i].find(" -> error") == std::string::npos && real[i].find("->") != std::string::npos;
    }
    CHECK(simulated.size() == real.size());
  }
  // Programs that only fail would agree too.
  CHECK(succeeded > programs * steps / 4);
}

}  // namespace

TEST_CASE("random programs do on the simulated disk what they do on the real one", "[contract][disk]") {
  SECTION("blocking") { compare<RealWorld<disk::Way::kBlocking>>(1, 60, 300); }
  SECTION("on a thread") { compare<RealWorld<disk::Way::kThread>>(1'001, 10, 300); }
  SECTION("by io_uring") { compare<RealWorld<disk::Way::kUring>>(2'001, 10, 300); }
  SECTION("adaptive") { compare<RealWorld<disk::Way::kAdaptive>>(3'001, 10, 300); }
}
