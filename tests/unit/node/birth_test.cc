// The child of a split, on a node that does not keep it.
#include <map>

#include "core/node/identity.h"
#include "core/replica/observer.h"
#include "core/wal/log.h"
#include "tests/unit/node/cluster.h"

using namespace mneme;
using namespace mneme::node;

namespace {

constexpr uint64_t kParent = 2;
constexpr uint64_t kChild = 3;
constexpr uint16_t kAt = 1000;

// Sees, on one node, that the child's replica is removed and that the parent's has applied the split.
class Watch final : public replica::Observer {
 public:
  void watch(uint64_t node) {
    node_ = NodeId(node);
    removed_ = split_ = false;
  }
  void retired(NodeId node, GroupId group) override { removed_ |= node == node_ && group == GroupId(kChild); }
  void has_shard(NodeId node, GroupId group, LogIndex, const kv::ShardState& shard) override {
    split_ |= node == node_ && group == GroupId(kParent) && shard.begun() && !shard.slots.contains(kAt);
  }
  bool removed() const { return removed_; }
  bool split() const { return split_; }

 private:
  NodeId node_;
  bool removed_ = false;
  bool split_ = false;
};

// Of which groups, and generations, the log on the node's disk remembers that they were removed.
Result<std::map<GroupId, uint32_t>> remembered(Env& env) {
  const Identity identity = TRY(load_identity(env.disk));
  const auto log = TRY(wal::Log::open(env, {identity.cluster, identity.node, identity.incarnation},
                                      {.directory = "wal", .has_peers = true, .must_exist = true}));
  return log->removed_generations();
}

}  // namespace

// The node comes back with the split in its log, and whether that is decided only the parent's leader could say, which
// cannot reach it. So the map takes the child, which the node has, away first. While that removal waits for the log the
// node hears that the split is decided, and applies it once more.
TEST_CASE("a child that is taken away from a node before its split is applied again is not made there anew", "[node]") {
  Watch watch;
  Cluster cluster([&](Config& config) {
    config.shards = 1;
    config.observer = &watch;
  });
  cluster.run([&] {
    REQUIRE(cluster.serves());
    const uint64_t leader = cluster.shard(4, kParent)["leader"];
    const uint64_t other = leader % 3 + 1;
    const uint64_t node = other % 3 + 1;
    const std::string to_other = std::to_string(other);
    const std::string from_node = std::to_string(node);
    if (cluster.shard(4, 1)["leader"] != other)
      REQUIRE(cluster.outcome(4, cluster.begin(4, {"MNEME.TRANSFER", "1", to_other})) == "done");
    watch.watch(node);
    REQUIRE(cluster.outcome(4, cluster.begin(4, {"MNEME.SPLIT", "2", "AT", "1000"})) == "done");
    REQUIRE(cluster.within(10, [&] { return watch.split() && !cluster.replica(node, kChild).is_null(); }));

    cluster.in_world([&] {
      cluster.machine(node).crash(sim::CrashKind::kKill);
      cluster.cut(node, leader);
    });
    watch.watch(node);
    cluster.in_world([&] { cluster.boot(node); });
    REQUIRE(cluster.within(30, [&] {
      const Json meta = cluster.replica(node, 1);
      return !meta.is_null() && meta["leader"] == other;
    }));
    REQUIRE(!cluster.replica(node, kChild).is_null());
    // The log is busy from the first that the meta group says of the move.
    cluster.in_world([&] { cluster.machine(node).disk().set_hung(true); });
    const int64_t move = cluster.begin(other, {"MNEME.MOVE", "3", "FROM", from_node, "TO", "4"});
    REQUIRE(cluster.outcome(other, move) == "done");
    REQUIRE(cluster.within(30, [&] { return watch.removed(); }));
    REQUIRE_FALSE(watch.split());
    cluster.in_world([&] { cluster.world().network().heal(); });
    REQUIRE(cluster.within(30, [&] { return watch.split(); }));
    cluster.in_world([&] { cluster.machine(node).disk().set_hung(false); });

    cluster.sleep(10s);
    CHECK(cluster.replica(node, kChild).is_null());
    CHECK(cluster.replica(node, kParent)["slots"] == "0-999");
    CHECK(cluster.holders(node, kChild) == std::vector<uint64_t>{std::min(leader, other), std::max(leader, other), 4});
    cluster.in_world([&] { cluster.machine(node).crash(sim::CrashKind::kKill); });
    std::map<GroupId, uint32_t> removed;
    cluster.in_world([&] {
      cluster.run_on(node, [&](Env& env) -> Result<void> {
        removed = TRY(remembered(env));
        return {};
      });
    });
    CHECK(cluster.within(10, [&] { return removed == std::map<GroupId, uint32_t>{{GroupId(kChild), 1}}; }));
  });
}

// The child has no checkpoint at first: then what it has is found in its parent's log.
TEST_CASE("whenever all nodes lose power around a split, each half has everything afterwards", "[node]") {
  uint64_t repeated = 0;
  for (int step = 0; step < 10; ++step) {
    INFO("step " << step);
    // What a checkpoint takes is several syncs.
    Cluster cluster([&](Config& config) { config.shards = 1; }, {.disk = {.sync_ns = 4'000'000}});
    cluster.run([&] {
      REQUIRE(cluster.serves());
      constexpr int kKeys = 24;
      for (int i = 0; i < kKeys; ++i)
        REQUIRE(cluster.ask(1, {"SET", fmt::format("k{}", i), fmt::format("v{}", i)}).text == "OK");
      cluster.begin(4, {"MNEME.SPLIT", "2", "AT", "8192"});
      cluster.sleep(step * 15ms);
      cluster.in_world([&] {
        for (uint64_t n = 1; n <= Cluster::kNodes; ++n) cluster.machine(n).crash(sim::CrashKind::kPowerLoss);
      });
      cluster.in_world([&] {
        for (uint64_t n = 1; n <= Cluster::kNodes; ++n) cluster.boot(n);
      });
      CHECK(cluster.within(60, [&] { return cluster.replica(1, kChild).is_object(); }));
      for (int i = 0; i < kKeys; ++i) {
        const std::string key = fmt::format("k{}", i);
        CHECK(cluster.within(30, [&] {
          const auto reply = cluster.try_to_ask(1, {"GET", key});
          return reply && reply->text == fmt::format("v{}", i);
        }));
      }
    });
    repeated += cluster.world().probes()[static_cast<size_t>(Probe::split_repeated)];
  }
  CHECK(repeated > 0);
}

