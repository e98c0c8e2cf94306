// Commands and maps as bytes: they come back as they were, and no other bytes do harm.
#include <set>

#include "core/base/limits.h"
#include "tests/unit/shard/random.h"
#include "tests/unit/shard/support.h"

using namespace mneme;
using namespace mneme::shard;

namespace {

template <class T>
T random_id(Random& random) {
  return T(random.number());
}

Report random_report(Random& random) {
  Report report;
  report.group = random_id<GroupId>(random);
  report.epoch = random_id<Epoch>(random);
  report.configuration_index = random_id<LogIndex>(random);
  for (uint64_t n = random.below(limits::kMaxReplicas + 1); n > 0; --n) {
    NodeId node = random_id<NodeId>(random);
    auto generation = static_cast<uint32_t>(random());
    report.configuration.push_back({{node, generation}, static_cast<Role>(1 + random.below(4))});
  }
  report.next_generation = static_cast<uint32_t>(random.number());
  for (uint64_t n = random.below(4); n > 0; --n) {
    auto begin = static_cast<uint16_t>(random.below(kSlots));
    report.slots.add({begin, static_cast<uint16_t>(begin + random.below(kSlots - begin + 1u))});
  }
  report.term = random_id<Term>(random);
  report.leader = random_id<NodeId>(random);
  report.number = random.number();
  report.bytes = random.number();
  report.writes_per_second = random.number();
  return report;
}

Command random_command(Random& random) {
  switch (random.below(11)) {
    case 0: {
      FoundCluster found;
      found.cluster = random_id<ClusterId>(random);
      found.cluster_version = static_cast<uint32_t>(random.number());
      found.copies = static_cast<uint32_t>(random.number());
      found.shards = static_cast<uint32_t>(random.number());
      for (uint64_t n = random.below(5); n > 0; --n) {
        Founder& founder = found.nodes.emplace_back();
        founder.id = random_id<NodeId>(random);
        founder.incarnation = random_id<Incarnation>(random);
        founder.peer_address = random.text(20);
        founder.client_address = random.text(limits::kMaxAddressBytes);
        founder.rack = random.text(limits::kMaxRackBytes);
      }
      return found;
    }
    case 1: {
      AddNode add{random_id<Incarnation>(random)};
      add.peer_address = random.text(9);
      add.client_address = random.text(9);
      add.rack = random.text(9);
      return add;
    }
    case 2: {
      NodeUp up{random_id<NodeId>(random)};
      up.incarnation = random_id<Incarnation>(random);
      return up;
    }
    case 3: {
      DrainNode drain{random_id<NodeId>(random)};
      drain.revision = random.number();
      drain.drain = random.one_in(2);
      return drain;
    }
    case 4: return RemoveNode{random_id<NodeId>(random)};
    case 5: {
      SetCopies set{static_cast<uint32_t>(random())};
      set.to = static_cast<uint32_t>(random());
      return set;
    }
    case 6: return RaiseClusterVersion{static_cast<uint32_t>(random())};
    case 7: {
      BeginOperation begin{random_id<GroupId>(random)};
      begin.epoch = random_id<Epoch>(random);
      begin.after = random_id<OperationId>(random);
      begin.action.kind = static_cast<ActionKind>(1 + random.below(5));
      begin.action.source = random_id<NodeId>(random);
      begin.action.target = random_id<NodeId>(random);
      begin.action.at = static_cast<uint16_t>(random());
      return begin;
    }
    case 8: {
      AdvanceOperation advance{random_id<OperationId>(random), static_cast<Step>(1 + random.below(6))};
      advance.report = random_report(random);
      return advance;
    }
    case 9: {
      AbandonOperation abandon{random_id<OperationId>(random), static_cast<Step>(1 + random.below(6))};
      abandon.report = random_report(random);
      return abandon;
    }
    default: return random_report(random);
  }
}

std::string encoded(const Command& command) {
  std::string bytes;
  encode(command, bytes);
  return bytes;
}

std::string encoded(const Map& map) {
  std::string bytes;
  map.encode(bytes);
  return bytes;
}

// With a node of each state, and operations of all kinds and outcomes.
Map busy_map() {
  Map map = founded({.nodes = 7, .shards = 8, .racks = 4});
  auto out = [&](uint64_t group) {
    for (const auto& [id, node] : map.nodes())
      if (node.state == NodeState::kUp && !member_on(map.shard(GroupId(group))->configuration(), id)) return id;
    return NodeId();
  };
  auto in = [&](uint64_t group) { return map.shard(GroupId(group))->configuration()[0].replica.node; };
  accept(map, AddNode{Incarnation(2000), "n8:1", "n8:2", ""});
  accept(map, AddNode{Incarnation(2001), "n9:1", "n9:2", "x"});
  accept(map, RemoveNode{NodeId(8)});
  accept(map, DrainNode{NodeId(7), 0, true});
  accept(map, begin(map, GroupId(2), {ActionKind::kSplit, {}, {}, 5}));
  carry_out(map, GroupId(3), {ActionKind::kSplit, {}, {}, map.shard(GroupId(3))->slots.nth(9)});
  accept(map, begin(map, GroupId(4), {ActionKind::kMove, in(4), out(4)}));
  accept(map, advance(map, GroupId(4)));
  accept(map, begin(map, GroupId(5), {ActionKind::kAdd, {}, out(5)}));
  carry_out(map, GroupId(6), {ActionKind::kAdd, {}, out(6)});
  accept(map, begin(map, GroupId(6), {ActionKind::kRemove, in(6), {}}));
  accept(map, begin(map, GroupId(7), {ActionKind::kTransfer, {}, in(7)}));
  accept(map, begin(map, GroupId(8), {ActionKind::kSplit, {}, {}, map.shard(GroupId(8))->slots.nth(9)}));
  accept(map, abandon(map, GroupId(8)));
  return map;
}

}  // namespace

