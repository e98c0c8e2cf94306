// The invariants themselves: each is shown a replica that breaks it.
#include "core/raft/invariants.h"

#include "core/raft/raft.h"
#include "tests/test.h"
#include "tests/unit/raft/random_world.h"

namespace mneme::raft {

namespace {

// Three replicas whose messages and disks are driven by hand.
struct Three {
  explicit Three(std::vector<Durable> durable = {{}, {}, {}}) {
    for (uint32_t n = 1; n <= 3; ++n) {
      Config config{.id = ReplicaId(n), .voters = {ReplicaId(1), ReplicaId(2), ReplicaId(3)}};
      rafts.push_back(std::make_unique<Raft>(config, durable[n - 1], Instant{}, chance, probes));
    }
  }
  Raft& at(uint32_t n) { return *rafts[n - 1]; }
  // Takes what `from` has to say; persists it first unless `lazy`. What only depends on the disk leaves too.
  std::vector<Message> drive(uint32_t from, bool lazy = false) {
    std::vector<Message> out;
    while (at(from).has_ready()) {
      Ready ready = at(from).ready();
      if (!lazy) at(from).persisted(ready.number);
      for (auto* list : {&ready.messages, &ready.messages_after_persist})
        out.insert(out.end(), list->begin(), list->end());
    }
    seen(from);
    return out;
  }
  void deliver(std::vector<Message> messages, uint32_t to) {
    for (Message& m : messages)
      if (m.to == ReplicaId(to)) at(to).step(std::move(m), Instant{2'000'000'000});
    seen(to);
  }
  void seen(uint32_t n) {
    if (!violation) violation = cluster.observe(at(n));
  }
  // Node 1 campaigns, node 2 votes; `lazy`: before its disk knows.
  void elect(bool lazy) {
    at(1).campaign(Instant{2'000'000'000});
    deliver(drive(1), 2);
    deliver(drive(2), 1);
    deliver(drive(1), 2);
    deliver(drive(2, lazy), 1);
  }

  TestChance chance{7};
  TestProbes probes;
  std::vector<std::unique_ptr<Raft>> rafts;
  ClusterInvariants cluster;
  std::optional<std::string> violation;
};

}  // namespace

TEST_CASE("a leader with durable votes of a majority that commits what a majority holds is in order") {
  Three three;
  three.elect(false);
  REQUIRE(three.at(1).role() == Role::kLeader);
  three.deliver(three.drive(1), 2);
  three.deliver(three.drive(2), 1);
  REQUIRE(three.at(1).commit() == LogIndex(1));
  CHECK(three.violation == std::nullopt);
}

TEST_CASE("a leader elected by a vote that is not durable is noticed") {
  Three three;
  three.elect(true);
  REQUIRE(three.at(1).role() == Role::kLeader);
  REQUIRE(three.violation);
  CHECK(*three.violation == "node 1 in term 1: leads with 1 durable votes of 3 voters");
}

TEST_CASE("an entry committed by an acknowledgement that is not durable is noticed") {
  Three three;
  three.elect(false);
  three.deliver(three.drive(1), 2);
  three.deliver(three.drive(2, true), 1);
  REQUIRE(three.at(1).commit() == LogIndex(1));
  REQUIRE(three.violation);
  CHECK(*three.violation == "node 1 in term 1: committed entry 1, which is durable on 1 of 3 voters");
}

TEST_CASE("a replica that comes back without what was durable is noticed, unless it is suspect") {
  Three three;
  three.elect(false);
  three.deliver(three.drive(1), 2);
  three.drive(2);
  REQUIRE(three.at(2).persisted_index() == LogIndex(1));
  const Entry entry = three.at(2).entry_at(LogIndex(1));
  const HardState hard{Term(1), ReplicaId(1)};
  auto back_with = [&](Durable durable) {
    Config config{.id = ReplicaId(2), .voters = {ReplicaId(1), ReplicaId(2), ReplicaId(3)}};
    const Raft raft(config, std::move(durable), Instant{}, three.chance, three.probes);
    return three.cluster.restarted(raft).value_or("");
  };
  CHECK(back_with({hard, {}, {entry}}) == "");
  CHECK(back_with({hard, {LogIndex(2), Term(1)}, {}}) == "");
  CHECK(back_with({hard, {}, {}, true}) == "");
  CHECK(back_with({hard, {}, {}}) ==
        "node 2 in term 1: came back without entry 1 of term 1, which was durable, and is not suspect");
  CHECK(back_with({{Term(1), ReplicaId()}, {}, {entry}}) ==
        "node 2 in term 1: came back without its vote for 1, which was durable");
  CHECK(back_with({{}, {}, {}}) == "node 2 in term 0: came back without term 1, which was durable");
}

TEST_CASE("a leader that commits an earlier term's entry by counting replicas is noticed") {
  View before{.id = ReplicaId(1), .role = Role::kLeader, .term = Term(4), .vote = ReplicaId(1), .leader = ReplicaId(1)};
  before.commit = LogIndex(1);
  before.commit_term = Term(1);
  before.last = LogIndex(3);
  before.last_term = Term(4);
  before.first = LogIndex(1);
  View after = before;
  after.commit = LogIndex(3);
  after.commit_term = Term(4);
  CHECK(check_transition(before, after) == std::nullopt);
  after.commit = LogIndex(2);
  after.commit_term = Term(2);
  REQUIRE(check_transition(before, after));
  CHECK(*check_transition(before, after) == "node 1 in term 4: committed entry 2 of term 2 by counting replicas");
}

}  // namespace mneme::raft
