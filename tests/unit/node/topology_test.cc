#include "core/node/topology.h"

#include <string>
#include <vector>

#include "core/protocol/reply_reader.h"
#include "tests/unit/shard/support.h"

using namespace mneme;
using namespace mneme::node;
using protocol::Reply;

namespace {

// Three nodes, two shards of slots 0-8191 and 8192-16383, all on all nodes. Nobody is known to lead.
struct Cluster {
  Cluster() : map(shard::founded({.nodes = 3, .shards = 2})) {}

  void lead(uint64_t group, uint64_t node) {
    shard::Report report = shard::report_of(map, GroupId(group));
    report.term = report.term.next();
    report.leader = NodeId(node);
    REQUIRE(map.apply(report));
    REQUIRE(map.shard(GroupId(group))->last.leader == NodeId(node));
  }
  void split(uint64_t group, uint16_t at) {
    shard::accept(map, shard::begin(map, GroupId(group), {.kind = shard::ActionKind::kSplit, .at = at}));
    shard::accept(map, shard::advance(map, GroupId(group)));
  }
  void add_node(std::string peer_address, std::string client_address) {
    REQUIRE(map.apply(shard::AddNode{Incarnation(0xabcdef), peer_address, client_address, ""}));
  }

  std::string ask(void (*command)(const Topology&, std::string&), bool replicas = false) const {
    const std::function<bool(NodeId)> alive = [&](NodeId node) { return node != dead; };
    std::string out;
    command({map, NodeId(1), alive, replicas}, out);
    REQUIRE(protocol::reply_length(out) == out.size());
    return out;
  }
  std::string text(void (*command)(const Topology&, std::string&)) const {
    return protocol::parse_reply(ask(command))->text;
  }
  std::string moved(uint16_t slot) const {
    const std::function<bool(NodeId)> alive = [](NodeId) { return true; };
    return moved_text({map, NodeId(1), alive}, slot).value_or("");
  }