TEST_CASE("a command comes back as it was encoded", "[shard]") {
  Random random(1);
  std::set<size_t> kinds;
  for (int n = 0; n < 5000; ++n) {
    Command command = random_command(random);
    kinds.insert(command.index());
    auto decoded = decode_command(encoded(command));
    REQUIRE(decoded);
    REQUIRE(*decoded == command);
  }
  CHECK(kinds.size() == std::variant_size_v<Command>);
}

TEST_CASE("a command's bytes are those of version 1", "[shard]") {
  auto eight = [](char low) { return std::string(1, low) + std::string(7, '\0'); };
  BeginOperation begin{GroupId(3), Epoch(4), OperationId(5), {ActionKind::kMove, NodeId(6), NodeId(7), 0}};
  CHECK(encoded(begin) == std::string("\x01\x08", 2) + eight(3) + eight(4) + eight(5) + "\x02" + eight(6) + eight(7) +
                              std::string(2, '\0'));
  Report report;
  report.group = GroupId(2);
  report.epoch = Epoch(3);
  report.configuration_index = LogIndex(4);
  report.configuration = {{{NodeId(5), 6}, Role::kLearner}};
  report.next_generation = 7;
  report.slots.add({1, 9});
  report.term = Term(8);
  report.leader = NodeId(9);
  report.number = 10;
  report.bytes = 11;
  report.writes_per_second = 12;
  CHECK(encoded(report) == std::string("\x01\x0b", 2) + eight(2) + eight(3) + eight(4) + std::string("\1\0\0\0", 4) +
                               eight(5) + std::string("\6\0\0\0\2\7\0\0\0\1\0\1\0\x09\0", 15) + eight(8) + eight(9) +
                               eight(10) + eight(11) + eight(12));
  AddNode add{Incarnation(1), "a", "bc", ""};
  CHECK(encoded(add) == std::string("\x01\x02", 2) + eight(1) + std::string("\1\0\0\0a\2\0\0\0bc\0\0\0\0", 15));
}

TEST_CASE("every prefix of a command is an error, and so is a byte too many", "[shard]") {
  Random random(2);
  for (int n = 0; n < 200; ++n) {
    std::string bytes = encoded(random_command(random));
    for (size_t size = 0; size < bytes.size(); ++size)
      REQUIRE_FALSE(decode_command(std::string_view(bytes).substr(0, size)));
    REQUIRE_FALSE(decode_command(bytes + '\0'));
  }
}

