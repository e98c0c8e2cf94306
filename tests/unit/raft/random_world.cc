#include "tests/unit/raft/random_world.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/raft/text.h"

namespace mneme::raft {

namespace {

constexpr Instant kBeginning{1'000'000'000};
constexpr int64_t kMillion = 1'000'000;

}  // namespace

RandomWorld::RandomWorld(uint64_t seed, WorldOptions options, TestProbes& probes)
    : options_(options),
      state_(mix(seed + 1)),
      chance_(seed, true),
      probes_(probes),
      clocks_(options.replicas),
      replicas_(options.replicas),
      lives_(options.replicas) {
  // Each seed has a character of its own: a world with everything wrong at once gets nowhere.
  loss_ = sometimes(200);
  duplication_ = sometimes(100);
  slow_ = sometimes(200);
  crash_ = 100 + random(400);
  slow_disk_ = between(1ms, 60ms);
  storm_ = random(3) == 0;
  hunt_ = sometimes(900);
  Config config;
  const size_t founders = options.founders == 0 ? options.replicas : options.founders;
  for (size_t i = 0; i < founders; ++i) config.voters.push_back(ReplicaId(i + 1));
  config.election_timeout = 100ms;
  config.heartbeat_interval = 20ms;
  config.max_append_bytes = random(2) == 0 ? 1 : 50 + random(400);  // 1: an entry at a time
  config.max_inflight_appends = 1 + random(8);
  config.max_uncommitted_bytes = 4000;
  config.may_rest = options.rest;
  config.follower_reads = options.follower_reads;
  config.lease = options.lease;
  config.drift_ppm = options.stated_ppm;
  for (Clock& clock : clocks_) {
    if (options.lease == Duration::zero()) break;
    clock.ahead = between(0s, 1000s);
    if (options.drift_ppm == 0) continue;
    // Half of the drift each way at most, and often all of it.
    const int64_t most = options.drift_ppm / 2;
    clock.ppm = random(2) == 0 ? (random(2) == 0 ? most : -most)
                               : static_cast<int64_t>(random(static_cast<uint64_t>(2 * most))) - most;
  }
  for (size_t i = 0; i < options.replicas; ++i) {
    replicas_[i].config = config;
    if (i < founders) replicas_[i].config.id = ReplicaId(i + 1);
    if (i < founders) start(i);
  }
  faults_end_ = now_ + options.faulty;
  schedule(1ms, What::kClient);
  schedule(50ms, What::kFault);
  for (size_t i = 0; options.rest && i < options.replicas; ++i) {
    lives_[i].known_lives.resize(options.replicas);
    schedule(40ms, What::kPing, i);
  }
}

uint64_t RandomWorld::random() { return mix(state_ += 0x9e3779b97f4a7c15u); }

Duration RandomWorld::between(Duration low, Duration high) {
  return low + Duration(static_cast<int64_t>(random(static_cast<uint64_t>((high - low).count()))));
}

void RandomWorld::violate(std::string sentence) {
  if (!violation_) violation_ = std::move(sentence);
}

void RandomWorld::schedule(Duration in, What what, size_t replica, std::shared_ptr<Message> message) {
  events_.push({now_ + in, order_++, what, replica, lives_[replica].number, std::move(message)});
}

Instant RandomWorld::local(size_t i) const {
  const Clock& clock = clocks_[i];
  return kBeginning + clock.ahead + (now_ - kBeginning) * (kMillion + clock.ppm) / kMillion;
}

Instant RandomWorld::when_shows(size_t i, Instant time) const {
  const Clock& clock = clocks_[i];
  if (time == kNever || (clock.ppm == 0 && clock.ahead == Duration::zero())) return time;
  const int64_t rate = kMillion + clock.ppm;
  const int64_t shown = (time - kBeginning - clock.ahead).count();
  return kBeginning + Duration((shown * kMillion + rate - 1) / rate);
}

void RandomWorld::check_leases(size_t i) {
  const Raft& leader = *replicas_[i].raft;
  if (leader.role() != Role::kLeader) return;
  for (size_t n = 0; n < replicas_.size(); ++n) {
    const Raft* other = replicas_[n].raft.get();
    if (other && other->term() < leader.term() && other->lease_valid(local(n)))
      violate(fmt::format("node {} has a lease in term {}, but node {} leads term {}", n + 1, other->term().value,
                          i + 1, leader.term().value));
  }
}

std::optional<std::string> RandomWorld::run() {
  bool healed = false;
  Instant end = faults_end_ + options_.healing;
  LogIndex last_asked;
  Instant propose_at;
  bool done = false;
  while (!violation_) {
    // Timers are no events: the earliest deadline of all is looked up.
    size_t due = replicas_.size();
    Instant at = events_.empty() ? kNever : events_.top().at;
    for (size_t i = 0; i < replicas_.size(); ++i) {
      if (!replicas_[i].raft) continue;
      const Instant deadline = when_shows(i, replicas_[i].raft->next_deadline());
      if (deadline >= at) continue;
      due = i;
      at = deadline;
    }
    now_ = std::max(now_, at);
    if (!healed && now_ >= faults_end_) {
      healed = true;
      propose_at = now_;
      heal();
    }
    if (healed && !done && now_ >= propose_at) {  // what was proposed may fall to a change of leaders
      propose_at = now_ + 300ms;
      for (size_t i = 0; i < replicas_.size(); ++i) {
        if (!replicas_[i].raft) continue;
        auto position = replicas_[i].raft->propose(std::make_shared<const std::string>("last"), local(i));
        if (position) last_asked = position->index;
        after_step(i);
      }
    }
    if (healed && !done && last_asked && everybody_has(last_asked)) {
      done = true;
      end = now_ + 1s;
    }
    if (done && (!options_.rest || everybody_rests())) return violation_;
    if (now_ > end) {
      violate((done ? "the group does not fall silent" : "no proposal reached everybody after the faults") +
              describe());
      break;
    }
    if (due < replicas_.size()) {
      replicas_[due].raft->tick(local(due));
      after_step(due);
    } else {
      Event event = events_.top();
      events_.pop();
      handle(event);
    }
  }
  return violation_;
}

void RandomWorld::handle(const Event& event) {
  size_t i = event.replica;
  switch (event.what) {
    case What::kDeliver:
      if (!admit(i, event.message->to)) return;
      replicas_[i].raft->step(*event.message, local(i));
      return after_step(i);
    case What::kStored:
      if (replicas_[i].raft && event.life == lives_[i].number) stored(i);
      return;
    case What::kRestart:
      if (!replicas_[i].raft && replicas_[i].config.id) start(i);
      return;
    case What::kMend: cut_.clear(); return;
    case What::kClient: return client();
    case What::kFault: return fault();
    case What::kPing: return ping(i);
  }
}

void RandomWorld::start(size_t i) {
  TestReplica& replica = replicas_[i];
  Life& life = lives_[i];
  ++life.number;
  life.writing = 0;
  life.reads.clear();
  life.applied = replica.disk.base.index;
  life.state = life.checkpoint_state;
  replica.now = local(i);
  replica.start(chance_, probes_);
  if (auto bad = cluster_.restarted(*replica.raft)) violate(*bad);
  after_step(i);
}

void RandomWorld::crash(size_t i, bool write_under_way_lost) {
  TestReplica& replica = replicas_[i];
  if (!replica.raft) return;
  // The write under way may have got somewhere.
  size_t kept = lives_[i].writing == 0 || write_under_way_lost ? 0 : random(lives_[i].writing + 1);
  for (size_t n = 0; n < kept; ++n) {
    const Ready& ready = replica.unstored[n];
    if (ready.snapshot) lives_[i].checkpoint_state = chain_[ready.snapshot->index.value - 1];
    if (!replica.disk.store(ready)) violate("a Ready did not fit the disk");
  }
  if (kept > 0) lives_[i].before_write.reset();
  replica.crash();
  ++lives_[i].number;
}

// A majority must be in good standing, or nobody is ever elected.
bool RandomWorld::another_may_be_suspect() const {
  const auto suspects = std::count_if(replicas_.begin(), replicas_.end(), [](auto& r) { return r.disk.suspect; });
  if (options_.founders > 0) return suspects == 0;  // of three voters or more, in each half
  return 2 * (static_cast<size_t>(suspects) + 1) < replicas_.size();
}

void RandomWorld::damage(size_t i) {
  crash(i, true);
  Life& life = lives_[i];
  TestDisk& disk = replicas_[i].disk;
  if (!life.before_write) return;
  HardState hard = disk.hard;
  disk = *std::exchange(life.before_write, std::nullopt);
  if (!options_.lose_votes) disk.hard = hard;
  disk.suspect = true;
  life.damaged = true;
}

void RandomWorld::after_step(size_t i) {
  ++steps_;
  TestReplica& replica = replicas_[i];
  take_readys(i);
  if (auto bad = replica.check()) violate(*bad);
  if (auto bad = cluster_.observe(*replica.raft)) violate(*bad);
  highest_commit_ = std::max(highest_commit_, replica.raft->commit());
  if (options_.lease > Duration::zero() && options_.watch_leases) check_leases(i);
}

void RandomWorld::take_readys(size_t i) {
  TestReplica& replica = replicas_[i];
  if (now_ < faults_end_ && chance_in(200)) return;  // the owner is busy: several steps share a Ready
  int rounds = 0;
  while (replica.raft->has_ready()) {
    if (++rounds > 100) return violate("Readys without end");
    Ready ready = replica.raft->ready();
    serve(i, ready);
    for (Message& m : ready.messages) send(std::move(m));
    ready.messages.clear();
    if (ready.needs_persisting() || !ready.messages_after_persist.empty()) replica.unstored.push_back(std::move(ready));
    if (lives_[i].writing == 0) write_next(i);
  }
}

void RandomWorld::serve(size_t i, const Ready& ready) {
  Life& life = lives_[i];
  Raft& raft = *replicas_[i].raft;
  if (ready.snapshot) {
    life.applied = ready.snapshot->index;
    if (life.applied.value > chain_.size()) return violate("a snapshot of what nobody applied");
    life.state = chain_[life.applied.value - 1];
  }
  for (const Entry& entry : ready.committed) {
    if (entry.index != life.applied.next()) return violate("applied out of order");
    life.applied = entry.index;
    life.state = fold(life.state, entry.payload ? xxh3(*entry.payload) : entry.term.value);
    if (entry.index.value > chain_.size()) chain_.push_back(life.state);
    if (chain_[entry.index.value - 1] != life.state)
      return violate(fmt::format("node {} applied something else at {}", i + 1, entry.index.value));
  }
  raft.applied(life.applied);
  auto take = [&](uint64_t context) {
    auto at = std::find_if(life.reads.begin(), life.reads.end(), [&](auto& read) { return read.first == context; });
    if (at == life.reads.end()) {
      violate("a read was answered that nobody asked for");
      return LogIndex();
    }
    LogIndex asked = at->second;
    life.reads.erase(at);
    return asked;
  };
  for (const ReadState& read : ready.reads) {
    LogIndex asked = take(read.context);
    if (read.index < asked)
      violate(fmt::format("stale read on node {}: answered at {}, but {} was committed when it was asked", i + 1,
                          read.index.value, asked.value));
  }
  for (uint64_t context : ready.failed_reads) take(context);
}

void RandomWorld::write_next(size_t i) {
  TestReplica& replica = replicas_[i];
  if (replica.unstored.empty()) return;
  lives_[i].writing = 1 + random(replica.unstored.size());
  schedule(between(100us, chance_in(100) ? slow_disk_ * 4 : slow_disk_), What::kStored, i);
}

void RandomWorld::stored(size_t i) {
  TestReplica& replica = replicas_[i];
  Life& life = lives_[i];
  TestDisk before = replica.disk;
  bool wrote = false;
  std::vector<Message> messages;
  for (size_t n = 0; n < life.writing; ++n) {
    Ready& ready = replica.unstored.front();
    if (!replica.disk.store(ready)) violate("a Ready did not fit the disk");
    if (ready.snapshot) life.checkpoint_state = chain_[ready.snapshot->index.value - 1];
    if (ready.clear_suspect) life.damaged = false;
    wrote |= ready.needs_persisting();
    for (Message& m : ready.messages_after_persist) messages.push_back(std::move(m));
    // One by one, so that a vote is seen although the next Ready of the same write is of another term.
    replica.raft->persisted(ready.number);
    if (auto bad = cluster_.observe(*replica.raft)) violate(*bad);
    replica.unstored.pop_front();
  }
  // A snapshot's installation is not taken back: its files are durable before.
  if (wrote) life.before_write = replica.disk.base == before.base ? std::optional(std::move(before)) : std::nullopt;
  life.writing = 0;
  for (Message& m : messages) send(std::move(m));
  after_step(i);
  if (life.writing == 0) write_next(i);
}

void RandomWorld::send(Message m) {
  size_t from = m.from.node().value - 1;
  size_t to = m.to.node().value - 1;
  bool faulty = now_ < faults_end_;
  if (cut_.contains({from, to}) || (faulty && chance_in(loss_))) return;
  auto message = std::make_shared<Message>(std::move(m));
  int copies = faulty && chance_in(duplication_) ? 2 : 1;
  for (int copy = 0; copy < copies; ++copy) {
    Duration latency = between(200us, 3ms);
    if (faulty && chance_in(slow_)) latency += between(1ms, 300ms);
    schedule(latency, What::kDeliver, to, message);
  }
}

LogIndex RandomWorld::highest_commit() const { return highest_commit_; }

void RandomWorld::client() {
  if (now_ >= faults_end_) return;
  const bool pause = options_.rest && chance_in(100);
  schedule(pause ? between(50ms, 500ms) : between(1ms, 20ms), What::kClient);
  // Every replica that believes it leads is asked: an old leader too.
  for (size_t i = 0; i < replicas_.size(); ++i) {
    TestReplica& replica = replicas_[i];
    if (options_.follower_reads && replica.raft && replica.raft->role() != Role::kLeader) read_at_follower(i);
    if (!replica.raft || replica.raft->role() != Role::kLeader) continue;
    for (uint64_t n = random(4); n > 0; --n) {
      std::string value = fmt::format("{}{}", ++next_value_, std::string(random(60), '.'));
      (void)replica.raft->propose(std::make_shared<const std::string>(std::move(value)), local(i));
    }
    if (options_.founders > 0 && chance_in(60)) churn(i);
    if (chance_in(500) && replica.raft->role() == Role::kLeader) {
      lives_[i].reads.push_back({++next_value_, highest_commit()});
      if (!replica.raft->read_index(next_value_, local(i))) violate("a leader refused a read");
    }
    after_step(i);
  }
}

void RandomWorld::read_at_follower(size_t i) {
  for (uint64_t n = random(3); n > 0; --n) {
    lives_[i].reads.push_back({++next_value_, highest_commit()});
    if (!replicas_[i].raft->read_index(next_value_, local(i))) lives_[i].reads.pop_back();
  }
  after_step(i);
}

// What an owner must see to: a message is for the replica it names, or makes that of a later generation.
bool RandomWorld::admit(size_t i, ReplicaId id) {
  TestReplica& replica = replicas_[i];
  if (replica.config.id && id.generation() > replica.config.id.generation()) {
    crash(i, true);
    replica.config.id = ReplicaId();
  }
  if (!replica.config.id) {
    replica.config.id = id;
    replica.config.voters.clear();
    replica.disk = {};
    lives_[i].before_write.reset();
    lives_[i].damaged = false;
    lives_[i].checkpoint_state = 0;
    start(i);
  }
  return replica.raft && replica.config.id == id;
}

// Asks a replica that believes it leads for some change, sensible or not.
void RandomWorld::churn(size_t i) {
  Raft& raft = *replicas_[i].raft;
  const Configuration now = raft.configuration();
  Change change;
  switch (random(5)) {
    case 0:
    case 1:
      for (size_t n = 0; n < replicas_.size(); ++n)
        if (!now.on(NodeId(n + 1)) && chance_in(400)) change.add.push_back(ReplicaId(NodeId(n + 1), ++generation_));
      break;
    case 2:
    case 3: {
      size_t voters = now.voters.size();
      for (ReplicaId id : now.learners)
        if (chance_in(700)) change.promote.push_back(id), ++voters;
      for (ReplicaId id : now.voters)
        if (voters > 3 && chance_in(300)) change.remove.push_back(id), --voters;
      break;
    }
    default:
      if (chance_in(300)) {
        for (ReplicaId id : now.learners)
          if (chance_in(500)) change.remove.push_back(id);
        break;
      }
      (void)raft.transfer(now.voters[random(now.voters.size())], local(i));
      return after_step(i);
  }
  (void)raft.propose_change(change, local(i));
  after_step(i);
}

void RandomWorld::compact(size_t i) {
  Raft& raft = *replicas_[i].raft;
  LogIndex upto = raft.applied();
  if (upto <= replicas_[i].disk.base.index || !raft.term_at(upto)) return;
  // As after a checkpoint: it is there at once, the log keeps some for slow followers.
  if (upto > replicas_[i].disk.last()) return;
  // The log's records stay in order: what is written before a snapshot's restart is not compacted by what it brought.
  auto& unstored = replicas_[i].unstored;
  if (std::any_of(unstored.begin(), unstored.end(), [](const Ready& r) { return r.snapshot.has_value(); })) return;
  raft.checkpoint_available({upto, *raft.term_at(upto)});
  replicas_[i].disk.compact({upto, *raft.term_at(upto)}, raft.configuration_at(upto));
  lives_[i].checkpoint_state = chain_[upto.value - 1];
  // The checkpoint is a file of its own; damage to the log takes nothing of it.
  std::optional<TestDisk>& before = lives_[i].before_write;
  if (before && before->holds({upto, *raft.term_at(upto)})) {
    before->compact({upto, *raft.term_at(upto)}, raft.configuration_at(upto));
  } else {
    before.reset();
  }
  LogIndex keep(upto.value - std::min(random(10), upto.value));
  if (keep >= raft.first_index()) raft.compact(keep);
  after_step(i);
}

// What the owner of a resting replica must do for it (raft.h, wake()).
void RandomWorld::ping(size_t i) {
  schedule(between(20ms, 60ms), What::kPing, i);
  if (!replicas_[i].raft || chance_in(100)) return;
  Raft& raft = *replicas_[i].raft;
  std::vector<bool> missing(replicas_.size());
  for (size_t n = 0; n < replicas_.size(); ++n) {
    missing[n] = n != i && (!replicas_[n].raft || cut_.contains({i, n}) || cut_.contains({n, i}));
    if (missing[n]) continue;
    const uint64_t life = lives_[n].number;
    if (std::exchange(lives_[i].known_lives[n], life) != life) missing[n] = true;
  }
  bool wake = false;
  if (raft.role() == Role::kLeader) {
    const Configuration& now = raft.configuration();
    for (ReplicaId member : now.members())
      wake |= missing[member.node().value - 1] && replicas_[member.node().value - 1].raft;
    const auto gone = std::count_if(now.voters.begin(), now.voters.end(),
                                    [&](ReplicaId voter) { return missing[voter.node().value - 1]; });
    wake |= 2 * static_cast<size_t>(gone) >= now.voters.size();
  } else if (raft.leader()) {
    wake = missing[raft.leader().node().value - 1];
  }
  if (!wake) return;
  raft.wake(local(i));
  after_step(i);
}

bool RandomWorld::everybody_rests() const {
  const Raft* leader = newest_leader();
  if (!leader) return false;
  const auto members = leader->configuration().members();
  return std::all_of(members.begin(), members.end(), [&](ReplicaId member) {
    const TestReplica& replica = replicas_[member.node().value - 1];
    return replica.raft && replica.config.id == member && replica.raft->resting() && !replica.raft->has_ready();
  });
}

// Some seeds hunt leaders: what goes wrong in Raft goes wrong when they change.
size_t RandomWorld::victim() {
  size_t i = random(replicas_.size());
  if (!chance_in(hunt_)) return i;
  for (size_t n = 0; n < replicas_.size(); ++n)
    if (replicas_[n].raft && replicas_[n].raft->role() == Role::kLeader) i = n;
  return i;
}

void RandomWorld::fault() {
  if (now_ >= faults_end_) return;
  schedule(storm_ ? between(2ms, 60ms) : between(5ms, 300ms), What::kFault);
  size_t i = random(replicas_.size());
  if (chance_in(300) && replicas_[i].raft) compact(i);
  i = victim();
  if (chance_in(crash_) && replicas_[i].raft) {
    bool may_damage = options_.damage && another_may_be_suspect() &&
                      std::none_of(lives_.begin(), lives_.end(), [](auto& l) { return l.damaged; });
    if (may_damage && chance_in(500)) {
      damage(i);
    } else {
      crash(i);
    }
    schedule(between(1ms, chance_in(300) ? 800ms : 100ms), What::kRestart, i);
  }
  if (chance_in(15)) {  // power loss everywhere
    for (size_t n = 0; n < replicas_.size(); ++n) {
      crash(n);
      if (options_.damage && another_may_be_suspect() && chance_in(500)) replicas_[n].disk.suspect = true;
      schedule(between(1ms, 200ms), What::kRestart, n);
    }
  }
  if (chance_in(200)) {
    size_t to = victim();
    for (size_t n = 0; n < replicas_.size(); ++n) {
      if (chance_in(500)) cut_.insert({to, n});
      if (chance_in(500)) cut_.insert({n, to});
    }
    schedule(between(10ms, 700ms), What::kMend);
  }
  if (chance_in(100) && replicas_[i].raft) {
    replicas_[i].raft->unreachable(replicas_[random(replicas_.size())].config.id);
    after_step(i);
  }
  if (chance_in(100) && replicas_[i].raft) {
    replicas_[i].raft->leader_gone(replicas_[i].raft->leader(), local(i));
    after_step(i);
  }
  if (chance_in(50) && replicas_[i].raft) {
    replicas_[i].raft->campaign(local(i));
    after_step(i);
  }
}

void RandomWorld::heal() {
  cut_.clear();
  slow_disk_ = 2ms;  // slower than the election timeout, nobody would ever be elected
  for (size_t i = 0; i < replicas_.size(); ++i)
    if (!replicas_[i].raft && replicas_[i].config.id) start(i);
}

const Raft* RandomWorld::newest_leader() const {
  const Raft* newest = nullptr;
  for (const TestReplica& replica : replicas_)
    if (replica.raft && replica.raft->role() == Role::kLeader && (!newest || replica.raft->term() > newest->term()))
      newest = replica.raft.get();
  return newest;
}

std::string RandomWorld::describe() const {
  std::string text;
  for (size_t i = 0; i < replicas_.size(); ++i) {
    if (!replicas_[i].raft) continue;
    const Raft& r = *replicas_[i].raft;
    text += fmt::format("\n  node {}: {} term {} leader {} log {}..{} persisted {} commit {} applied {}{}, {} reads",
                        i + 1, name_of(r.role()), r.term().value, r.leader().value, r.first_index().value,
                        r.last_index().value, r.persisted_index().value, r.commit().value, lives_[i].applied.value,
                        r.suspect()   ? " suspect"
                        : r.resting() ? " resting"
                                      : "",
                        lives_[i].reads.size());
    if (r.role() != Role::kLeader) continue;
    for (ReplicaId member : r.configuration().members())
      text += fmt::format(", {} has {}", text_of(member), r.match_index(member).value);
  }
  return text;
}

bool RandomWorld::everybody_has(LogIndex index) const {
  const Raft* leader = newest_leader();
  if (!leader || leader->configuration().joint()) return false;
  for (ReplicaId member : leader->configuration().members()) {
    const size_t i = member.node().value - 1;
    const TestReplica& replica = replicas_[i];
    if (!replica.raft || replica.config.id != member || lives_[i].applied < index || replica.raft->suspect() ||
        !lives_[i].reads.empty())
      return false;
  }
  return true;
}

}  // namespace mneme::raft
