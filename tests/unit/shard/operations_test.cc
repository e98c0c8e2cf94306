// The commands about shards: what each refuses, and that belated, repeated and reordered ones do no harm.
#include "core/base/limits.h"
#include "tests/unit/shard/support.h"

using namespace mneme;
using namespace mneme::shard;

namespace {

constexpr GroupId kGroup{2};  // of founded(): on n4, n5 and n2 or so; use on() and off()

NodeId on(const Map& map, size_t i, GroupId group = kGroup) {
  return map.shard(group)->configuration().at(i).replica.node;
}

// The i-th node without a replica of the group.
NodeId off(const Map& map, size_t i, GroupId group = kGroup) {
  for (const auto& [id, node] : map.nodes())
    if (!member_on(map.shard(group)->configuration(), id) && i-- == 0) return id;
  return {};
}

Action move(const Map& map, size_t from = 0, size_t to = 0) { return {ActionKind::kMove, on(map, from), off(map, to)}; }
Action split(const Map& map, GroupId group = kGroup) {
  const SlotSet& slots = map.shard(group)->slots;
  return {ActionKind::kSplit, {}, {}, slots.nth(slots.size() / 2)};
}

}  // namespace

TEST_CASE("a replica moves in two steps, each of which raises the epoch", "[shard]") {
  Map map = founded();
  const NodeId source = on(map, 0);
  const NodeId target = off(map, 0);
  Answer begun = accept(map, begin(map, kGroup, move(map)));
  CHECK(begun.operation == OperationId(1));
  const Operation& operation = *map.shard(kGroup)->operation;
  CHECK(operation.step == Step::kAddLearner);
  CHECK(operation.epoch == Epoch(1));
  CHECK(operation.target == Replica{target, 2});
  accept(map, advance(map, kGroup));
  CHECK(map.shard(kGroup)->operation->step == Step::kSwap);
  CHECK(map.shard(kGroup)->operation->epoch == Epoch(2));
  CHECK(member_on(map.shard(kGroup)->configuration(), target)->role == Role::kLearner);
  accept(map, advance(map, kGroup));
  CHECK(map.shard(kGroup)->operation->outcome == Outcome::kDone);
  CHECK_FALSE(map.shard(kGroup)->pending());
  CHECK(map.shard(kGroup)->epoch() == Epoch(3));
  CHECK(member_on(map.shard(kGroup)->configuration(), target)->role == Role::kVoter);
  CHECK_FALSE(member_on(map.shard(kGroup)->configuration(), source));
}

TEST_CASE("a node that held a replica before gets another generation", "[shard]") {
  Map map = founded();
  const NodeId node = on(map, 0);
  const NodeId other = off(map, 0);
  carry_out(map, kGroup, {ActionKind::kMove, node, other});
  carry_out(map, kGroup, {ActionKind::kMove, other, node});
  CHECK(member_on(map.shard(kGroup)->configuration(), node)->replica == Replica{node, 3});
}

TEST_CASE("voters are added, removed and made leaders", "[shard]") {
  Map map = founded();
  const NodeId added = off(map, 0);
  carry_out(map, kGroup, {ActionKind::kAdd, {}, added});
  CHECK(voters_of(map.shard(kGroup)->configuration()) == 4);
  carry_out(map, kGroup, {ActionKind::kTransfer, {}, added});
  CHECK(map.shard(kGroup)->last.leader == added);
  refuse(map, begin(map, kGroup, {ActionKind::kTransfer, {}, added}), "leads shard 2 already");
  carry_out(map, kGroup, {ActionKind::kRemove, on(map, 0), {}});
  CHECK(voters_of(map.shard(kGroup)->configuration()) == 3);
  refuse(map, begin(map, kGroup, {ActionKind::kRemove, on(map, 0), {}}), "3 copies are wanted");
}

