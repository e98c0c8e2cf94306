// The fibers that serve all replicas of a reactor, their number the same however many replicas there are: one lets each
// replica that has work take its turn, some write checkpoints. (More are in log_writer.h and laggards.h.)
//
// A replica asks for a turn when something has arrived for it; turns are taken after the fibers that are ready now have
// run, so that what arrives together is handled together, in the order in which they were asked for.
#pragma once

#include <deque>
#include <memory>

#include "core/env/env.h"
#include "core/fiber/sync.h"

namespace mneme::replica {

class Replica;

class Driver {
 public:
  explicit Driver(Env& env) : env_(env), work_(env.scheduler), checkpoint_due_(env.scheduler) {}

  // Each may be called again before it is served, and adds nothing then.
  void wants_turn(Replica& replica);
  void wants_checkpoint(Replica& replica);
  // The replica is about to go: whatever it asked for is dropped.
  void forget(Replica& replica);

  // The fiber that gives turns: runs until cancelled, or until a replica's error, which must end the node.
  Result<void> run();
  // Writes checkpoints, one after another; several fibers may do it. Ends as run() does.
  Result<void> run_checkpoints();

 private:
  Env& env_;
  fiber::Condition work_;
  fiber::Condition checkpoint_due_;
  std::deque<Replica*> turns_;
  std::deque<Replica*> checkpoints_;
};

}  // namespace mneme::replica
