// What a node says of itself and of the cluster to whoever runs it: one JSON object each.
//
// MNEME.STATUS: node, address, cluster and incarnation (16 hexadecimal digits), ready (false while the cluster is being
// founded, joined, or the log recovered), map_version. While the cluster is being founded: founders, each with node,
// address and heard (false: nothing was heard of it yet). Otherwise: groups, one for each replica here: group, replica
// (raft/text.h), role, term, leader (its node, 0: unknown), suspect, handing_to (its node, 0: nobody), epoch, slots,
// log_first, log_last, persisted, commit, applied, checkpoint (log indices), bytes, members. Each member: node,
// replica, role, and, on the leader, match: the index up to which it is known to hold the log.
//
// MNEME.MAP, as far as this node knows: cluster, version, copies, balance (whether this node balances when it leads the
// meta group), nodes, shards. Each node: id, address, rack, state, incarnation, and, unless it was removed, silent_ms:
// for how long this node has not heard of it. Each shard, the meta group among them: group, slots, epoch, replicas
// (node, generation, role), leader (0: unknown), term, bytes, writes_per_second, and, if there was one, operation, the
// last: id, action, step, outcome, child (of a split).
#pragma once

#include <string>

#include "core/node/server.h"

namespace mneme::node {

std::string status_json(const Server& server);
std::string map_json(const Server& server);

}  // namespace mneme::node
