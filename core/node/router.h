// Finds out what becomes of a client's batch: sends each command to the shard that owns its slots, proposes or reads
// here where this node leads it, forwards to the leader where another does, waits for one where nobody does, and asks
// again, by a newer map if there is one, only after answers that say that nothing happened.
//
// The commands of a batch that go to one shard travel together and in their order; different shards work at the same
// time. What concerns several slots or all shards is cut into pieces (scatter.h, scan.h).
#pragma once

#include <functional>
#include <map>

#include "core/env/env.h"
#include "core/kv/batch.h"
#include "core/node/answers.h"
#include "core/node/config.h"
#include "core/node/groups.h"
#include "core/node/identity.h"
#include "core/node/map_cache.h"
#include "core/node/peers.h"
#include "core/node/scan.h"
#include "core/node/scatter.h"

namespace mneme::node {

class Router {
 public:
  Router(Env& env, const Config& config, const Identity& identity, Groups& groups, MapCache& map, Peers& peers);

  // Told before a command travels: in which batch, and at which position there. Again when it is asked again.
  using Admitted = std::function<void(size_t command, const kv::Origin& origin, size_t position)>;

  // Who answers a batch of reads: the shard's leader, or this node if it has a replica, which asks the leader how far
  // to be. Both are linearizable.
  enum class Reads : uint8_t { kLeader, kHere };

  // Suspends until the outcome of every command is known or config.request_timeout has passed. `admitted` may be empty.
  void execute(const replica::CommandList& commands, const Admitted& admitted, Answers& answers,
               Reads reads = Reads::kLeader);
  // All of it in one group, until `deadline`. kDone: one reply per command in `replies`; otherwise `reason` says why.
  replica::Outcome execute_in(GroupId group, const replica::CommandList& commands, Instant deadline,
                              replica::ReplySet& replies, std::string& reason);

 private:
  // A command, or a part of one: what one group executes.
  struct Piece {
    size_t command = 0;           // of the client's batch
    uint16_t slot = kv::kNoSlot;  // goes to its owner
    GroupId group;                // or to this one
    size_t scatter = SIZE_MAX;    // part `part` of that one
    size_t part = 0;
  };
  // A batch of pieces.
  struct Pieces {
    std::vector<Piece> all;
    const replica::CommandList* commands = nullptr;  // one for each piece
    replica::CommandList own;                        // unless it is the client's batch
    Reads reads = Reads::kLeader;
    std::vector<std::pair<size_t, Scatter>> scatters;  // of a command
    std::vector<size_t> scans;                         // commands
  };
  // Pieces that travel to one group as one batch.
  struct Part {
    GroupId group;
    std::vector<size_t> pieces;
    Reads reads = Reads::kLeader;
    replica::CommandList own;  // unless it is the whole batch
    const replica::CommandList* commands = nullptr;
    kv::Origin origin;
    replica::Outcome outcome = replica::Outcome::kPending;
    replica::ReplySet replies;
    std::string reason;
  };

  kv::Origin next_origin();
  Pieces cut(const replica::CommandList& commands, Answers& answers) const;
  std::vector<Part> partition(const Pieces& pieces, const std::vector<size_t>& open);
  // Suspends until all pieces have their outcomes.
  void run(Pieces& pieces, const Admitted& admitted, Instant deadline, Answers& answers);
  void follow_splits(Pieces& pieces, uint64_t& version, std::vector<size_t>& open, Answers& answers);
  void join(const Pieces& pieces, const Answers& pieces_answers, const replica::CommandList& commands,
            Answers& answers);
  void scan(size_t command, kv::Args args, Instant deadline, Answers& answers);
  void run(std::vector<Part>& parts, Instant deadline);
  void run(Part& part, Instant deadline);
  void attempt(replica::Call& call, GroupId group, Reads reads, Instant deadline);
  NodeId leader_of(GroupId group, const replica::Replica* here);

  Env& env_;
  const Config& config_;
  const Identity& identity_;
  Groups& groups_;
  MapCache& map_;
  Peers& peers_;
  kv::ScanCursors cursors_;
  uint64_t requests_;
  std::map<GroupId, NodeId> leaders_;  // of groups without a replica here, as others said
  uint64_t guesses_ = 0;
};

}  // namespace mneme::node
