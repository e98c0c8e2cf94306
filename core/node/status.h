// What a node says of itself to whoever runs the cluster: MNEME.STATUS, one JSON object, and MNEME.TRANSFER.
//
//   node, address, cluster and incarnation (16 hexadecimal digits), ready (false while the cluster is being founded or
//   the log recovered, and then nothing follows but members), role, term, leader (its node, 0: unknown), suspect,
//   handing_to (its node, 0: nobody), log_first, log_last, persisted, commit, applied, checkpoint (log indices),
//   members. Each member: node, address, replica (raft/text.h), role (voter, incoming, outgoing, learner, founder),
//   and, on the leader, match: the index up to which it is known to hold the log.
#pragma once

#include <string>

#include "core/node/server.h"

namespace mneme::node {

std::string status_json(const Server& server);
// Appends +OK when leadership is being handed to that node's replica, or an error that says what to do instead.
void begin_transfer(Server& server, std::string_view node, std::string& out);

}  // namespace mneme::node
