// The options of a run: whole numbers with names, units and bounds, each given by the user or drawn for the seed.
//
// Swarm (Groce et al., ISSTA '12): what the user leaves open is drawn per seed, so that different seeds lack different
// kinds of fault and differ in shape and limits. expand() fixes every option; its result is part of the recipe and is
// printed for every failure, so that a change of the draws below does not change what a saved case does. An option is
// drawn by its name, so that adding one leaves the others as they were.
//
// As text, a value is a number in the option's own unit ("300"), a number with a unit ("300 ms", "2 s", "5 %"), or one
// of the option's names ("unrestricted"); with ".." between two of them it is a range to draw from.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/base/error.h"
#include "sim/fate.h"

namespace mneme::sim {

// Section, name, unit (or, with bars between them, the names of the values from 0 on), lowest, highest, how it is drawn
// (from, to), what it is.
// clang-format off
#define MNEME_SIM_OPTIONS(X)                                                                                             \
  X(cluster, nodes, "", 1, 9, 3, 5, "store nodes; drawn odd")                                                            \
  X(cluster, shards, "", 1, 64, 1, 4, "shards that the cluster begins with")                                             \
  X(cluster, copies, "", 1, 9, 3, 5, "replicas of each, where there are so many nodes")                                  \
  X(cluster, balance, "", 0, 1, 0, 1, "1: the cluster replaces, spreads and balances replicas by itself")                \
  X(cluster, lost_after, "ms", 100, 86400000, 3000, 30000, "silence after which a node counts as lost, to be replaced")   \
  X(cluster, election_timeout, "ms", 20, 60000, 300, 1200, "least election timeout")                                     \
  X(cluster, heartbeat, "ms", 5, 10000, 60, 200, "heartbeat interval")                                                   \
  X(cluster, request_timeout, "ms", 50, 60000, 300, 3000, "until a node tells a client that it does not know")           \
  X(cluster, segment, "KiB", 64, 65536, 64, 512, "write-ahead log segment")                                              \
  X(cluster, checkpoint, "KiB", 4, 1048576, 16, 256, "log applied between checkpoints")                                  \
  X(cluster, keep_entries, "", 0, 1000000, 0, 300, "entries kept in memory behind a checkpoint")                         \
  X(cluster, max_append, "bytes", 64, 1048576, 256, 65536, "entries in one append message")                              \
  X(cluster, max_inflight, "", 1, 1024, 1, 64, "append messages on their way to one follower")                           \
  X(cluster, memory, "KiB", 0, 1048576, 0, 0, "bound on a node's table, beyond which writes are refused; 0: none")       \
  X(cluster, leases, "", 0, 1, 0, 1, "1: leaders answer reads without asking, under leases")                             \
  X(cluster, lease, "percent", 1, 100, 30, 100, "of the election timeout: how long it is")                               \
  X(cluster, max_drift, "ppm", 2000, 900000, 2000, 200000, "two clocks' difference, as nodes with leases are told")      \
  X(workload, clients, "", 1, 64, 4, 12, "client processes")                                                             \
  X(workload, operations, "", 1, 1000000, 1600, 3000, "client operations planned, all clients together")                 \
  X(workload, duration, "ms", 100, 86400000, 30000, 36000, "virtual time before everything is healed")                   \
  X(workload, client_timeout, "ms", 50, 60000, 300, 2500, "until a client gives up on an answer")                        \
  X(workload, keys, "", 1, 1000, 3, 8, "keys that the clients share")                                                    \
  X(workload, hot_key, "percent", 0, 100, 0, 0, "share of operations on the first key, beyond its own")                  \
  X(workload, value_bytes, "bytes", 8, 1048576, 8, 64, "least size of a written value")                                  \
  X(workload, large_values, "ppm", 0, 1000000, 10000, 10000, "share of values that are 100 times larger")                \
  X(workload, mix_get, "", 0, 1000, 20, 50, "weight of GET among the operations")                                        \
  X(workload, mix_set, "", 0, 1000, 10, 40, "weight of SET")                                                             \
  X(workload, mix_del, "", 0, 1000, 0, 10, "weight of DEL")                                                              \
  X(workload, mix_cas, "", 0, 1000, 0, 20, "weight of CAS")                                                              \
  X(workload, mix_incr, "", 0, 1000, 0, 20, "weight of INCRBY")                                                          \
  X(workload, mix_append, "", 0, 1000, 0, 20, "weight of APPEND")                                                        \
  X(workload, mix_expire, "", 0, 1000, 0, 10, "weight of SET PX and PEXPIRE")                                            \
  X(workload, mix_getset, "", 0, 1000, 0, 10, "weight of GETSET and SETNX")                                              \
  X(workload, retrying, "percent", 0, 100, 0, 60, "clients that retry as redis-py does, without a session")              \
  X(workload, sessions, "percent", 0, 100, 0, 60, "clients that use sessions")                                           \
  X(workload, library, "percent", 0, 100, 0, 60, "of all clients: who use the client library")                           \
  X(workload, transferring, "percent", 0, 100, 0, 0, "of all clients: who move amounts between keys, and count them")    \
  X(workload, pipelining, "percent", 0, 100, 0, 60, "of clients that do not retry so: who send several commands at once")\
  X(workload, pipeline, "", 2, 1000, 2, 16, "commands sent at once, most")                                               \
  X(network, latency, "us", 1, 10000000, 50, 2000, "network latency, least")                                             \
  X(network, latency_tail, "us", 0, 10000000, 0, 40000, "network latency, most, of one segment in a hundred")            \
  X(network, split, "ppm", 0, 1000000, 0, 200000, "segments that arrive in two pieces")                                  \
  X(network, crumble, "ppm", 0, 1000000, 0, 20000, "segments whose first bytes arrive one at a time")                    \
  X(network, coalesce, "ppm", 0, 1000000, 0, 200000, "segments for which the one before waits, to arrive as one")        \
  X(network, bandwidth, "KiB", 0, 10000000, 0, 20000, "of each directed link, per second; 0: no limit")                  \
  X(disk, sync_latency, "us", 1, 1000000, 50, 6000, "disk sync, least; short ones are likelier")                         \
  X(disk, sync_spread, "", 0, 1000, 0, 6, "times that the slowest node's disk is slower, beyond once")                   \
  X(disk, disk_blocks, "", 0, 1, 0, 1, "1: disk operations hold the whole node")                                         \
  X(disk, short_reads, "ppm", 0, 1000000, 0, 100000, "reads that return less than was asked for")                        \
  X(schedule, strategy, "fifo|random|pct|delay", 0, 3, 0, 3, "who goes on among those who could; see sim/schedule.h")    \
  X(schedule, depth, "", 1, 100, 1, 5, "of pct; of delay: its budget")                                                   \
  X(schedule, stretch, "", 10, 1000000, 100, 3000, "picks after which pct and delay begin anew")                         \
  X(schedule, window, "us", 0, 1000000, 0, 1000, "how far apart events count as simultaneous, beyond fifo")              \
  X(schedule, compute, "us", 0, 10000, 0, 20, "what a turn of a fiber takes on a node")                                  \
  X(schedule, rarely, "ppm", 0, 1000000, 0, 500000, "share of BUGGIFY sites that are enabled")                           \
  X(faults, regime, "recoverable|unrestricted", 0, 1, 0, 0, "whose disks may be damaged: a minority's, or any")          \
  X(faults, kills, "", 0, 1000, 0, 6, "processes killed")                                                                \
  X(faults, power_losses, "", 0, 1000, 2, 6, "machines that lose power")                                                 \
  X(faults, blackouts, "", 0, 100, 0, 3, "times that a majority of the machines, or all, lose power at once")            \
  X(faults, restart_storms, "", 0, 100, 0, 1, "times that a machine loses power again and again, soon after its starts") \
  X(faults, rolling_restarts, "", 0, 100, 0, 0, "times that all nodes are killed and started again, one by one")         \
  X(faults, stops, "", 0, 1000, 0, 2, "processes asked to end in good order, and started again")                         \
  X(faults, pauses, "", 0, 1000, 0, 5, "processes that stand still for a while")                                         \
  X(faults, slow_cpus, "", 0, 1000, 0, 2, "times that a node computes slowly for a while")                               \
  X(faults, partitions, "", 0, 1000, 2, 6, "times that a set of machines is cut off from the rest")                      \
  X(faults, one_way_blocks, "", 0, 1000, 0, 6, "one-way blocks between two machines")                                    \
  X(faults, clogs, "", 0, 1000, 0, 3, "one-way delays between two machines")                                             \
  X(faults, resets, "", 0, 1000, 0, 20, "resets of all connections between two machines")                                \
  X(faults, slow_links, "", 0, 1000, 0, 3, "one-way links between two machines that are slow for a while")               \
  X(faults, stalls, "", 0, 1000, 0, 4, "connections held back for a while, one way, while new ones are not")             \
  X(faults, half_opens, "", 0, 1000, 0, 4, "times that connections are broken at one end, or swallow everything")        \
  X(faults, failed_syncs, "", 0, 1000, 0, 2, "syncs that fail")                                                          \
  X(faults, rots, "", 0, 1000, 0, 2, "sectors that rot")                                                                 \
  X(faults, read_errors, "", 0, 1000, 0, 1, "sectors that cannot be read")                                               \
  X(faults, tail_rots, "", 0, 1000, 0, 4, "machines that lose power while a bit or byte of what they wrote last rots")   \
  X(faults, wipes, "", 0, 100, 0, 1, "disks wiped, of machines that may lose theirs; they must stay out")                \
  X(faults, full_disks, "", 0, 1000, 0, 1, "times that a disk is full for a while")                                      \
  X(faults, slow_disks, "", 0, 1000, 0, 2, "times that a disk is slow for a while")                                      \
  X(faults, hung_disks, "", 0, 1000, 0, 1, "times that a disk does not answer for a while")                              \
  X(faults, evictions, "", 0, 1000, 0, 4, "times that a page cache forgets what it need not keep")                       \
  X(faults, clock_drifts, "", 0, 1000, 0, 3, "changes of a monotonic clock's drift")                                     \
  X(faults, drift, "ppm", 0, 1000000, 50000, 50000, "the most of these, 50000 if faster; without leases also to a halt") \
  X(faults, clock_jumps, "", 0, 1000, 0, 3, "jumps of a wall clock")                                                     \
  X(faults, ambushes, "", 0, 1000, 0, 6, "faults that wait for an election, a vote... and strike within 50 ms")          \
  X(faults, delusions, "", 0, 1000, 0, 2, "leaders cut off while they answer reads, with the slowest clocks")            \
  X(faults, exiles, "", 0, 1000, 0, 2, "leaders cut off until another node has completed a checkpoint")                   \
  X(faults, vanishing_clients, "", 0, 1000, 0, 6, "client processes that are killed and come back")                      \
  X(faults, old_copies, "", 0, 1000, 0, 0, "times that an old copy takes the place of a disk; see kv_faults.h")          \
  X(faults, lying_disks, "", 0, 1000, 0, 0, "times that a disk's syncs do nothing for a while, until power is lost")     \
  X(faults, lost_writes, "", 0, 1000, 0, 0, "writes that a disk drops and reports as done")                              \
  X(faults, misdirected_writes, "", 0, 1000, 0, 0, "writes that a disk puts in another place")                           \
  X(faults, limit, "kept|lifted", 0, 1, 0, 0, "of these four; beyond it violations are to be expected")                  \
  X(faults, vanish_for, "ms", 1, 86400000, 2000, 2000, "the longest that a vanished client is gone")                     \
  X(operations, splits, "", 0, 1000, 0, 0, "shards split in two, between keys that are in use")                           \
  X(operations, moves, "", 0, 1000, 0, 0, "replicas moved to another node")                                              \
  X(operations, adds, "", 0, 1000, 0, 0, "replicas added to a shard")                                                    \
  X(operations, takes, "", 0, 1000, 0, 0, "replicas taken from a shard, if it has more than it should")                  \
  X(operations, transfers, "", 0, 1000, 0, 0, "leaderships handed to another node")                                      \
  X(operations, drains, "", 0, 1000, 0, 0, "nodes drained for a while")                                                  \
  X(operations, joins, "", 0, 8, 0, 0, "spare machines that join")                                                       \
  X(operations, removals, "", 0, 100, 0, 0, "nodes drained and then removed for good")                                   \
  X(operations, replacements, "", 0, 100, 0, 0, "machines that lose their disk and join anew")                           \
  X(operations, hunts, "", 0, 1000, 0, 0, "faults that wait for a step of an operation and strike one of its nodes")     \
  X(operations, meta_hunts, "", 0, 1000, 0, 0, "the same, and strike the leader of the meta group")                       \
  X(properties, heal_timeout, "ms", 1000, 600000, 20000, 20000, "virtual time from healing to a last read of every key") \
  X(properties, heal, "all|quorum", 0, 1, 0, 1, "what is healed first at the end; everything is at last")
// clang-format on

enum class Option : uint8_t {
#define X(section, name, unit, lowest, highest, from, to, what) name,
  MNEME_SIM_OPTIONS(X)
#undef X
};

struct OptionSpec {
  std::string_view section;
  std::string_view name;
  std::string_view unit;  // with bars in it: the names of the values from 0 on
  int64_t lowest;
  int64_t highest;
  int64_t from;
  int64_t to;
  std::string_view what;

