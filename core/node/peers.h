// The connections to other nodes: one outgoing control connection per neighbour, on which all of this node's messages
// to it travel, whatever their group, and a bulk connection for as long as a snapshot is sent. Their control
// connections to us bring theirs.
//
// Neighbours are, in a small cluster, all nodes; in a larger one those that hold replicas of the same groups and those
// of the meta group, for which all are; and for a while those that had to be told or asked something. Only neighbours
// are watched: of others it is not known whether they are silent.
//
// Messages are encoded into the connection's outbox at once; without a connection they are lost, which Raft expects.
// The outbox is bounded: what does not fit is lost as well. Each heartbeat interval a ping says that the node is alive
// and which version of the shard map it has. The leader of the meta group sends what has changed since, without
// waiting to be asked, or all of it when that is not known any more; so does whoever has had a newer map for a while.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/env/env.h"
#include "core/fiber/scope.h"
#include "core/fiber/sync.h"
#include "core/node/config.h"
#include "core/node/identity.h"
#include "core/node/map_cache.h"
#include "core/protocol/peer.h"
#include "core/replica/replica.h"

namespace mneme::node {

class Groups;

// Lets a node into the cluster: gives it an id, the same to whoever asks again. Suspends.
using Admit =
    std::function<Result<NodeId>(Incarnation incarnation, const std::string& address, const std::string& rack)>;

class Peers final : public replica::Transport {
 public:
  Peers(Env& env, const Config& config, const Identity& identity, MapCache& map);
  ~Peers() override;

  // Until the replicas are there, incoming messages are dropped.
  void attach(Groups* groups, Admit admit) {
    groups_ = groups;
    admit_ = std::move(admit);
  }

  // Starts the fibers that keep connections to all peers; `scope` must be the one that serve() runs in.
  void start(fiber::Scope& scope);
  // Serves a connection that a peer made; `first` holds what was read of it already. Suspends until it ends.
  void serve(env::Stream& stream, std::string first);

  // While founding: the incarnation that a peer gave, 0 if it has not yet; and a refusal that ends this node.
  Incarnation known_incarnation(NodeId peer) const;
  // The cluster that a peer belongs to already, as it said; 0: none, or it has not said anything yet.
  ClusterId known_cluster(NodeId peer) const;
  // Suspends until one of them changes.
  Result<void> wait_for_news();

  // Asks the node at that address to be let into its cluster. Returns the id given, and has offered its map. kRefused:
  // for good; all else may be different in a moment, or at another address. Suspends.
  Result<NodeId> join(const env::Address& address);
  // kInvalid: the node at that address belongs to another cluster than this one. Success also when it cannot be asked.
  // Suspends.
  Result<void> check_cluster(const env::Address& address);

  // How long nothing was heard of the node, since it has been a neighbour; 0 of others.
  Duration silent_for(NodeId node) const;

  // False when it certainly does not leave: no connection, no room. The answer comes through Forwarded.
  bool forward(NodeId to, GroupId group, replica::Call& call);

  void send(GroupId group, const raft::Message& message) override;
  void send_snapshot(GroupId group, const raft::Message& message, uint64_t checkpoint_id) override;

 private:
  struct Link;

  // peer_links.cc
  Link* find(NodeId peer);
  const Link* find(NodeId peer) const;
  Link& entry(NodeId peer);
  // As the map has it, which is the newest that can be known: but after a loss of power of all nodes a map may be older
  // than the log of the meta group, and those that elect its leader must find each other before anybody learns what is
  // committed in it. Each configuration stands there behind what adds its nodes. A node that was never let in has no
  // id to come with, whatever a log says.
  std::optional<shard::Node> node_of(NodeId id) const;
  Link* known(NodeId peer);
  Result<env::Address> address_of(NodeId peer) const;
  Link* use(NodeId peer);
  void keep(Link& link);
  void connect_soon(Link& link);
  bool has_all_for_neighbours() const;
  std::set<NodeId> neighbours() const;
  void update_links();
  Result<void> keep_links();
  Result<void> keep_pinging();
  void ping(Link& link);
  bool leads_meta_group() const;
  void send_map(Link& link);
  Result<void> keep_connected(Link& link);
  Result<std::unique_ptr<env::Stream>> greet(const env::Address& address, const protocol::Hello& hello,
                                             protocol::Answer& answer, std::string& rest);
  Result<std::unique_ptr<env::Stream>> connect(Link& link, protocol::Purpose purpose);
  // Of a node's data directory, as the cluster knows it; 0: it does not know the node.
  Incarnation expected_incarnation(NodeId node) const;
  protocol::Answer judge(const protocol::Hello& hello);
  void heard(Link& link);
  void note(Link& link, ClusterId cluster, Incarnation incarnation);
  Result<void> serve_joining(env::Stream& stream, Incarnation incarnation, std::string& buffer);
  Result<void> serve_control(fiber::Scope& scope, env::Stream& stream, NodeId from, std::string& buffer);
  Result<void> serve_bulk(env::Stream& stream, NodeId from, std::string& buffer);
  // `pieces`: what has come of a forwarded reply in several frames; the connection's own.
  Result<void> take_control(fiber::Scope& scope, NodeId from, protocol::FrameType type, std::string_view body,
                            std::string& pieces);
  Result<void> take_raft(NodeId from, std::string_view body);
  Result<void> take_forward_reply(std::string_view body, std::string& pieces);
  Result<void> take_ping(NodeId from, std::string_view body);
  Result<void> take_map(std::string_view body);
  Result<void> take_map_change(std::string_view body);
  void take_forward(fiber::Scope& scope, NodeId from, std::string_view body);
  Result<void> transfer(GroupId group, const raft::Message& message, uint64_t checkpoint_id, bool& damaged);

  Env& env_;
  const Config& config_;
  const Identity& identity_;
  MapCache& map_;
  Groups* groups_ = nullptr;
  Admit admit_;
  fiber::Scope* scope_ = nullptr;
  fiber::Condition news_;
  std::optional<Error> refusal_;
  std::vector<std::unique_ptr<Link>> links_;  // by node; also of those that are not kept now
  bool wants_whole_map_ = false;              // a change of it could not be taken
  uint64_t spread_version_ = 0;               // of the map, that all neighbours were told of by who tells them
  const uint64_t life_;                       // of this process
  size_t forwards_ = 0;                       // being served for others
};

// Reads some bytes and appends them to `buffer`; `at_least` sizes the read. 0: the stream ended in order. Suspends.
Result<size_t> read_more(env::Stream& stream, std::string& buffer, size_t at_least = 1);

}  // namespace mneme::node
