#include "core/node/node.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "core/fiber/scope.h"
#include "core/node/identity.h"
#include "core/node/peers.h"
#include "core/node/resp_session.h"
#include "core/node/router.h"
#include "core/node/server.h"
#include "core/node/sexp_session.h"
#include "core/protocol/first_byte.h"
#include "core/replica/log_writer.h"
#include "core/replica/replica.h"

namespace mneme::node {

namespace {

// After the last answer was given, until the connections that are to send it are closed.
constexpr Duration kLastWords = 5ms;

const GroupId kOnlyGroup{1};

class Node {
 public:
  Node(Env& env, const Config& config)
      : env_(env), config_(config), server_{.env = env, .config = config, .identity = identity_} {
    server_.max_memory_bytes = config.max_memory_bytes;
    server_.started = env.clock.now();
  }

  Result<void> run(const Listening& listening, Ending* ending);

 private:
  Result<void> take_identity();
  Result<void> found();
  Result<void> open_replica(bool newly_founded);
  Result<void> accept(fiber::Scope& scope);
  void serve(env::Stream& stream);
  void hand_over();
  void count_connections() {
    if (config_.connections) *config_.connections = server_.clients.size();
  }

  Env& env_;
  const Config& config_;
  Identity identity_;
  Server server_;
  std::unique_ptr<env::DirectoryLock> lock_;
  std::unique_ptr<env::Listener> listener_;
  std::unique_ptr<Peers> peers_;
  std::unique_ptr<wal::Log> log_;
  std::unique_ptr<replica::LogWriter> log_writer_;
  std::unique_ptr<replica::Replica> replica_;
  std::unique_ptr<Router> router_;
};

Result<void> Node::take_identity() {
  auto loaded = load_identity(env_.disk);
  if (loaded) {
    identity_ = std::move(*loaded);
    if (identity_.node != config_.id)
      return fail(ErrorCode::kInvalid,
                  fmt::format("the data directory belongs to node {}, not to node {}: check --id and --data",
                              identity_.node.value, config_.id.value));
    if (identity_.founded()) {
      const bool same = identity_.members.size() == std::max<size_t>(config_.cluster.size(), 1) &&
                        std::all_of(config_.cluster.begin(), config_.cluster.end(),
                                    [&](const Member& m) { return static_cast<bool>(identity_.incarnation_of(m.id)); });
      if (!same)
        return fail(
            ErrorCode::kInvalid,
            "--cluster names other nodes than the cluster was founded with: start every node with the same list");
    }
    return {};
  }
  if (loaded.error().code != ErrorCode::kNotFound) return std::unexpected(std::move(loaded).error());
  for (const std::string& name : TRY(env_.disk.list("")))
    if (name == "wal" || name.starts_with("group-"))
      return fail(ErrorCode::kCorrupt,
                  fmt::format("the data directory has {} but no identity: it is damaged; restore it from "
                              "a backup, or replace this node",
                              name));
  identity_.node = config_.id;
  uint64_t drawn = env_.random.draw(Site::kIncarnation, config_.id.value, 0);
  identity_.incarnation = Incarnation(drawn == 0 ? 1 : drawn);
  return save_identity(env_.disk, identity_);
}

// Learns every member's incarnation, then belongs to the cluster for good. Suspends until all of them have been
// reached.
Result<void> Node::found() {
  std::vector<std::pair<NodeId, Incarnation>> members;
  for (;;) {
    members.clear();
    for (const Member& member : config_.cluster) {
      Incarnation incarnation = member.id == config_.id ? identity_.incarnation : peers_->known_incarnation(member.id);
      if (incarnation) members.emplace_back(member.id, incarnation);
    }
    if (config_.cluster.empty()) members = {{config_.id, identity_.incarnation}};
    if (members.size() == std::max<size_t>(config_.cluster.size(), 1)) break;
    TRY(peers_->wait_for_news());
  }
  // Who was wiped hears of the others' incarnations from those who have founded the cluster with another one of its
  // own.
  const ClusterId cluster = cluster_id_of(members);
  for (const Member& member : config_.cluster) {
    const ClusterId theirs = member.id == config_.id ? ClusterId() : peers_->known_cluster(member.id);
    if (theirs && theirs != cluster)
      return fail(
          ErrorCode::kRefused,
          fmt::format("node {} belongs to cluster {:016x}, which was founded with another data directory of this "
                      "node or of another one; a wiped or replaced node cannot come back under its old id",
                      member.id.value, theirs.value));
  }
  identity_.members = std::move(members);
  identity_.cluster = cluster;
  env::log(env_.trace, env::Level::kInfo, "node", "cluster {:016x} founded", identity_.cluster.value);
  return {};
}

Result<void> Node::open_replica(bool newly_founded) {
  log_ = TRY(wal::Log::open(env_, {identity_.cluster, identity_.node, identity_.incarnation},
                            {.directory = "wal",
                             .segment_bytes = config_.segment_bytes,
                             .max_frame_bytes = std::min(limits::kMaxFrameBytes, config_.segment_bytes / 2),
                             .has_peers = config_.cluster.size() > 1,
                             .must_exist = !newly_founded}));
  if (newly_founded) TRY(save_identity(env_.disk, identity_));
  log_writer_ = std::make_unique<replica::LogWriter>(env_, *log_);

  wal::GroupState recovered{.group = kOnlyGroup, .suspect = log_->unknown_groups_suspect()};
  for (wal::GroupState& group : log_->take_recovered())
    if (group.group == kOnlyGroup) recovered = std::move(group);
  std::vector<ReplicaId> voters;
  for (auto& [node, incarnation] : identity_.members) voters.push_back(ReplicaId(node));
  replica::ReplicaConfig config{
      .group = kOnlyGroup,
      .raft = {.id = ReplicaId(config_.id),
               .voters = std::move(voters),
               .election_timeout = config_.election_timeout,
               .heartbeat_interval = config_.heartbeat_interval,
               .max_append_bytes = config_.max_append_bytes,
               .max_inflight_appends = config_.max_inflight_appends,
               .max_uncommitted_bytes = config_.max_uncommitted_bytes},
      .directory = fmt::format("group-{}", kOnlyGroup.value),
      .checkpoint_log_bytes = config_.checkpoint_log_bytes,
      .keep_entries = config_.keep_entries,
  };
  replica_ = TRY(
      replica::Replica::open(env_, std::move(config), *log_writer_, *peers_, std::move(recovered), config_.observer));
  router_ = std::make_unique<Router>(env_, config_, identity_, *replica_, *peers_);
  peers_->attach(replica_.get());
  server_.replica = replica_.get();
  server_.router = router_.get();
  return {};
}

Result<void> Node::accept(fiber::Scope& scope) {
  for (;;) {
    std::shared_ptr<env::Stream> stream = TRY(listener_->accept());
    ++server_.stats.connections;
    scope.spawn("connection", [this, stream] { serve(*stream); });
  }
}

void Node::serve(env::Stream& stream) {
  std::string buffer;
  auto got = read_more(stream, buffer);
  if (!got || *got == 0) return;
  switch (protocol::detect(static_cast<uint8_t>(buffer[0]))) {
    case protocol::Protocol::kPeer: return peers_->serve(stream, std::move(buffer));
    case protocol::Protocol::kTls:
    case protocol::Protocol::kUnknown: return;
    case protocol::Protocol::kResp:
    case protocol::Protocol::kSexp: break;
  }
  if (server_.clients.size() >= config_.max_clients) {
    ++server_.stats.rejected_connections;
    (void)stream.write(as_bytes("-ERR max number of clients reached\r\n"));
    return;
  }
  if (protocol::detect(static_cast<uint8_t>(buffer[0])) == protocol::Protocol::kSexp)
    return serve_sexp(server_, stream, std::move(buffer));
  Client client{.id = ++server_.clients_made, .stream = &stream, .since = env_.clock.now()};
  server_.clients[client.id] = &client;
  count_connections();
  struct Leave {
    Node& node;
    uint64_t id;
    ~Leave() {
      node.server_.clients.erase(id);
      node.count_connections();
    }
  } leave{*this, client.id};
  RespSession(server_, client, stream, std::move(buffer)).run();
}

// Who took over finds out what becomes of what is in the log, and so does whoever waits for it here.
void Node::hand_over() {
  if (!replica_) return;
  (void)replica_->hand_over();
  const raft::Raft& raft = replica_->raft();
  auto in_time = [&](auto&& fn) {
    (void)fiber::with_deadline(env_.scheduler, env_.clock.timers(), env_.clock.now() + config_.election_timeout,
                               [&]() -> Result<void> { return fn(), Result<void>(); });
  };
  in_time([&] {
    while (raft.transferring_to()) replica_->wait_for_leader_change();
  });
  in_time([&] { replica_->wait_for_proposals(); });
  env_.clock.sleep_for(env_.scheduler, kLastWords);
}

Result<void> Node::run(const Listening& listening, Ending* ending) {
  lock_ = TRY(env_.disk.lock(""));
  TRY(take_identity());
  peers_ = std::make_unique<Peers>(env_, config_, identity_);
  return fiber::with_scope(env_.scheduler, [&](fiber::Scope& scope) -> Result<void> {
    if (ending)
      scope.spawn("ending", [this, ending, &scope] {
        ending->wait();
        hand_over();
        scope.cancel();
      });
    listener_ = TRY(env_.network.listen(config_.listen));
    if (listening) listening(listener_->address());
    scope.spawn("accept", [this, &scope] { return accept(scope); });
    peers_->start(scope);
    const bool newly_founded = !identity_.founded();
    if (newly_founded) TRY(found());
    TRY(open_replica(newly_founded));
    scope.spawn("log", [&] { return log_writer_->run(); });
    scope.spawn("segments", [&] { return log_writer_->run_segments(); });
    scope.spawn("checkpoints", [&] { return replica_->run_checkpoints(); });
    return replica_->run();
  });
}

}  // namespace

Result<void> run_node(Env& env, const Config& config, const Listening& listening, Ending* ending) {
  CHECK(std::is_sorted(config.cluster.begin(), config.cluster.end(),
                       [](const Member& a, const Member& b) { return a.id < b.id; }));
  auto node = std::make_unique<Node>(env, config);
  return node->run(listening, ending);
}

}  // namespace mneme::node
