// A branch shares everything with its run up to its event, and replays from its recipe.
#include "sim/scenarios/branching.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "sim/scenarios/run.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::sim;

namespace {

// What a run did: the hash after every event, and what its world told of faults.
struct Seen final : Recorder {
  void line(WorldTime at, uint32_t, env::Level, std::string_view area, std::string_view text) override {
    if (area == "fault") faults.emplace_back(hashes.size(), fmt::format("{} {}", at, text));
    branched += area == "world" && text.starts_with("branch ");
  }
  std::vector<uint64_t> hashes;
  std::vector<std::pair<uint64_t, std::string>> faults;  // by event
  size_t branched = 0;
  RunResult result;
};

Recipe recipe_of(uint64_t seed, Branches branches = {}) {
  Recipe recipe{.seed = seed, .branches = std::move(branches)};
  for (auto [name, value] : {std::pair{"duration", "8 s"}, {"operations", "300"}, {"power_losses", "8"}})
    REQUIRE(recipe.options.set(name, value).has_value());
  return recipe;
}

Seen run(const Recipe& recipe, decltype(RunHooks::branch) branch = {}) {
  Seen seen;
  RunHooks hooks{.recorder = &seen, .branch = std::move(branch)};
  hooks.after_event = [&](uint64_t number, uint64_t hash) {
    seen.hashes.push_back(hash);
    REQUIRE(number == seen.hashes.size());
  };
  auto result = run_kv(recipe, hooks);
  REQUIRE(result.has_value());
  seen.result = *result;
  return seen;
}

// Events after which two runs are still the same.
uint64_t shared(const Seen& a, const Seen& b) {
  const auto parted = std::mismatch(a.hashes.begin(), a.hashes.end(), b.hashes.begin(), b.hashes.end());
  return static_cast<uint64_t>(parted.first - a.hashes.begin());
}

}  // namespace

TEST_CASE("a branch is its run up to its event and another one from then on, in each of its ways", "[scenarios]") {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    const Seen whole = run(recipe_of(seed));
    const uint64_t event = whole.hashes.size() / 4;
    INFO("seed " << seed << ", event " << event);
    const Seen first = run(recipe_of(seed, {{event, 1}}));
    const Seen second = run(recipe_of(seed, {{event, 2}}));
    CHECK(shared(whole, first) == event);
    CHECK(shared(whole, second) == event);
    CHECK(shared(first, second) == event);
    CHECK(run(recipe_of(seed, {{event, 1}})).hashes == first.hashes);

    const uint64_t later = event + (first.hashes.size() - event) / 4;
    const Seen twice = run(recipe_of(seed, {{event, 1}, {later, 1}}));
    CHECK(shared(first, twice) == later);
    CHECK(twice.branched == 2);
  }
}

TEST_CASE("a branch draws the faults that are to come anew and leaves those that were", "[scenarios]") {
  const Seen whole = run(recipe_of(4));
  REQUIRE(whole.faults.size() > 8);
  const uint64_t event = whole.faults[3].first + 1;
  const Seen branch = run(recipe_of(4, {{event, 1}}));
  auto before = [&](auto faults) {
    std::erase_if(faults, [&](auto& fault) { return fault.first >= event; });
    return faults;
  };
  auto after = [&](auto faults) {
    std::erase_if(faults, [&](auto& fault) { return fault.first < event; });
    return faults;
  };
  CHECK(before(whole.faults) == before(branch.faults));
  REQUIRE(after(whole.faults).size() > 2);
  REQUIRE(after(branch.faults).size() > 2);
  size_t kept = 0;
  for (auto& fault : after(branch.faults)) kept += std::ranges::count(whole.faults, fault);
  CHECK(kept == 0);
}

