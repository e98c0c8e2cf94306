#include "core/replica/replica.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/limits.h"
#include "core/kv/errors.h"
#include "core/raft/text.h"
#include "core/wal/record.h"

namespace mneme::replica {

namespace {

// How soon after a key's time has come the leader moves log time to let it go, when no read asks for it.
constexpr Duration kSweepDelay = 250ms;
constexpr Duration kSlowestCheckpoint = 1s;  // only where chance asks for it
constexpr std::string_view kSlotsChanged = "the shard's slots have changed";
constexpr std::string_view kNotBegun = "the shard has not begun yet";
constexpr std::string_view kGone = "this node has no replica of the shard any more";

Result<void> apply_to(kv::StateMachine& machine, const raft::Entry& entry, kv::ReplySink& sink) {
  switch (entry.kind) {
    case raft::EntryKind::kData:
      if (auto applied = machine.apply(entry.index, *entry.payload, sink); !applied)
        return fail(ErrorCode::kCorrupt,
                    fmt::format("log entry {} cannot be applied: {}", entry.index.value, applied.error().message));
      return {};
    case raft::EntryKind::kConfig: machine.configure(entry.index, *entry.payload); return {};
    case raft::EntryKind::kNoop: machine.skip(entry.index); return {};
  }
  return {};
}

// About what the entry takes in the log.
size_t log_bytes(const raft::Entry& entry) { return entry.payload_bytes() + 64; }

// What is split off by entries that are applied before there is a replica.
struct Splits final : kv::ReplySink {
  struct Split {
    raft::LogPosition entry;
    kv::SplitRequest request;
    std::unique_ptr<kv::StateMachine> child;
  };

  void reply(size_t, kv::Outcome, std::string_view) override {}
  void split(const kv::SplitRequest& request, std::unique_ptr<kv::StateMachine> child) override {
    all.push_back({now, request, std::move(child)});
  }

