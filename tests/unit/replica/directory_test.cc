// The directories that a replica makes are there after a power loss. A directory that was made and not synced in its
// parent takes everything in it along when it vanishes, however well that was synced.
#include "tests/unit/replica/support.h"

using namespace mneme;
using namespace mneme::replica;
using namespace mneme::replica::testing;

namespace {

// Each unsynced entry survives a power loss or not, by its own choice: in so many worlds each is lost in some.
constexpr uint64_t kWorlds = 40;

template <class F>
void in_many_worlds(F fn) {
  for (uint64_t seed = 1; seed <= kWorlds; ++seed) {
    INFO("seed " << seed);
    OneMachine one(seed);
    one.run([&] { fn(one); });
  }
}

bool there(OneMachine& one, const std::string& directory) {
  return one
      .process([&](Env& env) -> Result<void> {
        TRY(env.disk.list(directory));
        return {};
      })
      .has_value();
}

Result<void> begin_checkpoint(Env& env, const std::string& directory) {
  CheckpointStore store(env, directory);
  TRY(store.open(0));
  TRY(store.create(1));
  return {};
}

}  // namespace

TEST_CASE("a directory that was made and not synced does not survive every power loss", "[replica]") {
  uint64_t lost = 0;
  in_many_worlds([&](OneMachine& one) {
    REQUIRE(one.process([](Env& env) { return env.disk.make_dir("group-1"); }).has_value());
    one.crash(sim::CrashKind::kPowerLoss);
    lost += !there(one, "group-1");
  });
  CHECK(lost > kWorlds / 5);
}

TEST_CASE("a group's directory survives a power loss once a checkpoint is begun", "[replica]") {
  for (const std::string directory : {"group-1", "data/group-1"})
    in_many_worlds([&](OneMachine& one) {
      REQUIRE(one.process([&](Env& env) -> Result<void> {
                   if (directory.starts_with("data")) {
                     TRY(env.disk.make_dir("data"));
                     TRY(env.disk.sync_dir(""));
                   }
                   return begin_checkpoint(env, directory);
                 })
                  .has_value());
      one.crash(sim::CrashKind::kPowerLoss);
      CHECK(there(one, directory));
    });
}

TEST_CASE("a group's directory that a killed process had made survives once a checkpoint is begun", "[replica]") {
  in_many_worlds([&](OneMachine& one) {
    REQUIRE(one.process([](Env& env) { return env.disk.make_dir("group-1"); }).has_value());
    one.crash(sim::CrashKind::kKill);
    REQUIRE(one.process([](Env& env) { return begin_checkpoint(env, "group-1"); }).has_value());
    one.crash(sim::CrashKind::kPowerLoss);
    CHECK(there(one, "group-1"));
  });
}

TEST_CASE("a finished checkpoint survives a power loss", "[replica]") {
  in_many_worlds([&](OneMachine& one) {
    std::string path;
    REQUIRE(one.process([&](Env& env) -> Result<void> {
                 CheckpointStore store(env, "group-1");
                 TRY(store.open(0));
                 path = store.path(3);
                 auto part = TRY(store.create(3));
                 TRY(part->write("0123456789"));
                 return part->finish();
               })
                .has_value());
    one.crash(sim::CrashKind::kPowerLoss);
    CHECK(one.process([&](Env& env) -> Result<void> {
               const Bytes content = TRY(env::read_file(env.disk, path, 100));
               return content.size() == 10 ? Result<void>() : fail(ErrorCode::kCorrupt, "it is cut short");
             })
              .has_value());
  });
}

TEST_CASE("the log's directory survives a power loss once the log is open", "[replica]") {
  in_many_worlds([&](OneMachine& one) {
    REQUIRE(one.process([](Env& env) -> Result<void> {
                 TRY(open_log(env));
                 return {};
               })
                .has_value());
    one.crash(sim::CrashKind::kPowerLoss);
    CHECK(there(one, "wal"));
  });
}

TEST_CASE(
    "the log is there after a power loss as soon as the replica is open, which needs no directory before it has a "
    "checkpoint",
    "[replica]") {
  in_many_worlds([&](OneMachine& one) {
    bool open = false;
    one.start([&](Env& env) {
      return with_replica(env, config_of(1), nullptr, [&](Replica&, Others&) -> Result<void> {
        open = true;
        env.clock.sleep_until(env.scheduler, kNever);
        return {};
      });
    });
    one.wait_until([&] { return open; });
    REQUIRE(open);
    one.crash(sim::CrashKind::kPowerLoss);
    CHECK(there(one, "wal"));
    CHECK_FALSE(there(one, "group-1"));
  });
}

TEST_CASE("two fibers that clear a group's directory at once do not stumble over each other", "[replica]") {
  OneMachine one(1);
  one.run([&] {
    auto done = one.process([](Env& env) -> Result<void> {
      CheckpointStore store(env, "group-1");
      TRY(env.disk.make_dir("group-1"));
      TRY(store.open(0));
      for (uint64_t id = 1; id <= 3; ++id) {
        auto file = TRY(env.disk.open(fmt::format("group-1/checkpoint-{:016x}", id), env::OpenMode::kCreate));
        TRY(file->write(0, as_bytes("old")));
      }
      TRY(fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
        for (int i = 0; i < 2; ++i) scope.spawn("clears", [&] { return store.remove_others(); });
      }));
      const auto left = TRY(env.disk.list("group-1"));
      CHECK(left.empty());
      return {};
    });
    CHECK(done.has_value());
  });
}
