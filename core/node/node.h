// A node: one reactor with one replica of one group, its write-ahead log, its peers and its clients.
//
// run_node() is the whole program of a node, real or simulated; what differs is the Env.
#pragma once

#include <functional>

#include "core/env/env.h"
#include "core/node/config.h"

namespace mneme::node {

// Told when the node accepts connections: the address it listens on.
using Listening = std::function<void(const env::Address&)>;

// Runs until the calling fiber is cancelled (which ends it in order), or until an error ends the node:
// kBusy: the port or the data directory is in use. kInvalid: the data of another node or cluster, or a configuration
// that contradicts it. kRefused: the cluster does not accept this node. kUnsupported: the files of a newer build.
// kCorrupt: a file that it needs to start is damaged, missing or unreadable; the sentence says which, and what to do.
// kIo, kNoSpace: its disk, and the node may be started again. The data directory is the root of env.disk.
Result<void> run_node(Env& env, const Config& config, const Listening& listening = {});

}  // namespace mneme::node
