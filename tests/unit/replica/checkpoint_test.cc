// A checkpoint's recorded position is that of its content, whatever is applied while it is written. The fiber that
// writes it suspends at every chunk; a position that was read at another moment than the state would leave out entries
// after a restart, or apply them twice.
#include <fmt/format.h>

#include <map>

#include "tests/unit/replica/support.h"

using namespace mneme;
using namespace mneme::replica;
using namespace mneme::replica::testing;

namespace {

// What the state was after each entry.
struct Watched final : Observer {
  struct State {
    Term term;
    uint64_t digest;
  };
  void applied(NodeId, GroupId, const raft::Entry& entry, uint64_t digest) override {
    states[entry.index] = {entry.term, digest};
    last = entry.index;
  }
  std::map<LogIndex, State> states;
  LogIndex last;
};

// Where making the file of a checkpoint takes until some more entries were applied: the shortest suspension there is
// must count as well.
class SlowToCreate final : public Passing {
 public:
  SlowToCreate(Env& env, const Watched& watched) : Passing(env), watched_(watched) {}
  Result<std::unique_ptr<env::File>> open(const std::string& path, env::OpenMode mode) override {
    if (path.ends_with(".part"))
      for (const LogIndex before = watched_.last; watched_.last.value < before.value + 3;)
        env_.clock.sleep_for(env_.scheduler, 100us);
    return Passing::open(path, mode);
  }

 private:
  const Watched& watched_;
};

// Where syncs of the log do not end while it is held.
class HoldsLog final : public Passing {
 public:
  using Passing::Passing;
  bool held = false;
  Result<std::unique_ptr<env::File>> open(const std::string& path, env::OpenMode mode) override {
    auto file = TRY(Passing::open(path, mode));
    if (!path.starts_with("wal/")) return file;
    return std::unique_ptr<env::File>(new LogFile(*this, std::move(file)));
  }

 private:
  class LogFile final : public env::File {
   public:
    LogFile(HoldsLog& disk, std::unique_ptr<env::File> file) : disk_(disk), file_(std::move(file)) {}
    Result<size_t> read(uint64_t offset, std::span<uint8_t> into) override { return file_->read(offset, into); }
    Result<void> write(uint64_t offset, ByteView data) override { return file_->write(offset, data); }
    Result<void> write_and_sync(uint64_t offset, ByteView data) override {
      wait();
      return file_->write_and_sync(offset, data);
    }
    Result<void> sync() override {
      wait();
      return file_->sync();
    }
    Result<void> truncate(uint64_t size) override { return file_->truncate(size); }
    Result<uint64_t> size() override { return file_->size(); }

   private:
    void wait() {
      while (disk_.held) disk_.env_.clock.sleep_for(disk_.env_.scheduler, 100us);
    }
    HoldsLog& disk_;
    std::unique_ptr<env::File> file_;
  };
};

ReplicaConfig config_with_checkpoints() {
  ReplicaConfig config = config_of(3);
  config.checkpoint_log_bytes = 16 * limits::kKiB;
  config.checkpoint_chunk_bytes = 8;  // so that many are needed for the few keys
  return config;
}

// Plays a leader that appends and commits one entry after the other, each in a term of its own, after `last`, until
// `enough()`.
template <class F>
Result<void> feed(Env& env, Replica& replica, const Watched& watched, raft::LogPosition& last, F enough) {
  while (!enough()) {
    if (last.index.value > 5000) return fail(ErrorCode::kTimeout, "there is no end to it");
    const LogIndex index = last.index.next();
    kv::BatchBuilder batch(kv::BatchHeader{.epoch = Epoch(1), .log_time_ms = 1'700'000'000'000});
    const std::string key = fmt::format("k{}", index.value % 60);
    const std::string value = fmt::format("v{}", index.value);
    batch.add({}, std::vector<std::string_view>{"SET", key, value});
    raft::Message append{.type = raft::MessageType::kAppend, .from = ReplicaId(2), .to = ReplicaId(1)};
    append.term = Term(last.term.value + 1);
    append.log = last;
    append.commit = index;
    append.entries = {
        {append.term, index, raft::EntryKind::kData, std::make_shared<const std::string>(std::move(batch).finish())}};
    last = {index, append.term};
    replica.step(std::move(append));
    while (watched.last < index && !enough()) env.clock.sleep_for(env.scheduler, 100us);
  }
  return {};
}

// That the newest checkpoint is what the log says of it; `recorded` is where it stands.
Result<void> verify(Env& env, const Watched& watched, raft::LogPosition& recorded) {
  auto log = TRY(open_log(env));
  auto groups = log->take_recovered();
  CHECK(groups.size() == 1);
  recorded = groups.at(0).checkpoint;
  auto machine = TRY(CheckpointStore(env, "group-1").load(groups.at(0).checkpoint_id, recorded));
  const Watched::State& then = watched.states.at(recorded.index);
  CHECK(machine->applied() == recorded.index);
  CHECK(machine->digest() == then.digest);
  CHECK(recorded.term == then.term);
  return {};
}

}  // namespace

