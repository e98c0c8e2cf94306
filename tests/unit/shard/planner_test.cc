// What is planned in each situation, why, and within which limits.
#include "core/shard/planner.h"

#include <map>
#include <set>

#include "core/base/limits.h"
#include "tests/unit/shard/support.h"

using namespace mneme;
using namespace mneme::shard;

namespace {

constexpr GroupId kGroup{2};
constexpr uint64_t kLost = 400'000;

std::vector<Liveness> heard(const Map& map, std::initializer_list<std::pair<NodeId, uint64_t>> silent = {}) {
  std::vector<Liveness> liveness;
  for (const auto& [id, node] : map.nodes()) {
    Liveness one{id, 0};
    for (auto [other, ms] : silent)
      if (other == id) one.silent_ms = ms;
    liveness.push_back(one);
  }
  return liveness;
}

const Proposal* of(const Plan& plan, GroupId group) {
  for (const Proposal& proposal : plan.operations)
    if (proposal.command.group == group) return &proposal;
  return nullptr;
}

size_t count(const Plan& plan, ActionKind kind) {
  return static_cast<size_t>(std::count_if(plan.operations.begin(), plan.operations.end(),
                                           [&](const Proposal& p) { return p.command.action.kind == kind; }));
}

void has(const std::string& text, std::string_view words) {
  INFO(text);
  CHECK(text.find(words) != std::string::npos);
}

// With leaders, as evenly as can be.
Map tidy(Shape shape) {
  Map map = founded(shape);
  std::map<NodeId, size_t> leads;
  for (GroupId group{1}; group < map.next_group(); group = group.next()) {
    Report report = report_of(map, group);
    report.term = Term(1);
    for (const Member& m : report.configuration)
      if (!report.leader || leads[m.replica.node] < leads[report.leader]) report.leader = m.replica.node;
    ++leads[report.leader];
    REQUIRE(map.apply(report));
  }
  return map;
}

NodeId holder(const Map& map, size_t i, GroupId group = kGroup) {
  return map.shard(group)->configuration().at(i).replica.node;
}

void add_nodes(Map& map, size_t n, std::string rack = "") {
  for (; n > 0; --n) {
    const uint64_t number = map.next_node().value;
    accept(map, AddNode{Incarnation(1000 + number), fmt::format("n{}:1", number), "c", rack});
    accept(map, NodeUp{NodeId(number), Incarnation(1000 + number)});
  }
}

void set_load(Map& map, GroupId group, uint64_t bytes, uint64_t writes) {
  Report report = report_of(map, group);
  ++report.number;
  report.bytes = bytes;
  report.writes_per_second = writes;
  accept(map, report);
}

}  // namespace

TEST_CASE("nothing is planned for a cluster that is as it should be, or that there is not", "[shard]") {
  CHECK(plan(Map(), {}).operations.empty());
  for (Shape shape : {Shape{1, 1, 1}, Shape{3, 2, 3}, Shape{6, 12, 3, 3}}) {
    Map map = tidy(shape);
    Plan planned = plan(map, heard(map));
    INFO((planned.operations.empty() ? "" : planned.operations[0].reason));
    CHECK(planned.operations.empty());
    CHECK(planned.obstacles.empty());
  }
}