  raft::LogPosition now;
  std::vector<Split> all;
};

raft::LogPosition last_position(const raft::Durable& durable) {
  if (durable.entries.empty()) return durable.snapshot;
  return {durable.entries.back().index, durable.entries.back().term};
}

}  // namespace

Result<std::shared_ptr<Replica>> Replica::open(const Shared& shared, ReplicaConfig config, wal::GroupState recovered,
                                               Beginning beginning) {
  Env& env = shared.env;
  CheckpointStore store(env, config.directory);
  TRY(store.open(recovered.checkpoint_id));
  std::shared_ptr<kv::StateMachine>& machine = beginning.machine;
  if (!machine && recovered.checkpoint_id != 0) {
    auto loaded = store.load(recovered.checkpoint_id, recovered.checkpoint);
    if (!loaded && loaded.error().code == ErrorCode::kCorrupt)
      loaded.error().message += "; restore it from a backup, or replace this node";
    machine = TRY(std::move(loaded));
    env.trace.reached(Probe::checkpoint_loaded);
  } else if (!machine) {
    machine = std::make_shared<kv::StateMachine>(&env.trace, config.shard);
  }
  for (const raft::Entry& entry : recovered.entries) {
    if (entry.kind != raft::EntryKind::kConfig) continue;
    if (auto read = raft::decode_configuration(entry.payload ? *entry.payload : std::string()); !read)
      return fail(read.error().code, fmt::format("log entry {}: {}", entry.index.value, read.error().message));
  }
  raft::Durable durable{.hard_state = recovered.hard_state,
                        .snapshot = recovered.checkpoint,
                        .entries = std::move(recovered.entries),
                        .suspect = recovered.suspect,
                        .newborn = beginning.newborn,
                        .applied = beginning.committed,
                        .unsaved = recovered.checkpoint_id == 0};
  if (!machine->configuration().empty())
    durable.configuration = TRY(raft::decode_configuration(machine->configuration()));
  Splits splits;
  size_t applied_bytes = 0;
  for (const raft::Entry& entry : durable.entries) {
    if (entry.index > beginning.committed) break;
    splits.now = {entry.index, entry.term};
    TRY(apply_to(*machine, entry, splits));
    applied_bytes += log_bytes(entry);
  }
  env::log(env.trace, env::Level::kInfo, "replica", "term {}, checkpoint {}, log up to {}{}",
           durable.hard_state.term.value, durable.snapshot.index.value, last_position(durable).index.value,
           durable.suspect ? ", suspect" : "");
  auto replica = std::shared_ptr<Replica>(
      new Replica(shared, std::move(config), std::move(durable), recovered.checkpoint_id, std::move(beginning)));
  TRY(replica->checkpoints_.open(recovered.checkpoint_id));
  replica->applied_bytes_ = applied_bytes;
  for (Splits::Split& split : splits.all)
    replica->host_.split(*replica, split.entry, split.request, std::move(split.child));
  if (replica->needs_checkpoint()) replica->want_checkpoint();
  replica->wake();
  return replica;
}

Replica::Replica(const Shared& shared, ReplicaConfig config, raft::Durable durable, uint64_t checkpoint_id,
                 Beginning beginning)
    : env_(shared.env),
      log_(shared.log),
      driver_(shared.driver),
      transport_(shared.transport),
      forwarded_(shared.forwarded),
      host_(shared.host),
      observer_(shared.observer),
      config_(std::move(config)),
      checkpoints_(env_, config_.directory),
      machine_(std::move(beginning.machine)),
      raft_(config_.raft, durable, env_.clock.now(), env_.random, env_.trace),
      leader_changed_(env_.scheduler),
      proposals_settled_(env_.scheduler),
      tick_(*this),
      checkpoint_(durable.snapshot),
      checkpoint_id_(checkpoint_id),
      applied_term_(raft_.term_at(raft_.applied()).value_or(Term())),
      recovered_term_(durable.hard_state.term),
      parent_(std::move(beginning.parent)) {
  if (checkpoint_id_ != 0) {
    raft_.checkpoint_available(checkpoint_);
    recorded_ = checkpoints_.keep(checkpoint_id_);
    // One of before checkpoints had configurations cannot be sent: another follows the next entry.
    if (machine_->configuration().empty()) doubtful_checkpoint_ = checkpoint_id_;
  }
  if (!observer_) return;
  observer_->started(config_.raft.id.node(), config_.group, raft_, machine_->applied(), machine_->digest());
  observer_->has_shard(config_.raft.id.node(), config_.group, machine_->applied(), machine_->shard());
}

Replica::~Replica() { driver_.forget(*this); }

void Replica::retire() {
  if (std::exchange(retired_, true)) return;
  driver_.forget(*this);
  if (tick_.armed()) env_.clock.timers().disarm(tick_);
  while (!proposed_.empty())
    proposed_.begin()->second->settle(Outcome::kUnknown, "this node's replica was removed meanwhile");
  while (!reading_.empty()) reading_.begin()->second->settle(Outcome::kNotDone, kGone);
  while (!confirmed_.empty()) confirmed_.front().call->settle(Outcome::kNotDone, kGone);
  leader_changed_.notify_all();
  if (auto asked = std::exchange(appending_again_, nullptr)) asked->done.set(false);
  parent_ = nullptr;
}

shard::Map Replica::map_ahead() const {
  shard::Map map = machine_->map();
  LogIndex index = machine_->applied().next();
  if (index < raft_.first_index()) return map;  // a snapshot is there, and not taken yet
  for (; index <= raft_.last_index(); index = index.next())
    if (const raft::Entry& entry = raft_.entry_at(index); entry.kind == raft::EntryKind::kData)
      kv::StateMachine::change_map(map, *entry.payload);
  return map;
}

Result<void> Replica::turn() {
  raft_.tick(env_.clock.now());
  moved();
  TRY(process());
  append_again();
  arm_timer();
  return {};
}

void Replica::arm_timer() {
  Instant at = raft_.next_deadline();
  if (raft_.role() == raft::Role::kLeader && !time_entry_) {
    // Expired keys leave memory even if nobody asks for them; their time is told by the log, ours only estimates it.
    if (int64_t first = machine_->table().first_expiry_ms(); first != INT64_MAX) {
      int64_t in_ms = std::max<int64_t>(first - log_time(), 0);
      at = std::min(at, env_.clock.now() + kSweepDelay + std::min<Duration>(std::chrono::milliseconds(in_ms), 24h));
    }
  }
  if (tick_.armed() && tick_.at() <= at) return;  // looks again when it fires
  const auto cause = static_cast<uint64_t>(at.ns);
  if (at != kNever && env_.random.rarely(Site::kLateTimer, cause))
    at = at + env_.random.draw_below(config_.raft.election_timeout, Site::kLateTimer, config_.raft.id.value, cause);
  env_.clock.timers().arm(tick_, at);
}

int64_t Replica::log_time() {
  // Only a leader's clock is the log's. Another's, once read, would go on by itself, or begin at its own wall clock,
  // and a node that leads later would take the log there at once.
  if (raft_.role() != raft::Role::kLeader) return machine_->log_time_ms();
  clock_.at_least(machine_->log_time_ms());
  if (!clock_.started()) {
    // A new leader's log reaches beyond what it has applied.
    for (LogIndex index = raft_.last_index(); index >= raft_.first_index() && index > machine_->applied();
         index = index.prev()) {
      const raft::Entry& entry = raft_.entry_at(index);
      if (entry.kind != raft::EntryKind::kData) continue;
      if (auto batch = kv::BatchReader::open(*entry.payload)) clock_.at_least(batch->header().log_time_ms);
      break;
    }
  }
  return clock_.read(env_.clock.now(), env_.clock.wall());
}

// --- In

void Replica::step(raft::Message message) {
  if (retired_) return;
  if (!heard_leader_ && message.term >= recovered_term_ &&
      (message.type == raft::MessageType::kAppend || message.type == raft::MessageType::kHeartbeat)) {
    heard_leader_ = true;
    if (recovered_term_ && message.term > recovered_term_) env_.trace.reached(Probe::election_during_recovery);
  }
  if (env_.trace.wants(env::Level::kDebug)) env_.trace.line(env::Level::kDebug, "raft", raft::text_of(message));
  raft_.step(std::move(message), env_.clock.now());
  moved();
  // Many answers only tell raft how far a peer is: then nothing is to be done.
  if (raft_.has_ready() || raft_.leader() != leader_seen_ || !tick_.armed() || raft_.next_deadline() < tick_.at())
    wake();
}

void Replica::unreachable(NodeId to) {
  raft_.unreachable(raft_.configuration().on(to));
  moved();
  wake();
}

void Replica::snapshot_failed(ReplicaId to) {
  raft_.snapshot_failed(to);
  moved();
  wake();
}

void Replica::propose(Call& call) {
  if (retired_) return call.settle(Outcome::kNotDone, kGone);
  // What is applied before would be refused, by a reply that a part of a command must not have.
  if (!machine_->shard().begun()) return refuse(call, kNotBegun);
  std::string payload =
      call.payload.empty() ? call.commands.encode({.epoch = call.epoch, .origin = call.origin}) : call.payload;
  kv::set_log_time(payload, log_time());
  auto position = raft_.propose(std::make_shared<const std::string>(std::move(payload)), env_.clock.now());
  moved();
  if (!position) return refuse(call, position.error().message);
  const std::pair key(position->index, position->term);
  proposed_[key] = &call;
  call.registered(*this, position->index.value, position->term.value);
  wake();
}

void Replica::refuse(Call& call, std::string_view why) {
  call.leader = raft_.leader().node();
  call.settle(Outcome::kNotDone, why);
}

Result<void> Replica::hand_over(NodeId to) {
  const ReplicaId heir = raft_.configuration().on(to);
  if (to && !heir) return fail(ErrorCode::kInvalid, fmt::format("node {} has no replica of this group", to.value));
  auto begun = raft_.transfer(heir, env_.clock.now());
  moved();
  wake();
  return begun;
}

bool Replica::leads() const {
  return raft_.role() == raft::Role::kLeader && raft_.committed_in_term() && applied_term_ == raft_.term() && !retired_;
}

bool Replica::has_change_pending() const {
  return raft_.configuration_index() > machine_->applied() || raft_.configuration().joint() ||
         internal_entry_ > machine_->applied();
}

void Replica::propose_internal(const std::vector<std::string>& words) {
  const std::vector<std::string_view> args(words.begin(), words.end());
  kv::BatchBuilder builder({.epoch = machine_->shard().epoch, .log_time_ms = log_time()});
  builder.add({}, args);
  auto position = raft_.propose(std::make_shared<const std::string>(std::move(builder).finish()), env_.clock.now());
  moved();
  if (!position) return;
  internal_entry_ = position->index;
  wake();
}

Result<void> Replica::change(const raft::Change& change) {
  auto begun = raft_.propose_change(change, env_.clock.now());
  moved();
  wake();
  if (!begun) return std::unexpected(std::move(begun).error());
  return {};
}

void Replica::end_rest() {
  raft_.wake(env_.clock.now());
  moved();
  wake();
}

void Replica::process_ended(NodeId node) {
  if (raft_.leader().node() != node) return;
  raft_.leader_gone(raft_.leader(), env_.clock.now());
  moved();
  wake();
}

void Replica::campaign() {
  if (raft_.role() == raft::Role::kCandidate) return;
  raft_.campaign(env_.clock.now());
  moved();
  wake();
}

void Replica::read(Call& call) {
  if (retired_) return call.settle(Outcome::kNotDone, kGone);
  const uint64_t context = ++read_contexts_;
  if (auto asked = raft_.read_index(context, env_.clock.now()); !asked) return refuse(call, asked.error().message);
  reading_[context] = &call;
  call.registered(*this, context, 0);
  wake();
}

void Replica::forget(Call& call) {
  // Keys: (index, term) of a proposal, (context, 0) of a read.
  if (call.key_b == 0) {
    reading_.erase(call.key_a);
    std::erase_if(confirmed_, [&](const ReadCall& read) { return read.call == &call; });
  } else {
    proposed_.erase({LogIndex(call.key_a), Term(call.key_b)});
    if (proposed_.empty()) proposals_settled_.notify_all();
  }
}

void Replica::snapshot_received(raft::Message message, std::shared_ptr<CheckpointStore::Keep> checkpoint,
                                std::shared_ptr<kv::StateMachine> machine) {
  CHECK(!is_held());
  staged_.push_back({message.log, std::move(checkpoint), std::move(machine)});
  step(std::move(message));
}

// --- Through

Result<void> Replica::process() {
  for (;;) {
    while (raft_.has_ready()) {
      TRY(handle(raft_.ready()));
      moved();
    }
    serve_reads();
    if (raft_.role() == raft::Role::kLeader && !time_entry_ && machine_->table().first_expiry_ms() <= log_time())
      propose_time();
    if (!raft_.has_ready()) break;
  }
  note_leader();
  return {};
}

Result<void> Replica::handle(raft::Ready ready) {
  for (raft::Message& message : ready.messages) {
    if (message.type == raft::MessageType::kSnapshot)
      transport_.send_snapshot(config_.group, message, checkpoint_id_);
    else
      transport_.send(config_.group, message);
  }
  if (ready.needs_persisting() || !ready.messages_after_persist.empty()) persist(ready);
  if (ready.snapshot) install(*ready.snapshot);
  TRY(apply(ready.committed));
  for (const raft::ReadState& read : ready.reads) {
    auto found = reading_.find(read.context);
    if (found == reading_.end()) continue;
    confirmed_.push_back({found->second, read.index});
    reading_.erase(found);
  }
  for (uint64_t context : ready.failed_reads) {
    if (auto found = reading_.find(context); found != reading_.end())
      found->second->settle(Outcome::kNotDone, "leadership was lost");
  }
  return {};
}

void Replica::persist(raft::Ready& ready) {
  wal::Batch& batch = log_.batch();
  std::shared_ptr<CheckpointStore::Keep> checkpoint;
  if (ready.hard_state) batch.hard_state(config_.group, *ready.hard_state);
  if (ready.snapshot) {
    auto staged =
        std::find_if(staged_.begin(), staged_.end(), [&](const Staged& s) { return s.position == *ready.snapshot; });
    CHECK(staged != staged_.end());
    checkpoint = staged->checkpoint;
    batch.restart(config_.group, *ready.snapshot, checkpoint->id());
  }
  if (!ready.entries.empty()) batch.entries(config_.group, config_.raft.id.generation(), ready.entries);
  if (ready.clear_suspect) batch.suspect(config_.group, false);
  log_.when_durable([this, self = shared_from_this(), number = ready.number, snapshot = ready.snapshot, checkpoint,
                     messages = std::move(ready.messages_after_persist)] {
    if (retired_) return;
    if (snapshot) {
      recorded_ = checkpoint;
      parent_ = nullptr;
      log_.log().covered(config_.group, snapshot->index);
    }
    raft_.persisted(number);
    for (const raft::Message& message : messages) transport_.send(config_.group, message);
    moved();
    wake();
  });
}

void Replica::install(const raft::LogPosition& position) {
  auto staged = std::find_if(staged_.begin(), staged_.end(), [&](const Staged& s) { return s.position == position; });
  CHECK(staged != staged_.end());
  machine_ = staged->machine;
  checkpoint_ = position;
  checkpoint_id_ = staged->checkpoint->id();
  applied_term_ = position.term;
  applied_bytes_ = 0;
  staged_.clear();
  raft_.applied(position.index);
  raft_.checkpoint_available(position);
  host_.shard_changed(*this);
  env_.trace.reached(Probe::snapshot_installed);
  env::log(env_.trace, env::Level::kInfo, "replica", "snapshot installed at index {}", position.index.value);
  if (observer_) {
    observer_->installed(config_.raft.id.node(), config_.group, position.index, machine_->digest());
    observer_->has_shard(config_.raft.id.node(), config_.group, position.index, machine_->shard());
  }
  // What became of proposals below cannot be known from a snapshot.
  while (!proposed_.empty() && proposed_.begin()->first.first <= position.index)
    proposed_.begin()->second->settle(Outcome::kUnknown, "a snapshot replaced the log");
}

Result<void> Replica::apply(const std::vector<raft::Entry>& entries) {
  size_t expected = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    const raft::Entry& entry = entries[i];
    if (i == expected) {
      bool room = true;
      for (; expected < entries.size() && room; ++expected)
        if (entries[expected].kind == raft::EntryKind::kData) room = machine_->expect(*entries[expected].payload);
      machine_->expected();
    }
    // Committed before the snapshot that has just been installed.
    if (entry.index <= machine_->applied()) continue;
    const Epoch epoch_before = machine_->shard().epoch;
    const uint64_t map_before = machine_->map().version();
    auto waiting = proposed_.find({entry.index, entry.term});
    replying_ = waiting != proposed_.end() ? waiting->second : nullptr;
    TRY(apply_to(*machine_, entry, *this));
    const bool new_term = std::exchange(applied_term_, entry.term) < entry.term;
    applied_bytes_ += log_bytes(entry);
    ++applied_entries_;
    if (Call* call = std::exchange(replying_, nullptr)) call->settle(Outcome::kDone);
    settle_applied(entry);
    if (new_term) forwarded_.outlived(config_.group, entry.term);
    if (time_entry_ && entry.index >= time_entry_) time_entry_ = LogIndex();
    raft_.applied(entry.index);
    if (machine_->shard().epoch != epoch_before || machine_->map().version() != map_before) host_.shard_changed(*this);
    if (!observer_) continue;
    observer_->applied(config_.raft.id.node(), config_.group, entry, machine_->digest());
    if (machine_->shard().epoch != epoch_before)
      observer_->has_shard(config_.raft.id.node(), config_.group, entry.index, machine_->shard());
  }
  if (applied_bytes_ >= config_.checkpoint_log_bytes ||
      (!entries.empty() && (doubtful_checkpoint_ == checkpoint_id_ ||
                            env_.random.rarely(Site::kEarlyCheckpoint, machine_->applied().value))))
    want_checkpoint();
  return {};
}

