#include "core/node/conductor.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/limits.h"
#include "core/kv/internal.h"
#include "core/protocol/reply_reader.h"
#include "core/raft/text.h"

namespace mneme::node {

namespace {

constexpr size_t kMaxToldAtOnce = 64;
constexpr Duration kIdleInterval = 5s;
constexpr Duration kPlanInterval = 1s;
constexpr Duration kSizeInterval = 10s;    // sizes and loads are not told more often
constexpr Duration kRepeatInterval = 1s;   // what the map does not show yet is told again
constexpr uint64_t kCaughtUpEntries = 64;  // behind the leader's commit index
constexpr uint64_t kNoticeableBytes = 1 << 20;

shard::Configuration shard_configuration(const raft::Configuration& raft) {
  shard::Configuration out;
  auto role = [&](ReplicaId id) {
    auto in = [&](const std::vector<ReplicaId>& ids) { return std::binary_search(ids.begin(), ids.end(), id); };
    if (in(raft.learners)) return shard::Role::kLearner;
    if (!raft.joint() || (in(raft.voters) && in(raft.outgoing))) return shard::Role::kVoter;
    return in(raft.voters) ? shard::Role::kIncoming : shard::Role::kOutgoing;
  };
  for (ReplicaId id : raft.members()) out.push_back({{id.node(), id.generation()}, role(id)});
  std::sort(out.begin(), out.end(),
            [](const shard::Member& a, const shard::Member& b) { return a.replica.node < b.replica.node; });
  return out;
}

ReplicaId raft_id(const shard::Replica& replica) { return ReplicaId(replica.node, replica.generation); }

// What a command to the map was answered; what it was refused with is kRefused, but before the map is founded, which
// will be over soon: kUnavailable.
Result<shard::Answer> answer_of(std::string_view reply) {
  const auto parsed = protocol::parse_reply(reply);
  if (!parsed) return std::unexpected(parsed.error());
  if (parsed->kind == protocol::Reply::Kind::kError) {
    const size_t blank = parsed->text.find(' ');
    const bool too_early = parsed->text.starts_with("UNAVAILABLE ");
    return fail(too_early ? ErrorCode::kUnavailable : ErrorCode::kRefused,
                parsed->text.substr(blank == std::string::npos ? 0 : blank + 1));
  }
  return kv::decode_answer(parsed->text);
}

bool differs(uint64_t a, uint64_t b, uint64_t least) {
  const uint64_t difference = a > b ? a - b : b - a;
  return difference > least && difference > std::max(a, b) / 8;
}

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
bool Conductor::is_ready(const replica::Replica& replica, ReplicaId learner) const {
  const LogIndex match = replica.raft().match_index(learner);
  return match && match.value + kCaughtUpEntries >= replica.raft().commit().value &&
         peers_.silent_for(learner.node()) < config_.election_timeout;
}

// Whether a majority of the voters there would be has been heard of lately. A change that needs the agreement of those
// who are gone is not made: nothing could be decided any more until they are back, not even to take it back. Who has
// not answered this leader yet is not counted: what is heard of a node may have been on its way for long.
bool Conductor::can_go_on(const raft::Raft& raft, ReplicaId without, ReplicaId with) const {
  size_t voters = 0;
  size_t heard = 0;
  auto count = [&](ReplicaId id) {
    ++voters;
    heard += id.node() == identity_.node ||
             (raft.match_index(id) && peers_.silent_for(id.node()) < config_.election_timeout);
  };
  for (ReplicaId id : raft.configuration().voters)
    if (id != without) count(id);
  if (with) count(with);
  return heard > voters / 2;
}

void Conductor::make_step(replica::Replica& replica, const shard::Operation& operation) {
  const raft::Configuration& now = replica.raft().configuration();
  const ReplicaId source = raft_id(operation.source);
  const ReplicaId target = raft_id(operation.target);
  const bool adds = operation.step == shard::Step::kSwap || operation.step == shard::Step::kPromote;
  const bool removes = operation.step == shard::Step::kSwap || operation.step == shard::Step::kRemove;
  if ((adds || removes) && !can_go_on(replica.raft(), removes ? source : ReplicaId(), adds ? target : ReplicaId()))
    return;
  if (adds && !is_ready(replica, target)) return;
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

// --- Telling

std::optional<shard::Report> Conductor::report_of(const replica::Replica& replica) {
  const kv::StateMachine& machine = replica.machine();
  const raft::Raft& raft = replica.raft();
  // The configuration in force, which is told only once it is committed and applied.
  if (raft.configuration_index() > machine.applied() || !machine.shard().begun()) return std::nullopt;
  Told& told = told_[replica.group()];
  if (told.term != raft.term()) told = {.term = raft.term(), .at = Instant(), .measured_at = env_.clock.now()};
  const Duration since = env_.clock.now() - told.measured_at;
  if (since >= kSizeInterval) {
    const uint64_t entries = replica.applied_entries() - std::min(told.applied, replica.applied_entries());
    told.writes_per_second = entries * 1000 / static_cast<uint64_t>(since / 1ms);
    told.applied = replica.applied_entries();
    told.measured_at = env_.clock.now();
  }
  return shard::Report{.group = replica.group(),
                       .epoch = machine.shard().epoch,
                       .configuration = shard_configuration(raft.configuration()),
                       .next_generation = raft.configuration().generation + 1,
                       .slots = machine.shard().slots,
                       .term = raft.term(),
                       .leader = identity_.node,
                       .number = told.number + 1,
                       .bytes = machine.bytes_used(),
                       .writes_per_second = told.writes_per_second};
}

bool Conductor::worth_telling(const shard::Report& report, const shard::Shard& shard, const Told& told) const {
  const shard::Report& known = shard.last;
  const Duration since = env_.clock.now() - told.at;
  if (report.epoch != known.epoch || report.term != known.term || report.leader != known.leader)
    return told.number == 0 || since >= kRepeatInterval;
  return since >= kSizeInterval && (differs(report.bytes, known.bytes, kNoticeableBytes) ||
                                    differs(report.writes_per_second, known.writes_per_second, 100));
}

// A group that rests, and that the map knows as it is, until it is measured again. Of the thousands that a node may
// have nearly all are so nearly always.
bool Conductor::has_no_news(const replica::Replica& replica, const shard::Shard& shard) const {
  const raft::Raft& raft = replica.raft();
  if (!raft.resting() || shard.pending()) return false;
  const shard::Report& known = shard.last;
  if (known.epoch != replica.machine().shard().epoch || known.term != raft.term() || known.leader != identity_.node)
    return false;
  const auto told = told_.find(replica.group());
  return told != told_.end() && told->second.term == raft.term() &&
         env_.clock.now() < told->second.measured_at + kSizeInterval;
}

void Conductor::add_news(replica::Replica& replica, const shard::Shard& shard, std::vector<shard::Command>& news) {
  if (has_no_news(replica, shard)) return;
  auto report = report_of(replica);
  if (!report) return;
  Told& told = told_[replica.group()];
  auto say = [&](shard::Command command) {
    ++told.number;
    told.at = env_.clock.now();
    news.push_back(std::move(command));
  };
  const shard::Operation* operation = shard.pending();
  if (operation && shows_step(shard, *report)) {
    // With one that is lost it goes on to the next step, which is not made, and where the operation can be given up.
    if (operation->step == shard::Step::kAddLearner && !is_ready(replica, raft_id(operation->target)) &&
        peers_.silent_for(operation->target.node) < config_.lost_after)
      return;
    return say(shard::AdvanceOperation{operation->id, operation->step, std::move(*report)});
  }
  // Its epoch has come and gone.
  if (operation && report->epoch > operation->epoch && !shard::is_joint(report->configuration) &&
      !replica.has_change_pending())
    return say(shard::AbandonOperation{operation->id, operation->step, std::move(*report)});
  if (worth_telling(*report, shard, told)) say(std::move(*report));
}

std::vector<shard::Command> Conductor::news(bool& busy) {
  std::vector<shard::Command> news;
  const auto map = map_.shared();
  if (const shard::Node* own = map->node(identity_.node); own && own->state == shard::NodeState::kJoining)
    news.push_back(shard::NodeUp{identity_.node, identity_.incarnation});
  for (const auto& [group, replica] : groups_.all()) {
    if (news.size() >= kMaxToldAtOnce) break;
    if (replica->raft().role() != raft::Role::kLeader) continue;
    const shard::Shard* shard = map->shard(group);
    busy |= !shard || is_busy(*replica, *shard);
    if (shard && replica->leads()) add_news(*replica, *shard, news);
  }
  busy |= !news.empty();
  return news;
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

Result<void> Conductor::keep_telling() {
  for (;;) {
    const uint64_t version = map_.version();
    bool busy = false;
    if (const auto news = this->news(busy); !news.empty()) tell_and_log(news, 2 * config_.election_timeout);
    wait(busy, version);
  }
}

void Conductor::tell_and_log(const std::vector<shard::Command>& commands, Duration patience) {
  auto told = tell(commands, env_.clock.now() + patience);
  if (!told) env::log(env_.trace, env::Level::kDebug, "shard", "not told: {}", told.error().message);
  for (size_t i = 0; told && i < told->size(); ++i)
    if (!(*told)[i]) env::log(env_.trace, env::Level::kDebug, "shard", "refused: {}", (*told)[i].error().message);
}

Result<std::vector<Result<shard::Answer>>> Conductor::tell(const std::vector<shard::Command>& commands,
                                                           Instant deadline) {
  std::vector<std::vector<std::string>> words;
  replica::CommandList list;
  for (const shard::Command& command : commands) words.push_back(kv::map_command(command));
  for (const auto& one : words) {
    const std::vector<std::string_view> args(one.begin(), one.end());
    list.add(*kv::find_command(one[0]), args);
  }
  replica::ReplySet replies;
  std::string reason;
  const replica::Outcome outcome = router_.execute_in(shard::kMetaGroup, list, deadline, replies, reason);
  if (outcome == replica::Outcome::kNotDone)
    return fail(ErrorCode::kUnavailable,
                fmt::format("the meta group cannot be reached, and nothing was changed: {}", reason));
  if (outcome != replica::Outcome::kDone)
    return fail(ErrorCode::kTimeout, fmt::format("it is not known whether the change was made: {}", reason));
  std::vector<Result<shard::Answer>> answers;
  for (size_t i = 0; i < replies.size(); ++i) answers.push_back(answer_of(replies[i]));
  return answers;
}

}  // namespace mneme::node
