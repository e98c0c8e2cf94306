#include "core/node/node.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "core/fiber/scope.h"
#include "core/node/conductor.h"
#include "core/node/groups.h"
#include "core/node/identity.h"
#include "core/node/map_cache.h"
#include "core/node/peers.h"
#include "core/node/resp_session.h"
#include "core/node/router.h"
#include "core/node/server.h"
#include "core/node/sexp_session.h"
#include "core/protocol/first_byte.h"

namespace mneme::node {

namespace {

// After the last answer was given, until the connections that are to send it are closed.
constexpr Duration kLastWords = 5ms;

constexpr Duration kJoinPause = 500ms;  // between attempts
constexpr uint32_t kClusterVersion = 1;

class Node {
 public:
  Node(Env& env, const Config& config)
      : env_(env), config_(config), map_(env), server_{.env = env, .config = config, .identity = identity_} {
    server_.max_memory_bytes = config.max_memory_bytes;
    server_.started = env.clock.now();
  }

  Result<void> run(const Listening& listening, Ending* ending);

 private:
  Result<void> take_identity();
  Result<void> check_identity() const;
  Result<void> load_map();
  shard::FoundCluster founding() const;
  Result<void> found();
  Result<void> join();
  Result<void> check_join();
  Result<NodeId> admit(Incarnation incarnation, const std::string& address, const std::string& rack);
  Result<void> open_groups(bool newly_founded);
  Result<void> accept(fiber::Scope& scope);
  void serve(env::Stream& stream);
  void hand_over();
  void count_connections() {
    if (config_.connections) *config_.connections = server_.clients.size();
  }