void Replica::renew_checkpoint(uint64_t checkpoint_id) {
  if (checkpoint_id != checkpoint_id_) return;
  doubtful_checkpoint_ = checkpoint_id;
  env_.trace.reached(Probe::checkpoint_renewed);
  if (machine_->applied() > checkpoint_.index) want_checkpoint();
}

// Proposals at this index in another term were overwritten: they did not happen, and never will.
void Replica::settle_applied(const raft::Entry& entry) {
  for (auto next = proposed_.begin(); next != proposed_.end() && next->first.first <= entry.index;) {
    Call* call = next->second;
    ++next;
    env_.trace.reached(Probe::outcome_certain_after_overwrite);
    call->settle(Outcome::kNotDone, "another leader's entry took its place");
  }
}

void Replica::begin(const kv::BatchHeader& header, size_t) {
  if (!replying_) replying_ = forwarded_.find(header.origin);
}

void Replica::stale(const kv::BatchHeader& header, size_t commands) {
  begin(header, commands);
  env_.trace.reached(Probe::stale_epoch_refused);
  if (Call* call = std::exchange(replying_, nullptr)) call->settle(Outcome::kNotDone, kSlotsChanged);
}

void Replica::split(const kv::SplitRequest& request, std::unique_ptr<kv::StateMachine> child) {
  raft_.revoke_lease();
  const LogIndex index = machine_->applied();
  host_.split(*this, {index, raft_.term_at(index).value_or(Term())}, request, std::move(child));
}

