// Replicas that are held, and those that hold them: the parent and the child of a split, until the child has a
// checkpoint.
#include <fmt/format.h>

#include "tests/unit/replica/support.h"

using namespace mneme;
using namespace mneme::replica;
using namespace mneme::replica::testing;

namespace {

const GroupId kChild{2};
constexpr uint16_t kAt = 8192;

// Keeps what is split off.
struct Keeping final : Host {
  struct Split {
    raft::LogPosition entry;
    kv::SplitRequest request;
    std::shared_ptr<kv::StateMachine> child;
  };
  void leader_changed(Replica&) override {}
  void shard_changed(Replica&) override {}
  void split(Replica&, const raft::LogPosition& entry, const kv::SplitRequest& request,
             std::unique_ptr<kv::StateMachine> child) override {
    all.push_back({entry, request, std::move(child)});
  }
  std::vector<Split> all;
};

// What runs the replicas of one process.
struct Reactor {
  Env& env;
  wal::Log& log;
  LogWriter writer{env, log};
  Driver driver{env};
  Others others{};
  Forwarded forwarded{};
  Keeping host{};
  Shared shared{env, writer, driver, others, forwarded, host, nullptr};

  Result<std::shared_ptr<Replica>> open(wal::GroupState state, Beginning beginning = {}) {
    ReplicaConfig config = config_of(1);
    config.group = state.group;
    config.directory = fmt::format("group-{}", state.group.value);
    config.checkpoint_log_bytes = 2 * limits::kKiB;
    if (state.group == kChild) config.shard = {};
    return Replica::open(shared, std::move(config), std::move(state), std::move(beginning));
  }
  void sleep() { env.clock.sleep_for(env.scheduler, 1s); }
  Result<void> put(Replica& replica, std::string key, Epoch epoch) {
    Set set(env, std::move(key), std::string(100, 'v'));
    set.call.epoch = epoch;
    replica.propose(set.call);
    set.call.wait();
    return set.call.outcome == Outcome::kDone ? Result<void>() : fail(ErrorCode::kUnavailable, set.call.reason);
  }
};

// Calls fn(Reactor&, states of the log) and answers what it does.
template <class F>
Result<void> with_reactor(Env& env, F&& fn) {
  auto log = TRY(open_log(env));
  std::vector<wal::GroupState> states = log->take_recovered();
  Reactor reactor{env, *log};
  return fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) -> Result<void> {
    scope.spawn_daemon("log", [&] { return reactor.writer.run(); });
    scope.spawn_daemon("segments", [&] { return reactor.writer.run_segments(); });
    scope.spawn_daemon("replicas", [&] { return reactor.driver.run(); });
    scope.spawn_daemon("checkpoints", [&] { return reactor.driver.run_checkpoints(); });
    return fn(reactor, states);
  });
}

// Fifty keys, and then the split.
Result<void> split(Reactor& reactor, Replica& parent) {
  for (int i = 0; i < 50; ++i) TRY(reactor.put(parent, fmt::format("k{}", i), Epoch(1)));
  parent.propose_internal(kv::split_command({.epoch = parent.machine().shard().epoch,
                                             .at = kAt,
                                             .child = kChild,
                                             .operation = shard::OperationId(1),
                                             .configuration = raft::encode({.voters = {ReplicaId(1)}})}));
  reactor.sleep();
  CHECK(reactor.host.all.size() == 1);
  return {};
}

Result<void> lead(Reactor& reactor, Replica& replica) {
  for (int i = 0; i < 1000 && !replica.leads(); ++i) reactor.env.clock.sleep_for(reactor.env.scheduler, 10ms);
  return replica.leads() ? Result<void>() : fail(ErrorCode::kTimeout, "it does not come to lead");
}

constexpr raft::LogPosition kBirth{LogIndex(1), Term(1)};

