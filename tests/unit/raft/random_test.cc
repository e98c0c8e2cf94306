#include <fmt/format.h>

#include <cstdlib>

#include "tests/test.h"
#include "tests/unit/raft/random_world.h"

using namespace mneme;
using namespace mneme::raft;

namespace {

uint64_t from_environment(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value ? std::strtoull(value, nullptr, 10) : otherwise;
}

// MNEME_RAFT_SEED runs one seed, MNEME_RAFT_SEEDS another number of them.
void run_seeds(WorldOptions options, uint64_t seeds) {
  TestProbes probes;
  uint64_t first = from_environment("MNEME_RAFT_SEED", 1);
  uint64_t last = std::getenv("MNEME_RAFT_SEED") ? first : from_environment("MNEME_RAFT_SEEDS", seeds);
  uint64_t steps = 0;
  uint64_t committed = 0;
  for (uint64_t seed = first; seed <= last; ++seed) {
    RandomWorld world(seed, options, probes);
    auto violation = world.run();
    steps += world.steps();
    committed += world.committed();
    INFO("seed " << seed << ", " << options.replicas << " replicas: " << violation.value_or(""));
    REQUIRE_FALSE(violation);
  }
  if (std::getenv("MNEME_RAFT_VERBOSE")) {
    fmt::print("{} steps, {} committed\n", steps, committed);
    for (size_t i = 0; i < kProbeCount; ++i)
      if (probes.counts[i]) fmt::print("  {:8} {}\n", probes.counts[i], kProbeNames[i]);
  }
  // A world too kind to reach these proves little.
  if (last < first + 50) return;
  for (Probe probe : {Probe::election_won, Probe::election_lost, Probe::pre_vote_refused, Probe::append_rejected,
                      Probe::uncommitted_overwritten, Probe::old_term_entry_not_counted, Probe::read_index_confirmed,
                      Probe::read_index_retried, Probe::read_deferred_no_commit_in_term, Probe::snapshot_sent,
                      Probe::snapshot_installed, Probe::check_quorum_stepped_down}) {
    INFO(kProbeNames[static_cast<size_t>(probe)]);
    CHECK(probes.counts[static_cast<size_t>(probe)] > 0);
  }
  if (options.rest) {
    for (Probe probe : {Probe::leader_rested, Probe::follower_rested, Probe::rest_ended}) {
      INFO(kProbeNames[static_cast<size_t>(probe)]);
      CHECK(probes.counts[static_cast<size_t>(probe)] > 0);
    }
  }
  if (options.lease > Duration::zero()) CHECK(probes.counts[static_cast<size_t>(Probe::lease_read_answered)] > 0);
  if (options.follower_reads) CHECK(probes.counts[static_cast<size_t>(Probe::follower_read_answered)] > 0);
  if (options.founders > 0) {
    for (Probe probe :
         {Probe::joint_configuration_entered, Probe::joint_configuration_left, Probe::configuration_rolled_back,
          Probe::second_change_refused, Probe::change_before_commit_refused, Probe::removed_leader_left,
          Probe::leadership_handed_over}) {
      INFO(kProbeNames[static_cast<size_t>(probe)]);
      CHECK(probes.counts[static_cast<size_t>(probe)] > 0);
    }
  }
  if (!options.damage) return;
  CHECK(probes.counts[static_cast<size_t>(Probe::suspect_restored_by_leader)] > 0);
  CHECK(probes.counts[static_cast<size_t>(Probe::suspect_did_not_vote)] > 0);
}

}  // namespace

TEST_CASE("three replicas under random faults stay safe and recover", "[raft]") { run_seeds({.replicas = 3}, 600); }

TEST_CASE("replicas whose damage takes terms with it stay safe and recover", "[raft]") {
  run_seeds({.replicas = 3, .lose_votes = true}, 200);
  run_seeds({.replicas = 5, .lose_votes = true}, 200);
}

TEST_CASE("five replicas under random faults stay safe and recover", "[raft]") { run_seeds({.replicas = 5}, 300); }

TEST_CASE("replicas that are never damaged are safe and recover under random faults", "[raft]") {
  run_seeds({.replicas = 3, .damage = false}, 300);
}

TEST_CASE("groups whose members change under random faults stay safe and recover", "[raft]") {
  run_seeds({.replicas = 6, .damage = false, .founders = 3}, 400);
  run_seeds({.replicas = 6, .founders = 4}, 400);
}

TEST_CASE("groups that fall silent when idle stay safe, wake when needed and recover", "[raft]") {
  run_seeds({.replicas = 3, .rest = true}, 400);
  run_seeds({.replicas = 6, .rest = true, .founders = 4}, 200);
}

TEST_CASE("reads at followers are never stale", "[raft]") {
  run_seeds({.replicas = 3, .follower_reads = true}, 300);
  run_seeds({.replicas = 6, .rest = true, .follower_reads = true, .founders = 4}, 200);
}

TEST_CASE("reads under a lease are never stale while clocks keep to the stated drift", "[raft]") {
  const WorldOptions options{.replicas = 3, .lease = 100ms, .drift_ppm = 50'000, .stated_ppm = 50'000};
  WorldOptions many = options;
  many.replicas = 6;
  many.founders = 4;
  many.rest = many.follower_reads = true;
  run_seeds(options, 400);
  run_seeds(many, 200);
}

// That the worlds above would notice, and that the bound is one that must be kept.
TEST_CASE("clocks that drift further than was stated make a read under a lease stale", "[raft]") {
  const WorldOptions options{
      .replicas = 3, .lease = 100ms, .drift_ppm = 1'600'000, .stated_ppm = 1000, .watch_leases = false};
  TestProbes probes;
  bool stale = false;
  for (uint64_t seed = 1; seed <= 3000 && !stale; ++seed)
    stale = RandomWorld(seed, options, probes).run().value_or("").starts_with("stale read");
  CHECK(stale);
}
