// Silent rollback: within its limit nothing promised is broken, beyond it something is, and the limit is what divides
// them.
#include "sim/scenarios/run.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::sim;

namespace {

struct Heard final : Recorder {
  void line(WorldTime, uint32_t, env::Level, std::string_view, std::string_view text) override {
    gone_back += text.starts_with("goes back");
  }
  int gone_back = 0;
};

struct Ensemble {
  int passed = 0;
  int gone_back = 0;
  std::string violated;  // the first property
};

// Up to the first violation, in small clusters that are often cut in two.
Ensemble run(const char* fault, const char* limit, uint64_t seeds) {
  Ensemble all;
  for (uint64_t seed = 1; seed <= seeds && all.violated.empty(); ++seed) {
    Recipe recipe{.seed = seed};
    for (auto [name, value] : {std::pair(fault, "20"),
                               {"limit", limit},
                               {"nodes", "3"},
                               {"duration", "10 s"},
                               {"operations", "1000"},
                               {"partitions", "6"},
                               {"wipes", "0"},
                               {"rots", "0"},
                               {"read_errors", "0"}})
      REQUIRE(recipe.options.set(name, value).has_value());
    Heard heard;
    const auto result = run_kv(recipe, {.recorder = &heard});
    REQUIRE(result.has_value());
    all.gone_back += heard.gone_back;
    all.passed += result->verdict == RunVerdict::kPassed;
    if (result->verdict == RunVerdict::kFailed) all.violated = result->property;
  }
  return all;
}

}  // namespace

TEST_CASE("a disk that goes back within the limit takes nothing that was promised", "[scenarios]") {
  for (const char* fault : {"old_copies", "lying_disks", "lost_writes", "misdirected_writes"}) {
    INFO(fault);
    const Ensemble all = run(fault, "kept", 12);
    CHECK(all.violated == "");
    CHECK(all.passed == 12);
    CHECK(all.gone_back >= 6);
  }
}

TEST_CASE("beyond the limit of silent rollback a promise is broken, and noticed", "[scenarios]") {
  for (const char* fault : {"old_copies", "lying_disks", "lost_writes", "misdirected_writes"}) {
    INFO(fault);
    CHECK(run(fault, "lifted", 60).violated != "");
  }
}