void Replica::reply(size_t position, kv::Outcome, std::string_view reply) {
  if (!replying_) return;
  // A read changes nothing, so that its answer may still be refused; what was written must be told.
  if (replying_->replies.bytes().size() > limits::kMaxReplyBytes &&
      replying_->commands.items()[position].spec->is(kv::kRead))
    return replying_->replies.add_with([](std::string& out) { protocol::put_error(out, kv::kReplyTooLong); });
  replying_->replies.add(reply);
}

// --- Reads

void Replica::serve_reads() {
  for (size_t i = 0; i < confirmed_.size();) {
    auto [call, at] = confirmed_[i];
    // Settling takes it out of the queue.
    if (machine_->applied() < at || !serve(*call)) ++i;
  }
}

bool Replica::serve(Call& call) {
  if (!machine_->accepts(call.epoch)) {
    env_.trace.reached(Probe::stale_epoch_refused);
    call.settle(Outcome::kNotDone, kSlotsChanged);
    return true;
  }
  // Only a leader estimates the time, because only it can commit that. A follower goes by the log's.
  const bool leads = raft_.role() == raft::Role::kLeader;
  const kv::StateMachine::ReadOptions options{.now_ms = leads ? log_time() : machine_->log_time_ms(),
                                              .pick = read_contexts_};
  bool due = false;
  for (const CommandList::Item& item : call.commands.items())
    call.replies.add_with([&](std::string& out) {
      if (out.size() > limits::kMaxReplyBytes) return protocol::put_error(out, kv::kReplyTooLong);
      due |= machine_->read(*item.spec, call.commands.args(item), options, out);
    });
  if (due) {
    call.replies.clear();
    env_.trace.reached(Probe::expiry_committed_for_read);
    if (!time_entry_) propose_time();
    if (time_entry_) return false;
    call.settle(Outcome::kNotDone, "leadership was lost");
    return true;
  }
  if (observer_) observer_->read_served(config_.group, call.origin, machine_->applied());
  call.settle(Outcome::kDone);
  return true;
}