// While the disks have no room for a checkpoint, which the log does not need, children go without one. So each is made
// again from its parent's log, and that one may be such a child itself.
TEST_CASE("after a loss of power a child without a checkpoint has everything, and so does its own child", "[node]") {
  Cluster cluster([&](Config& config) { config.shards = 1; });
  cluster.run([&] {
    REQUIRE(cluster.serves());
    constexpr int kKeys = 24;
    auto set = [&](const std::string& value) {
      for (int i = 0; i < kKeys; ++i) {
        const std::string key = fmt::format("k{}", i);
        REQUIRE(cluster.within(30, [&] {
          const auto reply = cluster.try_to_ask(1, {"SET", key, value});
          return reply && reply->text == "OK";
        }));
      }
    };
    auto on_all = [&](auto&& action) {
      cluster.in_world([&] {
        for (uint64_t n = 1; n <= Cluster::kNodes; ++n) action(n);
      });
    };
    set("first");
    on_all([&](uint64_t n) { cluster.machine(n).disk().set_full(true); });
    REQUIRE(cluster.outcome(4, cluster.begin(4, {"MNEME.SPLIT", "2", "AT", "8192"})) == "done");
    set("second");
    REQUIRE(cluster.within(10, [&] { return cluster.shard(4, kChild)["leader"] != 0; }));
    REQUIRE(cluster.outcome(4, cluster.begin(4, {"MNEME.SPLIT", "3", "AT", "12288"})) == "done");
    set("third");
    for (const uint64_t child : {kChild, kChild + 1}) CHECK(cluster.replica(1, child)["checkpoint"] == 0);
    on_all([&](uint64_t n) { cluster.machine(n).crash(sim::CrashKind::kPowerLoss); });
    on_all([&](uint64_t n) {
      cluster.machine(n).disk().set_full(false);
      cluster.boot(n);
    });
    for (int i = 0; i < kKeys; ++i) {
      const std::string key = fmt::format("k{}", i);
      CHECK(cluster.within(30, [&] {
        const auto reply = cluster.try_to_ask(1, {"GET", key});
        return reply && reply->text == "third";
      }));
    }
    CHECK(cluster.within(10, [&] { return cluster.replica(1, kChild + 1)["checkpoint"] != 0; }));
  });
  // Two of each of three nodes.
  CHECK(cluster.world().probes()[static_cast<size_t>(Probe::split_repeated)] == 6);
}

// Its log has the record of the child, and lost what to make it from.
TEST_CASE("where the split of a child without a checkpoint is damaged, the others give the child", "[node]") {
  Cluster cluster([&](Config& config) { config.shards = 1; });
  cluster.run([&] {
    REQUIRE(cluster.serves());
    constexpr int kKeys = 24;
    auto each_key = [&](uint64_t node, std::vector<std::string_view> words, std::string_view answer) {
      for (int i = 0; i < kKeys; ++i) {
        const std::string key = fmt::format("k{}", i);
        std::vector<std::string_view> asked = words;
        asked.insert(asked.begin() + 1, key);
        INFO(asked[0] << " " << key);
        CHECK(cluster.within(30, [&] {
          const auto reply = cluster.try_to_ask(node, asked);
          return reply && reply->text == answer;
        }));
      }
    };
    const uint64_t leader = cluster.shard(4, kParent)["leader"];
    const uint64_t other = leader % 3 + 1;
    const uint64_t third = other % 3 + 1;
    auto fill = [&](bool full) {
      for (uint64_t n = 1; n <= Cluster::kNodes; ++n) cluster.machine(n).disk().set_full(full);
    };
    each_key(leader, {"SET", "first"}, "OK");
    cluster.in_world([&] { fill(true); });
    REQUIRE(cluster.outcome(4, cluster.begin(4, {"MNEME.SPLIT", "2", "AT", "8192"})) == "done");
    each_key(leader, {"SET", "second"}, "OK");
    REQUIRE(cluster.replica(other, kChild)["checkpoint"] == 0);
    cluster.in_world([&] { cluster.machine(other).crash(sim::CrashKind::kPowerLoss); });
    cluster.in_world([&] { cluster.run_on(other, [](Env& env) { return damage_log(env, "mneme.divide"); }); });
    cluster.sleep(1s);
    cluster.in_world([&] {
      fill(false);
      cluster.boot(other);
    });
    // Until it has the child back it counts for nothing; then it is needed.
    CHECK(cluster.within(30, [&] {
      const Json here = cluster.replica(other, kChild);
      return here.is_object() && here["applied"] == cluster.replica(leader, kChild)["applied"];
    }));
    cluster.in_world([&] { cluster.machine(third).crash(sim::CrashKind::kKill); });
    each_key(other, {"GET"}, "second");
    each_key(other, {"SET", "third"}, "OK");
  });
  CHECK(cluster.world().probes()[static_cast<size_t>(Probe::split_lost)] == 1);
}