TEST_CASE("a split gives the child an id before anything happens, and both change at once", "[shard]") {
  Map map = founded();
  const SlotSet before = map.shard(kGroup)->slots;
  Report load = report_of(map, kGroup);
  load.bytes = 1001;
  load.writes_per_second = 51;
  load.number = 1;
  accept(map, load);
  const uint16_t at = before.nth(before.size() / 2);
  Answer begun = accept(map, begin(map, kGroup, split(map)));
  CHECK(begun.group == GroupId(5));
  CHECK(map.next_group() == GroupId(6));
  CHECK(map.shard(begun.group) == nullptr);
  CHECK(map.owner_of(at) == kGroup);
  // The group's own word alone does not take slots away from it.
  refuse(map, made_report(map, kGroup), "shard 2 has split; operation 1 is to be advanced with this report");
  Report later = made_report(map, kGroup);
  later.epoch = Epoch(9);  // it raised its epoch again since
  CHECK(accept(map, AdvanceOperation{begun.operation, Step::kSplit, later}).group == begun.group);
  const Shard& parent = *map.shard(kGroup);
  const Shard& child = *map.shard(begun.group);
  CHECK(map.owner_of(at) == begun.group);
  CHECK(map.owner_of(static_cast<uint16_t>(at - 1)) == kGroup);
  SlotSet together = parent.slots;
  together.add(child.slots);
  CHECK(together == before);
  CHECK(parent.epoch() == Epoch(9));
  CHECK(child.epoch() == Epoch(2));  // where its group begins, not where its parent is by now
  CHECK(child.configuration().size() == 3);
  CHECK(on(map, 0, begun.group) == on(map, 0));
  CHECK(child.configuration()[0].replica.generation == 1);
  CHECK(parent.last.bytes + child.last.bytes <= 1001);
  CHECK(parent.last.bytes + child.last.bytes >= 999);
  CHECK(child.last.writes_per_second == 25);
  // A child that says so itself is heard.
  Report of_child = report_of(map, begun.group);
  of_child.term = Term(1);
  of_child.leader = on(map, 0);
  accept(map, of_child);
  CHECK(map.shard(begun.group)->last.leader == on(map, 0));
}

TEST_CASE("an operation planned at another epoch is refused", "[shard]") {
  Map map = founded();
  BeginOperation stale = begin(map, kGroup, move(map));
  carry_out(map, kGroup, move(map, 1, 1));
  refuse(map, stale, "shard 2 is at epoch 3 and this was planned at epoch 1");
  stale.epoch = Epoch(7);
  refuse(map, stale, "planned at epoch 7");
}

TEST_CASE("an operation planned before another one is refused even where that left the epoch alone", "[shard]") {
  Map map = founded();
  BeginOperation stale = begin(map, kGroup, move(map));
  carry_out(map, kGroup, {ActionKind::kTransfer, {}, on(map, 1)});
  CHECK(map.shard(kGroup)->epoch() == stale.epoch);
  refuse(map, stale, "operation 1 on shard 2 came before this");
}

TEST_CASE("a shard has one operation at a time", "[shard]") {
  Map map = founded();
  accept(map, begin(map, kGroup, move(map)));
  BeginOperation second = begin(map, kGroup, split(map));
  refuse(map, second, "has not ended");
  second.after = {};  // as another planner would, that did not see the first
  refuse(map, second, "operation 1 on shard 2 (move n");
  accept(map, begin(map, GroupId(3), split(map, GroupId(3))));  // another shard may have its own
  CHECK(map.next_operation() == OperationId(3));
}

TEST_CASE("a command that begins an operation is known again after the operation has ended", "[shard]") {
  Map map = founded();
  BeginOperation command = begin(map, kGroup, split(map));
  Answer begun = accept(map, command);
  accept(map, advance(map, kGroup));
  CHECK(accept(map, command) == begun);
  CHECK(map.shards().size() == 5);
  BeginOperation transfer = begin(map, kGroup, {ActionKind::kTransfer, {}, on(map, 1)});
  accept(map, transfer);
  accept(map, advance(map, kGroup));
  accept(map, transfer);
  CHECK_FALSE(map.shard(kGroup)->pending());
  carry_out(map, kGroup, {ActionKind::kTransfer, {}, on(map, 2)});
  refuse(map, transfer, "came before this");
  refuse(map, command, "planned at epoch 1");
}