void Replica::propose_time() {
  kv::BatchBuilder builder(kv::BatchHeader{.log_time_ms = log_time()});
  auto position = raft_.propose(std::make_shared<const std::string>(std::move(builder).finish()), env_.clock.now());
  if (position) time_entry_ = position->index;
}

void Replica::note_leader() {
  if (raft_.role() != raft::Role::kLeader) {
    clock_ = LogClock();
    time_entry_ = LogIndex();
    internal_entry_ = LogIndex();
    // Reads that waited for time are asked again elsewhere.
    for (size_t i = 0; i < confirmed_.size();) {
      if (machine_->applied() >= confirmed_[i].ready_at)
        confirmed_[i].call->settle(Outcome::kNotDone, "leadership was lost");
      else
        ++i;
    }
  }
  if (raft_.leader() != leader_seen_) {
    leader_seen_ = raft_.leader();
    if (leader_seen_)
      env::log(env_.trace, env::Level::kInfo, "raft", "term {}: leader is n{}", raft_.term().value,
               leader_seen_.node().value);
    leader_changed_.notify_all();
    host_.leader_changed(*this);
  }
}

// --- Segments of the log that this replica holds up

void Replica::leave_old_segments(uint64_t most_bytes) {
  if (retired_) return;
  if (!appending_again_) appending_again_ = std::make_shared<Appending>(env_.scheduler, most_bytes);
  const std::shared_ptr<Appending> asked = appending_again_;  // this replica may be gone before this fiber goes on
  wake();
  asked->done.wait();
}