TEST_CASE("faults drawn anew damage no disk that the plan keeps whole, and half of the branches are struck soon",
          "[scenarios]") {
  Options options;
  for (const char* kind : {"rots", "read_errors"}) REQUIRE(options.set(kind, "20").has_value());
  constexpr WorldTime kNow = 12'345'678'901;
  size_t struck = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const Options drawn = *options.expand(Fate(seed));
    const Plan plan = make_plan(Fate(seed), drawn, {});
    Plan redrawn = plan;
    branch_plan(redrawn, kNow, Fate(seed + 100), drawn, {});
    CHECK(redrawn.faults != plan.faults);
    CHECK(redrawn.damageable == plan.damageable);
    CHECK(redrawn.clients == plan.clients);
    CHECK(std::ranges::is_sorted(redrawn.faults, {}, &Fault::at));
    for (const Fault& fault : redrawn.faults)
      if (fault.kind == FaultKind::kRot || fault.kind == FaultKind::kReadError || fault.kind == FaultKind::kWipe)
        CHECK((plan.damageable >> fault.a & 1) == 1);
    const auto strike = std::ranges::find(redrawn.faults, kStrikeAtBranch, &Fault::item);
    if (strike == redrawn.faults.end()) continue;
    ++struck;
    CHECK(strike->kind != FaultKind::kAmbush);
    CHECK(strike->at > kNow);
    CHECK(strike->at <= kNow + 50 * kMillisecond + 1);
    Plan without = plan;
    branch_plan(without, kNow, Fate(seed + 100), drawn, {.faults = {kStrikeAtBranch}, .operations = {}});
    redrawn.faults.erase(strike);
    CHECK(without == redrawn);
  }
  CHECK(struck > 10);
  CHECK(struck < 30);
}

TEST_CASE("a run that branches where it is asked does what the recipe of the branch does", "[scenarios]") {
  size_t branched = 0;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    std::map<uint64_t, std::vector<Probe>> asked;
    const Seen whole = run(recipe_of(seed), [&](uint64_t event, std::span<const Probe> first) -> uint64_t {
      asked[event].assign(first.begin(), first.end());
      return 0;
    });
    CHECK(whole.hashes == run(recipe_of(seed)).hashes);  // to be asked changes nothing
    std::set<Probe> reached;
    for (auto& [event, first] : asked)
      for (Probe probe : first) CHECK(reached.insert(probe).second);
    REQUIRE(asked.size() > 1);

    const uint64_t at = std::next(asked.begin(), static_cast<ptrdiff_t>(asked.size() / 2))->first;
    INFO("seed " << seed << ", event " << at);
    Branches taken;
    const Seen branch = run(recipe_of(seed), [&](uint64_t event, std::span<const Probe>) -> uint64_t {
      if (event != at) return 0;
      taken.push_back({event, 3});
      return 3;
    });
    CHECK(taken == Branches{{at, 3}});
    CHECK(branch.hashes == run(recipe_of(seed, taken)).hashes);
    branched += branch.branched;
  }
  CHECK(branched == 6);
}

TEST_CASE("branches are written and read", "[scenarios]") {
  const Branches branches = {{7, 1}, {81234, 2}, {UINT64_MAX, UINT64_MAX}};
  CHECK(to_text(branches) == "7.1 81234.2 18446744073709551615.18446744073709551615");
  Branches read;
  for (const Branch& branch : branches) REQUIRE(add_branch(read, to_text({branch})).has_value());
  CHECK(read == branches);
  for (const char* wrong :
       {"", "7", "7.", ".1", "7.1 ", "7.1.1", "7,1", "-7.1", "0.1", "7.0", "x.1", "18446744073709551616.1"}) {
    INFO(wrong);
    Branches none;
    CHECK_FALSE(add_branch(none, wrong).has_value());
    CHECK(none.empty());
  }
  Branches some = {{7, 1}};
  CHECK_FALSE(add_branch(some, "7.2").has_value());
  CHECK_FALSE(add_branch(some, "6.1").has_value());
  CHECK(add_branch(some, "8.1").has_value());
}

TEST_CASE("energy is spent on rare moments, more on rarer ones, and never more than there is", "[scenarios]") {
  auto worth = [](std::vector<Probe> first) { return Energy(1000).spend(first); };
  const uint64_t rare = worth({Probe::suspect_restored_by_leader});
  CHECK(worth({Probe::election_won, Probe::vote_given}) == 0);
  CHECK(worth({}) == 0);
  CHECK(rare > 0);
  CHECK(worth({Probe::snapshot_over_diverged_log}) > rare);
  CHECK(worth({Probe::election_won, Probe::suspect_restored_by_leader}) == rare);

  Energy energy(rare + 1);
  const std::vector<Probe> first = {Probe::suspect_restored_by_leader};
  CHECK(energy.spend(first) == rare);
  CHECK(energy.spend(first) == 1);
  CHECK(energy.spend(first) == 0);
  CHECK(Energy(0).spend(first) == 0);
}
