// Each fault of the simulated disk does what the fault model in sim/disk_state.h says.
#include <fmt/format.h>

#include <set>

#include "tests/one_machine.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::sim;
using mneme::sim::CrashKind;
using mneme::testing::OneMachine;

namespace {

constexpr size_t kSector = limits::kSectorBytes;
const Bytes kOld(4 * kSector, 'o');
const Bytes kNew(4 * kSector, 'n');

bool is(const auto& result, ErrorCode code) { return !result.has_value() && result.error().code == code; }

// A durable file with that content.
Result<std::unique_ptr<env::File>> make_durable(Env& env, const std::string& path, const Bytes& content) {
  auto file = TRY(env.disk.open(path, env::OpenMode::kCreate));
  TRY(file->write_and_sync(0, content));
  TRY(env.disk.sync_dir(""));
  return file;
}

std::string read_letters(OneMachine& one, const std::string& path) {
  std::string letters;
  const Result<void> done = one.process([&](Env& env) -> Result<void> {
    const Bytes bytes = TRY(env::read_file(env.disk, path, limits::kMiB));
    for (size_t at = 0; at < bytes.size(); at += kSector) letters += bytes[at] ? static_cast<char>(bytes[at]) : '.';
    return {};
  });
  return done ? letters : done.error().message;
}

// Runs the process on a new machine, loses power, and says what is left of file f; all of it in one line of sectors.
std::string after_power_loss(uint64_t seed, const std::function<Result<void>(Env&, DiskState&)>& process) {
  OneMachine one(seed);
  std::string left;
  one.run([&] {
    const Result<void> done = one.process([&](Env& env) { return process(env, one.machine().disk()); });
    REQUIRE((done ? "" : done.error().message) == "");
    one.crash(CrashKind::kPowerLoss);
    left = read_letters(one, "f");
  });
  return left;
}

// Lets the world go on without the process doing anything.
void wait(Env& env, int64_t ms) { env.clock.sleep_for(env.scheduler, std::chrono::milliseconds(ms)); }

}  // namespace

TEST_CASE("a sync covers what was written before it was asked for, and nothing later", "[sim][disk]") {
  std::set<std::string> left;
  for (uint64_t seed = 0; seed < 40; ++seed)
    left.insert(after_power_loss(seed, [](Env& env, DiskState&) -> Result<void> {
      auto file = TRY(make_durable(env, "f", Bytes(kSector, 'o')));
      TRY(file->write(0, Bytes(kSector, '1')));
      return fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
        scope.spawn("sync", [&] { return file->sync(); });
        scope.spawn("write", [&] { return file->write(0, Bytes(kSector, '2')); });
      });
    }));
  CHECK(left == std::set<std::string>{"1", "2"});
}

TEST_CASE("a lost write is read from the cache, and gone with it: all of it or a run of sectors", "[sim][disk]") {
  std::set<std::string> left;
  for (uint64_t seed = 0; seed < 200; ++seed)
    left.insert(after_power_loss(seed, [](Env& env, DiskState& disk) -> Result<void> {
      auto file = TRY(make_durable(env, "f", kOld));
      disk.lose_next_write(7);
      TRY(file->sync());  // nothing to write, so it strikes a later one
      TRY(file->write_and_sync(0, kNew));
      CHECK(TRY(env::read_file(env.disk, "f", limits::kMiB)) == kNew);
      return file->sync();  // which finds nothing to write again
    }));
  CHECK(left == std::set<std::string>{"oooo", "nooo", "noon", "nnoo", "oonn", "nnno", "onnn", "nonn", "nnon", "ooon"});
}

TEST_CASE("a lost write strikes one write", "[sim][disk]") {
  const std::string left = after_power_loss(1, [](Env& env, DiskState& disk) -> Result<void> {
    auto file = TRY(make_durable(env, "f", kOld));
    disk.lose_next_write(7);
    TRY(file->write_and_sync(0, kNew));
    return file->write_and_sync(0, kNew);
  });
  CHECK(left == "nnnn");
}

