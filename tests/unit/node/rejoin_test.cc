// The map on a node's disk may be older than the configuration in the meta group's log, and until that group has a
// leader nobody can have a newer one.
#include "sim/machine.h"
#include "tests/test.h"
#include "tests/unit/node/cluster.h"

using namespace mneme;
using namespace mneme::node;

TEST_CASE("after a loss of power a node is known from the log that added it, by those who need its vote", "[node]") {
  Cluster cluster;
  cluster.run([&] {
    cluster.in_world([&] { cluster.machine(4).crash(sim::CrashKind::kKill); });
    auto knows = [&](uint64_t node, size_t nodes) {
      const auto reply = cluster.try_to_ask(node, {"MNEME.MAP"});
      return reply && reply->kind == Reply::Kind::kBulk && Json::parse(reply->text)["nodes"].size() == nodes;
    };
    auto leads = [&](uint64_t group) { return cluster.shard(1, group)["leader"] != 0; };
    REQUIRE(cluster.within(30, [&] { return knows(1, 3) && leads(1); }));
    cluster.sleep(5s);
    // From here on no map is saved by those who were there before.
    cluster.in_world([&] {
      for (uint64_t n = 1; n <= 3; ++n) cluster.machine(n).disk().set_full(true);
      cluster.boot(4);
    });
    REQUIRE(cluster.serves());
    REQUIRE(cluster.outcome(1, cluster.begin(1, {"MNEME.MOVE", "1", "FROM", "3", "TO", "4"})) == "done");
    REQUIRE(cluster.holders(1, 1) == std::vector<uint64_t>{1, 2, 4});
    cluster.in_world([&] {
      for (uint64_t n = 1; n <= Cluster::kNodes; ++n) cluster.machine(n).crash(sim::CrashKind::kPowerLoss);
    });
    // Without node 2 the others of the group have to agree.
    cluster.in_world([&] {
      for (uint64_t n = 1; n <= 3; ++n) cluster.machine(n).disk().set_full(false);
      for (const uint64_t n : {1, 3, 4}) cluster.boot(n);
    });
    CHECK(cluster.within(1, [&] { return knows(1, 3); }));
    CHECK(cluster.within(30, [&] { return knows(1, 4) && knows(3, 4) && knows(4, 4); }));
    CHECK(cluster.within(30, [&] {
      const auto reply = cluster.try_to_ask(4, {"MNEME.MOVE", "2", "FROM", "3", "TO", "4"});
      return reply && reply->kind == Reply::Kind::kInteger;
    }));
  });
  CHECK(cluster.world().probes()[static_cast<size_t>(Probe::node_known_from_log)] > 0);
}

TEST_CASE("a node is reached where it is, not where a log had it that was replaced", "[node]") {
  Cluster cluster;
  cluster.run([&] {
    cluster.in_world([&] { cluster.machine(4).crash(sim::CrashKind::kKill); });
    auto led_by_node_1 = [&](std::string_view group) {
      return cluster.within(30, [&] {
        const auto reply = cluster.try_to_ask(1, {"MNEME.TRANSFER", group, "1"});
        return reply && reply->text.ends_with("leads shard " + std::string(group) + " already");
      });
    };
    REQUIRE(led_by_node_1("1"));
    // Node 1 adds node 4 at one address, to a log that nobody else will have.
    cluster.in_world([&] {
      cluster.cut(1, 2);
      cluster.cut(1, 3);
      cluster.boot(4);
    });
    cluster.sleep(1s);
    cluster.in_world([&] { cluster.machine(4).crash(sim::CrashKind::kKill); });
    cluster.in_world([&] {
      cluster.config(4).listen.port = 7000;
      cluster.config(4).join = {{"n2", 6399}, {"n3", 6399}};
      cluster.boot(4);
    });
    // It finds node 1 while that has the old log.
    REQUIRE(cluster.within(30, [&] { return cluster.map(2)["nodes"].size() == 4; }));
    cluster.sleep(2s);
    CHECK(cluster.map(1)["nodes"].size() == 3);
    cluster.in_world([&] { cluster.world().network().heal(); });
    REQUIRE(cluster.within(30, [&] { return cluster.map(1)["nodes"].size() == 4; }));
    REQUIRE(led_by_node_1("2"));
    CHECK(cluster.outcome(1, cluster.begin(1, {"MNEME.MOVE", "2", "FROM", "3", "TO", "4"})) == "done");
  });
  CHECK(cluster.world().probes()[static_cast<size_t>(Probe::node_known_from_log)] > 0);
}

// It has lost all entries and knows of nobody whom it could ask for them. The others rest: they wait for no heartbeat,
// and that a connection is lost does not wake them. That it is another process than before does.
TEST_CASE("a leader that is back at once without its log is succeeded, though its group rests", "[node]") {
  Cluster cluster([](Config& config) { config.shards = 1; });
  cluster.run([&] {
    REQUIRE(cluster.serves());
    REQUIRE(cluster.ask(1, {"SET", "key", "damaged"}).text == "OK");
    REQUIRE(cluster.outcome(1, cluster.begin(1, {"MNEME.MOVE", "2", "FROM", "3", "TO", "4"})) == "done");
    REQUIRE(cluster.outcome(1, cluster.begin(1, {"MNEME.TRANSFER", "2", "4"})) == "done");
    REQUIRE(cluster.ask(4, {"SET", "key", "kept"}).text == "OK");
    cluster.sleep(20s);  // to rest
    REQUIRE(cluster.replica(4, 2)["leader"] == 4);
    // Nobody finds it gone, and it is back before anybody misses it.
    cluster.in_world([&] {
      for (uint64_t n = 1; n < 4; ++n) cluster.cut(n, 4);
      cluster.machine(4).crash(sim::CrashKind::kPowerLoss);
    });
    bool damaged = false;
    cluster.in_world([&] {
      cluster.run_on(4, [&](Env& env) -> Result<void> {
        TRY(damage_log(env, "damaged"));
        damaged = true;
        return {};
      });
    });
    while (!damaged) cluster.sleep(1ms);
    cluster.in_world([&] {
      cluster.world().network().heal();
      cluster.boot(4);
    });
    CHECK(cluster.within(20, [&] {
      const Json here = cluster.replica(4, 2);
      return here.is_object() && here["suspect"] == false && here["leader"] != 0;
    }));
    CHECK(cluster.ask(4, {"GET", "key"}).text == "kept");
  });
  CHECK(cluster.world().probes()[static_cast<size_t>(Probe::damaged_middle_found)] == 1);
}
