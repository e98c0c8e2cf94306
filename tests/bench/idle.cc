// An idle cluster in the simulator: how many of its seconds one CPU second makes.
// usage: bench_idle [NODES [VIRTUAL_SECONDS [HEARTBEAT_MS]]]    one JSON line
#include <fmt/format.h>
#include <sys/resource.h>

#include <cstdlib>

#include "core/base/check.h"
#include "core/fiber/scope.h"
#include "core/node/node.h"
#include "sim/machine.h"
#include "sim/world.h"

using namespace mneme;

namespace {

constexpr uint16_t kPort = 6399;
constexpr sim::WorldTime kSecond = 1'000'000'000;

double cpu_seconds() {
  rusage usage;
  ::getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

int main(int argc, char** argv) {
  auto argument = [&](int at, int64_t otherwise) { return argc > at ? std::atoll(argv[at]) : otherwise; };
  const auto nodes = static_cast<uint32_t>(argument(1, 5));
  const int64_t seconds = argument(2, 20'000);
  const int64_t heartbeat_ms = argument(3, 200);
  if (nodes < 1 || nodes > 9 || seconds < 1 || heartbeat_ms < 1 || heartbeat_ms > 500) {
    fmt::print(stderr, "bench_idle: usage: bench_idle [NODES [VIRTUAL_SECONDS [HEARTBEAT_MS]]]\n");
    return 64;
  }

  std::vector<node::Config> configs(nodes);
  for (uint32_t n = 1; n <= nodes; ++n) {
    node::Config& config = configs[n - 1];
    config.id = NodeId(n);
    config.listen = {fmt::format("n{}", n), kPort};
    if (nodes > 1)
      for (uint32_t m = 1; m <= nodes; ++m) config.cluster.push_back({NodeId(m), {fmt::format("n{}", m), kPort}});
    config.heartbeat_interval = std::chrono::milliseconds(heartbeat_ms);
    config.segment_bytes = limits::kMiB;
  }

  sim::World world(1, {}, nullptr);
  double founding = 0;
  double idle = 0;
  uint64_t events_before = 0;
  world.run([&] {
    for (uint32_t n = 1; n <= nodes; ++n) world.add_machine(fmt::format("n{}", n), {});
    auto ended = fiber::with_scope(world.scheduler(), [&](fiber::Scope& scope) {
      const double begin = cpu_seconds();
      for (uint32_t n = 1; n <= nodes; ++n)
        world.machine(n).boot(
            scope, [&config = configs[n - 1]](Env& env) { return node::run_node(env, config); },
            [](Result<void> result) { CHECK(result.has_value()); });
      world.sleep_for(10 * kSecond);  // founded, and a leader elected
      founding = cpu_seconds() - begin;
      events_before = world.event_count();
      world.sleep_for(seconds * kSecond);
      idle = cpu_seconds() - begin - founding;
      for (uint32_t n = 1; n <= nodes; ++n) world.machine(n).crash(sim::CrashKind::kKill);
      world.sleep_for(20 * kSecond);
    });
    CHECK(ended.has_value());
  });
  rusage usage;
  ::getrusage(RUSAGE_SELF, &usage);
  fmt::print(
      "{{\"nodes\":{},\"heartbeat_ms\":{},\"virtual_s\":{},\"cpu_s\":{:.6f},\"events\":{},\"start_cpu_s\":{:.6f},"
      "\"peak_kib\":{}}}\n",
      nodes, heartbeat_ms, seconds, idle, world.event_count() - events_before, founding, usage.ru_maxrss);
  return 0;
}