TEST_CASE("a misdirected write lands elsewhere and is missing where it belongs", "[sim][disk]") {
  int in_other_file = 0;
  int in_own_file = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    OneMachine one(seed);
    one.run([&] {
      const Result<void> done = one.process([&](Env& env) -> Result<void> {
        auto other = TRY(make_durable(env, "g", Bytes(8 * kSector, 'g')));
        auto file = TRY(make_durable(env, "f", Bytes(8 * kSector, 'o')));
        one.machine().disk().misdirect_next_write(7);
        TRY(file->write_and_sync(2 * kSector, Bytes(2 * kSector, 'n')));
        CHECK(TRY(env::read_file(env.disk, "g", limits::kMiB)) == Bytes(8 * kSector, 'g'));
        return {};
      });
      REQUIRE(done.has_value());
      CHECK_FALSE(one.machine().disk().evict().empty());
      const std::string f = read_letters(one, "f");
      const std::string g = read_letters(one, "g");
      INFO(f << " " << g);
      CHECK(f.size() == 8);
      CHECK(g.size() == 8);
      CHECK(f.substr(2, 2) != "nn");
      const auto other = std::ranges::count(g, 'n');
      const auto own = std::ranges::count(f, 'n');
      in_other_file += other > 0;
      in_own_file += own > 0 && f.find('n') != 2 && f.find('n') != 3;
      CHECK(other + own <= 3);
      one.crash(CrashKind::kPowerLoss);
      CHECK(read_letters(one, "f") == f);
    });
  }
  CHECK(in_other_file > 20);
  CHECK(in_own_file > 20);
}

TEST_CASE("what a lying flush promised is lost with the power, but not with the process", "[sim][disk]") {
  std::set<std::string> left;
  int lost_all = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    OneMachine one(seed);
    one.run([&] {
      const Result<void> done = one.process([&](Env& env) -> Result<void> {
        auto file = TRY(make_durable(env, "f", kOld));
        one.machine().disk().set_lying(true);
        TRY(file->write_and_sync(0, kNew));
        TRY(env.disk.rename("f", "h"));
        return env.disk.sync_dir("");
      });
      REQUIRE(done.has_value());
      one.crash(CrashKind::kKill);
      CHECK(read_letters(one, "h") == "nnnn");
      one.crash(CrashKind::kPowerLoss);
      const std::string f = read_letters(one, "f");
      left.insert(f.size() == 4 ? f : read_letters(one, "h"));
      lost_all += f == "oooo";
    });
  }
  CHECK(left.size() == 16);
  CHECK(lost_all > 160);
  CHECK(lost_all < 280);
}

TEST_CASE("an honest sync of anything keeps what lying ones promised, and no more", "[sim][disk]") {
  std::set<std::string> left;
  for (uint64_t seed = 0; seed < 40; ++seed)
    left.insert(after_power_loss(seed, [&](Env& env, DiskState& disk) -> Result<void> {
      auto other = TRY(make_durable(env, "g", kOld));
      auto file = TRY(make_durable(env, "old", kOld));
      disk.set_lying(true);
      TRY(file->write_and_sync(0, Bytes(2 * kSector, 'n')));
      TRY(env.disk.rename("old", "f"));
      TRY(env.disk.sync_dir(""));
      TRY(file->write(3 * kSector, Bytes(kSector, 'u')));
      disk.set_lying(false);
      return seed % 2 ? other->sync() : env.disk.sync_dir("");
    }));
  CHECK(left == std::set<std::string>{"nnoo", "nnou"});
}

TEST_CASE("the cache forgets what is clean: a failed sync shows then, unsynced writes stay", "[sim][disk]") {
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 100; ++seed)
    after_power_loss(seed, [&](Env& env, DiskState& disk) -> Result<void> {
      auto file = TRY(make_durable(env, "f", kOld));
      disk.fail_next_sync();
      CHECK(is(file->write_and_sync(0, Bytes(2 * kSector, 'n')), ErrorCode::kIo));
      TRY(file->write(3 * kSector, Bytes(2 * kSector, 'u')));
      CHECK(TRY(env::read_file(env.disk, "f", limits::kMiB))[0] == 'n');
      CHECK_FALSE(disk.evict().empty());
      const Bytes bytes = TRY(env::read_file(env.disk, "f", limits::kMiB));
      CHECK(bytes.size() == 5 * kSector);
      std::string letters;
      for (size_t at = 0; at < bytes.size(); at += kSector) letters += static_cast<char>(bytes[at]);
      seen.insert(letters);
      return {};
    });
  CHECK(seen == std::set<std::string>{"ooouu", "noouu", "onouu", "nnouu"});
}

