// How a copy of the map follows another one by changes, and when the whole map is needed.
#include "core/node/map_cache.h"

#include <fmt/format.h>

#include "tests/one_machine.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::node;

namespace {

shard::FoundCluster founding() {
  shard::FoundCluster found{.cluster = ClusterId(77), .cluster_version = 1, .copies = 1, .shards = 200};
  for (uint64_t n = 1; n <= 3; ++n)
    found.nodes.push_back({NodeId(n), Incarnation(n), fmt::format("n{}:1", n), fmt::format("n{}:1", n), ""});
  return found;
}

void offer(MapCache& cache, const shard::Map& map) { cache.offer(std::make_shared<const shard::Map>(map)); }

template <class F>
void with_caches(F fn) {
  mneme::testing::OneMachine machine;
  machine.run([&] {
    machine.process([&](Env& env) -> Result<void> {
      shard::Map map;
      CHECK(map.apply(founding()).has_value());
      MapCache ahead(env), behind(env);
      offer(ahead, map);
      offer(behind, map);
      fn(env, map, ahead, behind);
      return {};
    });
  });
}

void add_node(shard::Map& map, uint64_t n) {
  CHECK(map.apply(shard::AddNode{Incarnation(n), fmt::format("n{}:1", n), fmt::format("n{}:1", n), ""}).has_value());
}

}  // namespace

TEST_CASE("a copy that is behind follows by what has changed since", "[node]") {
  with_caches([](Env&, shard::Map& map, MapCache& ahead, MapCache& behind) {
    const uint64_t version = behind.version();
    for (uint64_t n = 10; n < 15; ++n) {
      add_node(map, n);
      offer(ahead, map);
    }
    const MapCache::Changes changes = ahead.changes_since(version);
    REQUIRE(changes.size() == 1);
    const std::string& change = *changes.front();
    CHECK(change.size() < 1000);
    CHECK(ahead.changes_since(version) == changes);
    CHECK(behind.take_change(change).has_value());
    CHECK(behind.map() == map);
    // It comes a second time: it is passed over.
    CHECK(behind.take_change(change).has_value());
    CHECK(behind.map() == map);
    std::string spoilt = change;
    spoilt[0] = 9;
    CHECK(behind.take_change(spoilt).error().code == ErrorCode::kUnsupported);
  });
}

TEST_CASE("a copy that took changes hands them on", "[node]") {
  with_caches([](Env& env, shard::Map& map, MapCache& ahead, MapCache& behind) {
    const uint64_t version = behind.version();
    MapCache third(env);
    offer(third, map);
    for (uint64_t n = 10; n < 15; ++n) {
      add_node(map, n);
      offer(ahead, map);
      const MapCache::Changes news = ahead.changes_since(behind.version());
      REQUIRE(news.size() == 1);
      CHECK(behind.take_change(*news.front()).has_value());
    }
    const MapCache::Changes all = behind.changes_since(version);
    CHECK(all.size() == 5);
    CHECK(behind.changes_since(map.version() - 1).size() == 1);
    CHECK(behind.changes_since(map.version()).empty());
    CHECK(behind.changes_since(version - 1).empty());
    for (const auto& change : all) CHECK(third.take_change(*change).has_value());
    CHECK(third.map() == map);
    // What comes as a whole is not the end of what was taken before.
    add_node(map, 15);
    offer(ahead, map);
    behind.offer_whole(map);
    CHECK(behind.changes_since(version).empty());
    // Nor is all remembered.
    const uint64_t whole = map.version();
    for (uint64_t n = 20; n < 2000; ++n) {
      add_node(map, n);
      offer(ahead, map);
      CHECK(behind.take_change(*ahead.changes_since(behind.version()).front()).has_value());
    }
    CHECK(behind.map() == map);
    CHECK(behind.changes_since(whole).empty());
    CHECK(behind.changes_since(map.version() - 5).size() == 5);
  });
}

TEST_CASE("what a version was long ago, or never here, is not remembered", "[node]") {
  with_caches([](Env&, shard::Map& map, MapCache& ahead, MapCache& behind) {
    const uint64_t version = behind.version();
    CHECK(ahead.changes_since(version + 7).empty());
    add_node(map, 9);
    add_node(map, 10);
    offer(ahead, map);  // one version was passed over
    CHECK(ahead.changes_since(version + 1).empty());
    CHECK(!ahead.changes_since(version).empty());
    for (uint64_t n = 11; n < 1211; ++n) {
      add_node(map, n);
      offer(ahead, map);
    }
    CHECK(ahead.changes_since(version).empty());
    CHECK(!ahead.changes_since(map.version() - 5).empty());
  });
}

TEST_CASE("a version has settled when it was known for a second", "[node]") {
  with_caches([](Env& env, shard::Map& map, MapCache& ahead, MapCache&) {
    auto sleep = [&](Duration duration) { env.clock.sleep_for(env.scheduler, duration); };
    const uint64_t version = ahead.version();
    CHECK(ahead.settled_version() < version);
    sleep(1100ms);
    CHECK(ahead.settled_version() == version);
    add_node(map, 10);
    offer(ahead, map);
    CHECK(ahead.settled_version() == version);
    sleep(500ms);
    CHECK(ahead.settled_version() == version);
    sleep(2s);
    (void)ahead.settled_version();  // noted when it was looked at
    sleep(1100ms);
    CHECK(ahead.settled_version() == version + 1);
  });
}
