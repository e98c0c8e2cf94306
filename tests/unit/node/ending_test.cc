// A node that is asked to end hands over what it leads, and nobody has to wait for an election timeout.
#include <fmt/format.h>

#include "core/node/node.h"
#include "core/replica/observer.h"
#include "sim/machine.h"
#include "sim/network.h"
#include "sim/world.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::node;

namespace {

constexpr sim::WorldTime kMs = 1'000'000;

struct Leaders final : replica::Observer {
  void moved(NodeId node, GroupId group, const raft::Raft& raft) override {
    if (group == GroupId(2) && raft.role() == raft::Role::kLeader && raft.committed_in_term() && raft.term() > term) {
      term = raft.term();
      leader = node;
    }
  }
  Term term;
  NodeId leader;
};

struct Ended {
  bool well = false;
  sim::WorldTime after = 0;         // from asking to the process's end
  sim::WorldTime leader_after = 0;  // to another one's first commit; 0: not within the time given
};

// Asks the leader of three, of which it can reach `reachable` others.
Ended end_leader(uint64_t seed, int reachable) {
  sim::World world(seed, {}, nullptr);
  Leaders leaders;
  Ended ended;
  world.run([&] {
    auto done = fiber::with_scope(world.scheduler(), [&](fiber::Scope& scope) {
      std::vector<sim::Machine*> machines;
      std::vector<Config> configs(3);
      std::vector<Ending*> endings(3);
      for (uint32_t n = 1; n <= 3; ++n) {
        machines.push_back(&world.add_machine(fmt::format("n{}", n), {}));
        configs[n - 1] = {.id = NodeId(n), .listen = {fmt::format("n{}", n), 6399}, .observer = &leaders};
        for (uint32_t m = 1; m <= 3; ++m) configs[n - 1].cluster.push_back({NodeId(m), {fmt::format("n{}", m), 6399}});
      }
      sim::WorldTime asked = 0;
      for (uint32_t n = 1; n <= 3; ++n)
        machines[n - 1]->boot(
            scope,
            [&, n](Env& env) {
              Ending ending(env.scheduler);
              endings[n - 1] = &ending;
              return run_node(env, configs[n - 1], {}, &ending);
            },
            [&](Result<void> result) {
              if (ended.after != 0) return;
              ended.well = result.has_value();
              ended.after = world.now() - asked;
            });
      world.sleep_for(5000 * kMs);
      REQUIRE(leaders.leader);
      const auto old = static_cast<uint32_t>(leaders.leader.value);
      const Term term = leaders.term;
      for (uint32_t n = 1, cut = 0; n <= 3; ++n) {
        if (n == old || cut++ < static_cast<uint32_t>(reachable)) continue;
        world.network().block(old, n, world.now() + 60'000 * kMs);
      }
      asked = world.now();
      endings[old - 1]->ask();
      for (int step = 0; step < 30'000 && leaders.term == term; ++step) world.sleep_for(kMs / 10);
      if (leaders.term > term) ended.leader_after = world.now() - asked;
      world.sleep_for(3000 * kMs);
      for (sim::Machine* machine : machines) machine->crash(sim::CrashKind::kKill);
    });
    CHECK(done.has_value());
  });
  return ended;
}

}  // namespace

TEST_CASE("a leader that is asked to end hands over at once", "[node]") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    const Ended ended = end_leader(seed, 2);
    CHECK(ended.well);
    CHECK(ended.after < 300 * kMs);
    CHECK(ended.leader_after > 0);
    CHECK(ended.leader_after < 300 * kMs);  // the election timeout is 1 s at least
  }
}

TEST_CASE("a leader whom nobody can relieve ends all the same, and in time", "[node]") {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    INFO("seed " << seed);
    const Ended ended = end_leader(seed, 0);
    CHECK(ended.well);
    CHECK(ended.after >= 700 * kMs);  // it may notice by itself that nobody follows
    CHECK(ended.after <= 2200 * kMs);
  }
}

TEST_CASE("what was proposed is answered before a node ends, which has nobody to hand over to", "[node]") {
  sim::World world(1, {}, nullptr);
  std::string answer;
  bool well = false;
  world.run([&] {
    auto done = fiber::with_scope(world.scheduler(), [&](fiber::Scope& scope) {
      sim::Machine& node = world.add_machine("n1", {});
      sim::Machine& client = world.add_machine("c1", {});
      const Config config{.id = NodeId(1), .listen = {"n1", 6399}};
      Ending* asked = nullptr;
      node.boot(
          scope,
          [&](Env& env) {
            Ending ending(env.scheduler);
            asked = &ending;
            return run_node(env, config, {}, &ending);
          },
          [&](Result<void> result) { well = result.has_value(); });
      world.sleep_for(5000 * kMs);
      node.disk().set_slowness(1000);
      client.boot(
          scope,
          [&](Env& env) -> Result<void> {
            auto stream = TRY(env.network.connect({"n1", 6399}));
            TRY(stream->write(as_bytes("SET key value\r\n")));
            uint8_t bytes[64];
            for (size_t got = 1; got > 0;) {
              got = TRY(stream->read(bytes));
              answer.append(reinterpret_cast<const char*>(bytes), got);
            }
            return {};
          },
          [](Result<void>) {});
      world.sleep_for(20 * kMs);
      REQUIRE(asked);
      asked->ask();
      world.sleep_for(5000 * kMs);
    });
    CHECK(done.has_value());
  });
  CHECK(well);
  CHECK(answer == "+OK\r\n");
}