TEST_CASE("a sector with a latent error can be read again once it is written as a whole and durable", "[sim][disk]") {
  OneMachine one;
  one.run([&] {
    DiskState& disk = one.machine().disk();
    const Bytes before(2 * kSector, 'o');
    size_t bad = 0;
    auto process = [&](const Machine::Program& program) {
      const Result<void> done = one.process(program);
      REQUIRE((done ? "" : done.error().message) == "");
    };
    process([&](Env& env) -> Result<void> {
      auto file = TRY(make_durable(env, "f", before));
      CHECK_FALSE(disk.make_unreadable(1).empty());
      Bytes sector(kSector);
      bad = is(file->read(0, sector), ErrorCode::kIo) ? 0 : 1;
      CHECK(is(file->read(bad * kSector + 10, std::span(sector).first(5)), ErrorCode::kIo));
      CHECK(TRY(file->read((1 - bad) * kSector, sector)) == kSector);
      // A read that reaches it says what comes before.
      Bytes both(2 * kSector);
      if (bad == 1) CHECK(TRY(file->read(10, both)) == kSector - 10);
      CHECK(is(file->write(bad * kSector + 10, as_bytes("part")), ErrorCode::kIo));
      TRY(file->write(bad * kSector, Bytes(kSector, 'w')));
      CHECK(TRY(file->read(bad * kSector, sector)) == kSector);
      TRY(file->write(bad * kSector + 10, as_bytes("part")));
      return {};
    });
    // That write may not survive; a synced one does.
    std::set<bool> readable;
    for (int i = 0; i < 30; ++i) {
      one.crash(CrashKind::kPowerLoss);
      process([&](Env& env) -> Result<void> {
        auto file = TRY(env.disk.open("f", env::OpenMode::kReadWrite));
        Bytes sector(kSector);
        readable.insert(file->read(bad * kSector, sector).has_value());
        TRY(file->write_and_sync(bad * kSector, Bytes(kSector, 'w')));
        CHECK(file->read(bad * kSector, sector).has_value());
        CHECK_FALSE(disk.make_unreadable(1).empty());
        CHECK(is(file->read(bad * kSector, sector), ErrorCode::kIo));
        TRY(file->write(bad * kSector, Bytes(kSector, 'w')));
        return {};
      });
    }
    CHECK(readable.size() == 2);
  });
}

TEST_CASE("a hung disk completes nothing until told, and a crash frees what waits", "[sim][disk]") {
  const bool blocks = GENERATE(false, true);
  MachineOptions options;
  options.disk_blocks = blocks;
  OneMachine one(1, options);
  one.run([&] {
    DiskState& disk = one.machine().disk();
    int steps = 0;
    int ticks = 0;
    auto program = [&](Env& env) -> Result<void> {
      return fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
        scope.spawn_daemon("ticks", [&] {
          for (;; ++ticks) wait(env, 1);
        });
        scope.spawn("disk", [&]() -> Result<void> {
          auto file = TRY(env.disk.open(fmt::format("f{}", one.machine().boots()), env::OpenMode::kCreate));
          for (;; ++steps) TRY(file->write_and_sync(0, kOld));
        });
      });
    };
    one.start(program);
    REQUIRE(one.wait_until([&] { return steps == 3; }));
    // In the middle of an operation.
    disk.set_hung(true);
    one.world().sleep_for(20'000'000);
    const int ticks_then = ticks;
    one.world().sleep_for(2'000'000'000);
    CHECK(steps == 3);
    if (blocks)
      CHECK(ticks == ticks_then);
    else
      CHECK(ticks > ticks_then + 1'000);
    disk.set_hung(false);
    REQUIRE(one.wait_until([&] { return steps == 10; }));
    disk.set_hung(true);
    one.world().sleep_for(100'000'000);
    one.crash(CrashKind::kKill);
    CHECK_FALSE(one.machine().running());
    disk.set_hung(false);
    one.start(program);
    REQUIRE(one.wait_until([&] { return steps == 20; }));
    one.crash(CrashKind::kKill);  // while what its fibers count is still there
  });
}

