#include "core/node/conductor.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/kv/internal.h"

namespace mneme::node {

namespace {

constexpr Duration kIdleInterval = 5s;
constexpr Duration kPlanInterval = 1s;
constexpr uint64_t kCaughtUpEntries = 64;  // behind the leader's commit index

ReplicaId raft_id(const shard::Replica& replica) { return ReplicaId(replica.node, replica.generation); }

}  // namespace

void Conductor::start(fiber::Scope& scope) {
  scope.spawn("conductor", [this] { return keep_carrying_out(); });
  scope.spawn("reports", [this] { return keep_telling(); });
  if (config_.balance) scope.spawn("plans", [this] { return keep_planning(); });
}

// Whether something will have to be done or told soon of which nobody says when.
bool Conductor::is_busy(const replica::Replica& replica, const shard::Shard& shard) {
  const kv::StateMachine& machine = replica.machine();
  return !replica.leads() || replica.has_change_pending() || shard.pending() || !machine.shard().begun() ||
         (replica.group() == shard::kMetaGroup && !machine.map().cluster());
}

// Until something may have to be done: a group has changed, the map is newer than that `version`, or so much time has
// passed. A node that has nothing under way looks at its groups rarely, since there may be thousands.
void Conductor::wait(bool busy, uint64_t version) {
  const Duration most = busy ? config_.heartbeat_interval : std::max(config_.heartbeat_interval, kIdleInterval);
  (void)fiber::with_deadline(env_.scheduler, env_.clock.timers(), env_.clock.now() + most, [&]() -> Result<void> {
    if (map_.version() == version) groups_.wait_for_news();
    return {};
  });
}

// --- Planning

// A plan follows from the map and from who is heard of. While neither changes, one that was empty stays so.
Result<void> Conductor::keep_planning() {
  std::optional<std::pair<uint64_t, std::vector<NodeId>>> at_rest;
  for (;;) {
    env_.clock.sleep_for(env_.scheduler, kPlanInterval);
    const replica::Replica* meta = groups_.find(shard::kMetaGroup);
    if (!meta || !meta->leads() || meta->machine().map().version() != map_.version()) continue;
    std::pair seen(map_.version(), silent_nodes());
    if (at_rest == seen) continue;
    const shard::Plan plan = this->plan();
    at_rest.reset();
    if (plan.operations.empty() && plan.give_up.empty() && seen.second.empty()) at_rest = std::move(seen);
    std::vector<shard::Command> proposals;
    for (const shard::Proposal& proposal : plan.operations) {
      env::log(env_.trace, env::Level::kInfo, "shard", "{}", proposal.reason);
      proposals.push_back(proposal.command);
      if (proposals.size() < kMaxToldAtOnce) continue;
      tell_and_log(proposals, 2 * config_.election_timeout);
      proposals.clear();
    }
    if (!proposals.empty()) tell_and_log(proposals, 2 * config_.election_timeout);
    for (const shard::GiveUp& what : plan.give_up) give_up(what);
  }
}

std::vector<NodeId> Conductor::silent_nodes() const {
  std::vector<NodeId> silent;
  for (const auto& [id, node] : map_.map().nodes())
    if (id != identity_.node && peers_.silent_for(id) >= config_.election_timeout) silent.push_back(id);
  return silent;
}

shard::Plan Conductor::plan() const {
  std::vector<shard::Liveness> liveness;
  for (const auto& [id, node] : map_.map().nodes())
    liveness.push_back({id, id == identity_.node ? 0 : static_cast<uint64_t>(peers_.silent_for(id) / 1ms)});
  shard::PlanOptions options;
  options.max_pending = shard::pending_for(liveness.size());
  options.suspect_after_ms = static_cast<uint64_t>(5 * config_.election_timeout / 1ms);
  options.lost_after_ms = static_cast<uint64_t>(config_.lost_after / 1ms);
  options.split_bytes = config_.split_bytes;
  options.split_writes_per_second = config_.split_writes_per_second;
  return shard::plan(map_.map(), liveness, options);
}

// The group raises its epoch, so that the step can never be made; its leader then finds that and says so.
void Conductor::give_up(const shard::GiveUp& what) {
  const shard::Shard* shard = map_.map().shard(what.group);
  const shard::Operation* operation = shard ? shard->pending() : nullptr;
  if (!operation || operation->id != what.operation) return;
  env::log(env_.trace, env::Level::kInfo, "shard", "{}", what.reason);
  if (operation->step == shard::Step::kTransfer) {
    // Nothing comes of it later: whoever is asked to lead may, with or without the map.
    shard::Report report = shard->last;
    report.slots = shard->slots;
    (void)tell({shard::AbandonOperation{operation->id, operation->step, std::move(report)}},
               env_.clock.now() + config_.election_timeout);
    return;
  }
  replica::CommandList commands;
  const std::vector<std::string> words = kv::raise_command(operation->epoch);
  const std::vector<std::string_view> args(words.begin(), words.end());
  commands.add(*kv::find_command(words[0]), args);
  replica::ReplySet replies;
  std::string reason;
  router_.execute_in(what.group, commands, env_.clock.now() + config_.election_timeout, replies, reason);
}

// --- Carrying out

Result<void> Conductor::keep_carrying_out() {
  for (;;) {
    const auto map = map_.shared();
    bool busy = false;
    for (const auto& [group, replica] : groups_.all()) {
      if (replica->raft().role() != raft::Role::kLeader) continue;
      const shard::Shard* shard = map->shard(group);
      busy |= !shard || is_busy(*replica, *shard);
      if (shard && replica->leads()) carry_out(*replica, *shard);
    }
    wait(busy, map->version());
  }
}

void Conductor::carry_out(replica::Replica& replica, const shard::Shard& shard) {
  if (replica.has_change_pending()) return;
  const kv::StateMachine& machine = replica.machine();
  if (!machine.shard().begun()) {
    // What the map gave the group when the cluster was founded; its slots change only once it has begun.
    if (shard.epoch() == Epoch(1)) replica.propose_internal(kv::begin_command(Epoch(1), shard.slots));
    return;
  }
  if (replica.group() == shard::kMetaGroup && !machine.map().cluster()) {
    return replica.propose_internal(kv::map_command(map_.map().founding()));
  }
  const shard::Operation* operation = shard.pending();
  if (operation && machine.shard().epoch == operation->epoch) make_step(replica, *operation);
}

// Whether the learner could do a voter's work at once: it is there, and nearly all that is committed is too.
bool Conductor::is_ready(const replica::Replica& replica, const shard::Replica& learner) const {
  const LogIndex match = replica.raft().match_index(raft_id(learner));
  return match && match.value + kCaughtUpEntries >= replica.raft().commit().value &&
         peers_.silent_for(learner.node) < config_.election_timeout;
}

// Good where a majority of the voters there would be has been heard of lately. A change that needs the agreement of
// those who are gone is not made: nothing could be decided any more until they are back, not even to take it back. Who
// has not answered this leader yet is not counted: what is heard of a node may have been on its way for long. There is
// none where so many of them have been silent for so long that the others count them as lost.
Conductor::Prospect Conductor::prospect(const raft::Raft& raft, ReplicaId without, ReplicaId with) const {
  size_t voters = 0;
  size_t heard = 0;
  size_t not_lost = 0;
  auto count = [&](ReplicaId id) {
    const Duration silence = id.node() == identity_.node ? Duration(0) : peers_.silent_for(id.node());
    ++voters;
    heard += id.node() == identity_.node || (raft.match_index(id) && silence < config_.election_timeout);
    not_lost += silence < config_.lost_after;
  };
  for (ReplicaId id : raft.configuration().voters)
    if (id != without) count(id);
  if (with) count(with);
  if (heard > voters / 2) return Prospect::kGood;
  return not_lost > voters / 2 ? Prospect::kNotNow : Prospect::kNone;
}

void Conductor::make_step(replica::Replica& replica, const shard::Operation& operation) {
  const raft::Configuration& now = replica.raft().configuration();
  const ReplicaId source = raft_id(operation.source);
  const ReplicaId target = raft_id(operation.target);
  const bool adds = operation.step == shard::Step::kSwap || operation.step == shard::Step::kPromote;
  const bool removes = operation.step == shard::Step::kSwap || operation.step == shard::Step::kRemove;
  if (adds || removes) {
    const Prospect after = prospect(replica.raft(), removes ? source : ReplicaId(), adds ? target : ReplicaId());
    if (after == Prospect::kNone) {
      // While it is under way nothing else can be done to the shard, such as to replace those who are lost.
      env::log(env_.trace, env::Level::kInfo, "shard",
               "abandon operation {} on group {}, {}: too many of the voters that it would leave are lost",
               operation.id.value, replica.group().value, shard::name_of(operation.step));
      return replica.propose_internal(kv::raise_command(operation.epoch));
    }
    if (after != Prospect::kGood) return;
  }
  if (adds && !is_ready(replica, operation.target)) return;
  Result<void> made;
  switch (operation.step) {
    case shard::Step::kAddLearner: made = replica.change({.add = {target}}); break;
    case shard::Step::kSwap: made = replica.change({.promote = {target}, .remove = {source}}); break;
    case shard::Step::kPromote: made = replica.change({.promote = {target}}); break;
    case shard::Step::kRemove: made = replica.change({.remove = {source}}); break;
    case shard::Step::kTransfer:
      // Nothing is taken while leadership is being handed over: of the meta group, not even that this is given up.
      if (operation.target.node != identity_.node && !replica.raft().transferring_to() &&
          peers_.silent_for(operation.target.node) < config_.election_timeout)
        made = replica.hand_over(operation.target.node);
      break;
    case shard::Step::kSplit:
      replica.propose_internal(kv::split_command({.epoch = operation.epoch,
                                                  .at = operation.action.at,
                                                  .child = operation.child,
                                                  .operation = operation.id,
                                                  .configuration = raft::encode(raft::first_of_child(now))}));
      break;
  }
  if (!made)
    env::log(env_.trace, env::Level::kDebug, "shard", "operation {} on group {}, {}: {}", operation.id.value,
             replica.group().value, shard::name_of(operation.step), made.error().message);
}

}  // namespace mneme::node
