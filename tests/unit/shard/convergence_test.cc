// That planning ends: after whatever has happened to a cluster it becomes balanced, and then nothing is planned.
#include <chrono>
#include <cstdlib>

#include "core/shard/placement.h"
#include "tests/unit/shard/world.h"

using namespace mneme;
using namespace mneme::shard;

namespace {

// Sizes and loads that differ by much.
void load(World& world, Random& random) {
  for (const auto& [id, group] : world.groups().all()) {
    if (id == kMetaGroup) continue;
    uint64_t mib = 64 + random.below(512);
    if (random.one_in(10)) mib += 2048;
    uint64_t writes = 100 + random.below(900);
    if (random.one_in(20)) writes += 5000;
    world.groups().load(id, mib << 20, writes);
  }
}

void add_node(World& world, uint64_t number, std::string rack) {
  Map& map = world.map();
  auto added = map.apply(AddNode{Incarnation(50'000 + number), fmt::format("a{}:1", number), "c", rack});
  REQUIRE(added);
  REQUIRE(map.apply(NodeUp{added->node, Incarnation(50'000 + number)}));
}

// The lightest and the heaviest node, in percent of the mean.
struct Spread {
  uint64_t least = UINT64_MAX;
  uint64_t most = 0;

  void add(uint64_t value, const Mean& mean) {
    least = std::min(least, value * 100 / mean.value);
    most = std::max(most, value * 100 / mean.value);
  }
};

std::pair<Spread, Spread> spread_of(World& world, const PlanOptions& options) {
  const auto heard = world.liveness();
  const Placement at(world.map(), heard, options);
  Spread replicas;
  Spread leads;
  for (const NodeView& node : at.nodes()) {
    if (!node.up) continue;
    replicas.add(node.weight, at.mean_weight());
    leads.add(node.leader_weight, at.mean_leader_weight());
  }
  return {replicas, leads};
}

void require_across_racks(const World& world, const Map& map) {
  for (const auto& [id, shard] : map.shards()) {
    std::set<std::string> racks;
    for (const Member& m : shard.configuration()) {
      racks.insert(map.node(m.replica.node)->rack);
      REQUIRE_FALSE(world.dead(m.replica.node));
    }
    REQUIRE(racks.size() == map.copies());
  }
}

// Several more ticks, in which nothing may begin.
void require_silence(World& world) {
  const size_t begun = world.begun();
  for (int n = 0; n < 20; ++n) world.tick();
  REQUIRE(world.begun() == begun);
}

}  // namespace

TEST_CASE("a large cluster becomes balanced and silent: founded, grown by a tenth, without a rack", "[shard]") {
  const char* scale = std::getenv("MNEME_SHARD_SCALE");  // 10: a thousand nodes and ten thousand shards
  const auto by = static_cast<uint32_t>(scale ? std::atoi(scale) : 1);
  WorldOptions options;
  options.shape = {.nodes = 100 * by, .shards = 1000 * by, .copies = 3, .racks = 10};
  options.plan.max_pending = 64 * by;
  options.plan.split_bytes = 2048ull << 20;
  options.check = false;  // at the end of each part; at every tick in smaller worlds
  World world(options);
  Random random(1);
  load(world, random);
  auto finish_part = [&](const char* part, size_t most_ticks) {
    INFO(part);
    const size_t before = world.begun();
    const auto started = std::chrono::steady_clock::now();
    const size_t ticks = world.settle(most_ticks);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
    require_silence(world);
    REQUIRE_FALSE(world.map().check());
    require_across_racks(world, world.map());
    const auto [replicas, leads] = spread_of(world, options.plan);
    if (std::getenv("MNEME_SHARD_VERBOSE"))
      fmt::print(
          "{}: {} operations, {} ticks, {:.2f} s, the slowest plan in {} us; {} shards, replicas {}..{}%, leads "
          "{}..{}%\n",
          part, world.begun() - before, ticks, took.count(), world.slowest_plan().count(), world.map().shards().size(),
          replicas.least, replicas.most, leads.least, leads.most);
    CHECK(replicas.least >= 80);
    CHECK(replicas.most <= 120);
    CHECK(leads.least >= 65);
    CHECK(leads.most <= 135);
  };
  finish_part("founded", 2000);
  for (uint32_t n = 0; n < 10 * by; ++n) add_node(world, n, rack_name(n, 10));
  finish_part("grown", 2000);
  for (const auto& [id, node] : world.map().nodes())
    if (node.rack == rack_name(3, 10)) world.kill(id);
  finish_part("without a rack", 2000);
}

TEST_CASE("an idle cluster is balanced by count", "[shard]") {
  WorldOptions options;
  options.shape = {.nodes = 17, .shards = 200, .copies = 3};
  World world(options);
  for (uint64_t n = 0; n < 4; ++n) add_node(world, n, "");
  world.settle(1000);
  size_t least = SIZE_MAX;
  size_t most = 0;
  for (const auto& [id, count] : world.counts()) {
    least = std::min(least, count);
    most = std::max(most, count);
  }
  CHECK(most - least <= 3);
  require_silence(world);
}

TEST_CASE("loads that waver a little move nothing", "[shard]") {
  WorldOptions options;
  options.shape = {.nodes = 12, .shards = 120, .copies = 3, .racks = 4};
  World world(options);
  Random random(2);
  auto waver = [&] {
    for (uint64_t group = 2; group < 122; ++group) {
      const uint64_t mib = 200 + 3 * group + random.below(10);
      world.groups().load(GroupId(group), mib << 20, 1000 + group + random.below(40));
    }
  };
  waver();
  world.settle(1000);
  const size_t begun = world.begun();
  for (int n = 0; n < 100; ++n) {
    waver();
    world.tick();
  }
  CHECK(world.begun() - begun <= 2);
}

TEST_CASE("small clusters become balanced and silent, checked at every tick", "[shard]") {
  for (uint64_t seed = 1; seed <= 25; ++seed) {
    INFO("seed " << seed);
    Random random(seed);
    WorldOptions options;
    options.seed = seed;
    options.shape.nodes = static_cast<uint32_t>(4 + random.below(9));
    options.shape.shards = static_cast<uint32_t>(1 + random.below(40));
    options.shape.copies = static_cast<uint32_t>(1 + random.below(3));
    options.shape.racks = static_cast<uint32_t>(random.below(5));
    options.plan.max_pending = 1 + random.below(12);
    options.plan.max_pending_per_node = 1 + random.below(3);
    options.plan.split_bytes = 2048ull << 20;
    World world(options);
    load(world, random);
    world.settle(3000);
    for (uint64_t n = random.below(3); n > 0; --n)
      add_node(world, n, rack_name(static_cast<uint32_t>(n), options.shape.racks));
    // Perhaps the newest fails while copies are on their way to it.
    for (uint64_t n = random.below(8); n > 0; --n) world.tick();
    const NodeId newest = world.map().next_node().prev();
    if (options.shape.copies == 3 && newest.value > options.shape.nodes) world.kill(newest);
    world.settle(3000);
    (void)world.map().apply(DrainNode{NodeId(1), 0, true});
    world.settle(3000);
    if (world.map().node(NodeId(1))->state == NodeState::kDraining) REQUIRE(world.map().apply(RemoveNode{NodeId(1)}));
    if (options.shape.copies == 3) world.kill(NodeId(2));
    world.settle(3000);
    const bool enough = world.counts().size() >= options.shape.copies;
    if (options.shape.copies == 3 && enough && world.plan().obstacles.empty())
      for (const auto& [id, shard] : world.map().shards()) REQUIRE_FALSE(member_on(shard.configuration(), NodeId(2)));
    require_silence(world);
  }
}

TEST_CASE("a planner that crashes before any of its acts is succeeded by one that finishes", "[shard]") {
  auto make = [](size_t crash_at) {
    WorldOptions options;
    options.shape = {.nodes = 5, .shards = 4, .copies = 3};
    options.plan.split_bytes = 1024ull << 20;
    options.plan.max_pending = 6;
    options.failing = 6;
    options.crash_at = crash_at;
    return World(options);
  };
  auto run = [](World& world) {
    world.groups().load(GroupId(2), 1500ull << 20, 10);
    REQUIRE(world.map().apply(DrainNode{NodeId(1), 0, true}));
    world.settle(500);
    for (const auto& [id, shard] : world.map().shards()) {
      REQUIRE(shard.configuration().size() == 3);
      REQUIRE_FALSE(member_on(shard.configuration(), NodeId(1)));
    }
    REQUIRE(world.map().shards().size() == 6);
    REQUIRE(world.groups().all().size() == 6);
    REQUIRE(world.map().apply(RemoveNode{NodeId(1)}));
  };
  World without = make(0);
  run(without);
  REQUIRE(without.acts() > 30);
  for (size_t crash_at = 1; crash_at <= without.acts() + 5; ++crash_at) {
    INFO("crash before act " << crash_at);
    World world = make(crash_at);
    run(world);
  }
}
