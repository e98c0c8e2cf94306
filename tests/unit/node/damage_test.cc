// What a node does when a file that it needs to start cannot be read: it ends, and says which and what to do. Ending
// with kIo would invite whoever watches over it to start it again, for ever.
#include <set>

#include "core/node/identity.h"
#include "core/node/node.h"
#include "core/replica/observer.h"
#include "tests/one_machine.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::node;
using mneme::testing::OneMachine;

namespace {

struct Started final : replica::Observer {
  void applied(NodeId, GroupId, const raft::Entry&, uint64_t) override { entries += 1; }
  int entries = 0;
};

}  // namespace

TEST_CASE("an identity that cannot be read is damage, and the sentence says what to do", "[node]") {
  OneMachine one;
  one.run([&] {
    auto saved = one.process([](Env& env) { return save_identity(env.disk, {NodeId(3), Incarnation(5), {}, {}}); });
    REQUIRE(saved.has_value());
    one.machine().disk().make_unreadable(1);
    auto loaded = one.process([](Env& env) -> Result<void> {
      TRY(load_identity(env.disk));
      return {};
    });
    REQUIRE_FALSE(loaded.has_value());
    CHECK(loaded.error().code == ErrorCode::kCorrupt);
    CHECK_THAT(loaded.error().message, Catch::Contains("identity") && Catch::Contains("input/output error") &&
                                           Catch::Contains("restore it from a backup"));
  });
}

TEST_CASE("an identity that is cut short or far too long is damage as well", "[node]") {
  for (size_t size : {0, 10, 100'000}) {
    OneMachine one;
    one.run([&] {
      auto loaded = one.process([&](Env& env) -> Result<void> {
        TRY(env::replace_file(env.disk, "", "identity", Bytes(size)));
        TRY(load_identity(env.disk));
        return {};
      });
      REQUIRE_FALSE(loaded.has_value());
      CHECK(loaded.error().code == ErrorCode::kCorrupt);
      CHECK_THAT(loaded.error().message, Catch::Contains("identity") && Catch::Contains("restore it from a backup"));
    });
  }
}

TEST_CASE("whichever sector cannot be read, a node starts or says which file it is and what to do", "[node]") {
  std::set<std::string> named;
  int went_on = 0;
  for (uint64_t cause = 1; cause <= 60; ++cause) {
    INFO("cause " << cause);
    OneMachine one;
    Started watched;
    Config config{.listen = {"m", 1}, .segment_bytes = 64 * limits::kKiB, .observer = &watched};
    config.checkpoint_log_bytes = 1;  // so that there is one
    auto start = [&] {
      const int before = watched.entries;
      one.start([&](Env& env) { return run_node(env, config); });
      one.wait_until([&] { return watched.entries > before; });
    };
    one.run([&] {
      for (int life = 1; life <= 3; ++life) {
        start();
        REQUIRE_FALSE(one.ended());
        one.world().sleep_for(1'000'000'000);
        one.crash(sim::CrashKind::kPowerLoss);
      }
      one.machine().disk().make_unreadable(cause);
      start();
      if (!one.ended()) {
        ++went_on;
        return;
      }
      REQUIRE_FALSE(one.result().has_value());
      const Error& error = one.result().error();
      INFO(error.message);
      CHECK(error.code == ErrorCode::kCorrupt);
      CHECK_THAT(error.message, Catch::Contains("restore") && Catch::Contains("backup"));
      for (const char* file : {"identity", "wal/wal-", "group-2/checkpoint-"})
        if (error.message.find(file) != std::string::npos) named.insert(file);
    });
  }
  CHECK(named.size() == 3);
  CHECK(went_on > 0);
}
