// The commands about shards: what is planned, what was done, what is reported.
#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/shard/map.h"

namespace mneme::shard {

namespace {

std::span<const Step> steps_of(ActionKind kind) {
  static constexpr Step kMove[] = {Step::kAddLearner, Step::kSwap};
  static constexpr Step kAdd[] = {Step::kAddLearner, Step::kPromote};
  static constexpr Step kRemove[] = {Step::kRemove};
  static constexpr Step kTransfer[] = {Step::kTransfer};
  static constexpr Step kSplit[] = {Step::kSplit};
  switch (kind) {
    case ActionKind::kMove: return kMove;
    case ActionKind::kAdd: return kAdd;
    case ActionKind::kRemove: return kRemove;
    case ActionKind::kTransfer: return kTransfer;
    case ActionKind::kSplit: return kSplit;
  }
  return {};
}

// Position among the steps of its kind; that of no step is behind the last.
size_t place_of(Step step, ActionKind kind) {
  auto steps = steps_of(kind);
  return static_cast<size_t>(std::find(steps.begin(), steps.end(), step) - steps.begin());
}

bool holds(const Configuration& configuration, Replica replica) {
  const Member* member = member_on(configuration, replica.node);
  return member && member->replica == replica;
}

bool votes(const Configuration& configuration, Replica replica) {
  return holds(configuration, replica) && member_on(configuration, replica.node)->role == Role::kVoter;
}

// Whether the shard, as last reported, shows that the operation's step was made. Not of a split: that is in its slots.
bool made(const Shard& shard, const Operation& operation) {
  const Configuration& now = shard.configuration();
  if (operation.step == Step::kTransfer) return shard.last.leader == operation.target.node;
  if (shard.epoch() <= operation.epoch) return false;
  switch (operation.step) {
    case Step::kAddLearner: return holds(now, operation.target);
    case Step::kSwap: return votes(now, operation.target) && !holds(now, operation.source) && !is_joint(now);
    case Step::kPromote: return votes(now, operation.target) && !is_joint(now);
    case Step::kRemove: return !holds(now, operation.source) && !is_joint(now);
    case Step::kTransfer:
    case Step::kSplit: break;
  }
  return false;
}

SlotSet without_child(const SlotSet& slots, const Operation& split) {
  SlotSet rest = slots;
  rest.split_at(split.action.at);
  return rest;
}

bool shows_split(const Shard& shard, const Report& report) {
  const Operation* operation = shard.pending();
  return operation && operation->step == Step::kSplit && report.epoch > operation->epoch &&
         report.slots == without_child(shard.slots, *operation);
}

// Takes over what a report says, unless as much or more is known.
Result<void> take(Shard& shard, const Report& report) {
  if (!is_newer(report, shard.last)) return {};
  if (report.slots != shard.slots) {
    if (shows_split(shard, report))
      return fail(ErrorCode::kRefused,
                  fmt::format("shard {} has split; operation {} is to be advanced with this report",
                              shard.group().value, shard.operation->id.value));
    return fail(ErrorCode::kRefused, fmt::format("shard {} reports slots {}, but the map gives it {}",
                                                 shard.group().value, report.slots.text(), shard.slots.text()));
  }
  uint32_t next_generation = std::max(shard.last.next_generation, report.next_generation);
  shard.last = report;
  shard.last.slots = {};
  shard.last.next_generation = next_generation;
  return {};
}

uint64_t share(uint64_t whole, size_t part, size_t of) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(whole) * part / of);
}

}  // namespace

bool shows_step(const Shard& shard, const Report& report) {
  const Operation* operation = shard.pending();
  if (!operation) return false;
  if (operation->step == Step::kSplit) return shows_split(shard, report) && !is_joint(report.configuration);
  Shard changed = shard;
  return take(changed, report) && made(changed, *operation);
}

Result<const Shard*> Map::known_shard(GroupId id) {
  if (const Shard* found = shards_.find(id)) return found;
  return fail(ErrorCode::kNotFound,
              fmt::format("shard {} is unknown; `mneme cluster status` lists the shards", id.value));
}

