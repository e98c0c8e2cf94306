// Leaving items out of a plan changes no other item: shrinking, and every repro file that outlives a change, rest on
// it.
#include "sim/scenarios/plan.h"

#include <algorithm>
#include <set>

#include "tests/test.h"

using namespace mneme;
using namespace mneme::sim;

namespace {

// What must be left: the plan with the items taken out of it.
Plan without(Plan plan, const Removals& removals) {
  std::erase_if(plan.faults, [&](const Fault& fault) { return removals.faults.contains(fault.item); });
  for (uint32_t client = 0; client < plan.clients.size(); ++client)
    std::erase_if(plan.clients[client].operations, [&](const PlannedOp& op) {
      return removals.operations.contains({client, op.nth});
    });
  return plan;
}

size_t items(const Plan& plan) {
  size_t count = plan.faults.size();
  for (const PlannedClient& client : plan.clients) count += client.operations.size();
  return count;
}

// Options drawn as for any seed, but for few operations, so that leaving out each of them in turn is quick.
Options options_of(uint64_t seed) {
  Options options;
  REQUIRE(options.set("operations", "60").has_value());
  REQUIRE(options.set("wipes", "1").has_value());
  REQUIRE(options.set("rolling_restarts", "1").has_value());
  for (const char* once : {"old_copies", "lying_disks", "lost_writes", "misdirected_writes", "splits", "moves", "adds",
                           "takes", "transfers", "drains", "joins", "removals", "replacements", "hunts", "meta_hunts"})
    REQUIRE(options.set(once, "1").has_value());
  auto expanded = options.expand(Fate(seed));
  REQUIRE(expanded.has_value());
  return *expanded;
}

}  // namespace

TEST_CASE("leaving out any one fault or operation leaves every other as it was", "[scenarios]") {
  std::set<FaultKind> left_out;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    INFO("seed " << seed);
    const Fate fate(seed);
    const Options options = options_of(seed);
    const Plan whole = make_plan(fate, options, {});
    REQUIRE(whole == make_plan(fate, options, {}));
    auto check = [&](const Removals& removals) {
      const Plan left = make_plan(fate, options, removals);
      CHECK(items(left) == items(whole) - 1);
      CHECK(left == without(whole, removals));
    };
    for (const Fault& fault : whole.faults) {
      INFO("without fault " << fault.item << ": " << fault.text());
      check({.faults = {fault.item}, .operations = {}});
      left_out.insert(fault.kind);
    }
    for (uint32_t client = 0; client < whole.clients.size(); ++client)
      for (const PlannedOp& op : whole.clients[client].operations) {
        INFO("without operation " << op.nth << " of client " << client);
        check({.faults = {}, .operations = {{client, op.nth}}});
      }
  }
  // The seeds were enough to have each kind in some plan, but for those that only ambushes do:
  // kOverthrow, kDelude, kExile, kReunite, kHunt and kMetaHunt.
  CHECK(left_out.size() == static_cast<size_t>(FaultKind::kReplace) - 6);  // kinds are counted from 1
}

TEST_CASE("leaving out any set of faults and operations leaves the rest as it was", "[scenarios]") {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const Fate fate(seed);
    const Options options = options_of(seed);
    const Plan whole = make_plan(fate, options, {});
    for (uint64_t subset = 0; subset < 20; ++subset) {
      INFO("seed " << seed << ", subset " << subset);
      const auto share = static_cast<uint32_t>(50'000 * subset);
      Removals removals;
      for (const Fault& fault : whole.faults)
        if (fate.chance(share, Choice::kPlan, fault.item, subset, 99)) removals.faults.insert(fault.item);
      for (uint32_t client = 0; client < whole.clients.size(); ++client)
        for (const PlannedOp& op : whole.clients[client].operations)
          if (fate.chance(share, Choice::kOperation, client, op.nth, 99 + subset))
            removals.operations.insert({client, op.nth});
      CHECK(make_plan(fate, options, removals) == without(whole, removals));
    }
  }
}

TEST_CASE("each item of a plan has a number of its own", "[scenarios]") {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const Plan plan = make_plan(Fate(seed), options_of(seed), {});
    std::set<uint64_t> faults;
    for (const Fault& fault : plan.faults) faults.insert(fault.item);
    CHECK(faults.size() == plan.faults.size());
    for (const PlannedClient& client : plan.clients)
      for (size_t n = 0; n < client.operations.size(); ++n) CHECK(client.operations[n].nth == n);
  }
}

TEST_CASE("which clients use the library, or transfer, changes nothing else of a plan", "[scenarios]") {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    INFO("seed " << seed);
    auto with = [&](const char* option, const char* share) {
      Options options = options_of(seed);
      REQUIRE(options.set("library", "0").has_value());
      REQUIRE(options.set("transferring", "0").has_value());
      REQUIRE(options.set(option, share).has_value());
      return make_plan(Fate(seed), options, {});
    };
    const Plan none = with("library", "0");
    const Plan all = with("library", "100");
    const Plan transfers = with("transferring", "100");
    CHECK(all.faults == none.faults);
    CHECK(transfers.faults == none.faults);
    for (size_t c = 0; c < none.clients.size(); ++c) {
      const bool session = none.clients[c].style == ClientStyle::kSession;
      CHECK(all.clients[c].style == (session ? ClientStyle::kLibrarySession : ClientStyle::kLibrary));
      CHECK(transfers.clients[c].style == ClientStyle::kTransfers);
      CHECK(all.clients[c].operations == none.clients[c].operations);
      CHECK(transfers.clients[c].operations == none.clients[c].operations);
    }
  }
}
