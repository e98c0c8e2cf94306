#include "tests/test.h"
#include "tests/unit/kv/support.h"

using namespace mneme;
using namespace mneme::kv;
using namespace mneme::kv::testing;

TEST_CASE("a machine that is told what comes next, truly or not, ends as one that is not") {
  SplitMix chance(7);
  StateMachine told(nullptr, ShardState::whole());
  StateMachine untold(nullptr, ShardState::whole());
  for (uint64_t entry = 1; entry <= 3000; ++entry) {
    Batch batch(static_cast<int64_t>(entry));
    for (uint64_t commands = 1 + chance.below(6); commands > 0; --commands) {
      const std::string key = "key:" + std::to_string(chance.below(9000));
      if (chance.one_in(10))
        batch.add({"DEL", key});
      else if (chance.one_in(10))
        batch.add({"DBSIZE"});
      else
        batch.add({"SET", key, std::to_string(entry)});
    }
    const std::string payload = batch.finish();
    // Many times over, so that there is no room; another than what comes; damaged; and nothing that was ever a batch.
    for (uint64_t times = chance.below(40); times > 0; --times) told.expect(payload);
    if (chance.one_in(3)) told.expect(std::string_view(payload).substr(0, chance.below(payload.size())));
    if (chance.one_in(3)) told.expect("no batch");
    if (!chance.one_in(4)) told.expected();
    Collected one;
    Collected other;
    REQUIRE(told.apply(LogIndex(entry), payload, one));
    REQUIRE(untold.apply(LogIndex(entry), payload, other));
    REQUIRE(one.replies == other.replies);
    REQUIRE(told.digest() == untold.digest());
  }
  CHECK(told.table().record_count() > 4096);
}
