#include "core/node/identity.h"

#include "tests/one_machine.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::node;

TEST_CASE("an identity that was read stays, although its writer was killed before its name was durable", "[node]") {
  // Each unsynced entry survives a power loss or not, by its own choice: in so many worlds it is lost in some.
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    INFO("seed " << seed);
    testing::OneMachine one(seed);
    one.run([&] {
      const Identity identity{.incarnation = Incarnation(7)};
      REQUIRE(one.process([&](Env& env) -> Result<void> {
                   TRY(save_identity(env.disk, identity));
                   // As it is between the renaming and what makes that durable.
                   TRY(env.disk.rename("identity", "identity.tmp"));
                   TRY(env.disk.sync_dir(""));
                   return env.disk.rename("identity.tmp", "identity");
                 })
                  .has_value());
      one.crash(sim::CrashKind::kKill);
      REQUIRE(one.process([&](Env& env) -> Result<void> {
                   TRY(load_identity(env.disk));
                   return {};
                 })
                  .has_value());
      one.crash(sim::CrashKind::kPowerLoss);
      auto again = one.process([&](Env& env) -> Result<void> {
        CHECK(TRY(load_identity(env.disk)).incarnation == identity.incarnation);
        return {};
      });
      CHECK(again.has_value());
    });
  }
}