Result<void> Map::check_takes_replica(const Shard& shard, NodeId id) const {
  const Node* node = this->node(id);
  if (!node)
    return fail(ErrorCode::kNotFound,
                fmt::format("node {} is unknown; `mneme cluster status` lists the nodes", id.value));
  if (node->state != NodeState::kUp)
    return fail(ErrorCode::kRefused,
                fmt::format("node {} is {}; only a node that is up is given replicas", id.value, name_of(node->state)));
  if (member_on(shard.configuration(), id))
    return fail(ErrorCode::kRefused, fmt::format("node {} holds a replica of shard {} already; choose another node",
                                                 id.value, shard.group().value));
  if (shard.configuration().size() >= limits::kMaxReplicas)
    return fail(ErrorCode::kRefused, fmt::format("shard {} has {} replicas, which is the most; remove one first",
                                                 shard.group().value, limits::kMaxReplicas));
  return {};
}

Result<void> Map::check_action(const Shard& shard, const Action& action) const {
  const uint64_t group = shard.group().value;
  const bool has_source = action.kind == ActionKind::kMove || action.kind == ActionKind::kRemove;
  const bool has_target =
      action.kind == ActionKind::kMove || action.kind == ActionKind::kAdd || action.kind == ActionKind::kTransfer;
  if (static_cast<bool>(action.source) != has_source || static_cast<bool>(action.target) != has_target ||
      (action.kind != ActionKind::kSplit && action.at != 0))
    return fail(ErrorCode::kInvalid,
                fmt::format("an operation on shard {} names other nodes or slots than it needs", group));
  if (is_joint(shard.configuration()))
    return fail(ErrorCode::kRefused, fmt::format("shard {} is between two configurations; wait until it has left the "
                                                 "joint one",
                                                 group));
  const Member* source = member_on(shard.configuration(), action.source);
  const Member* target = member_on(shard.configuration(), action.target);
  if (has_source && !source)
    return fail(ErrorCode::kRefused,
                fmt::format("node {} holds no replica of shard {}; `mneme cluster status` says which nodes do",
                            action.source.value, group));
  switch (action.kind) {
    case ActionKind::kMove:
      if (source->role != Role::kVoter)
        return fail(ErrorCode::kRefused, fmt::format("node {} holds a learner of shard {}; remove that instead of "
                                                     "moving it",
                                                     action.source.value, group));
      return check_takes_replica(shard, action.target);
    case ActionKind::kAdd: return check_takes_replica(shard, action.target);
    case ActionKind::kRemove:
      if (source->role == Role::kVoter && voters_of(shard.configuration()) <= copies_)
        return fail(ErrorCode::kRefused,
                    fmt::format("shard {} has {} voters and {} copies are wanted; move the replica to another node "
                                "instead",
                                group, voters_of(shard.configuration()), copies_));
      return {};
    case ActionKind::kTransfer:
      if (!target || target->role != Role::kVoter)
        return fail(ErrorCode::kRefused,
                    fmt::format("node {} has no vote in shard {}, so it cannot lead it", action.target.value, group));
      if (shard.last.leader == action.target)
        return fail(ErrorCode::kRefused, fmt::format("node {} leads shard {} already", action.target.value, group));
      return {};
    case ActionKind::kSplit: {
      if (shard.slots.empty())
        return fail(ErrorCode::kRefused, fmt::format("shard {} has no slots to split: it holds the map", group));
      const SlotRange first = shard.slots.ranges().front();
      const SlotRange last = shard.slots.ranges().back();
      if (action.at <= first.begin || action.at >= last.end)
        return fail(ErrorCode::kRefused, fmt::format("slot {} does not divide shard {}, which has the slots {}",
                                                     action.at, group, shard.slots.text()));
      return {};
    }
  }
  return fail(ErrorCode::kInvalid, "an operation of no known kind");
}

