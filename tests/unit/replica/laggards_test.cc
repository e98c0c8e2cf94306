// Two groups on one log, of which one writes all the time and the other now and then, or not at all: the log stays
// short, and wherever a crash comes, both have what they acknowledged.
#include "core/replica/laggards.h"

#include <fmt/format.h>

#include <map>

#include "tests/unit/replica/support.h"

using namespace mneme;
using namespace mneme::replica;
using namespace mneme::replica::testing;

namespace {

const GroupId kBusy{1};
const GroupId kSlow{2};
constexpr size_t kNoCheckpoint = 1024 * limits::kMiB;     // in the log before one is taken
constexpr size_t kLongLog = Laggards::kLongSegments + 2;  // one more begins before it is looked at, one is prepared

// Every life must come through the same states.
struct Watched final : Observer {
  void applied(NodeId, GroupId group, const raft::Entry& entry, uint64_t digest) override {
    agree &= states.try_emplace({group, entry.index}, digest).first->second == digest;
    last[group] = entry.index;
  }
  std::map<std::pair<GroupId, LogIndex>, uint64_t> states;
  std::map<GroupId, LogIndex> last;
  bool agree = true;
};

// Comes to a standstill before operation `stop_at` of those after `from()` has become true.
class Stopping final : public Passing {
 public:
  Stopping(Env& env, uint64_t stop_at, std::function<bool()> from)
      : Passing(env), stop_at_(stop_at), from_(std::move(from)) {}
  Result<std::unique_ptr<env::File>> open(const std::string& path, env::OpenMode mode) override {
    if (mode == env::OpenMode::kCreate) count();
    auto file = TRY(Passing::open(path, mode));
    return std::unique_ptr<env::File>(new Counted(*this, std::move(file)));
  }
  Result<void> rename(const std::string& from, const std::string& to) override {
    count();
    return Passing::rename(from, to);
  }
  Result<void> remove(const std::string& path) override {
    count();
    return Passing::remove(path);
  }
  Result<void> sync_dir(const std::string& directory) override {
    count();
    return Passing::sync_dir(directory);
  }
  bool stopped() const { return stopped_; }

 private:
  class Counted final : public env::File {
   public:
    Counted(Stopping& disk, std::unique_ptr<env::File> file) : disk_(disk), file_(std::move(file)) {}
    Result<size_t> read(uint64_t offset, std::span<uint8_t> into) override { return file_->read(offset, into); }
    Result<void> write(uint64_t offset, ByteView data) override {
      disk_.count();
      return file_->write(offset, data);
    }
    Result<void> write_and_sync(uint64_t offset, ByteView data) override {
      disk_.count();
      return file_->write_and_sync(offset, data);
    }
    Result<void> sync() override {
      disk_.count();
      return file_->sync();
    }
    Result<void> truncate(uint64_t size) override { return file_->truncate(size); }
    Result<uint64_t> size() override { return file_->size(); }

   private:
    Stopping& disk_;
    std::unique_ptr<env::File> file_;
  };

  void count() {
    if (from_() && ++operations_ >= stop_at_) stopped_ = true;
    while (stopped_) env_.clock.sleep_for(env_.scheduler, 1s);
  }
  const uint64_t stop_at_;
  const std::function<bool()> from_;
  uint64_t operations_ = 0;
  bool stopped_ = false;
};

struct Two {
  Env& env;
  wal::Log& log;
  fiber::Scope& scope;
  std::map<GroupId, std::shared_ptr<Replica>> replicas;

  Replica& operator[](GroupId group) { return *replicas.at(group); }
  Result<void> put(GroupId group, std::string key, size_t bytes) {
    Set set(env, std::move(key), std::string(bytes, 'v'));
    (*this)[group].propose(set.call);
    set.call.wait();
    return set.call.outcome == Outcome::kDone ? Result<void>() : fail(ErrorCode::kUnavailable, set.call.reason);
  }
  // What the busy one does until `enough()`, with how much there is of the log at most.
  template <class F>
  Result<size_t> write(F enough) {
    size_t longest = 0;
    for (int i = 0; !enough(); ++i) {
      if (i > 3000) return fail(ErrorCode::kTimeout, "there is no end to it");
      TRY(put(kBusy, fmt::format("b{}", i % 20), 1000));
      longest = std::max(longest, log.segments().size());
    }
    return longest;
  }
};

// Opens the log and the two sole voters, waits until both lead, and calls fn(Two&).
template <class F>
Result<void> with_two(Env& env, Observer& observer, size_t slow_checkpoint, F&& fn) {
  auto log = TRY(open_log(env));
  Driver driver(env);  // outlives what the writer still has to complete
  LogWriter writer(env, *log);
  Others others;
  Forwarded forwarded;
  NoHost host;
  const Shared shared{env, writer, driver, others, forwarded, host, &observer};
  std::map<GroupId, wal::GroupState> states{{kBusy, {.group = kBusy}}, {kSlow, {.group = kSlow}}};
  for (wal::GroupState& group : log->take_recovered()) states[group.group] = std::move(group);
  std::map<GroupId, std::shared_ptr<Replica>> replicas;
  for (auto& [group, state] : states) {
    ReplicaConfig config = config_of(1);
    config.group = group;
    config.directory = fmt::format("group-{}", group.value);
    config.checkpoint_log_bytes = group == kBusy ? 32 * limits::kKiB : slow_checkpoint;
    replicas[group] = TRY(Replica::open(shared, std::move(config), std::move(state)));
  }
  Laggards laggards(env, writer, [&](GroupId group) { return replicas.at(group); });
  return fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) -> Result<void> {
    scope.spawn_daemon("log", [&] { return writer.run(); });
    scope.spawn_daemon("segments", [&] { return writer.run_segments(); });
    scope.spawn_daemon("replicas", [&] { return driver.run(); });
    scope.spawn_daemon("checkpoints", [&] { return driver.run_checkpoints(); });
    scope.spawn_daemon("laggards", [&] { return laggards.run(); });
    while (!replicas[kBusy]->leads() || !replicas[kSlow]->leads()) env.clock.sleep_for(env.scheduler, 10ms);
    Two two{env, *log, scope, replicas};
    return fn(two);
  });
}

