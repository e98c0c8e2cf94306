// What a group's log has decided of its shard: which hash slots are its own, and as of which epoch.
//
// An epoch counts the changes of a shard: of its slots and of its replicas. Only those of its slots matter to whoever
// routes a request, so the last epoch at which they changed is kept beside it: a request that was routed at that epoch
// or later went to the right shard.
#pragma once

#include <string>

#include "core/base/ids.h"
#include "core/shard/slot_set.h"

namespace mneme::kv {

struct ShardState {
  Epoch epoch;           // 0: not begun, nobody's keys belong here
  Epoch slots_epoch;     // at which the slots last changed; not above `epoch`
  shard::SlotSet slots;  // none: the meta group's

  bool operator==(const ShardState&) const = default;

  bool begun() const { return static_cast<bool>(epoch); }
  // The only shard of a store: all slots, from the first epoch on.
  static ShardState whole() { return {Epoch(1), Epoch(1), shard::SlotSet::all()}; }
  // Whether a shard can be in this state.
  bool valid() const { return begun() ? slots_epoch && slots_epoch <= epoch : !slots_epoch && slots.empty(); }
};

}  // namespace mneme::kv