// After the turn's work raft has handed out its whole log. So what it has in memory is what the write-ahead log will
// say of the group when everything encoded so far is durable, whether it is already or not: all of it again, behind
// that, replaces each entry by itself. Until that is durable the old segments are needed, and therefore stay.
void Replica::append_again() {
  if (!appending_again_) return;
  if (raft_.has_ready()) return wake();
  const std::shared_ptr<Appending> asked = std::exchange(appending_again_, nullptr);
  // The record of a checkpoint may be in front of this already, and no entry that it covers may follow it. When it is
  // complete there is less to be appended again, or nothing.
  if (taking_checkpoint_ || is_held()) return asked->done.set(false);
  CHECK(raft_.first_index() <= checkpoint_.index.next());
  std::vector<raft::Entry> entries;
  uint64_t bytes = 0;
  for (LogIndex index = checkpoint_.index.next(); index <= raft_.last_index(); index = index.next()) {
    entries.push_back(raft_.entry_at(index));
    bytes += wal::kEntryRecordBytes + entries.back().payload_bytes();
    if (bytes > asked->most_bytes) {
      if (machine_->applied() > checkpoint_.index) want_checkpoint();
      return asked->done.set(false);
    }
  }
  if (entries.empty()) return asked->done.set(false);
  log_.batch_of_its_own().entries(config_.group, config_.raft.id.generation(), entries);
  env_.trace.reached(Probe::laggard_rewritten);
  log_.when_durable([asked] { asked->done.set(true); });
}

