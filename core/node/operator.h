// The commands of whoever runs the cluster, which any node takes.
//
//   MNEME.SPLIT group [AT slot]             the slots from `slot` on become a shard of their own; by default those that
//                                           hold the upper half of the data, or of the slots
//   MNEME.MOVE group FROM node TO node
//   MNEME.ADD group node                    a voter more
//   MNEME.REMOVE group node                 a replica less
//   MNEME.TRANSFER group node               that node is to lead
//
// Each answers the number of an operation, which is then in the shard map and is carried out by the shard's leader;
// asked again while it is pending, the same number. What becomes of it:
//
//   MNEME.OPERATION id                      a map: id, group, action, step, outcome (pending, done, abandoned; ended:
//                                           one or the other, and others came later), child (of a split, else 0)
//
//   MNEME.DRAIN node [STOP]                 the node loses its replicas, and gets none, or may again; +OK
//   MNEME.FORGET node                       the node, which must hold nothing, is removed for ever; +OK
//   MNEME.COPIES n                          how many replicas a shard shall have; +OK
//
//   MNEME.PLAN                              a list of sentences: what this node would do next, beginning with "give
//                                           up" for an operation that cannot end, and "obstacle" for what cannot be
//                                           done
//   MNEME.REBALANCE [FROM node]             begins what is planned, or of it what takes replicas from that node: a
//                                           sentence each, beginning with "operation N" or "refused"
//   MNEME.MAP, MNEME.STATUS                 status.h
//
// With DRYRUN as their last word, those of the first and the third part change nothing: +OK, they would be accepted.
//
// What is refused has changed nothing, and the error says what to do instead: ERR, it makes no sense; REFUSED, not as
// things are; CLUSTERDOWN, the meta group cannot be reached. What is based on an older shard map than the meta group
// has is refused too: so of two operators who race for a shard, one is told. UNCERTAIN: it is not known whether it was
// done; asking again is harmless.
#pragma once

#include <string>

#include "core/node/server.h"

namespace mneme::node {

// Executes one of these but MNEME.STATUS. Appends one canonical reply. Suspends.
void execute_operator(Server& server, const kv::CommandSpec& spec, kv::Args args, std::string& out);

}  // namespace mneme::node
