// One planned fault, or operation: its kind, when it strikes, whom, and for how long. What each kind does is stated
// where it is simulated (sim/network.h, sim/disk_state.h, sim/machine.h) and put in sequence in kv_faults.h, or in
// kv_operator.h; how it is drawn is in plan.h.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/chance.h"
#include "sim/event.h"
#include "sim/fate.h"

namespace mneme::sim {

enum class FaultKind : uint8_t {
  kKill = 1,
  kPowerLoss,
  kBlackout,
  kPause,
  kPartition,
  kBlock,
  kClog,
  kReset,
  kFailSync,
  kRot,
  kReadError,
  kFullDisk,
  kSlowDisk,
  kDrift,
  kWallJump,
  kClientVanishes,
  kAmbush,     // waits for a process to reach a probe; becomes one of the others, with that node as `a`
  kOverthrow,  // only of an ambush: the node is cut off and all others lose power
  kRestartStorm,
  kRollingRestart,
  kWipe,
  kSlowLink,
  kStall,
  kHalfOpen,
  kSlowCpu,
  kHungDisk,
  kEvict,
  kTailRot,
  kDelude,  // only of an ambush: the node is cut off from the others while its monotonic clock is as slow as may be
  kOldCopy,
  kLyingDisk,
  kLostWrite,
  kMisdirectedWrite,
  // Only of an ambush: the node is cut off from the others until one of them has completed a checkpoint.
  kExile,
  kReunite,  // only of an ambush: the network heals
  kStop,     // the process is asked to end in good order
  kHunt,     // these two become ambushes, which wait for a step of an operation
  kMetaHunt,
  // What an operator asks for.
  kSplit,
  kMove,
  kAdd,
  kTake,
  kTransfer,
  kDrain,
  kJoin,
  kRemove,
  kReplace,  // the machine loses power and its disk, and joins as another node
};

// Whom an ambush strikes.
enum class Prey : uint8_t {
  kActor,       // who reached the probe
  kMetaLeader,  // of these three, the ambush waits for a step of an operation, whatever its trigger
  kLeader,      // of the shard
  kTarget,      // of the operation; the shard's leader where it has none
};

struct Fault {
  uint64_t item = 0;  // its number in the plan, 1000 times the kind plus the nth of its kind
  FaultKind kind;
  WorldTime at = 0;
  WorldTime duration = 0;  // until it ends, or until the machine is started again
  uint32_t a = 0;          // machine; kClientVanishes: client, from 0
  uint32_t b = 0;          // the other machine
  uint64_t set = 0;        // bit n: machine n is on the one side (kPartition), loses power (kBlackout)
  // kRollingRestart: 1: in good order; kDrift: ppm; kWallJump: ms; kSlowDisk, kSlowLink: factor; kRestartStorm:
  // crashes; kSlowCpu: us; kHalfOpen: 0 swallows, 1 is reset at `a`
  int64_t amount = 0;
  bool torn_too = false;  // kKill: power is lost while the machine is down
  // kAmbush: until it strikes; kRollingRestart: from one node's start to the next one's end; kOldCopy, kLyingDisk,
  // kLostWrite, kMisdirectedWrite: from the copy, the lie or the write to the power loss, at least
  WorldTime delay = 0;
  // kAmbush: the nth time from `at` on that a node reaches `trigger`.
  Probe trigger{};
  uint32_t nth = 0;
  FaultKind strike = FaultKind::kPowerLoss;
  Prey prey = Prey::kActor;
  uint64_t choice = 0;  // operations: among the shards, slots and nodes that there are then

  bool operator==(const Fault&) const = default;
  std::string text() const;
  // What an ambush becomes when `victim` has walked into it.
  Fault sprung_on(uint32_t victim, uint32_t nodes) const;
};

// How long a machine stays down in a fault that takes several: some are back early, none later than its duration.
WorldTime down_for(const Fate& fate, const Fault& fault, uint32_t machine);

}  // namespace mneme::sim
