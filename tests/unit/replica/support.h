// A replica with its log on a simulated machine; the other replicas are played by the test.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "core/replica/replica.h"
#include "tests/one_machine.h"
#include "tests/test.h"

namespace mneme::replica::testing {

using mneme::testing::OneMachine;

inline const GroupId kGroup{1};

// What the replica says to the others, for the test to answer.
struct Others final : Transport {
  void send(GroupId, const raft::Message& message) override { said.push_back(message); }
  void send_snapshot(GroupId, const raft::Message&, uint64_t) override {}
  std::deque<raft::Message> said;
};

struct NoHost final : Host {
  void leader_changed(Replica&) override {}
  void shard_changed(Replica&) override {}
  void split(Replica&, const raft::LogPosition&, const kv::SplitRequest&, std::unique_ptr<kv::StateMachine>) override {}
};

// The disk, to be changed in one respect.
class Passing : public env::Disk {
 public:
  explicit Passing(Env& env) : env_(env) {}
  Result<std::unique_ptr<env::File>> open(const std::string& path, env::OpenMode mode) override {
    return env_.disk.open(path, mode);
  }
  Result<std::vector<std::string>> list(const std::string& directory) override { return env_.disk.list(directory); }
  Result<void> make_dir(const std::string& path) override { return env_.disk.make_dir(path); }
  Result<void> rename(const std::string& from, const std::string& to) override { return env_.disk.rename(from, to); }
  Result<void> remove(const std::string& path) override { return env_.disk.remove(path); }
  Result<void> sync_dir(const std::string& directory) override { return env_.disk.sync_dir(directory); }
  Result<std::unique_ptr<env::DirectoryLock>> lock(const std::string& directory) override {
    return env_.disk.lock(directory);
  }

 protected:
  Env& env_;
};

inline Result<std::unique_ptr<wal::Log>> open_log(Env& env) {
  return wal::Log::open(env, {ClusterId(7), NodeId(1), Incarnation(9)},
                        {.directory = "wal", .segment_bytes = 64 * limits::kKiB, .max_frame_bytes = 16 * limits::kKiB});
}

inline ReplicaConfig config_of(size_t voters) {
  ReplicaConfig config{
      .group = kGroup, .raft = {.id = ReplicaId(1)}, .shard = kv::ShardState::whole(), .directory = "group-1"};
  for (size_t n = 1; n <= voters; ++n) config.raft.voters.push_back(ReplicaId(n));
  config.checkpoint_log_bytes = 1024 * limits::kMiB;
  return config;
}

// Opens log and replica, runs their fibers, and calls fn(Replica&, Others&), which returns Result<void>.
template <class F>
Result<void> with_replica(Env& env, ReplicaConfig config, Observer* observer, F&& fn) {
  auto log = TRY(open_log(env));
  wal::GroupState recovered{.group = kGroup};
  for (wal::GroupState& group : log->take_recovered()) recovered = std::move(group);
  Driver driver(env);  // outlives what the writer still has to complete
  LogWriter writer(env, *log);
  Others others;
  Forwarded forwarded;
  NoHost host;
  const Shared shared{env, writer, driver, others, forwarded, host, observer};
  auto replica = TRY(Replica::open(shared, std::move(config), std::move(recovered)));
  return fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) -> Result<void> {
    scope.spawn_daemon("log", [&] { return writer.run(); });
    scope.spawn_daemon("segments", [&] { return writer.run_segments(); });
    scope.spawn_daemon("replica", [&] { return driver.run(); });
    scope.spawn_daemon("checkpoints", [&] { return driver.run_checkpoints(); });
    return fn(*replica, others);
  });
}

// Waits until the replica leads. The others vote for it, and do nothing else.
inline Result<void> lead(Env& env, Replica& replica, Others& others) {
  for (int i = 0; i < 60'000; ++i, env.clock.sleep_for(env.scheduler, 1ms)) {
    for (; !others.said.empty(); others.said.pop_front()) {
      const raft::Message& asked = others.said.front();
      raft::Message reply{.from = asked.to, .to = asked.from, .term = asked.term};
      if (asked.type == raft::MessageType::kPreVote)
        reply.type = raft::MessageType::kPreVoteReply;
      else if (asked.type == raft::MessageType::kVote)
        reply.type = raft::MessageType::kVoteReply;
      else
        continue;
      replica.step(std::move(reply));
    }
    if (replica.raft().role() == raft::Role::kLeader) return {};
  }
  return fail(ErrorCode::kTimeout, "it does not come to lead");
}

// A SET with what it needs to live as long as its call.
struct Set {
  Set(Env& env, std::string k, std::string v)
      : key(std::move(k)), value(std::move(v)), call(env.scheduler, {}, add(commands, args)) {
    call.epoch = Epoch(1);
  }
  std::string key;
  std::string value;
  std::vector<std::string_view> args{"SET", key, value};
  CommandList commands;
  Call call;

 private:
  static const CommandList& add(CommandList& commands, const std::vector<std::string_view>& args) {
    commands.add(*kv::find_command("set"), args);
    return commands;
  }
};

}  // namespace mneme::replica::testing
