// Random programs against a model: appends, every kind of crash, crashes during recovery, failed syncs, rot; and what
// was acknowledged is there, or is reported missing.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "tests/test.h"
#include "tests/unit/wal/world.h"

using namespace mneme;
using namespace mneme::wal;
using namespace mneme::wal::test;

namespace {

struct ModelGroup {
  uint32_t generation = 0;
  raft::HardState hard_state;
  raft::LogPosition checkpoint;
  uint64_t checkpoint_id = 0;
  Origin origin;
  bool suspect = false;
  std::vector<raft::Entry> entries;

  LogIndex last() const { return entries.empty() ? checkpoint.index : entries.back().index; }
  bool operator==(const ModelGroup& o) const {
    return generation == o.generation && hard_state == o.hard_state && checkpoint == o.checkpoint &&
           checkpoint_id == o.checkpoint_id && origin == o.origin && suspect == o.suspect &&
           std::equal(entries.begin(), entries.end(), o.entries.begin(), o.entries.end(), same);
  }
};

struct Model {
  std::map<uint64_t, ModelGroup> groups;
  std::map<GroupId, uint32_t> removed;
  bool unknown_suspect = false;
  bool operator==(const Model&) const = default;

  ModelGroup& at(uint64_t group) {
    auto [it, created] = groups.try_emplace(group);
    if (created) it->second.suspect = unknown_suspect;
    return it->second;
  }
};

struct Written {
  uint64_t group;
  uint32_t generation;
  uint64_t index;
  uint64_t term;
  auto operator<=>(const Written&) const = default;
};

class Program {
 public:
  explicit Program(uint64_t seed) : world_(seed), random_{mix(seed)} {
    world_.options.has_peers = random_.chance(50);
    world_.options.segment_bytes = random_.chance(50) ? 8192 : 32768;
    world_.options.max_frame_bytes = random_.chance(30) ? 2048 : limits::kMaxFrameBytes;
    world_.random.rare_percent = random_.chance(30) ? 10 : 0;
    rots_ = random_.chance(30);
    states_.emplace_back();
    batch_begins_.push_back(0);
  }

  // The violation, if any.
  std::string run() {
    world_.run([&] {
      for (int life = 0; life < 8 && violation_.empty() && !refused_; ++life) {
        if (random_.chance(60))
          world_.disk.crash_at(world_.disk.operations + 1 + random_.below(random_.chance(50) ? 30 : 300), any_crash());
        failing_ = random_.chance(15);
        if (failing_) world_.disk.fail_sync_at(world_.disk.syncs + 1 + random_.below(12));
        try {
          live();
          world_.disk.crash(any_crash());
        } catch (const fiber::Cancelled&) {
        }
        world_.disk.restart();
        // A sole voter gets only what its policy can tell from a torn last frame.
        for (uint64_t n = world_.options.has_peers ? 1 + random_.below(3) : 1; rots_ && n > 0; --n)
          if (random_.chance(50)) rot();
      }
    });
    return violation_;
  }
  bool refused() const { return refused_; }
  bool repaired() const { return repaired_; }

 private:
  MemoryDisk::Crash any_crash() {
    return random_.chance(50) ? MemoryDisk::Crash::kKill : MemoryDisk::Crash::kPowerLoss;
  }

  void rot() {
    const auto files = world_.disk.files();
    if (files.empty()) return;
    const std::string& path = files[random_.below(files.size())];
    Bytes& bytes = world_.disk.inode(path).cache;
    uint64_t used = bytes.size();
    while (used > 0 && bytes[used - 1] == 0) --used;
    if (used == 0) return;
    const uint64_t at = random_.below(used);
    const uint64_t sectors = world_.options.has_peers && random_.chance(20) ? 1 + random_.below(8) : 1;
    for (uint64_t next = at; next < used && next < at + sectors * 512; next += 512)
      if (random_.chance(30))
        world_.disk.make_unreadable(path, next);
      else
        world_.disk.flip(path, next, static_cast<unsigned>(random_.below(8)));
    rotted_ = true;
    ++rots_since_open_;
  }

  void live() {
    auto log = world_.open();
    if (!log) {
      if (failing_ && log.error().code == ErrorCode::kIo) return;
      if (rotted_ && log.error().code == ErrorCode::kCorrupt) {
        refused_ = true;
        return;
      }
      violation_ = "cannot be opened: " + log.error().message;
      return;
    }
    Model recovered;
    recovered.unknown_suspect = (*log)->unknown_groups_suspect();
    for (GroupState& g : (*log)->take_recovered())
      recovered.groups[g.group.value] = {g.generation, g.hard_state, g.checkpoint,        g.checkpoint_id,
                                         g.origin,     g.suspect,    std::move(g.entries)};
    recovered.removed = (*log)->removed_generations();
    adopt(recovered);
    rots_since_open_ = 0;
    for (uint64_t i = random_.below(40); i > 0 && violation_.empty(); --i)
      if (!step(**log)) return;
  }

