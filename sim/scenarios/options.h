// The options of a run: whole numbers with names, units and bounds, each given by the user or drawn for the seed.
//
// Swarm (Groce et al., ISSTA '12): what the user leaves open is drawn per seed, so that different seeds lack different
// kinds of fault and differ in shape and limits. expand() fixes every option; its result is part of the recipe and is
// printed for every failure, so that a change of the draws below does not change what a saved case does.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/error.h"
#include "sim/fate.h"

namespace mneme::sim {

// Name, unit, lowest, highest, how it is drawn (from, to), what it is.
// clang-format off
#define MNEME_SIM_OPTIONS(X)                                                                                              \
  X(nodes, "", 1, 9, 3, 5, "store nodes; drawn odd")                                                                      \
  X(clients, "", 1, 64, 4, 12, "client processes")                                                                        \
  X(keys, "", 1, 1000, 3, 8, "keys that the clients share")                                                               \
  X(operations, "", 1, 1000000, 1600, 3000, "client operations planned, all clients together")                            \
  X(duration, "ms", 100, 86400000, 30000, 36000, "virtual time before everything is healed")                              \
  X(heal_timeout, "ms", 1000, 600000, 20000, 20000, "virtual time after healing until a last read of every key is done")  \
  X(value_bytes, "bytes", 8, 1048576, 8, 64, "least size of a written value; some are 100 times larger")                  \
  X(election_timeout, "ms", 20, 60000, 300, 1200, "least election timeout")                                               \
  X(heartbeat, "ms", 5, 10000, 60, 200, "heartbeat interval")                                                             \
  X(request_timeout, "ms", 50, 60000, 300, 3000, "until a node tells a client that it does not know")                     \
  X(client_timeout, "ms", 50, 60000, 300, 2500, "until a client gives up on an answer")                                   \
  X(segment, "KiB", 64, 65536, 64, 512, "write-ahead log segment")                                                        \
  X(checkpoint, "KiB", 4, 1048576, 16, 256, "log applied between checkpoints")                                            \
  X(keep_entries, "", 0, 1000000, 0, 300, "entries kept in memory behind a checkpoint")                                   \
  X(max_append, "bytes", 64, 1048576, 256, 65536, "entries in one append message")                                        \
  X(max_inflight, "", 1, 1024, 1, 64, "append messages on their way to one follower")                                     \
  X(latency, "us", 1, 10000000, 50, 2000, "network latency, least")                                                       \
  X(latency_tail, "us", 0, 10000000, 0, 40000, "network latency, most, of one segment in a hundred")                      \
  X(split, "ppm", 0, 1000000, 0, 200000, "segments that arrive in two pieces")                                            \
  X(random_order, "", 0, 1, 0, 1, "1: ready fibers run in drawn order")                                                   \
  X(disk_blocks, "", 0, 1, 0, 1, "1: disk operations hold the whole node")                                                \
  X(sync_latency, "us", 1, 1000000, 50, 6000,  "disk sync, least; short ones are likelier")                               \
  X(sync_spread, "", 0, 1000, 0, 6, "times that the slowest node's disk is slower than sync_latency, beyond once")       \
  X(rarely, "ppm", 0, 1000000, 0, 500000, "share of BUGGIFY sites that are enabled")                                      \
  X(kills, "", 0, 1000, 0, 6, "processes killed")                                                                         \
  X(power_losses, "", 0, 1000, 2, 6, "machines that lose power")                                                          \
  X(blackouts, "", 0, 100, 0, 3, "times that a majority of the machines, or all, lose power at once")                     \
  X(pauses, "", 0, 1000, 0, 5, "processes that stand still for a while")                                                  \
  X(partitions, "", 0, 1000, 2, 6, "times that a set of machines is cut off from the rest")                               \
  X(one_way_blocks, "", 0, 1000, 0, 6, "one-way blocks between two machines")                                             \
  X(clogs, "", 0, 1000, 0, 3, "one-way delays between two machines")                                                      \
  X(resets, "", 0, 1000, 0, 20, "resets of all connections between two machines")                                         \
  X(failed_syncs, "", 0, 1000, 0, 2, "syncs that fail")                                                                   \
  X(rots, "", 0, 1000, 0, 2, "sectors that rot, on machines that may lose their disk")                                    \
  X(read_errors, "", 0, 1000, 0, 1, "sectors that cannot be read, on machines that may lose their disk")                  \
  X(full_disks, "", 0, 1000, 0, 1, "times that a disk is full for a while")                                               \
  X(slow_disks, "", 0, 1000, 0, 2, "times that a disk is slow for a while")                                               \
  X(clock_drifts, "", 0, 1000, 0, 3, "changes of a monotonic clock's drift")                                              \
  X(clock_jumps, "", 0, 1000, 0, 3, "jumps of a wall clock")                                                              \
  X(ambushes, "", 0, 1000, 0, 6, "faults that wait for an election, a vote, a refused append... and strike within 50 ms")    \
  X(vanishing_clients, "", 0, 1000, 0, 6, "client processes that are killed and come back")                               \
  X(mix_get, "", 0, 1000, 20, 50, "weight of GET among the operations")                                                   \
  X(mix_set, "", 0, 1000, 10, 40, "weight of SET")                                                                        \
  X(mix_del, "", 0, 1000, 0, 10, "weight of DEL")                                                                         \
  X(mix_cas, "", 0, 1000, 0, 20, "weight of CAS")                                                                         \
  X(mix_incr, "", 0, 1000, 0, 20, "weight of INCRBY")                                                                     \
  X(mix_append, "", 0, 1000, 0, 20, "weight of APPEND")                                                                   \
  X(mix_expire, "", 0, 1000, 0, 10, "weight of SET PX and PEXPIRE")                                                       \
  X(mix_getset, "", 0, 1000, 0, 10, "weight of GETSET and SETNX")                                                         \
  X(retrying, "percent", 0, 100, 0, 60, "clients that retry as redis-py does, without a session")                         \
  X(sessions, "percent", 0, 100, 0, 60, "clients that use sessions")
// clang-format on

enum class Option : uint8_t {
#define X(name, unit, lowest, highest, from, to, what) name,
  MNEME_SIM_OPTIONS(X)
#undef X
};

struct OptionSpec {
  std::string_view name;
  std::string_view unit;
  int64_t lowest;
  int64_t highest;
  int64_t from;
  int64_t to;
  std::string_view what;
};

inline constexpr std::array kOptionSpecs = {
#define X(name, unit, lowest, highest, from, to, what) OptionSpec{#name, unit, lowest, highest, from, to, what},
    MNEME_SIM_OPTIONS(X)
#undef X
};
inline constexpr size_t kOptionCount = kOptionSpecs.size();

class Options {
 public:
  // kInvalid: no such option, not a whole number, out of bounds; the sentence says what is allowed.
  Result<void> set(std::string_view name, std::string_view value);
  Result<void> set(std::string_view name, int64_t value);
  // Draws what is open and checks what contradicts.
  Result<Options> expand(const Fate& fate) const;

  int64_t operator[](Option option) const { return *values_[static_cast<size_t>(option)]; }
  bool given(Option option) const { return values_[static_cast<size_t>(option)].has_value(); }
  // "name=value" of every option that has one, blank-separated.
  std::string text() const;

 private:
  std::array<std::optional<int64_t>, kOptionCount> values_;
};

}  // namespace mneme::sim