// --- Checkpoints

Hold::Hold(std::shared_ptr<Replica> replica) : replica_(std::move(replica)) { ++replica_->holds_; }
Hold::~Hold() { replica_->let_go(); }

void Replica::let_go() {
  --holds_;
  if (!retired_ && !is_held() && needs_checkpoint()) want_checkpoint();
}

bool Replica::is_covered(LogIndex index) const {
  return index < checkpoint_.index || (index == checkpoint_.index && checkpoint_id_ != 0);
}

Result<void> Replica::take_checkpoint() {
  if (retired_ || is_held()) return {};
  std::shared_ptr<kv::StateMachine> machine = machine_;  // a snapshot may replace it meanwhile
  struct Interrupted {
    Env& env;
    bool completed = false;
    ~Interrupted() {
      if (!completed) env.trace.reached(Probe::checkpoint_interrupted);
    }
  } interrupted{env_};
  const std::shared_ptr<CheckpointStore::Keep> checkpoint = checkpoints_.keep_next();
  const uint64_t id = checkpoint->id();
  applied_bytes_ = 0;
  doubtful_checkpoint_ = UINT64_MAX;
  std::unique_ptr<CheckpointStore::Part> part;
  raft::LogPosition position;
  {
    // Holds the state as it is now; from here on the fiber suspends.
    kv::CheckpointWriter writer(*machine, applied_term_);
    position = {writer.index(), writer.term()};
    part = TRY(checkpoints_.create(id));
    if (env_.random.rarely(Site::kSlowCheckpoint, position.index.value))
      env_.clock.sleep_for(env_.scheduler,
                           env_.random.draw_below(kSlowestCheckpoint, Site::kSlowCheckpoint, position.index.value, 0));
    for (;;) {
      std::string chunk = writer.next_chunk(config_.checkpoint_chunk_bytes);
      if (chunk.empty()) break;
      TRY(part->write(chunk));
    }
  }
  TRY(part->finish());
  if (retired_ || is_covered(position.index)) return {};  // a newer snapshot came meanwhile; the next one removes it
  env_.trace.reached(Probe::checkpoint_written);
  log_.batch().checkpoint(config_.group, position, id);
  auto durable = std::make_shared<fiber::Promise<bool>>(env_.scheduler);  // shared: this fiber may be cancelled first
  log_.when_durable([this, self = shared_from_this(), checkpoint, durable] {
    recorded_ = checkpoint;
    parent_ = nullptr;
    durable->set(true);
  });
  durable->wait();
  if (retired_) return {};
  if (!is_covered(position.index)) {
    checkpoint_ = position;
    checkpoint_id_ = id;
    log_.log().covered(config_.group, position.index);
    raft_.checkpoint_available(position);
    const uint64_t keep = env_.random.rarely(Site::kEagerCompact, position.index.value) ? 0 : config_.keep_entries;
    if (position.index.value > keep) raft_.compact(LogIndex(position.index.value - keep));
  }
  TRY(checkpoints_.remove_others());
  TRY(log_.log().free_segments());
  interrupted.completed = true;
  env_.trace.reached(Probe::checkpoint_completed);
  env::log(env_.trace, env::Level::kInfo, "replica", "checkpoint {} at index {}, {} bytes", id, position.index.value,
           part->bytes());
  return {};
}

}  // namespace mneme::replica
