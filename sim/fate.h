// Fate: every nondeterministic choice of a simulation, keyed instead of drawn from a stream.
//
// A choice is a hash of (seed, site, cause): which kind of choice, and what it is about, named by cause wherever there
// is one (the nth segment of that connection, that file's sector, this plan item), by a counter only where nothing
// better exists. So taking away one fault, operation or node leaves all other choices as they were, new kinds of choice
// leave old seeds alone, and failures can be shrunk. All arithmetic is on integers.
#pragma once

#include <cstdint>

#include "core/base/hash.h"
#include "core/base/time.h"

namespace mneme::sim {

// Kinds of choice made by the world. The values are part of every recorded seed: append only. Sites of core
// (core/base/chance.h) come in through kCore.
enum class Choice : uint32_t {
  kCore = 1,
  kCoreRarelyEnabled,
  kCoreRarelyFires,
  kSegmentLatency = 10,
  kSegmentTail,
  kSegmentSplit,
  kSegmentSplitAt,
  kConnectLatency,
  kRetransmitDelay,
  kGiveUpAfter,
  kSegmentCrumble,
  kSegmentCoalesce,
  kDiskLatency = 30,
  kDiskTail,
  kTornSector,
  kTornSize,
  kTornEntry,
  kFailedSyncSector,
  kDamagePlace,
  kDamageBits,
  kClockDrift = 50,
  kWallOffset,
  kScheduleRank = 60,
  kSchedulePriority,
  kSchedulePoint,
  kPlan = 100,       // scenarios: shape and faults
  kOperation = 101,  // scenarios: client operations
  kSwarm = 102,
  kClient = 103,
  kMachine = 104,     // scenarios: what sets one machine apart from another
  kStrayWrite = 120,  // disk: which part of what a lost or misdirected write is
  kShortRead,
  kBrokenPromise,  // disk: whether a power loss takes all that lying syncs promised
  kBranch = 130,   // the seed of what follows a branch; see World::branch
};

class Fate {
 public:
  explicit Fate(uint64_t seed) : seed_(mix(seed + 0x9e3779b97f4a7c15u)) {}

  uint64_t draw(Choice choice, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0) const {
    uint64_t state = seed_ ^ (static_cast<uint64_t>(choice) << 40);
    state = fold(state, a);
    state = fold(state, b + 0x632be59bd9b4e019u);
    return mix(fold(state, c + 0x9fb21c651e98df25u));
  }
  // Uniform in [low, high].
  uint64_t between(uint64_t low, uint64_t high, Choice choice, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0) const {
    return low + scale(draw(choice, a, b, c), high - low + 1);
  }
  // True with a probability given in parts per million.
  bool chance(uint32_t ppm, Choice choice, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0) const {
    return ppm != 0 && scale(draw(choice, a, b, c), 1'000'000) < ppm;
  }

  // Maps 64 random bits to [0, n) for n > 0; n = 0 stands for 2^64.
  static uint64_t scale(uint64_t bits, uint64_t n) {
    return n == 0 ? bits : static_cast<uint64_t>((static_cast<unsigned __int128>(bits) * n) >> 64);
  }

 private:
  uint64_t seed_;
};

}  // namespace mneme::sim