TEST_CASE("random and damaged commands give an error or what encodes to the same bytes, and a sound map", "[shard]") {
  Random random(3);
  Map map = busy_map();
  size_t accepted = 0;
  for (int n = 0; n < 30000; ++n) {
    std::string bytes = n % 4 == 0 ? random.text(200) : encoded(random_command(random));
    if (n % 4 == 0 && bytes.size() > 1) {
      bytes[0] = 1;
      bytes[1] = static_cast<char>(1 + random.below(11));
    }
    if (n % 4 == 1) random.damage(bytes);
    auto command = decode_command(bytes);
    if (!command) continue;
    REQUIRE(encoded(*command) == bytes);
    if (map.apply(*command)) ++accepted;
    if (n % 16 == 0) REQUIRE(map.check() == std::nullopt);
  }
  REQUIRE(map.check() == std::nullopt);
  CHECK(accepted > 0);
}

TEST_CASE("unknown versions, kinds and values are refused by name", "[shard]") {
  std::string bytes = encoded(RemoveNode{NodeId(1)});
  bytes[0] = 2;
  CHECK(decode_command(bytes).error().code == ErrorCode::kUnsupported);
  bytes[0] = 1;
  for (char kind : {'\0', '\x0c', '\xff'}) {
    bytes[1] = kind;
    CHECK(decode_command(bytes).error().code == ErrorCode::kUnsupported);
  }
  bytes = encoded(DrainNode{NodeId(1), 1, true});
  bytes.back() = 2;
  CHECK(decode_command(bytes).error().code == ErrorCode::kCorrupt);
  bytes = encoded(AddNode{Incarnation(1), std::string(limits::kMaxAddressBytes + 1, 'x'), "b", ""});
  CHECK(decode_command(bytes).error().code == ErrorCode::kTooLarge);
}

TEST_CASE("counts beyond the input are refused before anything is allocated", "[shard]") {
  std::string bytes = encoded(FoundCluster{});
  for (size_t i = 1; i <= 4; ++i) bytes[bytes.size() - i] = '\xff';
  CHECK(decode_command(bytes).error().code == ErrorCode::kTooLarge);
  bytes[bytes.size() - 1] = bytes[bytes.size() - 2] = 0;
  bytes[bytes.size() - 3] = 0x0f;
  CHECK(decode_command(bytes).error().code == ErrorCode::kCorrupt);
}

TEST_CASE("a map comes back as it was encoded", "[shard]") {
  for (const Map& map : {Map(), founded({}), founded({.nodes = 40, .shards = 1000, .racks = 5}), busy_map()}) {
    auto decoded = Map::decode(encoded(map));
    REQUIRE(decoded);
    CHECK(*decoded == map);
    CHECK(decoded->digest() == map.digest());
    for (uint16_t slot = 0; slot < kSlots; ++slot) REQUIRE(decoded->owner_of(slot) == map.owner_of(slot));
  }
  CHECK(busy_map().digest() != founded({}).digest());
}

TEST_CASE("a map's bytes are those of version 1", "[shard]") {
  // A change of the format needs another version, and this one must stay readable.
  const std::string bytes = encoded(busy_map());
  CHECK(bytes.size() == 2337);
  CHECK(xxh3(bytes) == 0xdd7db2c1d4470f3f);
  const std::string empty = encoded(Map());
  CHECK(empty == std::string("\1", 1) + std::string(8 + 8 + 4 + 4 + 8, '\0') + std::string("\1\0\0\0\0\0\0\0", 8) +
                     std::string("\2\0\0\0\0\0\0\0", 8) + std::string("\1\0\0\0\0\0\0\0", 8) + std::string(8, '\0'));
}

TEST_CASE("every prefix of a map is an error, and so is a byte too many", "[shard]") {
  std::string bytes = encoded(busy_map());
  for (size_t size = 0; size < bytes.size(); ++size)
    REQUIRE_FALSE(Map::decode(std::string_view(bytes).substr(0, size)));
  REQUIRE_FALSE(Map::decode(bytes + '\0'));
}

TEST_CASE("a damaged map gives an error or another sound map that encodes to the same bytes", "[shard]") {
  Random random(4);
  const std::string good = encoded(busy_map());
  size_t accepted = 0;
  for (int n = 0; n < 20000; ++n) {
    std::string bytes = n % 10 == 0 ? '\1' + random.text(300) : good;
    if (n % 10 != 0) random.damage(bytes);
    auto map = Map::decode(bytes);
    if (!map) continue;
    ++accepted;
    REQUIRE(encoded(*map) == bytes);
    REQUIRE(map->check() == std::nullopt);
  }
  CHECK(accepted > 100);
}
