#include "core/replica/driver.h"

#include <algorithm>

#include "core/replica/replica.h"

namespace mneme::replica {

namespace {
constexpr Duration kNoSpacePause = 1s;

void add(std::deque<Replica*>& queue, Replica& replica, bool& listed, fiber::Condition& waiting) {
  if (listed) return;
  listed = true;
  queue.push_back(&replica);
  waiting.notify_one();
}
}  // namespace

void Driver::wants_turn(Replica& replica) { add(turns_, replica, replica.listed_for_turn_, work_); }

void Driver::wants_checkpoint(Replica& replica) {
  if (replica.taking_checkpoint_) {
    replica.checkpoint_again_ = true;
    return;
  }
  add(checkpoints_, replica, replica.listed_for_checkpoint_, checkpoint_due_);
}

void Driver::forget(Replica& replica) {
  if (std::exchange(replica.listed_for_turn_, false)) std::erase(turns_, &replica);
  if (std::exchange(replica.listed_for_checkpoint_, false)) std::erase(checkpoints_, &replica);
}

Result<void> Driver::run() {
  for (;;) {
    work_.wait_until([this] { return !turns_.empty(); });
    Replica& replica = *turns_.front();
    turns_.pop_front();
    replica.listed_for_turn_ = false;
    TRY(replica.turn());
  }
}

Result<void> Driver::run_checkpoints() {
  for (;;) {
    checkpoint_due_.wait_until([this] { return !checkpoints_.empty(); });
    // Held, because it may be removed meanwhile.
    const std::shared_ptr<Replica> replica = checkpoints_.front()->shared_from_this();
    checkpoints_.pop_front();
    replica->listed_for_checkpoint_ = false;
    replica->taking_checkpoint_ = true;
    auto taken = replica->take_checkpoint();
    replica->taking_checkpoint_ = false;
    if (std::exchange(replica->checkpoint_again_, false) && !replica->retired()) wants_checkpoint(*replica);
    if (taken) continue;
    env::log(env_.trace, env::Level::kWarn, "replica", "no checkpoint: {}", taken.error().message);
    // Full disks may have room again later; anything else means that the disk cannot be trusted.
    if (taken.error().code != ErrorCode::kNoSpace) return taken;
    env_.trace.reached(Probe::disk_full_met);
    TRY(replica->checkpoints_.remove_others());  // others may need the room more
    env_.clock.sleep_for(env_.scheduler, kNoSpacePause);
    if (!replica->retired()) wants_checkpoint(*replica);
  }
}

}  // namespace mneme::replica