  shard::Map map;
  NodeId dead;
};

// "first-last leader replica..." of each, nodes by address.
std::vector<std::string> ranges(const std::string& slots) {
  std::vector<std::string> lines;
  const auto reply = protocol::parse_reply(slots);
  for (const Reply& range : reply->elements) {
    std::string line = std::to_string(range.elements[0].integer) + "-" + std::to_string(range.elements[1].integer);
    for (size_t i = 2; i < range.elements.size(); ++i) {
      const Reply& node = range.elements[i];
      REQUIRE(node.elements.size() == 4);
      REQUIRE(node.elements[2].text.size() == 40);
      line += " " + node.elements[0].text + ":" + std::to_string(node.elements[1].integer);
    }
    lines.push_back(line);
  }
  return lines;
}

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("CLUSTER SLOTS shows each run of slots with its leader, as Redis writes it") {
  Cluster cluster;
  cluster.lead(2, 2);
  cluster.lead(3, 3);
  CHECK(cluster.ask(put_cluster_slots) ==
        "*2\r\n"
        "*3\r\n:0\r\n:8191\r\n*4\r\n$2\r\nn2\r\n:2\r\n$40\r\n00000000000003ea000000000000000000000002\r\n%0\r\n"
        "*3\r\n:8192\r\n:16383\r\n*4\r\n$2\r\nn3\r\n:2\r\n$40\r\n00000000000003eb000000000000000000000003\r\n%0\r\n");
}

TEST_CASE("neighbouring shards of one leader are one run") {
  Cluster cluster;
  cluster.lead(3, 3);
  cluster.lead(2, 3);
  CHECK(ranges(cluster.ask(put_cluster_slots)) == Lines{"0-16383 n3:2"});
  cluster.split(2, 100);
  cluster.lead(4, 1);
  CHECK(ranges(cluster.ask(put_cluster_slots)) == Lines{"0-99 n3:2", "100-8191 n1:2", "8192-16383 n3:2"});
}

TEST_CASE("a voter that is alive stands in for a leader that is not known, so that no slot is missing") {
  Cluster cluster;
  cluster.lead(2, 2);
  cluster.lead(3, 3);
  cluster.split(2, 100);
  CHECK(ranges(cluster.ask(put_cluster_slots)) == Lines{"0-99 n2:2", "100-8191 n1:2", "8192-16383 n3:2"});
  CHECK(ranges(cluster.ask(put_cluster_slots, true)) ==
        Lines{"0-99 n2:2 n1:2 n3:2", "100-8191 n1:2 n2:2 n3:2", "8192-16383 n3:2 n1:2 n2:2"});
  CHECK(cluster.text(put_cluster_nodes).find("myself,master - 0 0 0 connected 100-8191\n") != std::string::npos);
  CHECK(cluster.moved(100).empty());
  cluster.lead(4, 2);
  CHECK(ranges(cluster.ask(put_cluster_slots)) == Lines{"0-8191 n2:2", "8192-16383 n3:2"});
}

TEST_CASE("who seems dead does not stand in") {
  shard::Map map = shard::founded({.nodes = 3, .shards = 2});
  const std::function<bool(NodeId)> alive = [](NodeId node) { return node == NodeId(2); };
  std::string out;
  put_cluster_slots({map, NodeId(2), alive}, out);
  CHECK(ranges(out) == Lines{"0-16383 n2:2"});
}

TEST_CASE("replicas are shown only where they answer reads, and only those that are alive") {
  Cluster cluster;
  cluster.lead(2, 2);
  cluster.lead(3, 2);
  cluster.dead = NodeId(3);
  CHECK(ranges(cluster.ask(put_cluster_slots)) == Lines{"0-16383 n2:2"});
  CHECK(ranges(cluster.ask(put_cluster_slots, true)) == Lines{"0-16383 n2:2 n1:2"});
  cluster.dead = {};
  CHECK(ranges(cluster.ask(put_cluster_slots, true)) == Lines{"0-16383 n2:2 n1:2 n3:2"});
  const auto shards = protocol::parse_reply(cluster.ask(put_cluster_shards, true));
  REQUIRE(shards->elements.size() == 1);
  const Reply& nodes = shards->elements[0].elements[3];
  REQUIRE(nodes.elements.size() == 3);
  CHECK(nodes.elements[0].elements[9].text == "master");
  CHECK(nodes.elements[1].elements[9].text == "replica");
}

TEST_CASE("CLUSTER SHARDS groups slots by leader and lists who leads nothing") {
  Cluster cluster;
  cluster.split(2, 100);
  cluster.lead(2, 3);
  cluster.lead(4, 1);
  cluster.lead(3, 3);
  cluster.dead = NodeId(2);
  auto node = [](const char* id, const char* host, const char* health) {
    return std::string("$5\r\nnodes\r\n*1\r\n%7\r\n$2\r\nid\r\n$40\r\n") + id +
           "\r\n$4\r\nport\r\n:2\r\n$2\r\nip\r\n$2\r\n" + host + "\r\n$8\r\nendpoint\r\n$2\r\n" + host +
           "\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$18\r\nreplication-offset\r\n:0\r\n$6\r\nhealth\r\n" + health + "\r\n";
  };
  CHECK(cluster.ask(put_cluster_shards) == "*3\r\n%2\r\n$5\r\nslots\r\n*2\r\n:100\r\n:8191\r\n" +
                                               node("00000000000003e9000000000000000000000001", "n1", "$6\r\nonline") +
                                               "%2\r\n$5\r\nslots\r\n*0\r\n" +
                                               node("00000000000003ea000000000000000000000002", "n2", "$4\r\nfail") +
                                               "%2\r\n$5\r\nslots\r\n*4\r\n:0\r\n:99\r\n:8192\r\n:16383\r\n" +
                                               node("00000000000003eb000000000000000000000003", "n3", "$6\r\nonline"));
}

TEST_CASE("CLUSTER NODES has a line per node, with the slots that it leads") {
  Cluster cluster;
  cluster.split(2, 1);
  cluster.lead(2, 3);
  cluster.lead(4, 1);
  cluster.lead(3, 3);
  cluster.add_node("n4:1", "n4:2");
  cluster.dead = NodeId(2);
  CHECK(cluster.text(put_cluster_nodes) ==
        "00000000000003e9000000000000000000000001 n1:2@1 myself,master - 0 0 2 connected 1-8191\n"
        "00000000000003ea000000000000000000000002 n2:2@1 master,fail? - 0 0 0 disconnected\n"
        "00000000000003eb000000000000000000000003 n3:2@1 master - 0 0 2 connected 0 8192-16383\n"
        "0000000000abcdef000000000000000000000004 n4:2@1 handshake - 0 0 0 connected\n");
}

TEST_CASE("CLUSTER INFO fails while slots have no leader, and only doubts when a leader seems dead") {
  Cluster cluster;
  cluster.lead(3, 3);
  CHECK(cluster.text(put_cluster_info)
            .starts_with("cluster_state:fail\r\ncluster_slots_assigned:16384\r\n"
                         "cluster_slots_ok:8192\r\ncluster_slots_pfail:0\r\n"
                         "cluster_slots_fail:8192\r\n"));
  cluster.lead(2, 1);
  cluster.dead = NodeId(3);
  CHECK(cluster.text(put_cluster_info) ==
        "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:8192\r\ncluster_slots_pfail:8192\r\n"
        "cluster_slots_fail:0\r\ncluster_known_nodes:3\r\ncluster_size:2\r\ncluster_current_epoch:3\r\n"
        "cluster_my_epoch:1\r\ncluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n"
        "total_cluster_links_buffer_limit_exceeded:0\r\n");
  // Nobody is asked whether this node is alive.
  cluster.dead = NodeId(1);
  CHECK(cluster.text(put_cluster_info).find("cluster_slots_pfail:0\r\n") != std::string::npos);
}

TEST_CASE("a cluster that was not founded has no slots") {
  Cluster cluster;
  cluster.map = shard::Map();
  CHECK(cluster.ask(put_cluster_slots) == "*0\r\n");
  CHECK(cluster.ask(put_cluster_shards) == "*0\r\n");
  CHECK(cluster.text(put_cluster_nodes).empty());
  CHECK(cluster.text(put_cluster_info).starts_with("cluster_state:fail\r\ncluster_slots_assigned:0\r\n"));
  CHECK(cluster.moved(7).empty());
}

TEST_CASE("MOVED names the leader's address for clients, or is not said") {
  Cluster cluster;
  CHECK(cluster.moved(12182).empty());
  cluster.lead(3, 3);
  CHECK(cluster.moved(12182) == "MOVED 12182 n3:2");
  CHECK(cluster.moved(0).empty());
}

TEST_CASE("addresses that clients cannot use are not given to them") {
  for (const char* address : {"n1", ":7", "n1:", "n1:0", "n1:65536", "n 1:7", "n\n1:7", "a@b:7", "a,b:7", "[]:7"}) {
    shard::FoundCluster found = shard::founding({.nodes = 1, .shards = 1, .copies = 1});
    found.nodes[0].client_address = address;
    Cluster cluster;
    cluster.map = shard::Map();
    REQUIRE(cluster.map.apply(found));
    cluster.lead(2, 1);
    INFO(address);
    CHECK(cluster.ask(put_cluster_slots) == "*0\r\n");
    CHECK(cluster.moved(7).empty());
    CHECK(cluster.text(put_cluster_nodes) ==
          "00000000000003e9000000000000000000000001 :0@1 myself,master,noaddr - 0 0 1 connected\n");
  }
}

TEST_CASE("an IPv6 address loses its brackets, as Redis has it") {
  shard::FoundCluster found = shard::founding({.nodes = 1, .shards = 1, .copies = 1});
  found.nodes[0].client_address = "[::1]:7000";
  found.nodes[0].peer_address = "[::1]:7001";
  Cluster cluster;
  cluster.map = shard::Map();
  REQUIRE(cluster.map.apply(found));
  cluster.lead(2, 1);
  CHECK(cluster.moved(7) == "MOVED 7 ::1:7000");
  CHECK(cluster.text(put_cluster_nodes) ==
        "00000000000003e9000000000000000000000001 ::1:7000@7001 myself,master - 0 0 1 connected 0-16383\n");
}
