// That a map which is not as it must be is noticed: such maps are made by changing bytes of a sound one.
#include "tests/unit/shard/support.h"

using namespace mneme;
using namespace mneme::shard;

namespace {

std::string encoded(const Map& map) {
  std::string bytes;
  map.encode(bytes);
  return bytes;
}

std::string number(uint64_t value) {
  std::string bytes;
  Writer(bytes).u64(value);
  return bytes;
}

std::string slots(SlotRange range) {
  std::string bytes;
  SlotSet(range).encode(bytes);
  return bytes;
}

std::string voter(const Member& member) { return number(member.replica.node.value) + std::string("\1\0\0\0\1", 5); }

// Decoding must fail with `words` when the first `from` is `to` instead.
void notices(const Map& map, const std::string& from, const std::string& to, std::string_view words, size_t after = 0) {
  std::string bytes = encoded(map);
  size_t at = bytes.find(from, after);
  REQUIRE(at != std::string::npos);
  bytes.replace(at, from.size(), to);
  auto decoded = Map::decode(bytes);
  REQUIRE_FALSE(decoded);
  INFO(decoded.error().message);
  CHECK(decoded.error().code == ErrorCode::kCorrupt);
  CHECK(decoded.error().message.find(words) != std::string::npos);
}

// With eight bytes (four for the copies) of the beginning changed.
void notices_at(const Map& map, size_t offset, const std::string& to, std::string_view words) {
  notices(map, encoded(map).substr(offset, to.size()), to, words, offset);
}

constexpr size_t kCopies = 21;
constexpr size_t kNextNode = 33;
constexpr size_t kNextGroup = 41;
constexpr size_t kNextOperation = 49;

}  // namespace

TEST_CASE("a slot with two owners or none is noticed", "[shard]") {
  const Map map = founded({.shards = 4});
  notices(map, slots({4096, 8192}), slots({0, 4096}), "slot 0 is owned by shard 2 and by shard 3");
  notices(map, slots({4096, 8192}), slots({4096, 8193}), "slot 8192 is owned by");
  notices(map, slots({4096, 8192}), slots({4096, 8191}), "16383 slots have an owner");
}

TEST_CASE("ids that were not given out are noticed", "[shard]") {
  Map map = founded();
  accept(map, begin(map, GroupId(2), {ActionKind::kSplit, {}, {}, 100}));
  notices_at(map, kNextNode, number(5), "node 5 is not below the next id 5");
  notices_at(founded(), kNextGroup, number(4), "shard 4 is not below the next id 4");
  notices_at(map, kNextGroup, number(5), "operation 1 makes shard 5");
  notices_at(map, kNextOperation, number(1), "operation 1 is not below the next id 1");
  notices(map, number(1002), number(1001), "no incarnation of its own");
}

TEST_CASE("a replica on a removed node, or two on one, is noticed", "[shard]") {
  Map map = founded({.nodes = 7, .shards = 1});
  const Configuration& on = map.shard(kMetaGroup)->configuration();
  const std::string node = fmt::format("n{}:2", on[0].replica.node.value) + std::string(4, '\0');
  notices(map, node + '\2', node + '\4', "which is removed");
  notices(map, voter(on[0]) + voter(on[1]), voter(on[1]) + voter(on[0]), "two replicas on a node");
  notices(map, voter(on[0]) + voter(on[1]), voter(on[0]) + voter(on[0]), "two replicas on a node");
  notices(map, voter(on[2]), number(8) + std::string("\1\0\0\0\1", 5), "node 8, which is unknown");
  notices(map, voter(on[0]), number(on[0].replica.node.value) + std::string("\2\0\0\0\1", 5), "was not given out");
}

TEST_CASE("fewer nodes than copies are noticed", "[shard]") {
  notices_at(founded(), kCopies, std::string("\6\0\0\0", 4), "5 nodes are up for 6 copies");
}

TEST_CASE("an operation on what is not there is noticed", "[shard]") {
  Map map = founded();
  accept(map, begin(map, GroupId(2), {ActionKind::kSplit, {}, {}, 100}));
  const std::string fields = std::string("\x64\0", 2) + std::string(24, '\0');  // where, source, target
  notices(map, fields + number(5), fields + number(3), "is to make shard 3, which is there");
  notices(map, fields + number(5), fields + number(0), "do not go together");
  notices(map, fields, std::string("\0\0", 2) + fields.substr(2), "leaves a half of shard 2 without slots");
  accept(map, AddNode{Incarnation(9), "new:1", "new:2", ""});
  accept(map, NodeUp{NodeId(6), Incarnation(9)});
  const NodeId source = map.shard(GroupId(3))->configuration()[0].replica.node;
  accept(map, begin(map, GroupId(3), {ActionKind::kMove, source, NodeId(6)}));
  const std::string node = "new:2" + std::string(4, '\0');
  notices(map, node + '\2', node + '\4', "operation 2 needs node 6, which is not there");
}
