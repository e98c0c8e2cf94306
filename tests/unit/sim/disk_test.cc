#include "sim/disk.h"

#include <fmt/format.h>

#include <set>

#include "sim/machine.h"
#include "sim/network.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::sim;

namespace {

// Runs `before` in a first process, crashes it when it has ended, and runs `after` in a second one.
void crash_between(uint64_t seed, CrashKind kind, const Machine::Program& before,
                   const std::function<void(DiskState&)>& fault, const Machine::Program& after) {
  World world(seed, {}, nullptr);
  Machine& machine = world.add_machine("m", {});
  world.run([&] {
    auto result = fiber::with_scope(world.scheduler(), [&](fiber::Scope& scope) {
      auto run = [&](const Machine::Program& program) {
        bool ended = false;
        machine.boot(
            scope,
            [&](Env& env) -> Result<void> {
              Result<void> done = program(env);
              REQUIRE(done.has_value());
              return done;
            },
            [&](Result<void>) { ended = true; });
        while (!ended) world.sleep_for(1'000'000);
      };
      run(before);
      machine.crash(kind);
      if (fault) fault(machine.disk());
      run(after);
    });
    CHECK(result.has_value());
  });
}

const Bytes kOld(2048, 'o');
const Bytes kNew(2048, 'n');

Result<void> write_then_overwrite(Env& env, bool sync_dir, bool sync_new) {
  auto file = TRY(env.disk.open("f", env::OpenMode::kCreate));
  if (sync_dir) TRY(env.disk.sync_dir(""));
  TRY(file->write_and_sync(0, kOld));
  TRY(file->write(0, kNew));
  if (sync_new) TRY(file->sync());
  return {};
}

}  // namespace

TEST_CASE("what was synced survives a power loss", "[sim][disk]") {
  for (uint64_t seed = 0; seed < 50; ++seed)
    crash_between(
        seed, CrashKind::kPowerLoss, [](Env& env) { return write_then_overwrite(env, true, true); }, nullptr,
        [](Env& env) -> Result<void> {
          CHECK(TRY(env::read_file(env.disk, "f", 4096)) == kNew);
          return {};
        });
}

TEST_CASE("a power loss keeps or drops each unsynced sector, and every subset occurs", "[sim][disk]") {
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 300; ++seed)
    crash_between(
        seed, CrashKind::kPowerLoss, [](Env& env) { return write_then_overwrite(env, true, false); }, nullptr,
        [&](Env& env) -> Result<void> {
          Bytes content = TRY(env::read_file(env.disk, "f", 4096));
          REQUIRE(content.size() == 2048);
          std::string pattern;
          for (size_t sector = 0; sector < 4; ++sector) {
            pattern += static_cast<char>(content[sector * 512]);
            for (size_t i = 0; i < 512; ++i) REQUIRE(content[sector * 512 + i] == content[sector * 512]);
          }
          seen.insert(pattern);
          return {};
        });
  CHECK(seen.size() == 16);
}

TEST_CASE("a kill keeps the page cache, which a later power loss may drop", "[sim][disk]") {
  crash_between(
      1, CrashKind::kKill, [](Env& env) { return write_then_overwrite(env, true, false); }, nullptr,
      [](Env& env) -> Result<void> {
        CHECK(TRY(env::read_file(env.disk, "f", 4096)) == kNew);
        return {};
      });
}

TEST_CASE("a file whose directory was not synced may be gone, and may be there", "[sim][disk]") {
  int there = 0;
  for (uint64_t seed = 0; seed < 100; ++seed)
    crash_between(
        seed, CrashKind::kPowerLoss, [](Env& env) { return write_then_overwrite(env, false, true); }, nullptr,
        [&](Env& env) -> Result<void> {
          there += env.disk.open("f", env::OpenMode::kRead).has_value();
          return {};
        });
  CHECK(there > 20);
  CHECK(there < 80);
}