Result<Answer> Map::on(const BeginOperation& command) {
  const Shard& shard = *TRY(known_shard(command.group));
  const uint64_t group = command.group.value;
  if (const auto& last = shard.operation;
      last && last->after == command.after && last->planned == command.epoch && last->action == command.action)
    return Answer{.operation = last->id, .group = last->child};
  if (const Operation* pending = shard.pending())
    return fail(ErrorCode::kRefused,
                fmt::format("operation {} on shard {} ({}) has not ended; wait for it, and plan again",
                            pending->id.value, group, text_of(pending->action)));
  if (shard.epoch() != command.epoch)
    return fail(ErrorCode::kRefused, fmt::format("shard {} is at epoch {} and this was planned at epoch {}; look at "
                                                 "`mneme cluster status` and plan again",
                                                 group, shard.epoch().value, command.epoch.value));
  if (shard.last_operation() != command.after)
    return fail(ErrorCode::kRefused, fmt::format("operation {} on shard {} came before this; look at `mneme cluster "
                                                 "status` and plan again",
                                                 shard.last_operation().value, group));
  TRY(check_action(shard, command.action));

  Shard changed = shard;
  Operation operation;
  operation.id = next_operation_;
  operation.after = command.after;
  operation.planned = command.epoch;
  operation.action = command.action;
  operation.step = steps_of(command.action.kind).front();
  operation.epoch = command.epoch;
  if (const Member* source = member_on(shard.configuration(), command.action.source))
    operation.source = source->replica;
  if (const Member* target = member_on(shard.configuration(), command.action.target))
    operation.target = target->replica;
  else if (command.action.target)
    operation.target = {command.action.target, changed.last.next_generation++};
  if (command.action.kind == ActionKind::kSplit) {
    operation.child = next_group_;
    next_group_ = next_group_.next();
  }
  next_operation_ = next_operation_.next();
  changed.operation = operation;
  shards_.set(command.group, std::move(changed));
  ++version_;
  return Answer{.operation = operation.id, .group = operation.child};
}

Result<void> Map::check_report(const Report& report) const {
  const uint64_t group = report.group.value;
  const Configuration& configuration = report.configuration;
  if (!report.epoch || configuration.size() > limits::kMaxReplicas || voters_of(configuration) == 0)
    return fail(ErrorCode::kInvalid,
                fmt::format("a report of shard {} has no epoch, no voters, or more than {} replicas", group,
                            limits::kMaxReplicas));
  for (size_t i = 0; i < configuration.size(); ++i) {
    const Replica replica = configuration[i].replica;
    if (i > 0 && replica.node <= configuration[i - 1].replica.node)
      return fail(ErrorCode::kInvalid,
                  fmt::format("a report of shard {} does not list its replicas by node, one each", group));
    if (!replica || replica.generation >= report.next_generation)
      return fail(ErrorCode::kInvalid, fmt::format("a report of shard {} has a replica on node {} with a generation "
                                                   "that was not given out",
                                                   group, replica.node.value));
    const Node* node = this->node(replica.node);
    if (!node || node->state == NodeState::kRemoved)
      return fail(ErrorCode::kRefused, fmt::format("shard {} reports a replica on node {}, which is {}", group,
                                                   replica.node.value, node ? "removed" : "unknown"));
  }
  const Member* leader = member_on(configuration, report.leader);
  if (report.leader && (!leader || leader->role == Role::kLearner))
    return fail(ErrorCode::kInvalid,
                fmt::format("a report of shard {} names a leader without a vote, node {}", group, report.leader.value));
  return {};
}

Result<Answer> Map::on(const Report& report) {
  const Shard& shard = *TRY(known_shard(report.group));
  TRY(check_report(report));
  Shard changed = shard;
  TRY(take(changed, report));
  store(shard, std::move(changed));
  return Answer{.group = report.group};
}

// The shard's last operation, if that is the one meant.
Result<Operation> Map::last_operation(const Shard& shard, OperationId operation) const {
  if (!shard.operation || shard.operation->id != operation)
    return fail(ErrorCode::kRefused,
                fmt::format("operation {} is not the last one of shard {}: it has ended, or there never was one",
                            operation.value, shard.group().value));
  return *shard.operation;
}

