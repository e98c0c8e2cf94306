// What a connection answers by itself, with and without a shard map.
#include <functional>
#include <string>
#include <vector>

#include "core/node/server.h"
#include "core/protocol/reply_reader.h"
#include "tests/one_machine.h"
#include "tests/unit/shard/support.h"

using namespace mneme;
using namespace mneme::node;
using mneme::testing::OneMachine;

namespace {

using Ask = std::function<std::string(const std::vector<std::string>&)>;

// Calls fn(ask) on node 1 of the map, or of no cluster, or of one that is not known yet.
void on_server(const shard::Map* map, const std::function<void(const Ask&)>& fn, const Config& config = {}) {
  OneMachine one;
  one.run([&] {
    auto ended = one.process([&](Env& env) -> Result<void> {
      const Identity identity{NodeId(1), Incarnation(1001), ClusterId(77), {}};
      Server server{.env = env, .config = config, .identity = identity};
      MapCache cache(env);
      if (map) {
        cache.offer(std::make_shared<const shard::Map>(*map));
        server.map = &cache;
      }
      server.alive = [](NodeId) { return true; };
      Client client;
      fn([&](const std::vector<std::string>& words) {
        const std::vector<std::string_view> args(words.begin(), words.end());
        std::string out;
        const kv::CommandSpec* spec = kv::check(args, out);
        if (spec != nullptr) execute_local(server, client, *spec, args, out);
        return out;
      });
      return {};
    });
    REQUIRE(ended);
  });
}

shard::Map led_map() {
  shard::Map map = shard::founded({.nodes = 3, .shards = 2});
  for (GroupId group : {GroupId(2), GroupId(3)}) {
    shard::Report report = shard::report_of(map, group);
    report.term = report.term.next();
    report.leader = NodeId(group.value - 1);
    REQUIRE(map.apply(report));
  }
  return map;
}

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("with a shard map a node answers cluster clients as a Redis cluster's node does", "[node]") {
  const shard::Map map = led_map();
  on_server(&map, [](const Ask& ask) {
    for (const char* command : {"READONLY", "READWRITE", "ASKING"}) CHECK(ask({command}) == "+OK\r\n");
    CHECK(ask({"CLUSTER", "MYID"}) == "$40\r\n00000000000003e9000000000000000000000001\r\n");
    CHECK(contains(ask({"CLUSTER", "NODES"}),
                   "00000000000003e9000000000000000000000001 n1:2@1 myself,master - 0 0 1 "
                   "connected 0-8191\n"));
    CHECK(contains(ask({"CLUSTER", "INFO"}), "cluster_state:ok\r\n"));
    CHECK(ask({"CLUSTER", "SLOTS"}).starts_with("*2\r\n*5\r\n:0\r\n:8191\r\n"));
    CHECK(ask({"CLUSTER", "SHARDS"}).starts_with("*2\r\n%2\r\n"));
    CHECK(ask({"CLUSTER", "KEYSLOT", "foo"}) == ":12182\r\n");
    CHECK(ask({"SELECT", "0"}) == "+OK\r\n");
    CHECK(ask({"SELECT", "1"}) == "-ERR SELECT is not allowed in cluster mode\r\n");
    CHECK(contains(ask({"HELLO", "3"}), "$4\r\nmode\r\n$7\r\ncluster\r\n"));
    CHECK(contains(ask({"INFO"}), "redis_mode:cluster\r\n"));
    CHECK(contains(ask({"INFO", "cluster"}), "cluster_enabled:1\r\n"));
    CHECK(ask({"CLUSTER", "FAILOVER"}) == "-ERR topology is managed by consensus; use `mneme cluster ...`\r\n");
  });
}

TEST_CASE("without a shard map a node is no cluster", "[node]") {
  on_server(nullptr, [](const Ask& ask) {
    const std::string disabled = "-ERR This instance has cluster support disabled\r\n";
    for (const char* word : {"MYID", "NODES", "INFO", "SLOTS", "SHARDS"}) CHECK(ask({"CLUSTER", word}) == disabled);
    for (const char* command : {"READONLY", "READWRITE", "ASKING"}) CHECK(ask({command}) == disabled);
    CHECK(ask({"CLUSTER", "KEYSLOT", "foo"}) == ":12182\r\n");
    CHECK(ask({"SELECT", "1"}) == "-ERR DB index is out of range\r\n");
    CHECK(contains(ask({"HELLO", "3"}), "$4\r\nmode\r\n$10\r\nstandalone\r\n"));
    CHECK(contains(ask({"INFO"}), "redis_mode:standalone\r\n"));
    CHECK(contains(ask({"INFO", "cluster"}), "cluster_enabled:0\r\n"));
  });
}

TEST_CASE("a node that is to be one of a cluster says so before there is a shard map", "[node]") {
  std::vector<Config> configs(3);
  configs[0].cluster = {{NodeId(1), {"n1", 1}}, {NodeId(2), {"n2", 1}}};
  configs[1].join = {{"n1", 1}};
  configs[2].shards = 4;
  for (const Config& config : configs) {
    on_server(
        nullptr,
        [](const Ask& ask) {
          for (const char* word : {"MYID", "NODES", "INFO", "SLOTS", "SHARDS"})
            CHECK(ask({"CLUSTER", word}).starts_with("-LOADING "));
          for (const char* command : {"READONLY", "READWRITE", "ASKING"})
            CHECK(ask({command}).starts_with("-LOADING "));
          CHECK(ask({"SELECT", "1"}) == "-ERR SELECT is not allowed in cluster mode\r\n");
          CHECK(contains(ask({"HELLO", "3"}), "$4\r\nmode\r\n$7\r\ncluster\r\n"));
          CHECK(contains(ask({"INFO"}), "redis_mode:cluster\r\n"));
          CHECK(contains(ask({"INFO", "cluster"}), "cluster_enabled:1\r\n"));
        },
        config);
  }
}
