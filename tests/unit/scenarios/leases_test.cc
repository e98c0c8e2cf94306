// Leases: while clocks keep to what nodes were told no answer is stale, beyond it some are, and both are seen.
#include <map>

#include "sim/scenarios/run.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::sim;

namespace {

struct Ensemble {
  int passed = 0;
  uint64_t lease_reads = 0;
  std::map<std::string, int> violated;  // seeds, by property
};

// Small clusters in which leaders are cut off while they answer reads, with slow clocks, and clients who stay with them
// for as long as they do: who writes waits for an answer that does not come, and goes elsewhere.
Ensemble run(const char* max_drift, const char* drift, uint64_t seeds, const RunHooks& hooks = {}) {
  Ensemble all;
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    Recipe recipe{.seed = seed};
    for (auto [name, value] : {std::pair("leases", "1"),
                               {"lease", "100"},
                               {"max_drift", max_drift},
                               {"drift", drift},
                               {"nodes", "3"},
                               {"shards", "1"},
                               {"heartbeat", "100"},
                               {"election_timeout", "300"},
                               {"duration", "20 s"},
                               {"operations", "4000"},
                               {"keys", "2"},
                               {"mix_get", "90"},
                               {"mix_set", "15"},
                               {"mix_del", "0"},
                               {"mix_cas", "0"},
                               {"mix_incr", "0"},
                               {"mix_append", "0"},
                               {"mix_expire", "0"},
                               {"mix_getset", "0"},
                               {"delusions", "12"},
                               {"partitions", "2"},
                               {"clock_drifts", "6"},
                               {"transfers", "4"}})
      REQUIRE(recipe.options.set(name, value).has_value());
    const auto result = run_kv(recipe, hooks);
    REQUIRE(result.has_value());
    all.passed += result->verdict == RunVerdict::kPassed;
    all.lease_reads += result->probes[static_cast<size_t>(Probe::lease_read_answered)];
    if (result->verdict == RunVerdict::kFailed) ++all.violated[result->property];
  }
  return all;
}

}  // namespace

TEST_CASE("under leases nothing is stale while clocks differ by no more than nodes were told", "[scenarios]") {
  for (auto [max_drift, drift] : {std::pair("100000", "50000"), {"900000", "450000"}}) {
    INFO(max_drift);
    const Ensemble all = run(max_drift, drift, 20);
    CHECK(all.violated.empty());
    CHECK(all.passed == 20);
    CHECK(all.lease_reads > 1000);
  }
}

TEST_CASE("beyond that, leases of two leaders overlap", "[scenarios]") {
  const Ensemble all = run("2000", "1000000", 20);
  CHECK(all.violated.size() == 1);
  CHECK(all.violated.at("lease") > 1);
}

TEST_CASE("beyond that, clients see stale values", "[scenarios]") {
  const Ensemble all = run("2000", "1000000", 40, {.white_box = false});
  CHECK(all.violated.size() == 1);
  CHECK(all.violated.at("linearizable") > 1);
}

TEST_CASE("faults keep clocks to half of what nodes are told, unless all of it is given", "[scenarios]") {
  auto expanded = [](std::initializer_list<std::pair<const char*, const char*>> given, uint64_t seed) {
    Options options;
    for (auto [name, value] : given) REQUIRE(options.set(name, value).has_value());
    return options.expand(Fate(seed));
  };
  int with_leases = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    for (auto given : {std::initializer_list<std::pair<const char*, const char*>>{},
                       {{"leases", "1"}},
                       {{"leases", "1"}, {"max_drift", "3000"}},
                       {{"leases", "1"}, {"drift", "400000"}},
                       {{"max_drift", "3000"}, {"drift", "400000"}},
                       {{"drift", "1000000"}}}) {
      const Options options = *expanded(given, seed);
      if (options[Option::leases] == 0) continue;
      CHECK(2 * options[Option::drift] <= options[Option::max_drift]);
      CHECK(slowest_clock(options) == -options[Option::drift]);
      const Plan plan = make_plan(Fate(seed), options, {});
      for (const Fault& fault : plan.faults)
        if (fault.kind == FaultKind::kDrift) CHECK(std::abs(fault.amount) <= options[Option::drift]);
      ++with_leases;
    }
    CHECK_FALSE(expanded({{"leases", "1"}, {"drift", "1000000"}}, seed).has_value());
    const Options beyond = *expanded({{"leases", "1"}, {"max_drift", "2000"}, {"drift", "1000000"}}, seed);
    CHECK(beyond[Option::drift] == 1'000'000);
    CHECK(beyond[Option::max_drift] == 2'000);
  }
  CHECK(with_leases > 180);
}
