// Leadership goes to nobody who is not there to take it.
#include <set>

#include "core/replica/observer.h"
#include "tests/unit/node/cluster.h"

using namespace mneme;
using namespace mneme::node;

namespace {

// Sees who hands over which group, and to whom.
class Handovers final : public replica::Observer {
 public:
  void moved(NodeId, GroupId group, const raft::Raft& raft) override {
    if (const ReplicaId to = raft.transferring_to()) seen_.insert({group.value, to.node().value});
  }
  bool begun(uint64_t group, uint64_t to) const { return seen_.contains({group, to}); }

 private:
  std::set<std::pair<uint64_t, uint64_t>> seen_;
};

// Nothing is under way, and nothing planned.
bool at_rest(Cluster& cluster) {
  const Json map = cluster.map(1);
  for (const Json& shard : map["shards"])
    if (shard.contains("operation") && shard["operation"]["outcome"] == "pending") return false;
  return cluster.ask(1, {"MNEME.PLAN"}).elements.empty();
}

// Of those that have a replica, the first one that neither leads nor is that one.
uint64_t heir_of(const Json& shard, uint64_t gone) {
  for (const Json& replica : shard["replicas"])
    if (replica["node"] != shard["leader"] && replica["node"] != gone) return replica["node"];
  return 0;
}

}  // namespace

// While it hands over, a leader takes nothing: that of the meta group could not even take that this is given up.
TEST_CASE("the meta group is not handed over to a node that is silent, and goes on deciding", "[node]") {
  Handovers handovers;
  Cluster cluster([&](Config& config) {
    config.shards = 1;
    config.balance = true;
    config.observer = &handovers;
  });
  cluster.run([&] {
    REQUIRE(cluster.serves());
    REQUIRE(cluster.within(60, [&] { return at_rest(cluster); }));
    const uint64_t gone = heir_of(cluster.shard(4, 1), 0);
    const uint64_t asked = gone == 1 ? 2 : 1;
    cluster.in_world([&] { cluster.machine(gone).crash(sim::CrashKind::kPowerLoss); });
    cluster.sleep(2s);
    auto transfer = [&](uint64_t to) { return cluster.ask(asked, {"MNEME.TRANSFER", "1", std::to_string(to)}); };
    Reply begun;
    REQUIRE(cluster.within(30, [&] { return (begun = transfer(gone)).kind == Reply::Kind::kInteger; }));
    CHECK(cluster.outcome(asked, begun.integer) == "abandoned");
    CHECK_FALSE(handovers.begun(1, gone));

    uint64_t heir = 0;
    CHECK(cluster.within(30, [&] {
      if (handovers.begun(1, heir)) return true;
      heir = heir_of(cluster.shard(asked, 1), gone);
      (void)transfer(heir);
      return false;
    }));
  });
}