  bool named() const { return unit.find('|') != std::string_view::npos; }
  // A value as it is written, without a unit.
  std::string text(int64_t value) const;
  // What may be written, for people: "a whole number from 1 to 9, in ms".
  std::string allowed() const;
};

inline constexpr std::array kOptionSpecs = {
#define X(section, name, unit, lowest, highest, from, to, what) \
  OptionSpec{#section, #name, unit, lowest, highest, from, to, what},
    MNEME_SIM_OPTIONS(X)
#undef X
};
inline constexpr size_t kOptionCount = kOptionSpecs.size();

struct Range {
  int64_t from = 0;
  int64_t to = 0;
};

class Options {
 public:
  // kInvalid: no such option, not a value of it, out of bounds; the sentence says what is allowed.
  Result<void> set(std::string_view name, std::string_view text);
  Result<void> set(std::string_view name, Range range);
  // Draws what is open and checks what contradicts.
  Result<Options> expand(const Fate& fate) const;

  // Of an option that is fixed.
  int64_t operator[](Option option) const { return ranges_[static_cast<size_t>(option)]->from; }
  // Given as one value, not as a range.
  bool given(Option option) const;
  // As given, or from the table.
  Range range(Option option) const;
  // "name=value" of every option that was given, blank-separated.
  std::string text() const;

 private:
  Result<void> reconcile(const Options& asked);
  Result<void> bound_drift(const Options& asked);
  void fix(Option option, int64_t value) { ranges_[static_cast<size_t>(option)] = {value, value}; }
  std::array<std::optional<Range>, kOptionCount> ranges_;
};

// The slowest that faults may make a clock, in ppm: it stands still, or keeps to what nodes were told of it.
inline int32_t slowest_clock(const Options& options) {
  return options[Option::leases] != 0 ? -static_cast<int32_t>(options[Option::drift]) : -1'000'000;
}

enum class Regime : int64_t { kRecoverable = 0, kUnrestricted = 1 };
enum class Limit : int64_t { kKept = 0, kLifted = 1 };
enum class Heal : int64_t { kAll = 0, kQuorum = 1 };

}  // namespace mneme::sim