TEST_CASE("a replica on a lost node is replaced, and not before the node counts as lost", "[shard]") {
  Map map = tidy({.nodes = 4, .shards = 3});
  const NodeId lost = holder(map, 1);
  CHECK(count(plan(map, heard(map, {{lost, 299'000}})), ActionKind::kMove) == 0);
  Plan planned = plan(map, heard(map, {{lost, 412'345}}));
  const Proposal* proposal = of(planned, kGroup);
  REQUIRE(proposal);
  CHECK(proposal->command.action.kind == ActionKind::kMove);
  CHECK(proposal->command.action.source == lost);
  has(proposal->reason, fmt::format("move shard 2 from n{} to n", lost.value));
  has(proposal->reason, fmt::format(": n{} has been silent for 412 s", lost.value));
  CHECK(map.apply(proposal->command));
}

TEST_CASE("the shards nearest to standing still are repaired first", "[shard]") {
  Map map = founded({.nodes = 7, .shards = 7});
  const NodeId lost = holder(map, 0, GroupId(7));
  const NodeId quiet = holder(map, 1, GroupId(7));
  PlanOptions options;
  options.max_pending = 1;
  Plan planned = plan(map, heard(map, {{lost, kLost}}), options);
  REQUIRE(planned.operations.size() == 1);
  CHECK(planned.operations[0].command.group != GroupId(7));
  // With another of its voters silent it can do nothing; no room is wasted on it.
  planned = plan(map, heard(map, {{lost, kLost}, {quiet, 10'000}}), options);
  REQUIRE(planned.obstacles.size() >= 1);
  has(planned.obstacles[0], "cannot be changed: of its 3 voters 1 are heard of");
  accept(map, SetCopies{3, 5});
  for (uint64_t group = 1; group <= 8; ++group) {  // a fourth and a fifth voter for all others
    if (group == 7) continue;
    while (voters_of(map.shard(GroupId(group))->configuration()) < 5)
      for (NodeId id{1}; id <= NodeId(7); id = id.next())
        if (!member_on(map.shard(GroupId(group))->configuration(), id) && id != lost) {
          carry_out(map, GroupId(group), {ActionKind::kAdd, {}, id});
          break;
        }
  }
  planned = plan(map, heard(map, {{lost, kLost}}), options);
  REQUIRE(planned.operations.size() == 1);
  CHECK(planned.operations[0].command.group == GroupId(7));
}

TEST_CASE("nothing is planned on hearsay: nodes that were never heard of are neither used nor replaced", "[shard]") {
  Map map = tidy({.nodes = 4, .shards = 3});
  CHECK(plan(map, {}).operations.empty());
  accept(map, DrainNode{holder(map, 0), 0, true});
  CHECK(plan(map, {}).operations.empty());
  CHECK(plan(map, std::vector<Liveness>{{NodeId(99), kLost}}).operations.empty());
}

TEST_CASE("without a place for a lost copy the plan is empty and says so", "[shard]") {
  Map map = tidy({.nodes = 3, .shards = 1});
  Plan planned = plan(map, heard(map, {{NodeId(2), kLost}}));
  CHECK(planned.operations.empty());
  REQUIRE(planned.obstacles.size() == 2);  // of the meta group, too
  has(planned.obstacles[1], "shard 2 waits for a node to replace its copy on a lost node");
}

TEST_CASE("leadership leaves a draining node before its replicas do", "[shard]") {
  Map map = tidy({.nodes = 4, .shards = 1});
  const NodeId drained = map.shard(kGroup)->last.leader;
  accept(map, DrainNode{drained, 0, true});
  Plan planned = plan(map, heard(map));
  const Proposal* proposal = of(planned, kGroup);
  REQUIRE(proposal);
  CHECK(proposal->command.action.kind == ActionKind::kTransfer);
  has(proposal->reason, fmt::format("lead shard 2: n{} is draining", drained.value));
  carry_out(map, kGroup, proposal->command.action);
  planned = plan(map, heard(map));
  proposal = of(planned, kGroup);
  REQUIRE(proposal);
  CHECK(proposal->command.action.kind == ActionKind::kMove);
  CHECK(proposal->command.action.source == drained);
  has(proposal->reason, fmt::format(": n{} is draining", drained.value));
}

TEST_CASE("copies are added where too few are, and removed where too many are", "[shard]") {
  Map map = tidy({.nodes = 5, .shards = 1});
  accept(map, SetCopies{3, 4});
  Plan planned = plan(map, heard(map));
  const Proposal* proposal = of(planned, kGroup);
  REQUIRE(proposal);
  CHECK(proposal->command.action.kind == ActionKind::kAdd);
  has(proposal->reason, "it has 3 of 4 wanted");
  carry_out(map, kGroup, proposal->command.action);
  accept(map, SetCopies{4, 3});
  planned = plan(map, heard(map));
  proposal = of(planned, kGroup);
  REQUIRE(proposal);
  CHECK(proposal->command.action.kind == ActionKind::kRemove);
  CHECK(proposal->command.action.source != map.shard(kGroup)->last.leader);
  has(proposal->reason, "it has 4 copies of 3 wanted");
  // Not while one is silent; the lost one goes first.
  const NodeId silent = holder(map, 0);
  planned = plan(map, heard(map, {{silent, 10'000}}));
  CHECK(of(planned, kGroup) == nullptr);
  planned = plan(map, heard(map, {{silent, kLost}}));
  proposal = of(planned, kGroup);
  REQUIRE(proposal);
  CHECK(proposal->command.action.kind == ActionKind::kRemove);
  CHECK(proposal->command.action.source == silent);
}

TEST_CASE("a learner that nothing needs is removed", "[shard]") {
  Map map = tidy({.nodes = 4, .shards = 1});
  NodeId spare;
  for (const auto& [id, node] : map.nodes())
    if (!member_on(map.shard(kGroup)->configuration(), id)) spare = id;
  accept(map, begin(map, kGroup, {ActionKind::kMove, holder(map, 0), spare}));
  accept(map, advance(map, kGroup));
  CHECK(of(plan(map, heard(map)), kGroup) == nullptr);  // its operation needs it
  accept(map, abandon(map, kGroup));
  Plan planned = plan(map, heard(map));
  const Proposal* proposal = of(planned, kGroup);
  REQUIRE(proposal);
  CHECK(proposal->command.action == Action{ActionKind::kRemove, spare, {}});
  // Also where it is in the way of a repair: there is no other place.
  planned = plan(map, heard(map, {{holder(map, 0) == spare ? holder(map, 1) : holder(map, 0), kLost}}));
  proposal = of(planned, kGroup);
  REQUIRE(proposal);
  CHECK(proposal->command.action == Action{ActionKind::kRemove, spare, {}});
}

TEST_CASE("an operation whose target is gone is given up, and then its shard is mended", "[shard]") {
  Map map = tidy({.nodes = 5, .shards = 1});
  NodeId spare;
  for (const auto& [id, node] : map.nodes())
    if (!member_on(map.shard(kGroup)->configuration(), id)) spare = id;
  const NodeId first = holder(map, 0);
  const NodeId second = holder(map, 1);
  accept(map, begin(map, kGroup, {ActionKind::kMove, first, spare}));
  accept(map, advance(map, kGroup));
  CHECK(plan(map, heard(map, {{spare, 10'000}})).give_up.empty());
  Plan planned = plan(map, heard(map, {{spare, kLost}}));
  REQUIRE(planned.give_up.size() == 1);
  CHECK(planned.give_up[0].group == kGroup);
  CHECK(planned.give_up[0].operation == OperationId(1));
  CHECK(planned.give_up[0].step == Step::kSwap);
  has(planned.give_up[0].reason, fmt::format("abandon operation 1 on shard 2 (move n{} to n{}): n{} is silent",
                                             first.value, spare.value, spare.value));
  // Without a majority nothing can be abandoned either.
  planned = plan(map, heard(map, {{spare, kLost}, {first, kLost}, {second, kLost}}));
  CHECK(planned.give_up.empty());
  accept(map, abandon(map, kGroup));
  planned = plan(map, heard(map, {{spare, kLost}}));
  CHECK(planned.give_up.empty());
  REQUIRE(of(planned, kGroup));
  CHECK(of(planned, kGroup)->command.action == Action{ActionKind::kRemove, spare, {}});
  // A node that is drained before it has its copy need not get it.
  carry_out(map, kGroup, of(planned, kGroup)->command.action);
  accept(map, begin(map, kGroup, {ActionKind::kMove, first, spare}));
  accept(map, DrainNode{spare, 0, true});
  planned = plan(map, heard(map));
  REQUIRE(planned.give_up.size() == 1);
  has(planned.give_up[0].reason, "is draining");
}

TEST_CASE("operations that cannot go on do not take up the room of others", "[shard]") {
  Map map = tidy({.nodes = 12, .shards = 60});
  PlanOptions options;
  options.max_pending = 4;
  const Configuration dead = map.shard(kGroup)->configuration();
  for (GroupId group{2}; group < map.next_group(); group = group.next())
    if (map.shard(group)->configuration() == dead)
      accept(map, begin(map, group,
                        {ActionKind::kTransfer,
                         {},
                         holder(map, map.shard(group)->last.leader == dead[0].replica.node ? 1 : 0, group)}));
  REQUIRE(map.next_operation() >= OperationId(4));
  const auto silent = heard(map, {{dead[0].replica.node, kLost}, {dead[1].replica.node, kLost}});
  CHECK(plan(map, silent, options).operations.size() == 4);
}

TEST_CASE("copies are spread over racks where there are some", "[shard]") {
  Map map = tidy({.nodes = 3, .shards = 2, .copies = 3, .racks = 1});
  CHECK(plan(map, heard(map)).operations.empty());
  add_nodes(map, 1, "other");
  Plan planned = plan(map, heard(map));
  const Proposal* proposal = of(planned, kGroup);
  REQUIRE(proposal);
  CHECK(proposal->command.action.kind == ActionKind::kMove);
  CHECK(proposal->command.action.target == NodeId(4));
  has(proposal->reason, "its rack holds 3 copies");
  carry_out(map, kGroup, proposal->command.action);
  // 2 and 1 is as even as two racks can be.
  planned = plan(map, heard(map));
  proposal = of(planned, kGroup);
  CHECK((!proposal || proposal->reason.find("rack") == std::string::npos));
  add_nodes(map, 1, "third");
  planned = plan(map, heard(map));
  proposal = of(planned, kGroup);
  REQUIRE(proposal);
  CHECK(proposal->command.action.target == NodeId(5));
}

TEST_CASE("a lost copy is replaced in a rack that has none, however full its nodes are", "[shard]") {
  Map map = tidy({.nodes = 9, .shards = 30, .copies = 3, .racks = 3});
  add_nodes(map, 2, "rack001");
  const NodeId lost{1};
  PlanOptions options;
  options.max_pending_per_node = 1;  // so that the nodes of its rack are soon busy, and those of others are not
  size_t replaced = 0;
  for (const Proposal& proposal : plan(map, heard(map, {{lost, kLost}}), options).operations) {
    if (proposal.command.action.source != lost) continue;
    ++replaced;
    std::set<std::string> racks{map.node(proposal.command.action.target)->rack};
    for (const Member& m : map.shard(proposal.command.group)->configuration())
      if (m.replica.node != lost) racks.insert(map.node(m.replica.node)->rack);
    CHECK(racks.size() == 3);
  }
  CHECK(replaced >= 2);
  CHECK(replaced < 10);
}

TEST_CASE("a shard is split by size and by load, in its middle, and the map itself never", "[shard]") {
  Map map = tidy({.nodes = 3, .shards = 2});
  PlanOptions options;
  options.split_bytes = 100 << 20;
  options.split_writes_per_second = 500;
  set_load(map, GroupId(2), 100 << 20, 500);
  set_load(map, kMetaGroup, 900 << 20, 900);
  CHECK(count(plan(map, heard(map), options), ActionKind::kSplit) == 0);
  set_load(map, GroupId(2), 101 << 20, 0);
  set_load(map, GroupId(3), 0, 501);
  Plan planned = plan(map, heard(map), options);
  REQUIRE(of(planned, GroupId(2)));
  REQUIRE(of(planned, GroupId(3)));
  CHECK(of(planned, GroupId(2))->command.action == Action{ActionKind::kSplit, {}, {}, 4096});
  CHECK(of(planned, GroupId(2))->reason == "split shard 2 at slot 4096: it has 101 MiB, the limit is 100");
  CHECK(of(planned, GroupId(3))->reason == "split shard 3 at slot 12288: it has 501 writes/s, the limit is 500");
  CHECK(count(planned, ActionKind::kSplit) == 2);
  // What was split is not split again before it has said how large it is.
  carry_out(map, GroupId(2), of(planned, GroupId(2))->command.action);
  CHECK(of(plan(map, heard(map), options), GroupId(2)) == nullptr);
}

TEST_CASE("a shard of one slot is not split", "[shard]") {
  Map map = tidy({.nodes = 3, .shards = 16384});  // as many as there are slots
  set_load(map, GroupId(9), 100ull << 30, 0);
  CHECK(count(plan(map, heard(map)), ActionKind::kSplit) == 0);
}

TEST_CASE("a new node is given replicas, and says why", "[shard]") {
  Map map = tidy({.nodes = 6, .shards = 59});
  add_nodes(map, 1);
  Plan planned = plan(map, heard(map));
  REQUIRE(planned.operations.size() == 2);  // as many as it may get at once
  CHECK(planned.operations[0].command.action.target == NodeId(7));
  has(planned.operations[0].reason, "move the shard map from n1 to n7: n1 has 30 replicas, n7 has 0, the mean is 25");
  for (Proposal& proposal : planned.operations) accept(map, proposal.command);
  // What is under way counts as done: nothing more for it now.
  CHECK(plan(map, heard(map)).operations.empty());
}

TEST_CASE("leaders are balanced among those who hold a copy", "[shard]") {
  Map map = founded({.nodes = 3, .shards = 29});
  for (GroupId group{1}; group < map.next_group(); group = group.next()) {
    Report report = report_of(map, group);
    report.term = Term(1);
    report.leader = NodeId(2);
    accept(map, report);
  }
  size_t transfers = 0;
  for (int round = 0; round < 40; ++round) {
    Plan planned = plan(map, heard(map));
    if (planned.operations.empty()) break;
    if (round == 0)
      has(planned.operations[0].reason,
          "have n1 lead the shard map instead of n2: n2 leads 30, n1 leads 0, the mean is 10");
    for (Proposal& proposal : planned.operations) {
      CHECK(proposal.command.action.kind == ActionKind::kTransfer);
      carry_out(map, proposal.command.group, proposal.command.action);
      ++transfers;
    }
  }
  CHECK(transfers == 20);
  CHECK(plan(map, heard(map)).operations.empty());
}

TEST_CASE("limits are kept, and room is kept for repair", "[shard]") {
  Map map = tidy({.nodes = 20, .shards = 200});
  add_nodes(map, 10);
  PlanOptions options;
  options.max_pending = 8;
  Plan planned = plan(map, heard(map), options);
  CHECK(planned.operations.size() == 6);  // balancing leaves a quarter
  for (const Proposal& proposal : planned.operations) accept(map, proposal.command);
  CHECK(plan(map, heard(map), options).operations.empty());
  NodeId lost{1};
  planned = plan(map, heard(map, {{lost, kLost}}), options);
  REQUIRE(planned.operations.size() == 2);
  for (const Proposal& proposal : planned.operations) CHECK(proposal.command.action.source == lost);
  options.max_pending = 1000;
  for (size_t limit : {size_t{1}, size_t{3}}) {
    options.max_pending_per_node = limit;
    std::map<NodeId, size_t> busy;
    Map fresh = tidy({.nodes = 20, .shards = 200});
    add_nodes(fresh, 10);
    for (const Proposal& proposal : plan(fresh, heard(fresh, {{lost, kLost}}), options).operations) {
      ++busy[proposal.command.action.target];
      const NodeId leader = fresh.shard(proposal.command.group)->last.leader;
      if (leader != lost) ++busy[leader];
    }
    CHECK(busy.size() > 15);
    for (const auto& [node, operations] : busy) CHECK(operations <= limit);
  }
}

TEST_CASE("a lost node does not slow down its own replacement", "[shard]") {
  Map map = founded({.nodes = 30, .shards = 300});
  const NodeId lost{1};
  size_t held = 0;
  for (GroupId group{1}; group < map.next_group(); group = group.next()) {
    if (!member_on(map.shard(group)->configuration(), lost)) continue;
    ++held;
    Report report = report_of(map, group);  // it led them all, and nobody was elected yet as far as the map knows
    report.term = Term(1);
    report.leader = lost;
    accept(map, report);
  }
  REQUIRE(held >= 30);
  Plan planned = plan(map, heard(map, {{lost, kLost}}));
  CHECK(planned.operations.size() >= held);
}

TEST_CASE("equal arguments give equal plans, in whatever order the nodes are listed", "[shard]") {
  Map map = tidy({.nodes = 20, .shards = 100, .copies = 3, .racks = 5});
  add_nodes(map, 5, "rack002");
  auto liveness = heard(map, {{NodeId(3), kLost}});
  auto same = liveness;
  std::reverse(same.begin(), same.end());
  Plan a = plan(map, liveness);
  Plan b = plan(map, same);
  REQUIRE(a.operations.size() > 10);
  REQUIRE(a.operations.size() == b.operations.size());
  for (size_t i = 0; i < a.operations.size(); ++i) {
    CHECK(a.operations[i].command == b.operations[i].command);
    CHECK(a.operations[i].reason == b.operations[i].reason);
  }
}

TEST_CASE("as many operations may be under way as the nodes of a cluster can work for, within bounds", "[shard]") {
  CHECK(pending_for(1) == kLeastPending);
  CHECK(pending_for(100) == kLeastPending);
  CHECK(pending_for(1000) == 640);
  CHECK(pending_for(limits::kMaxMembersEver) == kMostPending);
  for (size_t nodes = 100; pending_for(nodes) < kMostPending; ++nodes)
    REQUIRE(pending_for(nodes) < nodes * PlanOptions().max_pending_per_node);
}
