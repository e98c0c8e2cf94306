#include "core/node/groups.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/kv/checkpoint.h"

namespace mneme::node {

namespace {

// Fibers that write checkpoints: more would only compete for the same disk.
constexpr int kCheckpointFibers = 2;
// How long after it stood for election the child of a split does so again.
constexpr Duration kNewbornPatience = 20ms;
// What the child of a split begins after, on every node.
constexpr raft::LogPosition kBirth{LogIndex(1), Term(1)};
constexpr Term kBirthTerm{1};

std::string directory_of(GroupId group) { return fmt::format("group-{}", group.value); }

}  // namespace

Groups::Groups(Env& env, const Config& config, const Identity& identity, MapCache& map, replica::Transport& transport,
               Silence silence)
    : env_(env),
      config_(config),
      identity_(identity),
      map_(map),
      transport_(transport),
      silence_(std::move(silence)),
      driver_(env),
      news_(env.scheduler),
      work_(env.scheduler) {}

Groups::~Groups() = default;

replica::Replica* Groups::find(GroupId group) const {
  auto found = replicas_.find(group);
  return found == replicas_.end() ? nullptr : found->second.get();
}

std::shared_ptr<replica::Replica> Groups::hold(GroupId group) const {
  auto found = replicas_.find(group);
  return found == replicas_.end() ? nullptr : found->second;
}

std::optional<shard::Node> Groups::logged_node(NodeId node) const {
  const replica::Replica* meta = find(shard::kMetaGroup);
  if (!meta) return std::nullopt;
  const shard::Map map = meta->map_ahead();
  const shard::Node* found = map.node(node);
  return found ? std::optional(*found) : std::nullopt;
}

size_t Groups::bytes_used() const {
  size_t bytes = 0;
  for (const auto& [group, replica] : replicas_) bytes += replica->machine().bytes_used();
  return bytes;
}

void Groups::unreachable(NodeId node) {
  for (const auto& [group, replica] : replicas_) replica->unreachable(node);
  forwarded_.lost(node, [this](GroupId group) { return find(group) != nullptr; });
}

void Groups::ended(NodeId node) {
  for (const auto& [group, replica] : replicas_) replica->process_ended(node);
}

// What it knew of its leaders, or of those it led, may be gone.
void Groups::restarted(NodeId node) {
  for (const auto& [group, replica] : replicas_) {
    const raft::Raft& raft = replica->raft();
    if (raft.resting() && raft.configuration().on(node)) replica->end_rest();
  }
}

Result<void> Groups::keep_watch() {
  for (;;) {
    env_.clock.sleep_for(env_.scheduler, config_.election_timeout);
    const auto& nodes = map_.map().nodes();
    if (std::none_of(nodes.begin(), nodes.end(), [&](const auto& node) {
          return node.first != identity_.node && silence_(node.first) >= config_.election_timeout;
        }))
      continue;
    for (const auto& [group, replica] : replicas_) {
      const raft::Raft& raft = replica->raft();
      if (raft.resting() && !can_rest(raft)) replica->end_rest();
    }
  }
}

// A follower rests while its leader's node is heard of, a leader while those of a majority of either half are.
bool Groups::can_rest(const raft::Raft& raft) const {
  auto heard = [&](ReplicaId id) {
    return id.node() == identity_.node || silence_(id.node()) < config_.election_timeout;
  };
  if (raft.role() != raft::Role::kLeader) return heard(raft.leader());
  auto majority = [&](const std::vector<ReplicaId>& voters) {
    return voters.empty() || 2 * std::count_if(voters.begin(), voters.end(), heard) > std::ssize(voters);
  };
  return majority(raft.configuration().voters) && majority(raft.configuration().outgoing);
}

void Groups::leader_changed(replica::Replica&) { news_.notify_all(); }
void Groups::shard_changed(replica::Replica& replica) {
  const shard::Map& map = replica.machine().map();
  if (map.version() > map_.version()) map_.offer(std::make_shared<const shard::Map>(map));
  news_.notify_all();
}

// --- The log and what it has

Result<void> Groups::open(bool newly_founded) {
  log_ = TRY(wal::Log::open(env_, {identity_.cluster, identity_.node, identity_.incarnation},
                            {.directory = "wal",
                             .segment_bytes = config_.segment_bytes,
                             .max_frame_bytes = std::min(limits::kMaxFrameBytes, config_.segment_bytes / 2),
                             .has_peers = map_.map().nodes().size() > 1,
                             .must_exist = !newly_founded}));
  if (newly_founded) TRY(save_identity(env_.disk, identity_));
  log_writer_ = std::make_unique<replica::LogWriter>(env_, *log_);
  laggards_ = std::make_unique<replica::Laggards>(env_, *log_writer_, [this](GroupId group) { return hold(group); });
  TRY(open_recovered(log_->take_recovered()));
  // What the map says of others waits for the fibers: a removal is waited for in the log.
  return {};
}

replica::ReplicaConfig Groups::config_for(GroupId group, uint32_t generation) const {
  replica::ReplicaConfig config{
      .group = group,
      .raft = {.id = ReplicaId(identity_.node, generation),
               .election_timeout = config_.election_timeout,
               .heartbeat_interval = config_.heartbeat_interval,
               .max_append_bytes = config_.max_append_bytes,
               .max_inflight_appends = config_.max_inflight_appends,
               .max_uncommitted_bytes = config_.max_uncommitted_bytes,
               .may_rest = config_.may_rest,
               .follower_reads = true,
               .lease = config_.lease,
               .drift_ppm = config_.drift_ppm},
      .directory = directory_of(group),
      .checkpoint_log_bytes = config_.checkpoint_log_bytes,
      .keep_entries = config_.keep_entries,
  };
  const shard::Shard* shard = map_.map().shard(group);
  if (const Wanted wanted = shard ? this->wanted(*shard) : Wanted(); wanted.founding && wanted.generation == generation)
    for (const shard::Member& member : shard->configuration())
      config.raft.voters.push_back(ReplicaId(member.replica.node, member.replica.generation));
  return config;
}

Result<void> Groups::open_replica(wal::GroupState state, replica::Beginning beginning) {
  const GroupId group = state.group;
  const replica::Shared shared{env_, *log_writer_, driver_, transport_, forwarded_, *this, config_.observer};
  replica::ReplicaConfig config = config_for(group, state.generation);
  auto replica = TRY(replica::Replica::open(shared, std::move(config), std::move(state), std::move(beginning)));
  // What it begins with may be newer than the node's copy of the map, which is saved now and then, and nobody else's
  // may be: after the whole cluster has lost power.
  shard_changed(*replica);
  replicas_[group] = std::move(replica);
  return {};
}

void Groups::start(fiber::Scope& scope) {
  scope.spawn("log", [this] { return log_writer_->run(); });
  scope.spawn("segments", [this] { return log_writer_->run_segments(); });
  scope.spawn("replicas", [this] { return driver_.run(); });
  for (int i = 0; i < kCheckpointFibers; ++i) scope.spawn("checkpoints", [this] { return driver_.run_checkpoints(); });
  scope.spawn("laggards", [this] { return laggards_->run(); });
  scope.spawn("groups", [this] { return keep_replicas(); });
  scope.spawn("watch", [this] { return keep_watch(); });
  scope.spawn("map", [this]() -> Result<void> {
    for (;;) {
      map_.wait_for_change(followed_);
      followed_ = map_.version();
      work_.notify_all();
      news_.notify_all();
    }
  });
}

Result<void> Groups::durable() {
  // Shared: this fiber may be cancelled first.
  auto done = std::make_shared<fiber::Promise<bool>>(env_.scheduler);
  log_writer_->when_durable([done] { done->set(true); });
  done->wait();
  return {};
}

// --- As the map says

Groups::Wanted Groups::wanted(const shard::Shard& shard) const {
  if (const shard::Member* member = member_on(shard.configuration(), identity_.node))
    return {.generation = member->replica.generation, .founding = shard.epoch() == Epoch(1)};
  const shard::Operation* operation = shard.pending();
  if (operation && operation->target.node == identity_.node && operation->action.kind != shard::ActionKind::kTransfer)
    return {.generation = operation->target.generation, .arriving = true};
  return {};
}

Result<void> Groups::keep_replicas() {
  uint64_t followed = 0;
  for (;;) {
    Instant until = unsettled_.empty() ? kNever : env_.clock.now() + config_.heartbeat_interval;
    if (!newborn_.empty()) until = std::min(until, env_.clock.now() + kNewbornPatience);
    (void)fiber::with_deadline(env_.scheduler, env_.clock.timers(), until, [&]() -> Result<void> {
      work_.wait_until([&] { return !births_.empty() || map_.version() != followed; });
      return {};
    });
    while (!births_.empty()) {
      Birth birth = std::move(births_.front());
      births_.pop_front();
      unsettled_.insert(birth.child);
      TRY(give_birth(std::move(birth)));
    }
    elect_newborn();
    followed = map_.version();
    TRY(follow_map());
  }
}

// Of a group that has not changed in the map, and of which nothing is awaited, the replica is as it should be.
Result<void> Groups::follow_map() {
  const auto map = map_.shared();
  if (!map->cluster()) return {};
  map->shards().for_changes_since(settled_->shards(),
                                  [this](GroupId group, const shard::Shard&) { unsettled_.insert(group); });
  settled_ = map;
  for (GroupId group : std::exchange(unsettled_, {}))
    if (const shard::Shard* shard = map->shard(group)) TRY(follow(group, *shard));
  return {};
}

Result<void> Groups::follow(GroupId group, const shard::Shard& shard) {
  const Wanted wanted = this->wanted(shard);
  const auto here = replicas_.find(group);
  if (here != replicas_.end()) {
    const uint32_t generation = here->second->id().generation();
    // Only a map that has given this replica out can have taken it away.
    if (wanted.generation != generation && generation < shard.last.next_generation) {
      if (here->second->is_held()) {
        unsettled_.insert(group);
        return {};
      }
      TRY(remove(group));
    }
  }
  const auto removed = log_->removed_generation(group);
  if (!wanted.generation || replicas_.contains(group) || (removed && *removed >= wanted.generation)) {
    awaited_.erase(group);
    return {};
  }
  if (!wanted.founding && !wanted.arriving) {
    // Most likely a child that this node is about to make from its own half of the parent.
    const Instant since = awaited_.try_emplace(group, env_.clock.now()).first->second;
    if (env_.clock.now() < since + config_.election_timeout) {
      unsettled_.insert(group);
      return {};
    }
  }
  // The directory of checkpoints is still in use.
  if (auto leaving = leaving_.find(group); leaving != leaving_.end() && !leaving->second.expired()) {
    unsettled_.insert(group);
    return {};
  }
  leaving_.erase(group);
  awaited_.erase(group);
  return make(group, wanted.generation);
}

Result<void> Groups::make(GroupId group, uint32_t generation) {
  log_writer_->batch().begin_replica(group, generation);
  env::log(env_.trace, env::Level::kInfo, "node", "a replica of group {}, generation {}", group.value, generation);
  env_.trace.reached(Probe::replica_made);
  return open_replica({.group = group, .generation = generation, .suspect = log_->unknown_groups_suspect()});
}

Result<void> Groups::remove(GroupId group) {
  const std::shared_ptr<replica::Replica> replica = replicas_.at(group);
  CHECK(!replica->is_held());
  const uint32_t generation = replica->id().generation();
  // Its parent may be let go here; what that records of a checkpoint comes behind the removal, which follows at once.
  replica->retire();
  leaving_[group] = replica;
  replicas_.erase(group);
  if (config_.observer) config_.observer->retired(identity_.node, group);
  log_writer_->batch().remove_replica(group, generation);
  env_.trace.reached(Probe::replica_removed);
  env::log(env_.trace, env::Level::kInfo, "node", "the replica of group {}, generation {}, is removed", group.value,
           generation);
  TRY(durable());
  // Its checkpoints. One that is being written, or sent, is held and removed with the next replica's.
  return replica->checkpoints().remove_others();
}

// --- Splits
//
// A child serves as soon as the log has a record of it; its checkpoint is written meanwhile. Until that is recorded the
// parent is held, so that its log has the split and all that led to it, and the child's state can be made again from
// there: what was applied in one life was committed, and is applied in the next before anything else.

void Groups::split(replica::Replica& parent, const raft::LogPosition& entry, const kv::SplitRequest& request,
                   std::unique_ptr<kv::StateMachine> child) {
  news_.notify_all();
  auto configuration = raft::decode_configuration(request.configuration);
  const ReplicaId own = configuration ? configuration->on(identity_.node) : ReplicaId();
  // The entry is applied again after a restart, when the child may be there, or gone for good, already.
  if (!own || was_born(request.child) || is_gone(request.child, own.generation())) return;
  births_.push_back({std::make_unique<replica::Hold>(parent.shared_from_this()),
                     {parent.group(), entry},
                     request.child,
                     own.generation(),
                     std::move(child)});
  work_.notify_all();
}

// Whether there is a replica that has something, or is about to get it. One that has nothing was made because its split
// was not applied here in time, after a restart for instance; then the split fills it, since no other node may be able
// to.
bool Groups::was_born(GroupId group) const {
  const replica::Replica* replica = find(group);
  return replica && (replica->machine().applied() || replica->raft().last_index() || replica->receiving_snapshot);
}

// For good. Also between the split and the birth, when another entry or the map has taken the child away from here.
bool Groups::is_gone(GroupId group, uint32_t generation) const {
  const auto removed = log_->removed_generation(group);
  return removed && *removed >= generation;
}

Result<void> Groups::give_birth(Birth birth) {
  if (was_born(birth.child) || is_gone(birth.child, birth.generation)) return {};
  wal::GroupState state{.group = birth.child,
                        .generation = birth.generation,
                        .hard_state = {.term = kBirthTerm},
                        .checkpoint = kBirth,
                        .origin = birth.origin,
                        .suspect = log_->unknown_groups_suspect()};
  const std::shared_ptr<replica::Replica> blank = hold(birth.child);
  if (blank) {
    if (blank->id().generation() != birth.generation) return {};
    // What it has promised holds on. It goes first: nothing may come to its directory now.
    if (blank->raft().term() >= kBirthTerm) state.hard_state = {blank->raft().term(), blank->raft().vote()};
    state.suspect = blank->raft().suspect();
    blank->retire();
    replicas_.erase(birth.child);
    if (config_.observer) config_.observer->retired(identity_.node, birth.child);
  }
  wal::Batch& batch = log_writer_->batch();
  if (!blank) batch.begin_replica(birth.child, birth.generation);
  batch.hard_state(birth.child, state.hard_state);
  batch.split_off(birth.child, kBirth, birth.origin);
  TRY(durable());
  env_.trace.reached(Probe::shard_split);
  env::log(env_.trace, env::Level::kInfo, "node", "group {} is split off group {}", birth.child.value,
           birth.origin.parent.value);
  const bool leads = birth.parent->replica().raft().role() == raft::Role::kLeader;
  TRY(open_replica(std::move(state),
                   {.machine = std::move(birth.machine), .parent = std::move(birth.parent), .newborn = !blank}));
  if (leads) newborn_[birth.child] = env_.clock.now() + config_.election_timeout;
  return {};
}

// A parent's id is below its children's, so that it is there before them.
Result<void> Groups::open_recovered(std::vector<wal::GroupState> states) {
  auto state_of = [&](GroupId group) {
    return std::lower_bound(states.begin(), states.end(), group,
                            [](const wal::GroupState& state, GroupId id) { return state.group < id; });
  };
  std::map<GroupId, LogIndex> committed;
  for (const wal::GroupState& child : states) {
    const auto parent = state_of(child.origin.parent);
    if (!child.origin || parent == states.end() || parent->group != child.origin.parent) continue;
    const raft::LogPosition& entry = child.origin.entry;
    const bool is_there = std::any_of(parent->entries.begin(), parent->entries.end(), [&](const raft::Entry& e) {
      return e.index == entry.index && e.term == entry.term;
    });
    if (is_there) committed[parent->group] = std::max(committed[parent->group], entry.index);
  }
  for (wal::GroupState& state : states) {
    replica::Beginning beginning;
    if (state.origin) beginning = TRY(bear_again(state));
    // It has gone on from what it was born with: nobody needs that, and it may be large.
    if (!state.origin && (state.checkpoint.index || !state.entries.empty()))
      std::erase_if(births_, [&](const Birth& each) { return each.child == state.group; });
    // Not of a state without entries, which is one that was lost just now.
    if (auto known = committed.find(state.group); known != committed.end() && !state.entries.empty())
      beginning.committed = known->second;
    TRY(open_replica(std::move(state), std::move(beginning)));
  }
  return {};
}

// What the parent has just split off again. Where its log was damaged that may be lost; the child's is then, too, and
// others have to give it its state.
Result<replica::Beginning> Groups::bear_again(wal::GroupState& state) {
  auto birth = std::find_if(births_.begin(), births_.end(), [&](const Birth& each) {
    return each.child == state.group && each.generation == state.generation && each.origin == state.origin;
  });
  if (birth == births_.end()) {
    if (!state.suspect)
      return fail(ErrorCode::kCorrupt,
                  fmt::format("group {} was split off group {} by its entry {}, which the log does not have: replace "
                              "this node",
                              state.group.value, state.origin.parent.value, state.origin.entry.index.value));
    env_.trace.reached(Probe::split_lost);
    state = {.group = state.group, .generation = state.generation, .hard_state = state.hard_state, .suspect = true};
    return replica::Beginning();
  }
  env_.trace.reached(Probe::split_repeated);
  replica::Beginning beginning{.machine = std::move(birth->machine), .parent = std::move(birth->parent)};
  births_.erase(birth);
  return beginning;
}

// Without this nobody would serve its slots until an election timeout has passed. The others may not have it yet, and
// do not answer then: it asks again.
void Groups::elect_newborn() {
  std::erase_if(newborn_, [this](const auto& newborn) {
    replica::Replica* replica = find(newborn.first);
    if (!replica || replica->raft().leader() || newborn.second <= env_.clock.now()) return true;
    replica->campaign();
    return false;
  });
}

}  // namespace mneme::node