TEST_CASE("a rename that was not synced holds as a whole or not at all", "[sim][disk]") {
  int renamed = 0;
  for (uint64_t seed = 0; seed < 100; ++seed)
    crash_between(
        seed, CrashKind::kPowerLoss,
        [](Env& env) -> Result<void> {
          TRY(env::replace_file(env.disk, "", "f", kOld));
          auto file = TRY(env.disk.open("g", env::OpenMode::kCreate));
          TRY(file->write_and_sync(0, kNew));
          TRY(env.disk.sync_dir(""));
          return env.disk.rename("g", "f");
        },
        nullptr,
        [&](Env& env) -> Result<void> {
          Bytes content = TRY(env::read_file(env.disk, "f", 4096));
          bool old_there = env.disk.open("g", env::OpenMode::kRead).has_value();
          CHECK(content == (old_there ? kOld : kNew));
          renamed += !old_there;
          return {};
        });
  CHECK(renamed > 20);
  CHECK(renamed < 80);
}

TEST_CASE("a failed sync cleans the pages: the next one succeeds and makes nothing durable", "[sim][disk]") {
  int lost = 0;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    World world(seed, {}, nullptr);
    Machine& machine = world.add_machine("m", {});
    world.run([&] {
      auto result = fiber::with_scope(world.scheduler(), [&](fiber::Scope& scope) {
        int ended = 0;
        machine.boot(
            scope,
            [&](Env& env) -> Result<void> {
              auto file = TRY(env.disk.open("f", env::OpenMode::kCreate));
              TRY(env.disk.sync_dir(""));
              TRY(file->write_and_sync(0, kOld));
              machine.disk().fail_next_sync();
              CHECK_FALSE(file->write_and_sync(0, kNew).has_value());
              CHECK(file->sync().has_value());
              Bytes seen(2048);
              TRY(env::read_exactly(*file, 0, seen));
              CHECK(seen == kNew);
              return {};
            },
            [&](Result<void> r) {
              CHECK(r.has_value());
              ++ended;
            });
        while (ended < 1) world.sleep_for(1'000'000);
        machine.crash(CrashKind::kPowerLoss);
        machine.boot(
            scope,
            [&](Env& env) -> Result<void> {
              lost += TRY(env::read_file(env.disk, "f", 4096)) != kNew;
              return {};
            },
            [&](Result<void>) { ++ended; });
        while (ended < 2) world.sleep_for(1'000'000);
      });
      CHECK(result.has_value());
    });
  }
  CHECK(lost > 30);
}

TEST_CASE("rot changes a durable sector and a latent error makes one unreadable", "[sim][disk]") {
  auto before = [](Env& env) { return write_then_overwrite(env, true, true); };
  crash_between(
      1, CrashKind::kPowerLoss, before,
      [](DiskState& disk) {
        disk.power_loss();
        CHECK_FALSE(disk.rot(1).empty());
        disk.power_loss();
      },
      [](Env& env) -> Result<void> {
        CHECK(TRY(env::read_file(env.disk, "f", 4096)) != kNew);
        return {};
      });
  crash_between(
      1, CrashKind::kPowerLoss, before, [](DiskState& disk) { CHECK_FALSE(disk.make_unreadable(1).empty()); },
      [](Env& env) -> Result<void> {
        auto content = env::read_file(env.disk, "f", 4096);
        REQUIRE_FALSE(content.has_value());
        CHECK(content.error().code == ErrorCode::kIo);
        return {};
      });
}

TEST_CASE("a rename across directories holds as a whole or not at all; a sync of either makes it hold", "[sim][disk]") {
  std::set<bool> moved;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const uint64_t synced = seed % 3;  // neither, from, to
    crash_between(
        seed, CrashKind::kPowerLoss,
        [&](Env& env) -> Result<void> {
          TRY(env.disk.make_dir("a"));
          TRY(env.disk.make_dir("b"));
          TRY(env.disk.sync_dir(""));
          TRY(env.disk.open("a/f", env::OpenMode::kCreate));
          // Where this is left out, the rename brings the creation along.
          if (synced == 0) TRY(env.disk.sync_dir("a"));
          TRY(env.disk.rename("a/f", "b/f"));
          if (synced != 0) TRY(env.disk.sync_dir(synced == 1 ? "a" : "b"));
          return {};
        },
        nullptr,
        [&](Env& env) -> Result<void> {
          const bool there = TRY(env.disk.list("b")).size() == 1;
          const bool still_here = TRY(env.disk.list("a")).size() == 1;
          CHECK(there != still_here);
          if (synced != 0) CHECK(there);
          if (synced == 0) moved.insert(there);
          return {};
        });
  }
  CHECK(moved.size() == 2);
}
