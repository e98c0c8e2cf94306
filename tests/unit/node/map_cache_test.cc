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
      fn(map, ahead, behind);
      return {};
    });
  });
}

void add_node(shard::Map& map, uint64_t n) {
  CHECK(map.apply(shard::AddNode{Incarnation(n), fmt::format("n{}:1", n), fmt::format("n{}:1", n), ""}).has_value());
}

}  // namespace

TEST_CASE("a copy that is behind follows by what has changed since", "[node]") {
  with_caches([](shard::Map& map, MapCache& ahead, MapCache& behind) {
    const uint64_t version = behind.version();
    for (uint64_t n = 10; n < 15; ++n) {
      add_node(map, n);
      offer(ahead, map);
    }
    const auto change = ahead.change_since(version);
    CHECK((change && change->size() < 1000));
    CHECK(ahead.change_since(version) == change);
    CHECK(behind.take_change(*change).has_value());
    CHECK(behind.map() == map);
    // It comes a second time: it is passed over.
    CHECK(behind.take_change(*change).has_value());
    CHECK(behind.map() == map);
    std::string spoilt = *change;
    spoilt[0] = 9;
    CHECK(behind.take_change(spoilt).error().code == ErrorCode::kUnsupported);
  });
}

TEST_CASE("what a version was long ago, or never here, is not remembered", "[node]") {
  with_caches([](shard::Map& map, MapCache& ahead, MapCache& behind) {
    const uint64_t version = behind.version();
    CHECK(ahead.change_since(version + 7) == nullptr);
    add_node(map, 9);
    add_node(map, 10);
    offer(ahead, map);  // one version was passed over
    CHECK(ahead.change_since(version + 1) == nullptr);
    CHECK(ahead.change_since(version) != nullptr);
    for (uint64_t n = 11; n < 211; ++n) {
      add_node(map, n);
      offer(ahead, map);
    }
    CHECK(ahead.change_since(version) == nullptr);
    CHECK(ahead.change_since(map.version() - 5) != nullptr);
  });
}