TEST_CASE("what is applied while a checkpoint is written does not shift its position", "[replica]") {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    INFO("seed " << seed);
    Watched watched;
    OneMachine one(seed);
    raft::LogPosition recorded;
    auto completed = [&] { return one.world().probes()[static_cast<size_t>(Probe::checkpoint_completed)]; };
    one.run([&] {
      auto ran = one.process([&](Env& real) {
        SlowToCreate disk(real, watched);
        Env env{real.scheduler, real.clock, real.network, disk, real.random, real.trace};
        return with_replica(env, config_with_checkpoints(), &watched, [&](Replica& replica, Others&) {
          raft::LogPosition last;
          return feed(env, replica, watched, last, [&] { return completed() == 2; });
        });
      });
      INFO((ran ? "" : ran.error().message));
      REQUIRE(ran.has_value());
      one.crash(sim::CrashKind::kPowerLoss);
      auto verified = one.process([&](Env& env) { return verify(env, watched, recorded); });
      INFO((verified ? "" : verified.error().message));
      CHECK(verified.has_value());
      // The test is of no use unless much was applied meanwhile.
      CHECK(watched.last.value >= recorded.index.value + 5);
    });
  }
}

TEST_CASE("a checkpoint found damaged is replaced once, as soon as there is something to add", "[replica]") {
  Watched watched;
  OneMachine one;
  auto completed = [&] { return one.world().probes()[static_cast<size_t>(Probe::checkpoint_completed)]; };
  one.run([&] {
    auto ran = one.process([&](Env& env) {
      ReplicaConfig config = config_of(3);
      config.checkpoint_log_bytes = 16 * limits::kKiB;
      return with_replica(env, config, &watched, [&](Replica& replica, Others&) -> Result<void> {
        raft::LogPosition last;
        // Nothing but the renewal may ask for the second checkpoint: little is applied from the first one on.
        TRY(feed(env, replica, watched, last, [&] { return completed() == 1; }));
        const uint64_t damaged = replica.checkpoint_id();
        auto until = [&](LogIndex index) { return [&, index] { return watched.last >= index; }; };
        auto settle = [&] { env.clock.sleep_for(env.scheduler, 1s); };
        TRY(feed(env, replica, watched, last, until(last.index.next())));
        settle();
        CHECK(completed() == 1);
        replica.renew_checkpoint(damaged + 100);
        settle();
        CHECK(completed() == 1);
        replica.renew_checkpoint(damaged);
        replica.renew_checkpoint(damaged);
        settle();
        CHECK(completed() == 2);
        const uint64_t second = replica.checkpoint_id();
        CHECK(second != damaged);
        // It stands at the end of the log: there is nothing to write until something is applied.
        replica.renew_checkpoint(second);
        settle();
        CHECK(completed() == 2);
        TRY(feed(env, replica, watched, last, until(last.index.next())));
        settle();
        CHECK(completed() == 3);
        TRY(feed(env, replica, watched, last, until(last.index.next())));
        settle();
        CHECK(completed() == 3);
        return {};
      });
    });
    INFO((ran ? "" : ran.error().message));
    CHECK(ran.has_value());
  });
}