  // What recovery found becomes what the log holds, if it may.
  void adopt(Model& recovered) {
    for (size_t k = acknowledged_; k < states_.size(); ++k)
      if (states_[k] == recovered) return resume_at(k);
    if (rotted_ && !world_.options.has_peers) {
      // The last batch counts as torn; and another for each time that damage met a recovery that did not finish.
      size_t first = acknowledged_;
      for (size_t i = batch_begins_.size(); i-- > 0 && rots_since_open_ > 0;)
        if (batch_begins_[i] < first) {
          first = batch_begins_[i];
          --rots_since_open_;
        }
      for (size_t k = first; k < acknowledged_; ++k)
        if (states_[k] == recovered) return resume_at(k);
    } else if (rotted_) {
      violation_ = unsound(recovered);
      repaired_ = true;
      states_.assign(1, recovered);
      batch_begins_.assign(1, 0);
      acknowledged_ = 0;
      return;
    }
    violation_ = fmt::format("{} states were possible, what came back is none of them", states_.size() - acknowledged_);
  }

  void resume_at(size_t k) {
    states_.resize(k + 1);
    acknowledged_ = k;
    while (batch_begins_.size() > 1 && batch_begins_.back() >= k) batch_begins_.pop_back();
    if (!rots_ && k > 0) {
      states_.erase(states_.begin(), states_.begin() + static_cast<ptrdiff_t>(k));
      acknowledged_ = 0;
      batch_begins_.assign(1, 0);
    }
  }

  std::string unsound(const Model& recovered) {
    if (!recovered.unknown_suspect) return "something is lost and not every group is suspect";
    for (const auto& [id, generation] : states_[acknowledged_].removed) {
      auto known = recovered.removed.find(id);
      if (known == recovered.removed.end() || known->second < generation) return "a removed replica was forgotten";
    }
    for (const auto& [id, group] : recovered.groups) {
      if (!group.suspect) return "something is lost and a group is not suspect";
      bool hard_state = false, checkpoint = false;
      for (size_t k = acknowledged_; k < states_.size(); ++k) {
        auto it = states_[k].groups.find(id);
        const bool there = it != states_[k].groups.end() && it->second.generation == group.generation;
        const ModelGroup then = there ? it->second : ModelGroup{};
        hard_state |= then.hard_state == group.hard_state;
        checkpoint |= then.checkpoint == group.checkpoint && then.checkpoint_id == group.checkpoint_id &&
                      then.origin == group.origin;
      }
      if (!hard_state) return "a hard state went back";
      if (!checkpoint) return "a checkpoint went back";
      LogIndex next = group.checkpoint.index.next();
      for (const raft::Entry& e : group.entries) {
        if (e.index != next) return "a gap in the entries";
        next = next.next();
        auto it = written_.find(*e.payload);
        if (it == written_.end() || it->second != Written{id, group.generation, e.index.value, e.term.value})
          return "an entry that was never written";
      }
    }
    for (const auto& [id, group] : states_[acknowledged_].groups)
      if (!recovered.groups.contains(id) && (group.hard_state.term || group.checkpoint.index) &&
          states_.back().groups.contains(id))
        return "a group with state records vanished";
    return "";
  }

  // False: this life is over.
  bool step(Log& log) {
    if (random_.chance(20) && !accepted(log.prepare_next())) return false;
    Batch batch;
    batch_begins_.push_back(states_.size() - 1);
    if (random_.chance(10))
      append_again(batch);
    else
      for (uint64_t ops = 1 + random_.below(5); ops > 0; --ops) add_operation(batch);
    if (!accepted(log.append(batch))) return false;
    acknowledged_ = states_.size() - 1;
    if (random_.chance(20)) {
      for (const auto& [id, group] : states_.back().groups) log.covered(GroupId(id), group.checkpoint.index);
      if (!accepted(log.free_segments())) return false;
    }
    return true;
  }

  bool accepted(const Result<void>& result) {
    if (result) return true;
    if (!failing_ || result.error().code != ErrorCode::kIo) violation_ = "refused: " + result.error().message;
    return false;
  }