Result<Answer> Map::on(const AdvanceOperation& command) {
  const Shard& shard = *TRY(known_shard(command.report.group));
  Operation operation = TRY(last_operation(shard, command.operation));
  const Answer answer{.operation = operation.id, .group = operation.child};
  const auto steps = steps_of(operation.action.kind);
  const size_t place = place_of(command.step, operation.action.kind);
  const size_t now = place_of(operation.step, operation.action.kind);
  if (operation.outcome == Outcome::kAbandoned && place >= now)
    return fail(ErrorCode::kRefused, fmt::format("operation {} on shard {} was abandoned; plan again",
                                                 operation.id.value, command.report.group.value));
  if (place == steps.size() || place > now)
    return fail(ErrorCode::kRefused, fmt::format("operation {} is to make the step '{}' now, not '{}'",
                                                 operation.id.value, name_of(operation.step), name_of(command.step)));
  if (place < now || !operation.pending()) return answer;  // said before

  TRY(check_report(command.report));
  if (operation.step == Step::kSplit) {
    if (!shows_split(shard, command.report) || !is_newer(command.report, shard.last) ||
        is_joint(command.report.configuration))
      return fail(ErrorCode::kRefused,
                  fmt::format("shard {} has not split yet: its report shows slots {} at epoch {}", shard.group().value,
                              command.report.slots.text(), command.report.epoch.value));
    return finish_split(shard, command.report);
  }
  Shard changed = shard;
  TRY(take(changed, command.report));
  if (!made(changed, operation))
    return fail(ErrorCode::kRefused, fmt::format("the step '{}' of operation {} has not been made, as far as shard {} "
                                                 "has reported",
                                                 name_of(operation.step), operation.id.value, shard.group().value));
  if (now + 1 < steps.size()) {
    changed.operation->step = steps[now + 1];
    changed.operation->epoch = changed.epoch();
  } else {
    changed.operation->outcome = Outcome::kDone;
  }
  store(shard, std::move(changed));
  return answer;
}

Result<Answer> Map::finish_split(Shard parent, const Report& report) {
  const Operation operation = *parent.operation;
  const size_t whole = parent.slots.size();
  const Report before = parent.last;

  Shard child;
  child.slots = parent.slots.split_at(operation.action.at);
  child.last.group = operation.child;
  child.last.epoch = operation.epoch.next();
  child.last.configuration = report.configuration;
  for (Member& member : child.last.configuration) member.replica.generation = 1;
  child.last.next_generation = 2;

  parent.last = report;
  parent.last.slots = {};
  parent.last.next_generation = std::max(before.next_generation, report.next_generation);
  parent.operation->outcome = Outcome::kDone;
  // Until they report: otherwise the parent's old size would have it split again.
  for (Shard* half : {&parent, &child}) {
    half->last.bytes = share(before.bytes, half->slots.size(), whole);
    half->last.writes_per_second = share(before.writes_per_second, half->slots.size(), whole);
  }
  give_slots(child.slots, operation.child);
  shards_.set(parent.group(), std::move(parent));
  shards_.set(operation.child, std::move(child));
  ++version_;
  return Answer{.operation = operation.id, .group = operation.child};
}

Result<Answer> Map::on(const AbandonOperation& command) {
  const Shard& shard = *TRY(known_shard(command.report.group));
  Operation operation = TRY(last_operation(shard, command.operation));
  const Answer answer{.operation = operation.id, .group = operation.child};
  if (operation.outcome == Outcome::kAbandoned && operation.step == command.step) return answer;
  if (!operation.pending() || operation.step != command.step)
    return fail(ErrorCode::kRefused, fmt::format("operation {} is past the step '{}'; look at `mneme cluster status`",
                                                 operation.id.value, name_of(command.step)));
  TRY(check_report(command.report));
  Shard changed = shard;
  TRY(take(changed, command.report));
  if (made(changed, operation) || is_joint(changed.configuration()))
    return fail(ErrorCode::kRefused, fmt::format("shard {} has made the step '{}' of operation {}, or is about to; "
                                                 "advance the operation instead",
                                                 shard.group().value, name_of(operation.step), operation.id.value));
  if (operation.step != Step::kTransfer && changed.epoch() <= operation.epoch)
    return fail(ErrorCode::kRefused, fmt::format("shard {} is still at epoch {}, so operation {} may yet be carried "
                                                 "out; its group must raise the epoch first",
                                                 shard.group().value, changed.epoch().value, operation.id.value));
  changed.operation->outcome = Outcome::kAbandoned;
  store(shard, std::move(changed));
  return answer;
}

void Map::store(const Shard& shard, Shard changed) {
  Shard same_numbers = changed;
  same_numbers.last.number = shard.last.number;
  same_numbers.last.bytes = shard.last.bytes;
  same_numbers.last.writes_per_second = shard.last.writes_per_second;
  if (same_numbers != shard) ++version_;
  if (changed != shard) shards_.set(shard.group(), std::move(changed));
}

}  // namespace mneme::shard