// What a leader sends: a checkpoint at `index`, and its message.
Result<void> receive(Env&, Replica& replica, const std::shared_ptr<CheckpointStore::Keep>& keep, Term term,
                     LogIndex index) {
  auto machine = std::make_shared<kv::StateMachine>();
  const raft::Configuration configuration{.voters = {ReplicaId(1), ReplicaId(2), ReplicaId(3)}};
  machine->configure(LogIndex(1), raft::encode(configuration));
  for (LogIndex i{2}; i <= index; i = i.next()) machine->skip(i);
  auto part = TRY(replica.checkpoints().create(keep->id()));
  kv::CheckpointWriter writer(*machine, term);
  for (std::string chunk = writer.next_chunk(4096); !chunk.empty(); chunk = writer.next_chunk(4096))
    TRY(part->write(chunk));
  TRY(part->finish());
  raft::Message message{.type = raft::MessageType::kSnapshot, .from = ReplicaId(2), .to = ReplicaId(1)};
  message.term = term;
  message.log = {index, term};
  message.entries.push_back(
      {term, index, raft::EntryKind::kConfig, std::make_shared<const std::string>(machine->configuration())});
  replica.snapshot_received(std::move(message), keep, std::move(machine));
  return {};
}

TEST_CASE("a snapshot begun before a checkpoint of this node's own, and further, is not removed with the old ones") {
  Watched watched;
  OneMachine one;
  auto completed = [&] { return one.world().probes()[static_cast<size_t>(Probe::checkpoint_completed)]; };
  one.run([&] {
    auto ran = one.process([&](Env& env) {
      return with_replica(env, config_with_checkpoints(), &watched, [&](Replica& replica, Others&) -> Result<void> {
        raft::LogPosition last;
        const auto keep = replica.checkpoints().keep_next();
        {
          auto part = TRY(replica.checkpoints().create(keep->id()));
          TRY(part->write("so far"));
          TRY(part->finish());
        }
        TRY(feed(env, replica, watched, last, [&] { return completed() == 1; }));
        CHECK(replica.checkpoint_id() > keep->id());
        CHECK(one.machine().disk().contains(replica.checkpoints().path(keep->id())));
        TRY(receive(env, replica, keep, Term(last.term.value + 1), LogIndex(last.index.value + 100)));
        env.clock.sleep_for(env.scheduler, 1s);
        CHECK(replica.checkpoint_id() == keep->id());
        return replica.checkpoints().remove_others();
      });
    });
    INFO((ran ? "" : ran.error().message));
    REQUIRE(ran.has_value());
    one.crash(sim::CrashKind::kPowerLoss);
    raft::LogPosition recorded;
    auto opened = one.process([&](Env& env) {
      return with_replica(env, config_with_checkpoints(), nullptr, [&](Replica& replica, Others&) -> Result<void> {
        recorded.index = replica.raft().applied();
        return {};
      });
    });
    INFO((opened ? "" : opened.error().message));
    REQUIRE(opened.has_value());
    CHECK(recorded.index == LogIndex(watched.last.value + 100));
  });
}

TEST_CASE("the checkpoint that the log refers to stays until the record of a received one is durable") {
  for (uint64_t seed = 1; seed <= 10; ++seed) {  // that a removal survives a power loss is a matter of chance
    INFO("seed " << seed);
    Watched watched;
    OneMachine one(seed);
    auto completed = [&] { return one.world().probes()[static_cast<size_t>(Probe::checkpoint_completed)]; };
    one.run([&] {
      auto ran = one.process([&](Env& real) {
        HoldsLog disk(real);
        Env env{real.scheduler, real.clock, real.network, disk, real.random, real.trace};
        return with_replica(env, config_with_checkpoints(), &watched, [&](Replica& replica, Others&) -> Result<void> {
          raft::LogPosition last;
          TRY(feed(env, replica, watched, last, [&] { return completed() == 1; }));
          disk.held = true;
          const uint64_t own = replica.checkpoint_id();
          const auto keep = replica.checkpoints().keep_next();
          TRY(receive(env, replica, keep, Term(last.term.value + 1), LogIndex(last.index.value + 100)));
          while (replica.checkpoint_id() == own) env.clock.sleep_for(env.scheduler, 1us);
          return replica.checkpoints().remove_others();
        });
      });
      INFO((ran ? "" : ran.error().message));
      REQUIRE(ran.has_value());
      one.crash(sim::CrashKind::kPowerLoss);
      auto opened = one.process([&](Env& env) {
        return with_replica(env, config_with_checkpoints(), nullptr,
                            [&](Replica&, Others&) -> Result<void> { return {}; });
      });
      INFO((opened ? "" : opened.error().message));
      CHECK(opened.has_value());
    });
  }
}
