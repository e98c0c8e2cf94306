// What a node that was here before answers while it opens its groups again.
#include <string>

#include "core/node/node.h"
#include "sim/machine.h"
#include "sim/network.h"
#include "sim/world.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::node;

namespace {

constexpr sim::WorldTime kMs = 1'000'000;

// What `commands` are answered by whoever first accepts a connection.
Result<std::string> ask(Env& env, std::string_view commands) {
  for (;;) {
    auto stream = env.network.connect({"n1", 6399});
    if (!stream) {
      env.clock.sleep_for(env.scheduler, 1ms);
      continue;
    }
    TRY((*stream)->write(as_bytes(commands)));
    std::string answer;
    uint8_t bytes[4096];
    for (size_t got = 1; got > 0;) {
      got = TRY((*stream)->read(bytes));
      answer.append(reinterpret_cast<const char*>(bytes), got);
    }
    return answer;
  }
}

}  // namespace

TEST_CASE("a node that comes back shows its last map before its groups are open", "[node]") {
  sim::World world(1, {}, nullptr);
  std::string answer;
  world.run([&] {
    auto done = fiber::with_scope(world.scheduler(), [&](fiber::Scope& scope) {
      sim::Machine& node = world.add_machine("n1", {});
      sim::Machine& client = world.add_machine("c1", {});
      const Config founding{.id = NodeId(1), .listen = {"n1", 6399}, .shards = 4};
      const Config bare{.id = NodeId(1), .listen = {"n1", 6399}};  // what the data directory knows need not be said
      auto boot = [&](const Config& config) {
        node.boot(
            scope, [&](Env& env) { return run_node(env, config, {}, nullptr); }, [](Result<void>) {});
      };
      boot(founding);
      world.sleep_for(5000 * kMs);
      node.crash(sim::CrashKind::kKill);
      world.sleep_for(1);  // to unwind
      node.disk().set_slowness(1000);
      boot(bare);
      client.boot(
          scope,
          [&](Env& env) -> Result<void> {
            answer =
                TRY(ask(env, "INFO persistence\r\nINFO cluster\r\nREADONLY\r\nCLUSTER SLOTS\r\nGET key\r\nQUIT\r\n"));
            return {};
          },
          [](Result<void>) {});
      world.sleep_for(60'000 * kMs);
      client.crash(sim::CrashKind::kKill);
      node.crash(sim::CrashKind::kKill);
    });
    CHECK(done.has_value());
  });
  INFO(answer);
  CHECK(answer.find("loading:1\r\n") != std::string::npos);
  CHECK(answer.find("cluster_enabled:1\r\n") != std::string::npos);
  CHECK(answer.find("\r\n+OK\r\n*1\r\n*3\r\n:0\r\n:16383\r\n") != std::string::npos);
  CHECK(answer.find("\r\n-LOADING ") != std::string::npos);
}