Result<void> nothing(Two&) { return {}; }

void require(const Result<void>& result) {
  INFO((result ? "" : result.error().message));
  REQUIRE(result.has_value());
}

// Whether operation `at` after the first entries were appended again was reached: the crash came before it then.
bool crash_at(uint64_t seed, uint64_t at, size_t slow_checkpoint) {
  INFO("seed " << seed << ", operation " << at);
  Watched watched;
  OneMachine one(seed);
  bool stopped = false;
  auto times = [&](Probe probe) { return one.world().probes()[static_cast<size_t>(probe)]; };
  one.run([&] {
    bool done = false;
    one.start([&](Env& real) {
      Stopping disk(real, at, [&] { return times(Probe::laggard_rewritten) > 0; });
      Env env{real.scheduler, real.clock, real.network, disk, real.random, real.trace};
      return with_two(env, watched, slow_checkpoint, [&](Two& two) -> Result<void> {
        two.scope.spawn_daemon("watch", [&]() -> Result<void> {
          while (!disk.stopped()) env.clock.sleep_for(env.scheduler, 100us);
          stopped = true;
          for (;;) env.clock.sleep_for(env.scheduler, 1s);
        });
        // Never at rest for long: what it appends again is mostly not all durable yet.
        two.scope.spawn_daemon("slow", [&]() -> Result<void> {
          for (int i = 0;; ++i) {
            if (i < 40) TRY(two.put(kSlow, fmt::format("s{}", i), 10));
            if (i >= 3) env.clock.sleep_for(env.scheduler, 5ms);
          }
        });
        uint64_t until = UINT64_MAX;
        TRY(two.write([&] {
          if (until == UINT64_MAX && times(Probe::laggard_rewritten) > 0) until = two.log.durable_sequence() + 20;
          return two.log.durable_sequence() > until;
        }));
        done = true;
        return {};
      });
    });
    one.wait_until([&] { return stopped || done; });
    REQUIRE((stopped || done));
    const auto before = watched.last;
    one.crash(sim::CrashKind::kPowerLoss);
    require(one.process([&](Env& env) { return with_two(env, watched, slow_checkpoint, nothing); }));
    CHECK(watched.agree);
    CHECK(watched.last[kBusy] > before.at(kBusy));
    CHECK(watched.last[kSlow] > before.at(kSlow));
  });
  return stopped;
}

}  // namespace

TEST_CASE("an idle group with few entries does not keep the log from being freed", "[replica]") {
  Watched watched;
  OneMachine one;
  auto times = [&](Probe probe) { return one.world().probes()[static_cast<size_t>(probe)]; };
  one.run([&] {
    require(one.process([&](Env& env) {
      return with_two(env, watched, kNoCheckpoint, [&](Two& two) -> Result<void> {
        for (int i = 0; i < 3; ++i) TRY(two.put(kSlow, fmt::format("s{}", i), 100));
        const size_t longest = TRY(two.write([&] { return times(Probe::segment_rotated) > 40; }));
        CHECK(longest <= kLongLog);
        CHECK(two[kSlow].checkpoint_index() == LogIndex(0));
        return {};
      });
    }));
    CHECK(times(Probe::laggard_rewritten) >= 40 / kLongLog);
    const LogIndex slow = watched.last[kSlow];
    one.crash(sim::CrashKind::kPowerLoss);
    require(one.process([&](Env& env) { return with_two(env, watched, kNoCheckpoint, nothing); }));
    CHECK(watched.agree);
    CHECK(watched.last[kSlow] == slow.next());  // the new leader's first entry
  });
}

TEST_CASE("an idle group with many entries takes a checkpoint when it holds the log up", "[replica]") {
  Watched watched;
  OneMachine one;
  auto times = [&](Probe probe) { return one.world().probes()[static_cast<size_t>(probe)]; };
  one.run([&] {
    require(one.process([&](Env& env) {
      return with_two(env, watched, kNoCheckpoint, [&](Two& two) -> Result<void> {
        for (int i = 0; i < 30; ++i) TRY(two.put(kSlow, fmt::format("s{}", i), 1000));
        const LogIndex last = watched.last[kSlow];
        TRY(two.write([&] { return times(Probe::segment_rotated) > 20; }));
        CHECK(two[kSlow].checkpoint_index() == last);
        CHECK(two.log.segments().size() <= kLongLog);
        return {};
      });
    }));
    CHECK(times(Probe::laggard_rewritten) == 0);
  });
}

TEST_CASE("a crash at any operation around appending again loses nothing of either group", "[replica]") {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    // With checkpoints now and then there may be one under way, or nothing to append again.
    const size_t slow_checkpoint = seed % 2 ? kNoCheckpoint : 2 * limits::kKiB;
    uint64_t at = 0;
    while (crash_at(seed, ++at, slow_checkpoint)) {
    }
    CHECK(at > 10);
  }
}
