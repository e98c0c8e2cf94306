// The connections to other nodes: one outgoing control connection per peer, on which all of this node's messages to it
// travel, and a bulk connection for as long as a snapshot is sent. Their control connections to us bring theirs.
//
// Messages are encoded into the connection's outbox at once; without a connection they are lost, which Raft expects.
// The outbox is bounded: what does not fit is lost as well.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/env/env.h"
#include "core/fiber/scope.h"
#include "core/fiber/sync.h"
#include "core/node/config.h"
#include "core/node/identity.h"
#include "core/protocol/peer.h"
#include "core/replica/replica.h"

namespace mneme::node {

class Peers final : public replica::Transport {
 public:
  Peers(Env& env, const Config& config, const Identity& identity);
  ~Peers() override;

  // Until the replica is there, incoming messages are dropped.
  void attach(replica::Replica* replica) { replica_ = replica; }

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

  // False when it certainly does not leave: no connection, no room. The answer comes through the replica.
  bool forward(NodeId leader, replica::Call& call);

  void send(GroupId group, const raft::Message& message) override;
  void send_snapshot(const raft::Message& message, uint64_t checkpoint_id) override;

 private:
  struct Link;

  Link* find(NodeId peer);
  Result<void> keep_connected(Link& link);
  Result<std::unique_ptr<env::Stream>> connect(const Member& peer, protocol::Purpose purpose);
  protocol::Answer judge(const protocol::Hello& hello);
  Result<void> serve_control(fiber::Scope& scope, env::Stream& stream, NodeId from, std::string& buffer);
  Result<void> serve_bulk(env::Stream& stream, NodeId from, std::string& buffer);
  // `pieces`: what has come of a forwarded reply in several frames; the connection's own.
  Result<void> take_control(fiber::Scope& scope, NodeId from, protocol::FrameType type, std::string_view body,
                            std::string& pieces);
  void take_forward(fiber::Scope& scope, NodeId from, std::string_view body);
  Result<void> transfer(const raft::Message& message, uint64_t checkpoint_id, bool& damaged);
  bool* sending_snapshot_to(NodeId peer);

  Env& env_;
  const Config& config_;
  const Identity& identity_;
  replica::Replica* replica_ = nullptr;
  fiber::Scope* scope_ = nullptr;
  fiber::Condition news_;
  std::optional<Error> refusal_;
  std::vector<std::unique_ptr<Link>> links_;
  size_t forwards_ = 0;  // being served for others
  bool receiving_snapshot_ = false;
};

// Reads some bytes and appends them to `buffer`; `at_least` sizes the read. 0: the stream ended in order. Suspends.
Result<size_t> read_more(env::Stream& stream, std::string& buffer, size_t at_least = 1);

}  // namespace mneme::node
