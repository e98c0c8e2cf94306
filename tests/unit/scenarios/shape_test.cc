// What the logs say of the cluster's shape: a legal story passes, and each kind of mistake in one is found.
#include "core/kv/internal.h"
#include "sim/scenarios/kv_shape.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::sim;

namespace {

constexpr GroupId kLower{2};
constexpr GroupId kUpper{3};
constexpr GroupId kChild{4};
constexpr uint16_t kMiddle = kSlots / 2;

raft::Configuration voters(std::vector<ReplicaId> ids, uint32_t generation = 1) {
  raft::Configuration configuration;
  configuration.voters = std::move(ids);
  configuration.generation = generation;
  return configuration;
}

ReplicaId on(uint64_t node, uint32_t generation = 1) { return ReplicaId(NodeId(node), generation); }

// Groups 2 and 3, on three nodes.
struct Story {
  KvShape shape{2};
  std::map<GroupId, LogIndex> last;

  std::optional<std::string> append(GroupId group, raft::EntryKind kind, std::string payload) {
    last[group] = last[group].next();
    return shape.applied(group, {Term(1), last[group], kind, std::make_shared<const std::string>(std::move(payload))});
  }
  std::optional<std::string> command(GroupId group, const std::vector<std::string>& words) {
    kv::BatchBuilder batch({});
    batch.add({}, std::vector<std::string_view>(words.begin(), words.end()));
    return append(group, raft::EntryKind::kData, std::move(batch).finish());
  }
  std::optional<std::string> configure(GroupId group, const raft::Configuration& configuration) {
    return append(group, raft::EntryKind::kConfig, raft::encode(configuration));
  }
  std::optional<std::string> tell(const shard::Command& command) {
    return this->command(shard::kMetaGroup, kv::map_command(command));
  }
  std::optional<std::string> begin(GroupId group, shard::SlotRange range) {
    return command(group, kv::begin_command(Epoch(1), shard::SlotSet(range)));
  }
  std::optional<std::string> split(GroupId group, Epoch epoch, uint16_t at) {
    return command(group, kv::split_command({.epoch = epoch,
                                             .at = at,
                                             .child = kChild,
                                             .operation = shard::OperationId(1),
                                             .configuration = raft::encode(voters({on(1), on(2), on(3)}))}));
  }
  void found() {
    shard::FoundCluster command{.cluster = ClusterId(7), .copies = 3, .shards = 2};
    for (uint64_t node : {1, 2, 3})
      command.nodes.push_back({NodeId(node), Incarnation(node), "p" + std::to_string(node), "c", ""});
    REQUIRE(tell(command) == std::nullopt);
    for (GroupId group : {kLower, kUpper}) REQUIRE(configure(group, voters({on(1), on(2), on(3)})) == std::nullopt);
    REQUIRE(begin(kLower, {0, kMiddle}) == std::nullopt);
    REQUIRE(begin(kUpper, {kMiddle, kSlots}) == std::nullopt);
  }
  shard::Report report(GroupId group, Epoch epoch, shard::SlotRange range) const {
    shard::Report report{.group = group,
                         .epoch = epoch,
                         .next_generation = 2,
                         .slots = shard::SlotSet(range),
                         .term = Term(1),
                         .leader = NodeId(1),
                         .number = 1};
    for (uint64_t node : {1, 2, 3}) report.configuration.push_back({{NodeId(node), 1}, shard::Role::kVoter});
    return report;
  }
};

}  // namespace

TEST_CASE("a cluster that is founded, splits a shard and says so is as it should be", "[scenarios]") {
  Story story;
  story.found();
  CHECK(story.tell(shard::BeginOperation{kLower, Epoch(1), {}, {shard::ActionKind::kSplit, {}, {}, 100}}) ==
        std::nullopt);
  CHECK(story.split(kLower, Epoch(1), 100) == std::nullopt);
  CHECK(story.tell(shard::AdvanceOperation{shard::OperationId(1), shard::Step::kSplit,
                                           story.report(kLower, Epoch(2), {0, 100})}) == std::nullopt);
  CHECK(story.shape.map().shard(kChild)->slots.text() == "100-8191");
  CHECK(story.shape.configurations(kChild).size() == 1);
  const kv::ShardState child{Epoch(2), Epoch(2), shard::SlotSet({100, kMiddle})};
  CHECK(story.shape.shown(NodeId(2), kChild, LogIndex(1), child) == std::nullopt);
  CHECK(story.shape.shown(NodeId(2), kLower, LogIndex(2), {Epoch(1), Epoch(1), shard::SlotSet({0, kMiddle})}) ==
        std::nullopt);
  SECTION("who still has the whole is found") {
    CHECK(story.shape.shown(NodeId(2), kLower, LogIndex(3), {Epoch(1), Epoch(1), shard::SlotSet({0, kMiddle})}));
  }
  SECTION("so is who splits the same child off again") { CHECK(story.split(kUpper, Epoch(1), 9000)); }
}

TEST_CASE("groups whose slots overlap, or leave some out, are found", "[scenarios]") {
  Story story;
  CHECK(story.begin(kLower, {0, kMiddle}) == std::nullopt);
  CHECK(story.begin(kUpper, {kMiddle - 1, kSlots}));
  Story other;
  CHECK(other.begin(kLower, {0, kMiddle}) == std::nullopt);
  CHECK(other.begin(kUpper, {kMiddle + 1, kSlots}));
}

TEST_CASE("a replica that was removed and returns with its generation is found", "[scenarios]") {
  Story story;
  story.found();
  CHECK(story.configure(kLower, voters({on(1), on(2)})) == std::nullopt);
  CHECK(story.configure(kLower, voters({on(1), on(2), on(3, 2)}, 2)) == std::nullopt);
  CHECK(story.configure(kLower, voters({on(1), on(2), on(3)}, 2)));
}

TEST_CASE("a map that says of a shard what its log does not is found", "[scenarios]") {
  Story story;
  story.found();
  SECTION("an epoch that it has not reached") { CHECK(story.tell(story.report(kLower, Epoch(2), {0, kMiddle}))); }
  SECTION("other replicas") {
    CHECK(story.configure(kLower, voters({on(1), on(2)})) == std::nullopt);
    CHECK(story.tell(story.report(kLower, Epoch(2), {0, kMiddle})));
  }
}

TEST_CASE("what may be in force is the last committed configuration and what follows it", "[scenarios]") {
  Story story;
  story.found();
  const raft::Configuration first = voters({on(1), on(2), on(3)});
  const raft::Configuration second = voters({on(1), on(2), on(4, 2)}, 2);
  story.shape.in_force(kLower, LogIndex(3), second);
  CHECK(story.shape.configurations(kLower) == std::vector{first, second});
  auto only = [](std::vector<uint64_t> nodes) {
    return [nodes](ReplicaId id) { return std::find(nodes.begin(), nodes.end(), id.node().value) != nodes.end(); };
  };
  CHECK(story.shape.has_majority(kLower, only({1, 2})));
  CHECK_FALSE(story.shape.has_majority(kLower, only({1, 3})));
  CHECK_FALSE(story.shape.has_majority(kLower, only({1, 4})));
  CHECK(story.configure(kLower, second) == std::nullopt);
  CHECK(story.shape.configurations(kLower) == std::vector{second});
  CHECK(story.shape.has_majority(kLower, only({1, 4})));
}
