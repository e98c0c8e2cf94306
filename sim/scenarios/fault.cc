#include "sim/scenarios/fault.h"

#include <fmt/format.h>

#include <algorithm>

namespace mneme::sim {

namespace {

std::string_view name_of(FaultKind strike) {
  switch (strike) {
    case FaultKind::kKill: return "kill it";
    case FaultKind::kPowerLoss: return "power loss of it";
    case FaultKind::kPartition: return "cut it off";
    case FaultKind::kPause: return "pause it";
    case FaultKind::kBlackout: return "power loss everywhere";
    case FaultKind::kOverthrow: return "cut it off, with power loss of all others,";
    case FaultKind::kDelude: return "cut it off with its clock as slow as may be";
    case FaultKind::kExile: return "cut it off until another node's checkpoint, at most";
    case FaultKind::kReunite: return "heal the network";
    default: return "";
  }
}

std::string_view name_of(Prey prey) {
  switch (prey) {
    case Prey::kActor: return "it";
    case Prey::kMetaLeader: return "the leader of the meta group";
    case Prey::kLeader: return "the shard's leader";
    case Prey::kTarget: return "the target";
  }
  return "";
}

}  // namespace

std::string Fault::text() const {
  auto seconds = [](WorldTime t) { return fmt::format("{}.{:03} s", t / 1'000'000'000, t / kMillisecond % 1000); };
  const std::string when = fmt::format("{:>9}  ", seconds(at));
  auto members = [&] {
    std::string out;
    for (uint32_t n = 1; n < 64; ++n)
      if (set >> n & 1) out += fmt::format("{}n{}", out.empty() ? "" : ",", n);
    return out;
  };
  switch (kind) {
    case FaultKind::kKill:
      return when + fmt::format("kill n{}{} for {}", a, torn_too ? ", then power loss," : "", seconds(duration));
    case FaultKind::kPowerLoss: return when + fmt::format("power loss n{} for {}", a, seconds(duration));
    case FaultKind::kBlackout:
      return when + fmt::format("power loss {{{}}} for up to {}", members(), seconds(duration));
    case FaultKind::kRestartStorm: return when + fmt::format("restart storm on n{}: {} crashes", a, amount);
    case FaultKind::kRollingRestart:
      return when + fmt::format("rolling restart{} from n{} on: each down for {}, then {} until the next",
                                amount == 1 ? " in good order" : "", a, seconds(duration), seconds(delay));
    case FaultKind::kWipe: return when + fmt::format("wipe the disk of n{}, back after {}", a, seconds(duration));
    case FaultKind::kSlowLink:
      return when + fmt::format("link n{} -> n{} {} times slower for {}", a, b, amount, seconds(duration));
    case FaultKind::kStall: return when + fmt::format("stall connections n{} -> n{} for {}", a, b, seconds(duration));
    case FaultKind::kHalfOpen:
      return when + (amount == 0 ? fmt::format("connections of machines {} and {} swallow everything", a, b)
                                 : fmt::format("connections of machine {} with {} break, and {} is not told", a, b, b));
    case FaultKind::kSlowCpu: return when + fmt::format("n{} takes {} us a turn for {}", a, amount, seconds(duration));
    case FaultKind::kPause: return when + fmt::format("pause n{} for {}", a, seconds(duration));
    case FaultKind::kPartition:
      return when + fmt::format("partition {{{}}} | rest for {}", members(), seconds(duration));
    case FaultKind::kBlock: return when + fmt::format("block n{} -> n{} for {}", a, b, seconds(duration));
    case FaultKind::kClog: return when + fmt::format("clog n{} -> n{} for {}", a, b, seconds(duration));
    case FaultKind::kReset: return when + fmt::format("reset connections of machines {} and {}", a, b);
    case FaultKind::kFailSync: return when + fmt::format("next sync of n{} fails", a);
    case FaultKind::kRot: return when + fmt::format("bit rot on n{}", a);
    case FaultKind::kReadError: return when + fmt::format("unreadable sector on n{}", a);
    case FaultKind::kFullDisk: return when + fmt::format("disk of n{} full for {}", a, seconds(duration));
    case FaultKind::kHungDisk: return when + fmt::format("disk of n{} hangs for {}", a, seconds(duration));
    case FaultKind::kEvict: return when + fmt::format("page cache of n{} is evicted", a);
    case FaultKind::kOldCopy:
      return when + fmt::format("disk of n{} is copied; {} later the copy is put back", a, seconds(delay));
    case FaultKind::kLyingDisk:
      return when + fmt::format("disk of n{} lies for {} and loses power for {}", a, seconds(delay), seconds(duration));
    case FaultKind::kLostWrite:
    case FaultKind::kMisdirectedWrite:
      return when + fmt::format("next write of n{} is {}, power loss {} later for {}", a,
                                kind == FaultKind::kLostWrite ? "lost" : "misdirected", seconds(delay),
                                seconds(duration));
    case FaultKind::kSlowDisk:
      return when + fmt::format("disk of n{} {} times slower for {}", a, amount, seconds(duration));
    case FaultKind::kDrift:
      return when + fmt::format("clock of n{} drifts by {} ppm for {}", a, amount, seconds(duration));
    case FaultKind::kWallJump: return when + fmt::format("wall clock of n{} jumps by {} s", a, amount / 1000);
    case FaultKind::kClientVanishes: return when + fmt::format("client {} vanishes for {}", a, seconds(duration));
    case FaultKind::kAmbush:
      if (prey != Prey::kActor)
        return when + fmt::format("ambush, {}.{:03} ms after {} steps of operations from now on: {}, {}, for {}",
                                  delay / kMillisecond, delay / 1000 % 1000, nth, name_of(strike), name_of(prey),
                                  seconds(duration));
      return when + fmt::format("ambush, {}.{:03} ms after {} of {} from now on: {} for {}", delay / kMillisecond,
                                delay / 1000 % 1000, nth, kProbeNames[static_cast<size_t>(trigger)], name_of(strike),
                                seconds(duration));
    case FaultKind::kTailRot:
      return when + fmt::format("power loss n{} for {}, and a part of what it wrote last rots", a, seconds(duration));
    case FaultKind::kDelude:
      return when + fmt::format("n{} is cut off for {} and its clock is as slow as may be", a, seconds(duration));
    case FaultKind::kExile:
      return when + fmt::format("n{} is cut off until another node completes a checkpoint, for {} at most", a,
                                seconds(duration));
    case FaultKind::kStop: return when + fmt::format("stop n{} in good order for {}", a, seconds(duration));
    case FaultKind::kReunite: return when + "the network heals";
    case FaultKind::kHunt:
    case FaultKind::kMetaHunt: return when + "a hunt";
    case FaultKind::kSplit: return when + "split a shard";
    case FaultKind::kMove: return when + "move a replica";
    case FaultKind::kAdd: return when + "add a replica";
    case FaultKind::kTake: return when + "take a replica away";
    case FaultKind::kTransfer: return when + "have another node lead a shard";
    case FaultKind::kDrain: return when + fmt::format("drain n{} for {}", a, seconds(duration));
    case FaultKind::kJoin: return when + fmt::format("n{} joins", a);
    case FaultKind::kRemove: return when + fmt::format("drain n{} and remove it for good", a);
    case FaultKind::kReplace:
      return when + fmt::format("n{} loses its disk and joins anew after {}", a, seconds(duration));
    case FaultKind::kOverthrow:
      return when + fmt::format("n{} is cut off for {} and all others lose power", a, seconds(duration));
  }
  return when;
}

Fault Fault::sprung_on(uint32_t victim, uint32_t nodes) const {
  Fault f = *this;
  f.kind = strike;
  f.a = victim;
  if (strike == FaultKind::kPartition) f.set = uint64_t{1} << victim;
  if (strike == FaultKind::kBlackout) f.set = ((uint64_t{1} << nodes) - 1) << 1;
  return f;
}

WorldTime down_for(const Fate& fate, const Fault& fault, uint32_t machine) {
  return static_cast<WorldTime>(fate.between(1, static_cast<uint64_t>(std::max<WorldTime>(fault.duration, 1)),
                                             Choice::kPlan, fault.item, 30, machine));
}

}  // namespace mneme::sim