// Until it is durable.
void record_birth(Reactor& reactor) {
  reactor.writer.batch().hard_state(kChild, {.term = Term(1)});
  reactor.writer.batch().split_off(kChild, kBirth, {kGroup, reactor.host.all.at(0).entry});
  auto done = std::make_shared<fiber::Promise<bool>>(reactor.env.scheduler);
  reactor.writer.when_durable([done] { done->set(true); });
  done->wait();
}

// A parent that is held and has split; its child is recorded, and not there yet.
Result<std::shared_ptr<Replica>> bearing(Reactor& reactor, std::unique_ptr<Hold>& hold) {
  auto parent = TRY(reactor.open({.group = kGroup}));
  TRY(lead(reactor, *parent));
  hold = std::make_unique<Hold>(parent);
  TRY(split(reactor, *parent));
  record_birth(reactor);
  return parent;
}

Result<std::shared_ptr<Replica>> open_child(Reactor& reactor, std::unique_ptr<Hold> hold) {
  return reactor.open({.group = kChild, .hard_state = {.term = Term(1)}, .checkpoint = kBirth},
                      {.machine = reactor.host.all.at(0).child, .parent = std::move(hold)});
}

void require(const Result<void>& result) {
  INFO((result ? "" : result.error().message));
  REQUIRE(result.has_value());
}

}  // namespace

TEST_CASE("while it is held a replica takes no checkpoint and leaves its part of the log where it is", "[replica]") {
  OneMachine one;
  auto times = [&](Probe probe) { return one.world().probes()[static_cast<size_t>(probe)]; };
  one.run([&] {
    require(one.process([&](Env& env) {
      return with_reactor(env, [&](Reactor& reactor, auto&) -> Result<void> {
        const auto replica = TRY(reactor.open({.group = kGroup}));
        TRY(lead(reactor, *replica));
        {
          const Hold hold(replica);
          const Hold another(replica);
          for (int i = 0; i < 50; ++i) TRY(reactor.put(*replica, fmt::format("k{}", i), Epoch(1)));
          reactor.sleep();
          CHECK(times(Probe::checkpoint_written) == 0);
          replica->leave_old_segments(UINT64_MAX);
          CHECK(times(Probe::laggard_rewritten) == 0);
        }
        reactor.sleep();
        CHECK(times(Probe::checkpoint_written) == 1);
        for (int i = 0; i < 3; ++i) TRY(reactor.put(*replica, "k", Epoch(1)));
        replica->leave_old_segments(UINT64_MAX);
        CHECK(times(Probe::laggard_rewritten) == 1);
        return {};
      });
    }));
  });
}

TEST_CASE("a child takes a checkpoint where it begins, and lets its parent go once that is recorded", "[replica]") {
  OneMachine one;
  one.run([&] {
    require(one.process([&](Env& env) {
      return with_reactor(env, [&](Reactor& reactor, auto&) -> Result<void> {
        std::unique_ptr<Hold> hold;
        const auto parent = TRY(bearing(reactor, hold));
        const auto child = TRY(open_child(reactor, std::move(hold)));
        CHECK(child->machine().table().record_count() > 0);
        CHECK(child->checkpoint_id() == 0);
        CHECK(parent->is_held());
        for (int i = 0; i < 1000 && child->checkpoint_id() == 0; ++i) env.clock.sleep_for(env.scheduler, 1ms);
        CHECK(child->checkpoint_id() != 0);
        CHECK_FALSE(parent->is_held());
        reactor.sleep();
        CHECK(parent->checkpoint_id() != 0);
        return {};
      });
    }));
    one.crash(sim::CrashKind::kPowerLoss);
    require(one.process([&](Env& env) {
      return with_reactor(env, [&](Reactor& reactor, auto& states) -> Result<void> {
        CHECK(states.size() == 2);
        CHECK(states.at(1).checkpoint_id != 0);
        CHECK_FALSE(states.at(1).origin);
        const auto child = TRY(reactor.open(std::move(states.at(1))));
        CHECK(child->machine().table().record_count() > 0);
        return {};
      });
    }));
  });
}