TEST_CASE("actions that make no sense are refused", "[shard]") {
  Map map = founded();
  const NodeId in = on(map, 0);
  const NodeId out = off(map, 0);
  const NodeId none;
  auto refused = [&](Action action, std::string_view words) { refuse(map, begin(map, kGroup, action), words); };
  refused({ActionKind::kMove, out, off(map, 1)}, "holds no replica of shard 2");
  refused({ActionKind::kMove, in, on(map, 1)}, "holds a replica of shard 2 already");
  refused({ActionKind::kMove, in, NodeId(99)}, "node 99 is unknown; `mneme cluster status` lists the nodes");
  refused({ActionKind::kMove, NodeId(99), out}, "node 99 holds no replica");
  refused({ActionKind::kMove, none, out}, "other nodes or slots than it needs");
  refused({ActionKind::kMove, in, out, 5}, "other nodes or slots than it needs");
  refused({ActionKind::kAdd, in, out}, "other nodes or slots than it needs");
  refused({ActionKind::kAdd, none, in}, "already");
  refused({ActionKind::kRemove, out, none}, "holds no replica");
  refused({ActionKind::kRemove, in, none}, "move the replica to another node instead");
  refused({ActionKind::kTransfer, none, out}, "has no vote in shard 2");
  refused({ActionKind::kSplit, in, none, 9}, "other nodes or slots than it needs");
  const SlotRange range = map.shard(kGroup)->slots.ranges()[0];
  refused({ActionKind::kSplit, none, none, range.begin}, "does not divide");
  refused({ActionKind::kSplit, none, none, range.end}, "does not divide");
  refuse(map, begin(map, kMetaGroup, {ActionKind::kSplit, none, none, 9}), "it holds the map");
  BeginOperation unknown = begin(map, kGroup, {ActionKind::kAdd, none, out});
  unknown.group = GroupId(50);
  refuse(map, unknown, "shard 50 is unknown; `mneme cluster status` lists the shards");
  accept(map, AddNode{Incarnation(2000), "n6:1", "n6:2", ""});
  refused({ActionKind::kMove, in, NodeId(6)}, "node 6 is joining");
  accept(map, DrainNode{out, 0, true});
  refused({ActionKind::kMove, in, out}, "draining; only a node that is up is given replicas");
}

TEST_CASE("a shard takes no more replicas than there is room for", "[shard]") {
  Map map = founded({.nodes = 20, .shards = 1});
  for (size_t i = 3; i < limits::kMaxReplicas; ++i) carry_out(map, kGroup, {ActionKind::kAdd, {}, off(map, 0)});
  refuse(map, begin(map, kGroup, {ActionKind::kAdd, {}, off(map, 0)}), "16 replicas, which is the most");
}

TEST_CASE("a shard in a joint configuration is left alone", "[shard]") {
  Map map = founded();
  Report joint = changed_report(map, kGroup);
  joint.configuration[0].role = Role::kOutgoing;
  accept(map, joint);
  refuse(map, begin(map, kGroup, {ActionKind::kMove, on(map, 1), off(map, 0)}), "between two configurations");
}

