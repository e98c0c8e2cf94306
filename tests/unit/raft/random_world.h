// A hostile little world for Raft groups, all of whose choices come from one seed.
//
// Fault model. Messages: lost, duplicated, delayed and so reordered, links cut for a while in one or both directions.
// Disk: each write takes its time and stores several Readys in order; a crash loses what was not stored, except that
// any prefix of the write under way may be there. Damage: a replica comes back without its last completed write (which
// it had acknowledged) and knows that it may have lost something; the next such damage waits until it is in good
// standing again, so an intact copy always survives. Power loss: all replicas stop at once, with nothing acknowledged
// lost, and some, always a minority, come back suspect. With `lose_votes`, damage takes terms and votes with it. That
// could elect two leaders of one term if a candidate still waited for votes all the while (raft.h asks owners to
// prevent it); no seed is known that does. Membership: replicas are added as learners, promoted and removed, several at
// a time, and leadership is handed over, whoever asks and whenever. A node's replica that was removed runs on, as if
// nobody had told it, until its node is given a new one. With `rest`, clients pause now and then; owners find out with
// some delay which nodes answer and which have restarted, and after the faults the whole group must fall silent. With
// `lease`, clocks begin anywhere and run at rates of their own that differ by `drift_ppm` at most.
#pragma once

#include <cstdint>
#include <optional>
#include <queue>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/raft/replica.h"

namespace mneme::raft {

class TestChance : public Chance {
 public:
  // `rare`: what happens rarely happens one time in eight, else never.
  explicit TestChance(uint64_t seed, bool rare = false) : seed_(seed), rare_(rare) {}
  uint64_t draw(Site site, uint64_t a, uint64_t b) override {
    return mix(fold(fold(fold(seed_, static_cast<uint64_t>(site)), a), b));
  }
  bool rarely(Site site, uint64_t cause) override { return rare_ && draw(site, cause, 0) % 8 == 0; }

 private:
  uint64_t seed_;
  bool rare_;
};

class TestProbes : public Probes {
 public:
  void reached(Probe probe) override { ++counts[static_cast<size_t>(probe)]; }
  std::array<uint64_t, kProbeCount> counts{};
};

struct WorldOptions {
  size_t replicas = 3;
  Duration faulty = 6s;   // how long faults go on
  Duration healing = 5s;  // how long recovery may take after them
  bool damage = true;
  bool lose_votes = false;
  bool rest = false;
  bool follower_reads = false;  // clients read at everybody
  Duration lease{0};
  int64_t drift_ppm = 0;     // of the clocks
  uint32_t stated_ppm = 0;   // as the replicas are told
  bool watch_leases = true;  // that no lease is valid while there is a later leader
  size_t founders = 0;       // of the replicas, who begin the group; the others join and leave. 0: all, for good
};

class RandomWorld {
 public:
  RandomWorld(uint64_t seed, WorldOptions options, TestProbes& probes);
  // The first violated property, or nothing.
  std::optional<std::string> run();
  uint64_t steps() const { return steps_; }
  uint64_t committed() const { return chain_.size(); }

 private:
  enum class What : uint8_t { kDeliver, kStored, kClient, kFault, kRestart, kMend, kPing };
  struct Event {
    Instant at;
    uint64_t order;
    What what;
    size_t replica;
    uint64_t life;
    std::shared_ptr<Message> message;
    bool operator>(const Event& other) const { return std::tie(at, order) > std::tie(other.at, other.order); }
  };
  struct Life {
    uint64_t number = 0;
    size_t writing = 0;                    // Readys in the write under way
    std::optional<TestDisk> before_write;  // the disk before the last completed write
    bool damaged = false;                  // lost something and is not restored
    LogIndex applied;
    uint64_t state = 0;  // hash of everything applied
    uint64_t checkpoint_state = 0;
    std::vector<uint64_t> known_lives;                 // of each node, as its owner last heard
    std::vector<std::pair<uint64_t, LogIndex>> reads;  // context, what was committed anywhere when it was asked
  };

  uint64_t random();
  uint64_t random(uint64_t below) { return random() % below; }
  // In half of all cases 0. (Which factor of a product is drawn first is for each compiler to say.)
  uint64_t sometimes(uint64_t below) {
    const uint64_t drawn = random(below);
    return random(2) * drawn;
  }
  bool chance_in(uint64_t per_mille) { return random(1000) < per_mille; }
  Duration between(Duration low, Duration high);
  void violate(std::string sentence);
  void schedule(Duration in, What what, size_t replica = 0, std::shared_ptr<Message> message = nullptr);
  void handle(const Event& event);
  Instant local(size_t i) const;                     // what the clock of node i shows now
  Instant when_shows(size_t i, Instant time) const;  // when it will show that
  void check_leases(size_t i);
  void start(size_t i);
  void crash(size_t i, bool write_under_way_lost = false);
  bool another_may_be_suspect() const;
  void damage(size_t i);
  void after_step(size_t i);
  void take_readys(size_t i);
  void serve(size_t i, const Ready& ready);
  void write_next(size_t i);
  void stored(size_t i);
  void send(Message m);
  void client();
  void read_at_follower(size_t i);
  size_t victim();
  void churn(size_t i);
  bool admit(size_t i, ReplicaId id);
  void fault();
  void compact(size_t i);
  void ping(size_t i);
  bool everybody_rests() const;
  void heal();
  const Raft* newest_leader() const;
  std::string describe() const;
  bool everybody_has(LogIndex index) const;
  LogIndex highest_commit() const;

  WorldOptions options_;
  uint64_t state_;
  TestChance chance_;
  TestProbes& probes_;
  Instant now_{1'000'000'000};
  Instant faults_end_;
  uint64_t order_ = 0;
  uint64_t steps_ = 0;
  uint64_t next_value_ = 0;
  uint32_t generation_ = 0;                                     // the last that was given to a replica
  uint64_t loss_ = 0, duplication_ = 0, slow_ = 0, crash_ = 0;  // per mille
  struct Clock {
    Duration ahead{};
    int64_t ppm = 0;  // too fast
  };
  std::vector<Clock> clocks_;
  Duration slow_disk_{};
  bool storm_ = false;  // faults follow each other fast
  uint64_t hunt_ = 0;   // per mille of faults that go for the leader
  std::vector<TestReplica> replicas_;
  std::vector<Life> lives_;
  std::set<std::pair<size_t, size_t>> cut_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::vector<uint64_t> chain_;  // the state after each index, as first applied by anybody
  ClusterInvariants cluster_;
  LogIndex highest_commit_;
  std::optional<std::string> violation_;
};

}  // namespace mneme::raft