  // Changes nothing but where the entries stand.
  void append_again(Batch& batch) {
    const auto group = states_.back().groups.find(first_group_ + random_.below(3));
    if (group == states_.back().groups.end()) return;
    batch.keep_whole();
    batch.entries(GroupId(group->first), group->second.generation, group->second.entries);
  }

  void add_operation(Batch& batch) {
    Model next = states_.back();
    const uint64_t id = first_group_ + random_.below(3);
    const GroupId group_id(id);
    const uint64_t what = random_.below(100);
    if (what < 2) {
      auto known = next.groups.find(id);
      if (known == next.groups.end()) return;
      next.removed[group_id] = known->second.generation;
      batch.remove_replica(group_id, known->second.generation);
      next.groups.erase(known);
      if (random_.chance(50)) first_group_ += 3;  // other groups from now on; or another replica of this one
      states_.push_back(std::move(next));
      return;
    }
    ModelGroup& group = next.at(id);
    if (auto gone = next.removed.find(group_id); gone != next.removed.end() && group.generation <= gone->second) {
      group.generation = gone->second + 1 + static_cast<uint32_t>(random_.below(3));
      batch.begin_replica(group_id, group.generation);
      states_.push_back(next);
      return;
    }
    if (id > first_group_ && !group.last() && what < 30) {
      group.checkpoint = {LogIndex(1), Term(1)};
      group.origin = {GroupId(first_group_), {LogIndex(1 + random_.below(40)), Term(1 + random_.below(9))}};
      batch.split_off(group_id, group.checkpoint, group.origin);
    } else if (what < 60) {
      const uint64_t back = random_.chance(15) ? random_.below(4) : 0;
      uint64_t index =
          std::max(group.last().value + 1 - std::min(back, group.last().value), group.checkpoint.index.value + 1);
      while (!group.entries.empty() && group.entries.back().index.value >= index) group.entries.pop_back();
      const uint64_t term = group.hard_state.term.value + 1;
      std::string payload = fmt::format("{} of group {}", ++payloads_, id);
      const uint64_t size = random_.below(random_.chance(10) ? 6000 : 300);
      payload.resize(payload.size() + size, random_.chance(50) ? '\0' : 'v');
      written_[payload] = {id, group.generation, index, term};
      const raft::Entry e = entry(index, term, payload);
      group.entries.push_back(e);
      batch.entries(group_id, group.generation, std::span(&e, 1));
    } else if (what < 78) {
      group.hard_state = {group.hard_state.term.next(), ReplicaId(random_.below(4))};
      batch.hard_state(group_id, group.hard_state);
    } else if (what < 90) {
      if (group.entries.empty()) return;
      const size_t count = 1 + random_.below(group.entries.size());
      group.checkpoint = {group.entries[count - 1].index, group.entries[count - 1].term};
      group.checkpoint_id = ++payloads_;
      group.origin = {};
      group.entries.erase(group.entries.begin(), group.entries.begin() + static_cast<ptrdiff_t>(count));
      batch.checkpoint(group_id, group.checkpoint, group.checkpoint_id);
    } else if (what < 94) {
      group.checkpoint = {LogIndex(group.checkpoint.index.value + 1 + random_.below(12)), group.hard_state.term.next()};
      group.checkpoint_id = ++payloads_;
      group.origin = {};
      group.entries.clear();
      batch.restart(group_id, group.checkpoint, group.checkpoint_id);
    } else {
      group.suspect = random_.chance(50);
      batch.suspect(group_id, group.suspect);
    }
    states_.push_back(std::move(next));
  }

  World world_;
  SplitMix random_;
  std::vector<Model> states_;         // after each operation, from one that is known to be durable
  size_t acknowledged_ = 0;           // index into states_
  std::vector<size_t> batch_begins_;  // index of the state before each batch
  std::map<std::string, Written> written_;
  uint64_t payloads_ = 0;
  uint64_t first_group_ = 1;
  bool rots_ = false;
  bool rotted_ = false;
  uint64_t rots_since_open_ = 0;
  bool failing_ = false;
  bool refused_ = false;
  bool repaired_ = false;
  std::string violation_;
};

}  // namespace

TEST_CASE("random programs lose nothing acknowledged and invent nothing", "[wal]") {
  uint64_t refused = 0, repaired = 0;
  for (uint64_t seed = 1; seed <= 4000; ++seed) {
    Program program(seed);
    const std::string violation = program.run();
    CAPTURE(seed);
    REQUIRE(violation == "");
    refused += program.refused();
    repaired += program.repaired();
  }
  CHECK(refused > 50);
  CHECK(repaired > 50);
}
