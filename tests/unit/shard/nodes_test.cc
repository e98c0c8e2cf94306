// The commands about the cluster and its nodes: what each refuses, and that all may come twice.
#include <map>
#include <set>

#include "tests/unit/shard/support.h"

using namespace mneme;
using namespace mneme::shard;

namespace {

NodeId add_node(Map& map, uint64_t number, std::string rack = "") {
  Answer answer = accept(
      map, AddNode{Incarnation(1000 + number), fmt::format("n{}:1", number), fmt::format("n{}:2", number), rack});
  accept(map, NodeUp{answer.node, Incarnation(1000 + number)});
  return answer.node;
}

}  // namespace

TEST_CASE("nothing can be said to a map before its cluster is founded", "[shard]") {
  Map map;
  refuse(map, NodeUp{NodeId(1), Incarnation(1)}, "no cluster yet");
  refuse(map, RaiseClusterVersion{2}, "no cluster yet");
  CHECK(map.check() == std::nullopt);
  CHECK(map.owner_of(0) == GroupId());
}

TEST_CASE("founding makes equal shards on distinct nodes, balanced and across racks", "[shard]") {
  for (Shape shape : {Shape{1, 1, 1}, Shape{3, 1, 3}, Shape{5, 7, 3}, Shape{9, 100, 3, 3}, Shape{12, 16384, 5, 6}}) {
    Map map;
    CHECK(accept(map, founding(shape)) == Answer{.group = kFirstDataGroup});
    REQUIRE(map.shards().size() == shape.shards + 1);
    CHECK(map.owner_of(0) == kFirstDataGroup);
    std::map<NodeId, size_t> held;
    for (const auto& [group, shard] : map.shards()) {
      if (group != kMetaGroup) {
        CHECK(shard.slots.size() >= kSlots / shape.shards);
        CHECK(shard.slots.size() <= kSlots / shape.shards + 1);
        CHECK(map.owner_of(shard.slots.nth(0)) == group);
      }
      REQUIRE(shard.configuration().size() == shape.copies);
      std::set<std::string> racks;
      for (const Member& member : shard.configuration()) {
        ++held[member.replica.node];
        racks.insert(map.node(member.replica.node)->rack);
      }
      CHECK(racks.size() == (shape.racks == 0 ? 1 : shape.copies));
    }
    size_t least = SIZE_MAX;
    size_t most = 0;
    for (const auto& [id, node] : map.nodes()) {
      least = std::min(least, held[id]);
      most = std::max(most, held[id]);
    }
    CHECK(most - least <= 1);
  }
}

TEST_CASE("a cluster is founded once", "[shard]") {
  Map map = founded();
  accept(map, SetCopies{3, 2});
  accept(map, founding({}));  // the same again, although the map has changed since
  refuse(map, founding({.shards = 4}), "founded already");
}

TEST_CASE("a founding that makes no sense is refused", "[shard]") {
  Map map;
  auto with = [](auto change) {
    FoundCluster found = founding({});
    change(found);
    return found;
  };
  refuse(map, with([](auto& f) { f.cluster = {}; }), "an id other than 0");
  refuse(map, with([](auto& f) { f.nodes.clear(); }), "one node at least");
  refuse(map, with([](auto& f) { f.copies = 0; }), "0 copies");
  refuse(map, with([](auto& f) { f.copies = 6; }), "5 nodes cannot hold 6 copies");
  refuse(map, with([](auto& f) { f.shards = 0; }), "1 to 16384 shards");
  refuse(map, with([](auto& f) { f.shards = 16385; }), "1 to 16384 shards");
  refuse(map, with([](auto& f) { f.nodes[1].id = NodeId(1); }), "not sorted");
  refuse(map, with([](auto& f) { f.nodes[0].id = NodeId(0); }), "id from 1 on");
  refuse(map, with([](auto& f) { f.nodes[4].id = NodeId(UINT64_MAX); }), "id from 1 on");
  refuse(map, with([](auto& f) { f.nodes[0].incarnation = {}; }), "incarnation");
  refuse(map, with([](auto& f) { f.nodes[0].incarnation = f.nodes[3].incarnation; }), "the same incarnation");
  refuse(map, with([](auto& f) { f.nodes[0].peer_address = f.nodes[3].peer_address; }), "the address n4:1");
  refuse(map, with([](auto& f) { f.nodes[0].client_address = ""; }), "an address");
  refuse(map, with([](auto& f) { f.nodes[0].rack = std::string(65, 'x'); }), "64 bytes");
  FoundCluster crowd = founding({.nodes = 4097});
  refuse(map, crowd, "4096 nodes");
}

