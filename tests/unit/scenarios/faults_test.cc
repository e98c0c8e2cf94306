// Faults that wait for what the nodes do.
#include "sim/scenarios/run.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::sim;

namespace {

struct Heard final : Recorder {
  void line(WorldTime, uint32_t actor, env::Level, std::string_view, std::string_view text) override {
    if (text.starts_with("checkpoint ") && text.find(" at index ") != std::string_view::npos) last_checkpoint = actor;
    if (text.find("is cut off until another node completes a checkpoint") != std::string_view::npos)
      exile = static_cast<uint32_t>(text[1] - '0');
    if (text == "the network heals" && exile != 0) {
      ++ended;
      by_itself += last_checkpoint == exile;
      exile = 0;
    }
  }
  uint32_t exile = 0;  // 0: none
  uint32_t last_checkpoint = 0;
  int ended = 0;
  int by_itself = 0;
};

}  // namespace

TEST_CASE("an exile ends when another node has completed a checkpoint", "[scenarios]") {
  Heard heard;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    Recipe recipe{.seed = seed};
    for (auto [name, value] : {std::pair("exiles", "1"),
                               {"checkpoint", "8"},
                               {"duration", "10 s"},
                               {"operations", "1000"},
                               {"power_losses", "0"},
                               {"kills", "0"}})
      REQUIRE(recipe.options.set(name, value).has_value());
    heard.exile = 0;
    REQUIRE(run_kv(recipe, {.recorder = &heard}).has_value());
  }
  CHECK(heard.ended >= 4);
  CHECK(heard.by_itself == 0);
}
