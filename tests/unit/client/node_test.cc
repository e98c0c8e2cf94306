// The client and real nodes, under kills and a bad network: what it says must be what happened.
//
// Several callers count on one key. With a session, INCR is exactly once: every answer is another number, and what is
// unknown is at most what is missing. Without one, the count lies between what was done and what may have been.
#include "core/node/node.h"

#include <algorithm>
#include <set>

#include "tests/test.h"
#include "tests/unit/client/servers.h"

using namespace mneme;
using namespace mneme::client;
using namespace mneme::client::testing;

namespace {

constexpr int kCallers = 4;
constexpr int kCallsEach = 40;

struct Told {
  std::vector<int64_t> done;
  uint64_t not_done = 0, unknown = 0;
  int64_t count = -1;  // at the end
  uint64_t attempts = 0;
  bool ended = false;
};

struct Story {
  uint64_t seed;
  uint32_t nodes;
  bool sessions;
};

node::Config config_of(uint32_t id, uint32_t nodes) {
  node::Config config{.id = NodeId(id), .listen = {fmt::format("n{}", id), 6399}};
  config.request_timeout = 1s;
  for (uint32_t n = 1; n <= nodes && nodes > 1; ++n)
    config.cluster.push_back({NodeId(n), {fmt::format("n{}", n), 6399}});
  return config;
}

void count(Env& env, const Story& story, Told& told) {
  Options options{.sessions = story.sessions, .timeout = 20s, .silence = 2s};
  for (uint32_t n = 1; n <= story.nodes; ++n) options.seeds.push_back({fmt::format("n{}", n), 6399});
  (void)with_client(env, options, [&](Client& client) {
    (void)fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
      for (int caller = 0; caller < kCallers; ++caller)
        scope.spawn("caller", [&] {
          for (int i = 0; i < kCallsEach; ++i) {
            const Answer answer = client.call({"INCR", "count"});
            if (answer.outcome == Outcome::kDone)
              told.done.push_back(answer.reply()->integer);
            else
              ++(answer.outcome == Outcome::kUnknown ? told.unknown : told.not_done);
            env.clock.sleep_for(env.scheduler, 20ms);
          }
        });
    });
    const Answer last = client.call({"GET", "count"}, {.deadline = env.clock.now() + 60s});
    if (last.outcome == Outcome::kDone && last.reply()->kind == protocol::Reply::Kind::kBulk)
      told.count = std::stoll(last.reply()->text);
    told.attempts = client.counters().attempts;
  });
  told.ended = true;
}

Told tell(const Story& story) {
  sim::World world(story.seed, {.split_ppm = 200'000}, nullptr);
  Told told;
  world.run([&] {
    auto done = fiber::with_scope(world.scheduler(), [&](fiber::Scope& scope) {
      std::vector<node::Config> configs;
      for (uint32_t n = 1; n <= story.nodes; ++n) {
        world.add_machine(fmt::format("n{}", n), {});
        configs.push_back(config_of(n, story.nodes));
      }
      sim::Machine& client = world.add_machine("c", {});
      auto boot = [&](uint32_t n) {
        world.machine(n).boot(
            scope, [&configs, n](Env& env) { return node::run_node(env, configs[n - 1]); }, [](Result<void>) {});
      };
      for (uint32_t n = 1; n <= story.nodes; ++n) boot(n);
      client.boot(
          scope,
          [&](Env& env) -> Result<void> {
            count(env, story, told);
            return {};
          },
          [](Result<void>) {});
      auto draw = [&](uint64_t what, uint64_t below) { return mix(story.seed * 1000 + what) % below; };
      for (uint64_t fault = 1; fault <= 12 && !told.ended; ++fault) {
        world.sleep_for(static_cast<sim::WorldTime>(50 + draw(fault * 10, 400)) * kMs);
        const auto node = static_cast<uint32_t>(1 + draw(fault * 10 + 1, story.nodes));
        switch (draw(fault * 10 + 2, 4)) {
          case 0: world.network().reset(client.actor(), node); break;
          case 1: world.network().block(node, client.actor(), world.now() + 500 * kMs); break;  // no answers
          case 2: world.network().swallow(client.actor(), node); break;
          default:
            world.machine(node).crash(sim::CrashKind::kKill);
            world.sleep_for(static_cast<sim::WorldTime>(1 + draw(fault * 10 + 3, 300)) * kMs);
            boot(node);
        }
      }
      for (int step = 0; step < 200'000 && !told.ended; ++step) world.sleep_for(kMs);
      client.crash(sim::CrashKind::kKill);
      for (uint32_t n = 1; n <= story.nodes; ++n) world.machine(n).crash(sim::CrashKind::kKill);
      world.sleep_for(20'000 * kMs);
    });
    CHECK(done.has_value());
  });
  return told;
}

}  // namespace

TEST_CASE("with a session every command is executed once, whatever becomes of nodes and connections",
          "[client][nodes]") {
  uint64_t repeated = 0;
  for (uint32_t nodes : {1, 3})
    for (uint64_t seed = 1; seed <= 8; ++seed) {
      INFO("seed " << seed << ", nodes " << nodes);
      const Told told = tell({seed, nodes, true});
      REQUIRE(told.ended);
      CHECK(told.not_done == 0);
      CHECK(told.unknown == 0);  // 20 s are enough
      CHECK(std::set<int64_t>(told.done.begin(), told.done.end()).size() == told.done.size());
      CHECK(told.count == kCallers * kCallsEach);
      repeated += told.attempts > kCallers * kCallsEach;
    }
  CHECK(repeated > 10);  // else nothing has been tried
}

TEST_CASE("without a session nothing is executed twice, and what is done or not done is said truthfully",
          "[client][nodes]") {
  uint64_t unknown = 0;
  for (uint32_t nodes : {1, 3})
    for (uint64_t seed = 1; seed <= 8; ++seed) {
      INFO("seed " << seed << ", nodes " << nodes);
      const Told told = tell({seed, nodes, false});
      REQUIRE(told.ended);
      CHECK(std::set<int64_t>(told.done.begin(), told.done.end()).size() == told.done.size());
      CHECK(told.count >= static_cast<int64_t>(told.done.size()));
      CHECK(told.count <= static_cast<int64_t>(told.done.size() + told.unknown));
      unknown += told.unknown;
    }
  CHECK(unknown > 10);
}
