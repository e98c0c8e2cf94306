// Log time never runs backwards, whoever leads and whatever the wall clocks say. A leader that begins at its own wall
// clock instead of at its log's time would undo expiries that others have seen.
#include "core/replica/log_clock.h"

#include "core/base/hash.h"
#include "tests/unit/replica/support.h"

using namespace mneme;
using namespace mneme::replica;
using namespace mneme::replica::testing;

namespace {

constexpr int64_t kHourMs = 3'600'000;
constexpr int64_t kYearMs = 365 * 24 * kHourMs;
constexpr int64_t kLogTimeMs = 1'700'000'005'000;  // in the log; five seconds ahead of the simulated wall clocks

raft::Entry entry_at(uint64_t index, uint64_t term, int64_t log_time_ms) {
  kv::BatchBuilder builder(kv::BatchHeader{.log_time_ms = log_time_ms});
  return {Term(term), LogIndex(index), raft::EntryKind::kData,
          std::make_shared<const std::string>(std::move(builder).finish())};
}

// The log time of the last entry with one.
int64_t last_stamp(const raft::Raft& raft) {
  for (LogIndex at = raft.last_index(); at >= raft.first_index(); at = at.prev())
    if (const raft::Entry& entry = raft.entry_at(at); entry.kind == raft::EntryKind::kData)
      return kv::BatchReader::open(*entry.payload)->header().log_time_ms;
  return 0;
}

// Proposes now, without waiting for a commit; nobody else is there who could help with one.
int64_t stamp_now(Env& env, Replica& replica) {
  Set set(env, "k", "v");
  replica.propose(set.call);
  CHECK(set.call.outcome == Outcome::kPending);
  return last_stamp(replica.raft());
}

// One of three replicas, whose wall clock is off by `wall_offset_ms`, and whose log has an entry that it does not know
// to be committed.
template <class F>
void with_one_of_three(int64_t wall_offset_ms, F fn) {
  sim::MachineOptions options;
  options.wall_offset_ms = wall_offset_ms;
  OneMachine one(1, options);
  one.run([&] {
    auto written = one.process([](Env& env) -> Result<void> {
      auto log = TRY(open_log(env));
      wal::Batch batch;
      batch.hard_state(kGroup, {.term = Term(1)});
      const raft::Entry entry = entry_at(1, 1, kLogTimeMs);
      batch.entries(kGroup, 0, std::span(&entry, 1));
      return log->append(batch);
    });
    REQUIRE(written.has_value());
    auto ran = one.process([&](Env& env) {
      return with_replica(env, config_of(3), nullptr, [&](Replica& replica, Others& others) -> Result<void> {
        TRY(lead(env, replica, others));
        CHECK(replica.machine().applied() == LogIndex(0));
        fn(one.machine(), env, replica, others);
        return {};
      });
    });
    INFO((ran ? std::string() : ran.error().message));
    CHECK(ran.has_value());
  });
}

}  // namespace

TEST_CASE("a new leader begins at the time of its unapplied log, wherever its wall clock is", "[replica]") {
  for (int64_t offset : {-10 * kYearMs, -kHourMs, int64_t{0}, kHourMs, 10 * kYearMs}) {
    INFO("wall clock off by " << offset << " ms");
    with_one_of_three(offset, [](sim::Machine&, Env& env, Replica& replica, Others&) {
      const int64_t first = stamp_now(env, replica);
      CHECK(first >= kLogTimeMs);
      CHECK(first <= kLogTimeMs + 10);
      env.clock.sleep_for(env.scheduler, 800ms);
      const int64_t second = stamp_now(env, replica);
      CHECK(second >= first + 800 * 7 / 8);
      CHECK(second <= first + 800 * 9 / 8 + 2);
    });
  }
}

TEST_CASE("a leader's wall clock that jumps while it leads does not move log time back", "[replica]") {
  with_one_of_three(0, [](sim::Machine& machine, Env& env, Replica& replica, Others&) {
    int64_t last = stamp_now(env, replica);
    for (int64_t jump : {kYearMs, -2 * kYearMs, kHourMs, -kYearMs, 3 * kYearMs}) {
      machine.jump_wall(jump);
      env.clock.sleep_for(env.scheduler, 50ms);
      const int64_t next = stamp_now(env, replica);
      CHECK(next >= last);
      CHECK(next <= last + 60);
      last = next;
    }
  });
}

TEST_CASE("a leader that comes back begins at what another has put into its log meanwhile", "[replica]") {
  for (int64_t offset : {-10 * kYearMs, 10 * kYearMs}) {
    INFO("wall clock off by " << offset << " ms");
    with_one_of_three(offset, [](sim::Machine&, Env& env, Replica& replica, Others& others) {
      stamp_now(env, replica);
      const uint64_t term = replica.raft().term().value + 1;
      raft::Message append{
          .type = raft::MessageType::kAppend, .from = ReplicaId(2), .to = ReplicaId(1), .term = Term(term)};
      append.log = {LogIndex(1), Term(1)};
      append.entries.push_back(entry_at(2, term, kLogTimeMs + kHourMs));
      replica.step(std::move(append));
      CHECK(replica.raft().role() == raft::Role::kFollower);
      CHECK(lead(env, replica, others).has_value());
      const int64_t stamp = stamp_now(env, replica);
      CHECK(stamp >= kLogTimeMs + kHourMs);
      CHECK(stamp <= kLogTimeMs + kHourMs + 10);
    });
  }
}

TEST_CASE("time that a leader counted, and that never came into a log, is forgotten with its office", "[replica]") {
  with_one_of_three(0, [](sim::Machine&, Env& env, Replica& replica, Others& others) {
    stamp_now(env, replica);
    // Nobody hears of what it proposes meanwhile; another leads on from the time of the log that it knows.
    env.clock.sleep_for(env.scheduler, 500ms);
    CHECK(stamp_now(env, replica) >= kLogTimeMs + 500 * 7 / 8);
    const uint64_t term = replica.raft().term().value + 1;
    raft::Message append{
        .type = raft::MessageType::kAppend, .from = ReplicaId(2), .to = ReplicaId(1), .term = Term(term)};
    append.log = {LogIndex(1), Term(1)};
    append.entries.push_back(entry_at(2, term, kLogTimeMs + 10));
    replica.step(std::move(append));
    CHECK(replica.raft().role() == raft::Role::kFollower);
    CHECK(lead(env, replica, others).has_value());
    const int64_t stamp = stamp_now(env, replica);
    CHECK(stamp >= kLogTimeMs + 10);
    CHECK(stamp <= kLogTimeMs + 20);
  });
}

TEST_CASE("no order of readings, jumps and changes of office moves a log clock back", "[replica]") {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    uint64_t state = seed;
    auto below = [&](uint64_t bound) { return static_cast<int64_t>(mix(state += 0x9e3779b97f4a7c15u) % bound); };
    LogClock clock;
    Instant now{below(1'000'000'000'000)};
    WallTime wall{1'700'000'000'000};
    int64_t last = 0;
    for (int step = 0; step < 500; ++step) {
      switch (below(5)) {
        case 0: now = now + Duration(below(10'000'000'000)); break;
        case 1: wall.ms += below(2 * kYearMs) - kYearMs; break;
        case 2:  // another time in office, with a log
          clock = LogClock();
          clock.at_least(std::max<int64_t>(last, 1));
          break;
        case 3: clock.at_least(last = std::max(last, last + below(2 * kHourMs) - kHourMs)); break;
        default: {
          const int64_t read = clock.read(now, wall);
          INFO("seed " << seed << " step " << step);
          REQUIRE(read >= last);
          last = read;
        }
      }
    }
  }
}
