// When a run may stand still, and when it may not: the excuse of the unrestricted regime must not cover a cluster that
// could go on.
#include "sim/scenarios/run.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::sim;

namespace {

struct Heard final : Recorder {
  void line(WorldTime, uint32_t, env::Level, std::string_view, std::string_view text) override {
    stood_still |= text.starts_with("it stands still, as it may");
    healed += text.starts_with("healed: ");
  }
  bool stood_still = false;
  int healed = 0;
};

RunResult run(uint64_t seed, std::initializer_list<std::pair<const char*, const char*>> options, Heard& heard) {
  Recipe recipe{.seed = seed};
  for (auto& [name, value] : options) REQUIRE(recipe.options.set(name, value).has_value());
  auto result = run_kv(recipe, {.recorder = &heard});
  REQUIRE(result.has_value());
  return *result;
}

}  // namespace

TEST_CASE("a cluster that could go on and does not is a violation in both regimes, with an account", "[scenarios]") {
  for (const char* regime : {"recoverable", "unrestricted"}) {
    INFO(regime);
    Heard heard;
    // Nobody is elected before the patience of the audit is over.
    const RunResult result = run(2,
                                 {{"regime", regime},
                                  {"election_timeout", "60 s"},
                                  {"heartbeat", "100 ms"},
                                  {"duration", "2 s"},
                                  {"operations", "100"},
                                  {"heal_timeout", "1 s"},
                                  {"rarely", "0"},
                                  {"rots", "0"},
                                  {"read_errors", "0"},
                                  {"wipes", "0"}},
                                 heard);
    CHECK(result.verdict == RunVerdict::kFailed);
    CHECK(result.property == "liveness");
    CHECK(result.details.find("n1  ") != std::string::npos);
    CHECK(result.details.find("follower of term 0, leader unknown") != std::string::npos);
    CHECK_FALSE(heard.stood_still);
  }
}

TEST_CASE("with most disks damaged a run may stand still, and some do", "[scenarios]") {
  int stood_still = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    Heard heard;
    const RunResult result = run(seed,
                                 {{"regime", "unrestricted"},
                                  {"rots", "60"},
                                  {"read_errors", "60"},
                                  {"power_losses", "12"},
                                  {"duration", "5 s"},
                                  {"operations", "300"},
                                  {"heal_timeout", "5 s"}},
                                 heard);
    CHECK(result.verdict == RunVerdict::kPassed);
    stood_still += heard.stood_still;
  }
  CHECK(stood_still > 5);
}

TEST_CASE("a quorum is healed first and the rest afterwards, where that is drawn", "[scenarios]") {
  Heard all;
  CHECK(run(3, {{"heal", "all"}}, all).verdict == RunVerdict::kPassed);
  CHECK(all.healed == 1);
  Heard quorum;
  CHECK(run(3, {{"heal", "quorum"}}, quorum).verdict == RunVerdict::kPassed);
  CHECK(quorum.healed == 2);
}

TEST_CASE("what is begun on shards of nodes without the map is heard of there, and ends", "[scenarios]") {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    INFO("seed " << seed);
    Heard heard;
    // All nodes but three have no replica of the meta group, and are busy with their shards all the time.
    const RunResult result = run(seed,
                                 {{"nodes", "5"},
                                  {"copies", "3"},
                                  {"shards", "8"},
                                  {"balance", "0"},
                                  {"splits", "2"},
                                  {"moves", "6"},
                                  {"transfers", "12"},
                                  {"duration", "8 s"},
                                  {"operations", "300"},
                                  {"wipes", "0"}},
                                 heard);
    INFO(result.property << ": " << result.summary << "\n" << result.details);
    CHECK(result.verdict == RunVerdict::kPassed);
  }
}

TEST_CASE("an operation whose target is gone for good is given up", "[scenarios]") {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    INFO("seed " << seed);
    Heard heard;
    const RunResult result = run(seed,
                                 {{"nodes", "4"},
                                  {"copies", "3"},
                                  {"shards", "4"},
                                  {"balance", "1"},
                                  {"lost_after", "3 s"},
                                  {"moves", "16"},
                                  {"wipes", "1"},
                                  {"duration", "8 s"},
                                  {"operations", "300"}},
                                 heard);
    INFO(result.property << ": " << result.summary << "\n" << result.details);
    CHECK(result.verdict == RunVerdict::kPassed);
  }
}

TEST_CASE("keys and sessions live as long as they should, whoever leads and whatever its clock says", "[scenarios]") {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    INFO("seed " << seed);
    Heard heard;
    const RunResult result = run(seed,
                                 {{"nodes", "5"},
                                  {"copies", "3"},
                                  {"shards", "4"},
                                  {"transfers", "30"},
                                  {"clock_jumps", "10"},
                                  {"mix_expire", "40"},
                                  {"sessions", "50"},
                                  {"duration", "6 s"},
                                  {"operations", "600"}},
                                 heard);
    INFO(result.property << ": " << result.summary);
    CHECK(result.verdict == RunVerdict::kPassed);
  }
}

TEST_CASE("a child is there whenever power was lost after its split", "[scenarios]") {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    INFO("seed " << seed);
    Heard heard;
    const RunResult result = run(seed,
                                 {{"splits", "6"},
                                  {"hunts", "12"},
                                  {"blackouts", "6"},
                                  {"keys", "8"},
                                  {"duration", "8 s"},
                                  {"operations", "400"}},
                                 heard);
    INFO(result.property << ": " << result.summary << "\n" << result.details);
    CHECK(result.verdict == RunVerdict::kPassed);
  }
}

TEST_CASE("the auditor finds those who are up, however long the others keep it waiting", "[scenarios]") {
  for (uint64_t seed = 1; seed <= 250; ++seed) {
    INFO("seed " << seed);
    Heard heard;
    const RunResult result = run(seed,
                                 {{"nodes", "9"},
                                  {"heal", "quorum"},
                                  {"client_timeout", "4 s"},
                                  {"duration", "2 s"},
                                  {"operations", "60"},
                                  {"clients", "3"},
                                  {"wipes", "0"},
                                  {"rots", "0"},
                                  {"read_errors", "0"},
                                  {"tail_rots", "0"}},
                                 heard);
    INFO(result.property << ": " << result.summary << "\n" << result.details);
    CHECK(result.verdict == RunVerdict::kPassed);
  }
}