TEST_CASE("a checkpoint that finds no room leaves nothing behind, and is taken when there is some", "[replica]") {
  OneMachine one;
  one.run([&] {
    require(one.process([&](Env& env) {
      return with_reactor(env, [&](Reactor& reactor, auto&) -> Result<void> {
        std::unique_ptr<Hold> hold;
        const auto parent = TRY(bearing(reactor, hold));
        sim::DiskState& disk = one.machine().disk();
        disk.set_space(disk.bytes_used() + limits::kKiB);  // the child has some 2.5 KiB
        const auto child = TRY(open_child(reactor, std::move(hold)));
        for (int i = 0; i < 5; ++i) reactor.sleep();
        CHECK(one.world().probes()[static_cast<size_t>(Probe::disk_full_met)] >= 4);
        CHECK(TRY(env.disk.list("group-2")).size() <= 1);
        CHECK(parent->is_held());
        disk.set_space(UINT64_MAX);
        for (int i = 0; i < 3; ++i) reactor.sleep();
        CHECK(child->checkpoint_id() != 0);
        CHECK_FALSE(parent->is_held());
        CHECK(TRY(env.disk.list("group-2")).size() == 1);
        return {};
      });
    }));
  });
}

TEST_CASE("after a crash the parent's log makes the child that has no checkpoint what it was", "[replica]") {
  OneMachine one;
  one.run([&] {
    uint64_t parents = 0;
    uint64_t childs = 0;
    raft::LogPosition entry;
    require(one.process([&](Env& env) {
      return with_reactor(env, [&](Reactor& reactor, auto&) -> Result<void> {
        const auto parent = TRY(reactor.open({.group = kGroup}));
        TRY(lead(reactor, *parent));
        for (int i = 0; i < 50; ++i) TRY(reactor.put(*parent, fmt::format("before{}", i), Epoch(1)));
        reactor.sleep();
        CHECK(parent->checkpoint_id() != 0);
        const Hold hold(parent);
        TRY(split(reactor, *parent));
        record_birth(reactor);
        parents = parent->machine().digest();
        childs = reactor.host.all.at(0).child->digest();
        entry = reactor.host.all.at(0).entry;
        CHECK(parent->machine().applied() == entry.index);
        // None of this is known to be committed in the next life.
        std::string key;
        for (int i = 0; key.empty() || slot_of(key) >= kAt; ++i) key = fmt::format("after{}", i);
        return reactor.put(*parent, key, parent->machine().shard().epoch);
      });
    }));
    one.crash(sim::CrashKind::kPowerLoss);
    require(one.process([&](Env& env) {
      return with_reactor(env, [&](Reactor& reactor, auto& states) -> Result<void> {
        CHECK(states.size() == 2);
        CHECK(states.at(1).checkpoint_id == 0);
        CHECK(states.at(1).origin == wal::Origin{kGroup, entry});
        const auto parent = TRY(reactor.open(std::move(states.at(0)), {.committed = entry.index}));
        CHECK(parent->machine().applied() == entry.index);
        CHECK(parent->machine().digest() == parents);
        CHECK(parent->raft().applied() == entry.index);
        CHECK(parent->raft().last_index() > entry.index);
        CHECK(reactor.host.all.size() == 1);
        CHECK(reactor.host.all.at(0).entry == entry);
        CHECK(reactor.host.all.at(0).child->digest() == childs);
        // What was applied at the start is as much to be covered by a checkpoint as what is applied later.
        const size_t written = one.world().probes()[static_cast<size_t>(Probe::checkpoint_written)];
        for (int i = 0; i < 50; ++i) env.clock.sleep_for(env.scheduler, 1ms);
        CHECK(one.world().probes()[static_cast<size_t>(Probe::checkpoint_written)] == written + 1);
        TRY(lead(reactor, *parent));
        CHECK(reactor.host.all.size() == 1);
        CHECK(parent->machine().applied() > entry.index);
        return {};
      });
    }));
  });
}
