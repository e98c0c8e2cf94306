// A node: one reactor with the replicas that the shard map gives it, of many groups, over one write-ahead log; with its
// peers and its clients.
//
// run_node() is the whole program of a node, real or simulated; what differs is the Env.
#pragma once

#include <functional>

#include "core/env/env.h"
#include "core/fiber/sync.h"
#include "core/node/config.h"

namespace mneme::node {

// Told when the node accepts connections: the address it listens on.
using Listening = std::function<void(const env::Address&)>;

// How to ask a node to end in good order: it hands over what it leads, if somebody can take it, waits for what becomes
// of what it proposed, both for an election timeout at most, and run_node() returns success. Outlives the call.
class Ending {
 public:
  explicit Ending(fiber::Scheduler& scheduler) : asked_for_(scheduler) {}
  void ask() {
    asked_ = true;
    asked_for_.notify_all();
  }
  bool asked() const { return asked_; }
  void wait() {
    asked_for_.wait_until([this] { return asked_; });
  }

 private:
  bool asked_ = false;
  fiber::Condition asked_for_;
};

// Runs until it is asked to end, until the calling fiber is cancelled, which ends it at once, or until an error ends
// the node: kBusy: the port or the data directory is in use. kInvalid: the data of another node or cluster, or a
// configuration that contradicts it. kRefused: the cluster does not accept this node. kUnsupported: the files of a
// newer build. kCorrupt: a file that it needs to start is damaged, missing or unreadable; the sentence says which, and
// what to do. kIo, kNoSpace: its disk, and the node may be started again. The data directory is the root of env.disk.
Result<void> run_node(Env& env, const Config& config, const Listening& listening = {}, Ending* ending = nullptr);

}  // namespace mneme::node