TEST_CASE("an operation is advanced only by proof", "[shard]") {
  Map map = founded();
  accept(map, begin(map, kGroup, move(map)));
  const AdvanceOperation good = advance(map, kGroup);
  AdvanceOperation bad = good;
  bad.report = report_of(map, kGroup);
  refuse(map, bad, "has not been made");
  bad.report = changed_report(map, kGroup);  // another change
  refuse(map, bad, "has not been made");
  bad = good;
  bad.report.epoch = Epoch(1);  // a change that did not raise the epoch is not one of ours
  refuse(map, bad, "has not been made");
  bad = good;
  for (Member& m : bad.report.configuration)
    if (m.role == Role::kLearner) m.replica.generation = 1;  // some other replica on the target
  refuse(map, bad, "has not been made");
  bad = good;
  bad.step = Step::kSwap;
  refuse(map, bad, "is to make the step 'add learner' now, not 'swap'");
  bad.step = Step::kSplit;
  refuse(map, bad, "not 'split'");
  bad = good;
  bad.operation = OperationId(2);
  refuse(map, bad, "is not the last one of shard 2");
  accept(map, good);
  // Promoted and not removed yet: still joint.
  AdvanceOperation swap = advance(map, kGroup);
  AdvanceOperation halfway = swap;
  put(halfway.report.configuration, map.shard(kGroup)->operation->source, Role::kOutgoing);
  put(halfway.report.configuration, map.shard(kGroup)->operation->target, Role::kIncoming);
  refuse(map, halfway, "has not been made");
  halfway = swap;
  for (Member& m : halfway.report.configuration)
    if (m.replica != map.shard(kGroup)->operation->target) m.role = Role::kOutgoing;
  refuse(map, halfway, "has not been made");
  accept(map, good);  // belated
  CHECK(map.shard(kGroup)->operation->step == Step::kSwap);
  accept(map, swap);
  accept(map, good);
  accept(map, swap);
  CHECK(map.shard(kGroup)->epoch() == Epoch(3));
}

TEST_CASE("a step is proven by what the group reported before, too", "[shard]") {
  Map map = founded();
  accept(map, begin(map, kGroup, move(map)));
  AdvanceOperation command = advance(map, kGroup);
  Report later = command.report;
  later.term = later.term.next();
  const NodeId leader = later.leader = on(map, 1);
  accept(map, later);
  accept(map, command);  // its report is older, and right
  CHECK(map.shard(kGroup)->last.leader == leader);
  CHECK(map.shard(kGroup)->operation->step == Step::kSwap);
}

TEST_CASE("a split is finished only by a group that has split, there and by this operation", "[shard]") {
  Map map = founded();
  accept(map, begin(map, kGroup, split(map)));
  const AdvanceOperation good = advance(map, kGroup);
  AdvanceOperation bad = good;
  bad.report.slots = map.shard(kGroup)->slots;
  refuse(map, bad, "has not split yet");
  bad = good;
  bad.report.slots.remove({0, 1});
  refuse(map, bad, "has not split yet");
  bad = good;
  bad.report.epoch = Epoch(1);
  refuse(map, bad, "has not split yet");
  bad = good;
  bad.report.configuration[0].role = Role::kOutgoing;
  refuse(map, bad, "has not split yet");
  accept(map, good);
}

TEST_CASE("an operation is abandoned only when it can no longer be carried out", "[shard]") {
  for (bool splits : {false, true}) {
    Map map = founded();
    accept(map, begin(map, kGroup, splits ? split(map) : move(map)));
    AbandonOperation early = abandon(map, kGroup);
    early.report = report_of(map, kGroup);
    refuse(map, early, "may yet be carried out; its group must raise the epoch first");
    AbandonOperation late = abandon(map, kGroup);
    late.report = made_report(map, kGroup);
    refuse(map, late, splits ? "is to be advanced with this report" : "advance the operation instead");
    AbandonOperation joint = abandon(map, kGroup);
    joint.report.configuration[0].role = Role::kOutgoing;
    refuse(map, joint, "or is about to");
    AbandonOperation other = abandon(map, kGroup);
    other.operation = OperationId(4);
    refuse(map, other, "is not the last one");
    const AdvanceOperation advances = advance(map, kGroup);
    accept(map, abandon(map, kGroup));
    CHECK(map.shard(kGroup)->operation->outcome == Outcome::kAbandoned);
    CHECK(map.shard(kGroup)->epoch() == Epoch(2));
    refuse(map, advances, "was abandoned; plan again");
    accept(map, begin(map, kGroup, split(map)));
    CHECK(map.shard(kGroup)->operation->child == GroupId(splits ? 6 : 5));  // never the abandoned one's
  }
}

