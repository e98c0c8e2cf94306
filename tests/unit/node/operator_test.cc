// What operators ask of a cluster is done, or refused in a sentence and then nothing has changed.
#include "core/node/operator.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/node/node.h"
#include "core/protocol/reply_reader.h"
#include "core/protocol/request.h"
#include "sim/machine.h"
#include "sim/network.h"
#include "sim/world.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::node;
using Json = nlohmann::json;
using protocol::Reply;

namespace {

constexpr sim::WorldTime kMs = 1'000'000;

Result<Reply> ask(Env& env, uint64_t node, std::vector<std::string_view> words) {
  auto stream = TRY(env.network.connect({fmt::format("n{}", node), 6399}));
  std::string request;
  protocol::put_command(request, words);
  TRY(stream->write(as_bytes(request)));
  protocol::ReplyParser parser;
  std::string buffer;
  for (;;) {
    auto step = parser.next(buffer);
    if (step.progress == protocol::Progress::kDone) return protocol::parse_reply(buffer);
    if (step.progress == protocol::Progress::kError) return std::unexpected(std::move(step.error));
    uint8_t bytes[4096];
    const size_t got = TRY(stream->read(bytes));
    if (got == 0) return fail(ErrorCode::kClosed, "closed");
    buffer.append(reinterpret_cast<const char*>(bytes), got);
  }
}

// Four nodes, of which the first three found a cluster of four shards and the last one joins it; nothing is done
// without an operator.
class Cluster {
 public:
  template <class F>
  void run(F&& body) {
    std::exception_ptr thrown;
    world_.run([&] {
      auto done = fiber::with_scope(world_.scheduler(), [&](fiber::Scope& scope) {
        for (uint32_t n = 1; n <= 4; ++n) {
          world_.add_machine(fmt::format("n{}", n), {});
          Config config{.id = NodeId(n <= 3 ? n : 0), .listen = {fmt::format("n{}", n), 6399}};
          for (uint32_t m = 1; m <= 3 && n <= 3; ++m)
            config.cluster.push_back({NodeId(m), {fmt::format("n{}", m), 6399}});
          if (n == 4) config.join = {{"n1", 6399}};
          config.shards = 4;
          config.balance = false;
          configs_.push_back(config);
        }
        client_ = &world_.add_machine("c", {});
        bool ended = false;
        for (uint32_t n = 1; n <= 4; ++n)
          world_.machine(n).boot(
              scope, [this, n](Env& env) { return run_node(env, configs_[n - 1]); },
              [&, n](Result<void> result) {
                INFO("node " << n << ": " << (result ? "" : result.error().message));
                CHECK(ended);  // else it should go on
              });
        client_->boot(
            scope,
            [&](Env& env) -> Result<void> {
              env_ = &env;
              try {
                body();
              } catch (const fiber::Cancelled&) {
                throw;
              } catch (...) {
                thrown = std::current_exception();  // a failed REQUIRE: only the test's own stack may see it
              }
              ended = true;
              return {};
            },
            [](Result<void>) {});
        for (int step = 0; step < 60'000 && !ended; ++step) world_.sleep_for(5 * kMs);
        CHECK(ended);
        for (uint32_t n = 1; n <= 4; ++n) world_.machine(n).crash(sim::CrashKind::kKill);
      });
      CHECK(done.has_value());
    });
    if (thrown) std::rethrow_exception(thrown);
  }

  Reply ask(uint64_t node, std::vector<std::string_view> words) {
    auto reply = ::ask(*env_, node, words);
    INFO(words[0] << ": " << (reply ? reply->text : reply.error().message));
    REQUIRE(reply);
    return *reply;
  }
  Result<Reply> try_to_ask(uint64_t node, std::vector<std::string_view> words) { return ::ask(*env_, node, words); }
  std::string refused(uint64_t node, std::vector<std::string_view> words) {
    const Json before = shape(node);
    const Reply reply = ask(node, words);
    REQUIRE(reply.kind == Reply::Kind::kError);
    CHECK(shape(node) == before);
    return reply.text;
  }
  // All that operators change.
  Json shape(uint64_t node) {
    Json map = this->map(node);
    map.erase("version");
    for (Json& one : map["nodes"]) one.erase("silent_ms");
    for (Json& one : map["shards"])
      for (const char* key : {"leader", "term", "epoch", "bytes", "writes_per_second"}) one.erase(key);
    return map;
  }
  Json map(uint64_t node) { return Json::parse(ask(node, {"MNEME.MAP"}).text); }
  Json status(uint64_t node) { return Json::parse(ask(node, {"MNEME.STATUS"}).text); }
  Json shard(uint64_t node, uint64_t group) {
    const Json map = this->map(node);
    for (const Json& shard : map["shards"])
      if (shard["group"] == group) return shard;
    return {};
  }
  std::vector<uint64_t> holders(uint64_t node, uint64_t group) {
    std::vector<uint64_t> ids;
    const Json shard = this->shard(node, group);
    for (const Json& replica : shard["replicas"]) ids.push_back(replica["node"]);
    return ids;
  }
  template <class Condition>
  bool within(int seconds, Condition condition) {
    for (int i = 0; i < seconds * 10; ++i) {
      if (condition()) return true;
      env_->clock.sleep_for(env_->scheduler, 100ms);
    }
    return false;
  }
  // Until the map shows all shards led and node 4 up, as each node knows it.
  bool serves() {
    return within(30, [&] {
      for (uint64_t node = 1; node <= 4; ++node) {
        auto reply = ::ask(*env_, node, {"MNEME.MAP"});
        if (!reply || reply->kind != Reply::Kind::kBulk) return false;
        const Json map = Json::parse(reply->text);
        if (map["nodes"].size() != 4 || map["nodes"][3]["state"] != "up") return false;
        for (const Json& shard : map["shards"])
          if (shard["leader"] == 0) return false;
      }
      return true;
    });
  }
  // What MNEME.OPERATION says, once it is not pending.
  std::string outcome(uint64_t node, int64_t operation) {
    std::string outcome;
    within(60, [&] {
      const Reply reply = ask(node, {"MNEME.OPERATION", std::to_string(operation)});
      REQUIRE(reply.elements.size() == 12);
      CHECK(reply.elements[1].text == "");
      CHECK(reply.elements[1].integer == operation);
      outcome = reply.elements[9].text;
      return outcome != "pending";
    });
    return outcome;
  }
  int64_t begin(uint64_t node, std::vector<std::string_view> words) {
    const Reply reply = ask(node, words);
    INFO(reply.text);
    REQUIRE(reply.kind == Reply::Kind::kInteger);
    return reply.integer;
  }
  void sleep(Duration duration) { env_->clock.sleep_for(env_->scheduler, duration); }

 private:
  sim::World world_{1, {}, nullptr};
  std::vector<Config> configs_;
  sim::Machine* client_ = nullptr;
  Env* env_ = nullptr;
};

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
      const std::string text = cluster.refused(2, words);
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
    const Json before = cluster.shape(2);
    CHECK(cluster.ask(2, {"MNEME.MOVE", "2", "FROM", "1", "TO", "4", "DRYRUN"}).text == "OK");
    CHECK(cluster.ask(2, {"MNEME.DRAIN", "4", "DRYRUN"}).text == "OK");
    CHECK(cluster.shape(2) == before);
  });
}

TEST_CASE("of two operators who race for a shard one is told, and who asks for the same gets the same", "[node]") {
  Cluster cluster;
  cluster.run([&] {
    REQUIRE(cluster.serves());
    const int64_t first = cluster.begin(1, {"MNEME.MOVE", "2", "FROM", "1", "TO", "4"});
    CHECK(cluster.begin(1, {"MNEME.MOVE", "2", "FROM", "1", "TO", "4"}) == first);
    // Node 3 may not have heard of it yet: the map has.
    const std::string text = cluster.refused(3, {"MNEME.MOVE", "2", "FROM", "2", "TO", "4"});
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
    CHECK(holds(cluster.refused(4, {"MNEME.DRAIN", "2"}), "REFUSED without node 2 only 2 nodes are up for 3 copies"));
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