TEST_CASE("a full disk takes the part of a write that needs no further page, and space comes back", "[sim][disk]") {
  OneMachine one;
  one.run([&] {
    DiskState& disk = one.machine().disk();
    const Result<void> done = one.process([&](Env& env) -> Result<void> {
      auto file = TRY(env.disk.open("f", env::OpenMode::kCreate));
      TRY(file->write(0, Bytes(5'000, 'x')));
      auto other = TRY(env.disk.open("g", env::OpenMode::kCreate));
      TRY(other->write(0, Bytes(4'096, 'y')));

      disk.set_full(true);
      TRY(file->write(4'000, Bytes(1'500, 'a')));  // the second page has room for more
      CHECK(is(file->write(8'000, Bytes(4'000, 'b')), ErrorCode::kNoSpace));
      CHECK(TRY(file->size()) == 8'192);
      Bytes part(192);
      TRY(env::read_exactly(*file, 8'000, part));
      CHECK(part == Bytes(192, 'b'));
      CHECK(is(file->write(8'192, Bytes(1, 'c')), ErrorCode::kNoSpace));
      CHECK(is(file->truncate(9'000), ErrorCode::kNoSpace));
      CHECK(is(env.disk.open("h", env::OpenMode::kCreate), ErrorCode::kNoSpace));
      CHECK(is(env.disk.make_dir("d"), ErrorCode::kNoSpace));
      TRY(env.disk.remove("g"));
      CHECK(is(file->write(8'192, Bytes(1, 'c')), ErrorCode::kNoSpace));
      disk.set_full(false);
      TRY(file->write(8'192, Bytes(4'096, 'c')));

      disk.set_space(20'000);  // four whole pages, of which three are used
      CHECK(is(file->write_and_sync(12'000, Bytes(8'000, 'd')), ErrorCode::kNoSpace));
      CHECK(TRY(file->size()) == 16'384);
      auto more = env.disk.open("h", env::OpenMode::kCreate);
      CHECK(more.has_value());
      CHECK(is((*more)->write(0, Bytes(1, 'e')), ErrorCode::kNoSpace));
      TRY(file->truncate(12'288));
      TRY((*more)->write(0, Bytes(4'096, 'e')));
      TRY(env.disk.remove("f"));
      TRY((*more)->write(4'096, Bytes(8'192, 'e')));
      disk.set_space(UINT64_MAX);
      return (*more)->write(0, Bytes(100'000, 'e'));
    });
    CHECK((done ? "" : done.error().message) == "");
  });
}

TEST_CASE("short reads return some of the bytes, and those are right", "[sim][disk]") {
  OneMachine one;
  one.run([&] {
    Bytes content(20'000);
    for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<uint8_t>(mix(i));
    const Result<void> done = one.process([&](Env& env) -> Result<void> {
      auto file = TRY(make_durable(env, "f", content));
      Bytes all(content.size());
      CHECK(TRY(file->read(0, all)) == all.size());
      one.machine().disk().set_short_reads(500'000);
      int shorter = 0;
      for (int i = 0; i < 100; ++i) {
        const size_t got = TRY(file->read(0, all));
        CHECK(got > 0);
        shorter += got < all.size();
        CHECK(TRY(env::read_up_to(*file, 0, all)) == all.size());
        CHECK(all == content);
      }
      CHECK(shorter > 25);
      CHECK(shorter < 75);
      return {};
    });
    CHECK((done ? "" : done.error().message) == "");
  });
}

TEST_CASE("an old copy brings back what was durable when it was taken, again and again", "[sim][disk]") {
  OneMachine one;
  one.run([&] {
    DiskState& disk = one.machine().disk();
    auto process = [&](const Machine::Program& program) {
      const Result<void> done = one.process(program);
      REQUIRE((done ? "" : done.error().message) == "");
    };
    CHECK(disk.restore_copy() == "");
    process([&](Env& env) -> Result<void> {
      TRY(env.disk.make_dir("d"));
      TRY(env.disk.sync_dir(""));
      auto file = TRY(make_durable(env, "f", kOld));
      CHECK(disk.make_unreadable(1).starts_with("file"));
      TRY(file->write(0, kNew));
      TRY(env.disk.rename("f", "d/f"));
      CHECK(disk.take_copy() == "1 files, 2048 bytes");
      TRY(file->sync());
      TRY(env.disk.sync_dir("d"));
      return {};
    });
    for (int i = 0; i < 2; ++i) {
      CHECK(disk.restore_copy() == "1 files, 2048 bytes");
      CHECK(read_letters(one, "f") == "oooo");
      process([&](Env& env) -> Result<void> {
        CHECK(TRY(env.disk.list("")) == std::vector<std::string>{"d", "f"});
        CHECK(TRY(env.disk.list("d")).empty());
        auto file = TRY(env.disk.open("f", env::OpenMode::kReadWrite));
        TRY(file->write_and_sync(0, Bytes(kSector, 'x')));
        TRY(env.disk.remove("f"));
        return env.disk.sync_dir("");
      });
      one.crash(CrashKind::kPowerLoss);
    }
    disk.wipe();
    process([&](Env& env) -> Result<void> {
      CHECK(TRY(env.disk.list("")).empty());
      return {};
    });
    CHECK(disk.take_copy() == "");
    CHECK(disk.rot(1) == "");
    CHECK(disk.make_unreadable(1) == "");
    CHECK(disk.evict() == "");
  });
}

TEST_CASE("faults that were cancelled do not strike", "[sim][disk]") {
  const std::string left = after_power_loss(1, [](Env& env, DiskState& disk) -> Result<void> {
    auto file = TRY(make_durable(env, "f", kOld));
    disk.fail_next_sync();
    disk.lose_next_write(1);
    disk.misdirect_next_write(2);
    disk.set_lying(true);
    disk.set_full(true);
    disk.set_space(0);
    disk.set_short_reads(1'000'000);
    disk.set_hung(true);
    disk.cancel_failures();
    TRY(file->write_and_sync(0, Bytes(6 * kSector, 'n')));
    Bytes all(6 * kSector);
    CHECK(TRY(file->read(0, all)) == all.size());
    return {};
  });
  CHECK(left == "nnnnnn");
}