TEST_CASE("an operation past a step is not abandoned at it", "[shard]") {
  Map map = founded();
  accept(map, begin(map, kGroup, move(map)));
  AbandonOperation command = abandon(map, kGroup);
  accept(map, advance(map, kGroup));
  refuse(map, command, "is past the step 'add learner'");
  accept(map, abandon(map, kGroup));  // with the learner left behind
  CHECK(map.shard(kGroup)->configuration().size() == 4);
  carry_out(map, kGroup, {ActionKind::kRemove, map.shard(kGroup)->operation->target.node, {}});
  CHECK(map.shard(kGroup)->configuration().size() == 3);
}

TEST_CASE("a transfer can be abandoned at any time", "[shard]") {
  Map map = founded();
  accept(map, begin(map, kGroup, {ActionKind::kTransfer, {}, on(map, 1)}));
  AbandonOperation command = abandon(map, kGroup);
  command.report = report_of(map, kGroup);
  accept(map, command);
  CHECK_FALSE(map.shard(kGroup)->pending());
}

TEST_CASE("an older report never overwrites a newer one", "[shard]") {
  Map map = founded();
  Report newest = changed_report(map, kGroup);
  newest.epoch = Epoch(5);
  newest.configuration_index = LogIndex(50);
  newest.term = Term(7);
  newest.number = 4;
  newest.leader = on(map, 0);
  newest.bytes = 100;
  accept(map, newest);
  const Map before = map;
  auto older = [&](auto change) {
    Report report = newest;
    report.leader = on(map, 1);
    report.bytes = 99;
    change(report);
    CHECK(map.apply(report));
    CHECK(map == before);
  };
  older([](Report& r) { r.epoch = Epoch(4), r.configuration_index = LogIndex(60), r.term = Term(9), r.number = 9; });
  older([](Report& r) { r.configuration_index = LogIndex(49), r.term = Term(9), r.number = 9; });
  older([](Report& r) { r.term = Term(6), r.number = 9; });
  older([](Report& r) { r.number = 3; });
  older([](Report&) {});
  older([](Report& r) { r.epoch = Epoch(4), r.slots = SlotSet({0, 1}); });  // from before a split
  Report newer = newest;
  newer.number = 5;
  newer.bytes = 101;
  accept(map, newer);
  CHECK(map.shard(kGroup)->last.bytes == 101);
  CHECK(map.version() == before.version());  // nothing that anyone routes by
  newer.term = Term(8);
  newer.number = 1;
  newer.leader = on(map, 1);
  accept(map, newer);
  CHECK(map.version() == before.version() + 1);
}

TEST_CASE("a report that cannot be true is refused", "[shard]") {
  Map map = founded();
  const Report good = changed_report(map, kGroup);
  auto refused = [&](auto change, std::string_view words) {
    Report report = good;
    change(report);
    refuse(map, report, words);
  };
  refused([](Report& r) { r.group = GroupId(9); }, "shard 9 is unknown");
  refused([](Report& r) { r.epoch = {}; }, "has no epoch");
  refused([](Report& r) { r.configuration.clear(); }, "no voters");
  refused(
      [](Report& r) {
        for (Member& m : r.configuration) m.role = Role::kLearner;
      },
      "no voters");
  refused([](Report& r) { r.configuration.resize(17); }, "more than 16 replicas");
  refused([](Report& r) { std::swap(r.configuration[0], r.configuration[1]); }, "by node, one each");
  refused([](Report& r) { r.configuration[1] = r.configuration[0]; }, "by node, one each");
  refused([](Report& r) { r.configuration[2].replica.node = NodeId(99); }, "node 99, which is unknown");
  refused([](Report& r) { r.configuration[0].replica.generation = 0; }, "not given out");
  refused([](Report& r) { r.configuration[0].replica.generation = 2; }, "not given out");
  refused([&](Report& r) { r.leader = off(map, 0); }, "a leader without a vote");
  refused([](Report& r) { r.slots.remove({0, 1}); }, "but the map gives it");
  const NodeId removed = accept(map, AddNode{Incarnation(2000), "n6:1", "n6:2", ""}).node;
  accept(map, RemoveNode{removed});
  refused([&](Report& r) { r.configuration[2].replica.node = removed; }, "which is removed");
}