  Env& env_;
  const Config& config_;
  Identity identity_;
  MapCache map_;
  Server server_;
  std::unique_ptr<env::DirectoryLock> lock_;
  std::unique_ptr<env::Listener> listener_;
  std::unique_ptr<Peers> peers_;
  std::unique_ptr<Groups> groups_;
  std::unique_ptr<Router> router_;
  std::unique_ptr<Conductor> conductor_;
};

Result<void> Node::check_identity() const {
  if (config_.id && identity_.node && identity_.node != config_.id)
    return fail(ErrorCode::kInvalid,
                fmt::format("the data directory belongs to node {}, not to node {}: check --id and --data",
                            identity_.node.value, config_.id.value));
  if (!identity_.founded() || config_.cluster.empty()) return {};
  const bool same = identity_.members.size() == config_.cluster.size() &&
                    std::all_of(config_.cluster.begin(), config_.cluster.end(),
                                [&](const Member& m) { return static_cast<bool>(identity_.incarnation_of(m.id)); });
  if (same) return {};
  return fail(ErrorCode::kInvalid,
              "--cluster names other nodes than the cluster was founded with: start every node with the same list, or "
              "this one without");
}

Result<void> Node::take_identity() {
  auto loaded = load_identity(env_.disk);
  if (loaded) {
    identity_ = std::move(*loaded);
    return check_identity();
  }
  if (loaded.error().code != ErrorCode::kNotFound) return std::unexpected(std::move(loaded).error());
  for (const std::string& name : TRY(env_.disk.list("")))
    if (name == "wal" || name.starts_with("group-"))
      return fail(ErrorCode::kCorrupt,
                  fmt::format("the data directory has {} but no identity: it is damaged; restore it from "
                              "a backup, or replace this node",
                              name));
  if (config_.join.empty()) identity_.node = config_.id ? config_.id : NodeId(1);
  uint64_t drawn = env_.random.draw(Site::kIncarnation, identity_.node.value, 0);
  identity_.incarnation = Incarnation(drawn == 0 ? 1 : drawn);
  return save_identity(env_.disk, identity_);
}

// What every founder makes the map of, without asking anybody.
shard::FoundCluster Node::founding() const {
  shard::FoundCluster command{
      .cluster = identity_.cluster, .cluster_version = kClusterVersion, .shards = config_.shards};
  for (auto& [node, incarnation] : identity_.members) {
    std::string address = env::to_string(config_.listen);
    for (const Member& member : config_.cluster)
      if (member.id == node) address = env::to_string(member.address);
    command.nodes.push_back({node, incarnation, address, address, {}});
  }
  command.copies = std::min(config_.copies, static_cast<uint32_t>(command.nodes.size()));
  return command;
}

// Learns every member's incarnation, then belongs to the cluster for good. Suspends until all of them have been
// reached.
Result<void> Node::found() {
  std::vector<std::pair<NodeId, Incarnation>> members;
  for (;;) {
    members.clear();
    for (const Member& member : config_.cluster) {
      Incarnation incarnation =
          member.id == identity_.node ? identity_.incarnation : peers_->known_incarnation(member.id);
      if (incarnation) members.emplace_back(member.id, incarnation);
    }
    if (config_.cluster.empty()) members = {{identity_.node, identity_.incarnation}};
    if (members.size() == std::max<size_t>(config_.cluster.size(), 1)) break;
    TRY(peers_->wait_for_news());
  }
  // Who was wiped hears of the others' incarnations from those who have founded the cluster with another one of its
  // own.
  const ClusterId cluster = cluster_id_of(members, config_.shards, config_.copies);
  for (const Member& member : config_.cluster) {
    const ClusterId theirs = member.id == identity_.node ? ClusterId() : peers_->known_cluster(member.id);
    if (theirs && theirs != cluster)
      return fail(ErrorCode::kRefused,
                  fmt::format("node {} belongs to cluster {:016x}, which was founded with another data directory of "
                              "this node or of another one, or with other --shards or --copies; a wiped or replaced "
                              "node cannot come back under its old id: give it an empty directory and --join",
                              member.id.value, theirs.value));
  }
  identity_.members = std::move(members);
  identity_.cluster = cluster;
  auto map = std::make_shared<shard::Map>();
  TRY(map->apply(founding()));
  map_.offer(std::move(map));
  env::log(env_.trace, env::Level::kInfo, "node", "cluster {:016x} founded", identity_.cluster.value);
  return map_.save();
}

Result<void> Node::join() {
  for (size_t attempt = 0;; ++attempt) {
    const env::Address& address = config_.join[attempt % config_.join.size()];
    auto id = peers_->join(address);
    if (id) {
      identity_.node = *id;
      identity_.cluster = map_.map().cluster();
      env::log(env_.trace, env::Level::kInfo, "node", "joined cluster {:016x} as node {}", identity_.cluster.value,
               id->value);
      return map_.save();
    }
    if (id.error().code == ErrorCode::kRefused) return std::unexpected(id.error());
    env::log(env_.trace, env::Level::kWarn, "node", "cannot join through {}: {}", env::to_string(address),
             id.error().message);
    env_.clock.sleep_for(env_.scheduler, kJoinPause);
  }
}

// Of a node that has joined already: that it is not told to join another cluster by now.
Result<void> Node::check_join() {
  for (const env::Address& address : config_.join) TRY(peers_->check_cluster(address));
  return {};
}

Result<NodeId> Node::admit(Incarnation incarnation, const std::string& address, const std::string& rack) {
  const Instant deadline = env_.clock.now() + config_.request_timeout;
  auto told = TRY(conductor_->tell({shard::AddNode{incarnation, address, address, rack}}, deadline));
  const shard::Answer answer = TRY(std::move(told.front()));
  // The joining node gets the map with the answer: one that has it.
  auto known = fiber::with_deadline(env_.scheduler, env_.clock.timers(), deadline, [&]() -> Result<void> {
    while (!map_.map().node(answer.node)) map_.wait_for_change(map_.version());
    return {};
  });
  if (!known)
    return fail(ErrorCode::kUnavailable, "the node is let in, but this one has not heard of it yet; ask again");
  return answer.node;
}

// A copy of the map that is lost costs a founder nothing: the others have newer ones.
Result<void> Node::load_map() {
  auto loaded = map_.load();
  if (loaded) return {};
  env::log(env_.trace, env::Level::kWarn, "node", "{}", loaded.error().message);
  if (identity_.members.empty())
    return fail(ErrorCode::kCorrupt, fmt::format("{}; remove this node with `mneme cluster remove`, and let it join "
                                                 "again with an empty data directory",
                                                 loaded.error().message));
  auto map = std::make_shared<shard::Map>();
  TRY(map->apply(founding()));
  map_.offer(std::move(map));
  return {};
}

Result<void> Node::open_groups(bool newly_founded) {
  groups_ = std::make_unique<Groups>(env_, config_, identity_, map_, *peers_,
                                     [this](NodeId node) { return peers_->silent_for(node); });
  TRY(groups_->open(newly_founded));
  router_ = std::make_unique<Router>(env_, config_, identity_, *groups_, map_, *peers_);
  conductor_ = std::make_unique<Conductor>(env_, config_, identity_, *groups_, map_, *peers_, *router_);
  peers_->attach(groups_.get(), [this](Incarnation incarnation, const std::string& address, const std::string& rack) {
    return admit(incarnation, address, rack);
  });
  server_.groups = groups_.get();
  server_.map = &map_;
  server_.conductor = conductor_.get();
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
  if (!groups_) return;
  const Instant patience = env_.clock.now() + config_.election_timeout;
  auto in_time = [&](Instant until, auto&& fn) {
    (void)fiber::with_deadline(env_.scheduler, env_.clock.timers(), until, [&]() -> Result<void> {
      fn();
      return {};
    });
  };
  std::vector<std::shared_ptr<replica::Replica>> led;
  for (const auto& [group, replica] : groups_->all()) {
    if (replica->raft().role() != raft::Role::kLeader) continue;
    (void)replica->hand_over();
    led.push_back(replica);
  }
  for (const auto& replica : led)
    in_time(patience, [&] {
      while (replica->raft().transferring_to()) replica->wait_for_leader_change();
    });
  const Instant last = env_.clock.now() + config_.election_timeout;
  for (const auto& replica : led) in_time(last, [&] { replica->wait_for_proposals(); });
  env_.clock.sleep_for(env_.scheduler, kLastWords);
}

Result<void> Node::run(const Listening& listening, Ending* ending) {
  lock_ = TRY(env_.disk.lock(""));
  TRY(take_identity());
  if (identity_.founded()) TRY(load_map());
  peers_ = std::make_unique<Peers>(env_, config_, identity_, map_);
  server_.peers = peers_.get();
  server_.alive = [this](NodeId node) {
    return node == identity_.node || peers_->silent_for(node) < 2 * config_.election_timeout;
  };
  // Cluster clients that come before the groups are open find their way.
  if (identity_.founded()) server_.map = &map_;
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
    if (!newly_founded) scope.spawn("join check", [this] { return check_join(); });
    if (newly_founded && !config_.join.empty())
      TRY(join());
    else if (newly_founded)
      TRY(found());
    TRY(open_groups(newly_founded));
    groups_->start(scope);
    conductor_->start(scope);
    return map_.run(identity_.node);
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
