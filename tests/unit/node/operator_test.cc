// What operators ask of a cluster is done, or refused in a sentence and then nothing has changed.
#include "core/node/operator.h"

#include "tests/unit/node/cluster.h"

using namespace mneme;
using namespace mneme::node;

namespace {

// All that operators change.
Json shape(Cluster& cluster, uint64_t node) {
  Json map = cluster.map(node);
  map.erase("version");
  for (Json& one : map["nodes"]) one.erase("silent_ms");
  for (Json& one : map["shards"])
    for (const char* key : {"leader", "term", "epoch", "bytes", "writes_per_second"}) one.erase(key);
  return map;
}

std::string refused(Cluster& cluster, uint64_t node, std::vector<std::string_view> words) {
  const Json before = shape(cluster, node);
  const Reply reply = cluster.ask(node, words);
  REQUIRE(reply.kind == Reply::Kind::kError);
  CHECK(shape(cluster, node) == before);
  return reply.text;
}

bool holds(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("a shard is split, moved, given another leader and another replica, through any node", "[node]") {
  Cluster cluster;
  cluster.run([&] {
    REQUIRE(cluster.serves());
    CHECK(cluster.shard(2, 2)["slots"] == "0-4095");
    const int64_t split = cluster.begin(4, {"mneme.split", "2", "at", "1000"});
    CHECK(cluster.outcome(4, split) == "done");
    CHECK(cluster.shard(4, 2)["slots"] == "0-999");
    CHECK(cluster.shard(4, 6)["slots"] == "1000-4095");
    CHECK(cluster.outcome(4, cluster.begin(4, {"MNEME.SPLIT", "2"})) == "done");
    CHECK(cluster.shard(4, 7)["slots"] == "500-999");

    CHECK(cluster.outcome(3, cluster.begin(3, {"MNEME.MOVE", "3", "FROM", "1", "TO", "4"})) == "done");
    CHECK(cluster.holders(3, 3) == std::vector<uint64_t>{2, 3, 4});
    CHECK(cluster.outcome(1, cluster.begin(1, {"MNEME.ADD", "3", "1"})) == "done");
    CHECK(cluster.holders(1, 3).size() == 4);
    const std::string heir = cluster.shard(1, 3)["leader"] == 4 ? "2" : "4";
    CHECK(cluster.outcome(1, cluster.begin(1, {"MNEME.TRANSFER", "3", heir})) == "done");
    CHECK(cluster.within(10, [&] { return cluster.shard(1, 3)["leader"] == std::stoi(heir); }));
    CHECK(cluster.outcome(1, cluster.begin(1, {"MNEME.REMOVE", "3", "4"})) == "done");
    CHECK(cluster.holders(1, 3) == std::vector<uint64_t>{1, 2, 3});
    // Others came after it.
    CHECK(cluster.outcome(4, split) == "ended");
  });
}

// The cluster is barely there: shards begin one after the other.
TEST_CASE("a command over several slots that is said not to have happened has not, in any of them", "[node]") {
  Cluster cluster;
  cluster.run([&] {
    int not_done = 0;
    bool done = false;
    for (int round = 0; !done && round < 2000; ++round) {
      std::vector<std::string> words = {"MSET"};
      for (int key = 0; key < 8; ++key) {
        words.push_back(fmt::format("k{}.{}", round, key));
        words.push_back("x");
      }
      auto reply = cluster.try_to_ask(1 + round % 3, {words.begin(), words.end()});
      if (!reply) {
        cluster.sleep(5ms);
        continue;
      }
      done = reply->text == "OK";
      if (!reply->text.starts_with("CLUSTERDOWN")) continue;
      ++not_done;
      REQUIRE(cluster.serves());
      for (int key = 0; key < 8; ++key) {
        const std::string name = fmt::format("k{}.{}", round, key);
        CHECK(cluster.ask(1, {"EXISTS", name}).integer == 0);
      }
    }
    CHECK(done);
    INFO(not_done << " were not done");
  });
}

TEST_CASE("what an operator cannot have is refused with what to do instead, and changes nothing", "[node]") {
  Cluster cluster;
  cluster.run([&] {
    REQUIRE(cluster.serves());
    auto says = [&](std::vector<std::string_view> words, std::string_view sentence) {
      const std::string text = refused(cluster, 2, words);
      INFO(text);
      CHECK(holds(text, sentence));
    };
    says({"MNEME.SPLIT", "99"}, "ERR shard 99 is unknown; `mneme cluster status` lists the shards");
    says({"MNEME.SPLIT", "two"}, "ERR a shard's number is a whole number from 1 on, not 'two'");
    says({"MNEME.SPLIT", "2", "AT", "16384"}, "ERR there is no slot 16384");
    says({"MNEME.SPLIT", "2", "AT", "9000"}, "REFUSED slot 9000 does not divide shard 2");
    says({"MNEME.SPLIT", "1"}, "REFUSED shard 1 has no slots to split: it holds the map");
    says({"MNEME.SPLIT", "DRYRUN"}, "ERR syntax error; say MNEME.SPLIT group");
    says({"MNEME.MOVE", "2", "TO", "1", "FROM", "4"}, "ERR syntax error; say MNEME.MOVE group FROM node TO node");
    says({"MNEME.MOVE", "2", "FROM", "1", "TO", "9"}, "ERR node 9 is unknown; `mneme cluster status` lists the nodes");
    says({"MNEME.MOVE", "2", "FROM", "4", "TO", "1"}, "REFUSED node 4 holds no replica of shard 2");
    says({"MNEME.ADD", "2", "1"}, "REFUSED node 1 holds a replica of shard 2 already");
    says({"MNEME.REMOVE", "2", "1"}, "REFUSED shard 2 has 3 voters and 3 copies are wanted");
    says({"MNEME.TRANSFER", "2", "4"}, "REFUSED node 4 has no vote in shard 2");
    says({"MNEME.FORGET", "1"}, "REFUSED node 1 holds 5 replicas; `mneme cluster drain` moves them away");
    says({"MNEME.COPIES", "9"}, "REFUSED 4 nodes are up, too few for 9 copies");
    says({"MNEME.COPIES", "0"}, "ERR the number of copies is a whole number from 1 on");
    says({"MNEME.OPERATION", "50"}, "ERR operation 50 is not known to this node");
    // The same with DRYRUN, and what would be accepted is not done.
    says({"MNEME.SPLIT", "2", "AT", "9000", "DRYRUN"}, "REFUSED slot 9000 does not divide shard 2");
    const Json before = shape(cluster, 2);
    CHECK(cluster.ask(2, {"MNEME.MOVE", "2", "FROM", "1", "TO", "4", "DRYRUN"}).text == "OK");
    CHECK(cluster.ask(2, {"MNEME.DRAIN", "4", "DRYRUN"}).text == "OK");
    CHECK(shape(cluster, 2) == before);
  });
}

TEST_CASE("of two operators who race for a shard one is told, and who asks for the same gets the same", "[node]") {
  Cluster cluster;
  cluster.run([&] {
    REQUIRE(cluster.serves());
    const int64_t first = cluster.begin(1, {"MNEME.MOVE", "2", "FROM", "1", "TO", "4"});
    CHECK(cluster.begin(1, {"MNEME.MOVE", "2", "FROM", "1", "TO", "4"}) == first);
    // Node 3 may not have heard of it yet: the map has.
    const std::string text = refused(cluster, 3, {"MNEME.MOVE", "2", "FROM", "2", "TO", "4"});
    INFO(text);
    CHECK(holds(text, fmt::format("REFUSED operation {} on shard 2 (move n1 to n4) has not ended", first)));
    CHECK(cluster.outcome(1, first) == "done");
  });
}

TEST_CASE("a node is drained, one step of the plan after the other, and forgotten", "[node]") {
  Cluster cluster;
  cluster.run([&] {
    REQUIRE(cluster.serves());
    CHECK(cluster.ask(1, {"MNEME.DRAIN", "3"}).text == "OK");
    CHECK(cluster.within(10, [&] { return cluster.map(4)["nodes"][2]["state"] == "draining"; }));
    CHECK(cluster.ask(1, {"MNEME.DRAIN", "3", "STOP"}).text == "OK");
    REQUIRE(cluster.within(10, [&] { return cluster.map(4)["nodes"][2]["state"] == "up"; }));
    CHECK(cluster.ask(4, {"MNEME.DRAIN", "3"}).text == "OK");
    CHECK(holds(refused(cluster, 4, {"MNEME.DRAIN", "2"}), "REFUSED without node 2 only 2 nodes are up for 3 copies"));
    REQUIRE(cluster.within(10, [&] { return cluster.map(1)["nodes"][2]["state"] == "draining"; }));
    const Reply plan = cluster.ask(1, {"MNEME.PLAN"});
    REQUIRE(!plan.elements.empty());
    CHECK(holds(plan.elements[0].text, "from n3 to n4"));
    bool begun = false;
    CHECK(cluster.within(120, [&] {
      for (const Reply& one : cluster.ask(1, {"MNEME.REBALANCE", "FROM", "3"}).elements) {
        begun |= one.text.starts_with("operation ");
        CHECK((one.text.starts_with("operation ") || one.text.starts_with("refused: ")));
      }
      for (uint64_t group = 1; group <= 5; ++group)
        for (uint64_t holder : cluster.holders(1, group))
          if (holder == 3) return false;
      return true;
    }));
    CHECK(begun);
    CHECK(cluster.within(10, [&] { return cluster.ask(1, {"MNEME.FORGET", "3"}).text == "OK"; }));
    CHECK(cluster.within(10, [&] { return cluster.map(2)["nodes"][2]["state"] == "removed"; }));
    CHECK_FALSE(cluster.map(2)["nodes"][2].contains("silent_ms"));
  });
}

TEST_CASE("status has every group of the node, and of a cluster that is being founded who is missing", "[node]") {
  Cluster cluster;
  cluster.run([&] {
    REQUIRE(cluster.serves());
    size_t led = 0;
    for (uint64_t node = 1; node <= 3; ++node) {
      const Json status = cluster.status(node);
      CHECK(status["node"] == node);
      CHECK(status["ready"] == true);
      CHECK(status["address"] == fmt::format("n{}:6399", node));
      REQUIRE(status["groups"].size() == 5);
      for (const Json& group : status["groups"]) {
        CHECK(group["members"].size() == 3);
        CHECK(group["members"][0].contains("match") == (group["role"] == "leader"));
        led += group["role"] == "leader";
      }
    }
    CHECK(led == 5);
    CHECK(cluster.status(4)["node"] == 4);
    CHECK(cluster.status(4)["groups"].empty());
    const Json map = cluster.map(4);
    CHECK(map["copies"] == 3);
    CHECK(map["balance"] == false);
    CHECK(map["shards"][4]["slots"] == "12288-16383");
  });
}

// Of two voters that it would leave one is lost. With the operation under way nobody could remove that one either.
TEST_CASE("a removal that would leave too few voters for a majority is given up, and others are made then", "[node]") {
  Cluster cluster([](Config& config) {
    config.copies = 2;
    config.lost_after = 5s;
  });
  cluster.run([&] {
    REQUIRE(cluster.serves());
    REQUIRE(cluster.outcome(1, cluster.begin(1, {"MNEME.ADD", "2", "4"})) == "done");
    const std::vector<uint64_t> holders = cluster.holders(1, 2);
    REQUIRE(holders.size() == 3);
    REQUIRE(holders.back() == 4);
    cluster.in_world([&] { cluster.machine(4).crash(sim::CrashKind::kKill); });
    cluster.sleep(3s);
    const uint64_t leader = cluster.shard(1, 2)["leader"];
    const std::string other = std::to_string(holders[0] == leader ? holders[1] : holders[0]);
    const int64_t removal = cluster.begin(1, {"MNEME.REMOVE", "2", other});
    cluster.sleep(1s);
    CHECK(refused(cluster, 1, {"MNEME.REMOVE", "2", "4"}).starts_with("REFUSED operation"));
    CHECK(cluster.outcome(1, removal) == "abandoned");
    CHECK(cluster.holders(1, 2) == holders);
    CHECK(cluster.outcome(1, cluster.begin(1, {"MNEME.REMOVE", "2", "4"})) == "done");
    CHECK(cluster.holders(1, 2).size() == 2);
  });
}