TEST_CASE("a node joins under an id that nobody had", "[shard]") {
  Map map = founded();
  Answer answer = accept(map, AddNode{Incarnation(2000), "n6:1", "n6:2", "r"});
  CHECK(answer.node == NodeId(6));
  CHECK(map.node(NodeId(6))->state == NodeState::kJoining);
  refuse(map, AddNode{Incarnation(2001), "n6:1", "n6:2", "r"}, "n6:1 is the address of node 6");
  refuse(map, AddNode{{}, "n7:1", "n7:2", ""}, "incarnation");
  refuse(map, AddNode{Incarnation(2001), "", "n7:2", ""}, "address");
  refuse(map, AddNode{Incarnation(2001), std::string(256, 'a'), "n7:2", ""}, "255 bytes");
  refuse(map, NodeUp{NodeId(6), Incarnation(1)}, "another data directory");
  refuse(map, NodeUp{NodeId(8), Incarnation(1)}, "node 8 is unknown; `mneme cluster status` lists the nodes");
  accept(map, NodeUp{NodeId(6), Incarnation(2000)});
  accept(map, RemoveNode{NodeId(6)});
  refuse(map, AddNode{Incarnation(2000), "n6:1", "n6:2", "r"}, "belonged to node 6");
  refuse(map, NodeUp{NodeId(6), Incarnation(2000)}, "was removed");
  CHECK(accept(map, AddNode{Incarnation(2001), "n6:1", "n6:2", "r"}).node == NodeId(7));
}

TEST_CASE("a drain that was undone does not come back with a belated command", "[shard]") {
  Map map = founded();
  DrainNode drain{NodeId(2), 0, true};
  accept(map, drain);
  CHECK(map.node(NodeId(2))->state == NodeState::kDraining);
  accept(map, DrainNode{NodeId(2), 1, false});
  CHECK(map.node(NodeId(2))->state == NodeState::kUp);
  refuse(map, drain, "has changed since");
  refuse(map, DrainNode{NodeId(9), 0, true}, "node 9 is unknown");
}

TEST_CASE("no node is drained or removed whose loss leaves too few for the copies", "[shard]") {
  Map map = founded({.nodes = 4, .shards = 1});
  accept(map, DrainNode{NodeId(1), 0, true});
  refuse(map, DrainNode{NodeId(2), 0, true}, "only 2 nodes are up for 3 copies");
  NodeId empty = add_node(map, 5);
  accept(map, DrainNode{NodeId(2), 0, true});
  refuse(map, RemoveNode{empty}, "only 2 nodes are up for 3 copies");
  refuse(map, SetCopies{3, 4}, "3 nodes are up");
  accept(map, SetCopies{3, 2});
  accept(map, RemoveNode{empty});
}

TEST_CASE("no node is removed while it holds or is to get a replica", "[shard]") {
  Map map = founded({.nodes = 5, .shards = 1});
  const GroupId group = kFirstDataGroup;
  const Configuration& members = map.shard(group)->configuration();
  const NodeId source = members[0].replica.node;
  refuse(map, RemoveNode{source}, "replicas; `mneme cluster drain` moves them away");
  const NodeId target = add_node(map, 6);
  accept(map, begin(map, group, {ActionKind::kMove, source, target}));
  refuse(map, RemoveNode{target}, "operation 1 on shard 2");
  accept(map, advance(map, group));
  refuse(map, RemoveNode{target}, "operation 1 on shard 2");
  // The group has let go of the source, and the map has heard of it, but the operation has not ended.
  accept(map, made_report(map, group));
  CHECK_FALSE(member_on(map.shard(group)->configuration(), source));
  refuse(map, RemoveNode{source}, "operation 1 on shard 2");
  accept(map, advance(map, group));
  refuse(map, RemoveNode{target}, "holds 1 replicas");
}

TEST_CASE("the number of copies is set from what it was", "[shard]") {
  Map map = founded();
  accept(map, SetCopies{3, 5});
  refuse(map, SetCopies{3, 4}, "5 copies are wanted by now");
  refuse(map, SetCopies{5, 0}, "1 to 15 copies");
  refuse(map, SetCopies{5, 16}, "1 to 15 copies");
  refuse(map, SetCopies{5, 6}, "5 nodes are up");
}

TEST_CASE("the cluster's version only rises", "[shard]") {
  Map map = founded();
  accept(map, RaiseClusterVersion{4});
  accept(map, RaiseClusterVersion{3});
  CHECK(map.cluster_version() == 4);
}
