// Every command Mneme knows, in one table: what a client must send, where its keys are, and who executes it.
//
// Commands flagged kLocal are executed by the connection that got them and never reach the state machine; they stand
// here because cluster clients refuse to send what COMMAND does not list. Names, arities, key positions and flags
// follow Redis 7.0, as COMMAND prints them. A sub-command is an entry of its own, "client|id".
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/kv/text.h"

namespace mneme::kv {

enum class CommandId : uint8_t {
  // clang-format off
  // Executed by the state machine.
  kAppend, kCas, kClusterCountkeysinslot, kClusterGetkeysinslot, kCopy, kDbsize, kDecr, kDecrby, kDel, kExists, kExpire, kExpireat, kExpiretime, kFlushall, kFlushdb,
  kGet, kGetdel, kGetex, kGetrange, kGetset, kIncr, kIncrby, kKeys, kMemoryUsage, kMget, kGettyped, kSetnum, kMset,
  kMsetnx, kPersist, kPexpire, kPexpireat, kPexpiretime, kPsetex, kPttl, kRandomkey, kRange, kRename, kRenamenx, kScan,
  kSessionClose, kSessionOpen, kSet, kSetex, kSetnx, kSetrange, kStrlen, kSubstr, kTouch, kTtl, kType, kUnlink,
  // Executed by the state machine, and not for clients.
  kShardBegin, kShardMap, kShardRaise, kShardSplit, kScanSlots, kSessionTouch,
  // Executed by a connection.
  kAsking, kAuth, kClient, kClientGetname, kClientId, kClientInfo, kClientKill, kClientList, kClientNoEvict,
  kClientNoTouch, kClientReply, kClientSetinfo, kClientSetname, kCluster, kClusterInfo, kClusterKeyslot, kClusterMyid, kClusterNodes, kClusterShards, kClusterSlots,
  kCommand, kCommandCount, kCommandDocs, kCommandGetkeys, kCommandInfo, kCommandList, kConfig, kConfigGet,
  kConfigResetstat, kConfigSet, kDiscard, kEcho, kExec, kFunction, kFunctionFlush, kHello, kInfo, kMemory, kMulti,
  kPing, kQuit, kReadonly, kReadwrite, kReset, kSelect, kSession, kSessionResume, kSessionSeq, kStatus, kTime,
  // The same, for whoever runs the cluster.
  kAddReplica, kCopies, kDrainNode, kForgetNode, kMap, kMoveReplica, kOperation, kPlan, kRebalance, kRemoveReplica,
  kSplitShard, kTransfer,
  // clang-format on
};

enum CommandFlag : uint32_t {
  // As COMMAND prints them.
  kWrite = 1 << 0,
  kRead = 1 << 1,
  kDenyOom = 1 << 2,  // may grow the data: refused when memory is full
  kAdmin = 1 << 3,
  kNoScript = 1 << 4,
  kLoading = 1 << 5,
  kStale = 1 << 6,
  kFast = 1 << 7,
  kNoAuth = 1 << 8,
  // Ours.
  kLocal = 1 << 16,      // executed by the connection
  kContainer = 1 << 17,  // has sub-commands; alone it is only a name
  kNoMulti = 1 << 18,    // refused between MULTI and EXEC
  kMayExpire = 1 << 19,  // may give a key a time to live
  kDangerous = 1 << 20,
  kInternal = 1 << 21,  // from nodes only: to clients there is no such command
};

struct CommandSpec {
  std::string_view name;  // lower case
  CommandId id;
  int8_t arity;  // number of arguments with the name; negative: at least that many
  uint32_t flags;
  int8_t first_key;  // position, 0: none
  int8_t last_key;   // negative: counted from the end
  int8_t key_step;
  std::string_view group;
  std::string_view since;
  std::string_view summary;

  bool is(CommandFlag flag) const { return (flags & flag) != 0; }
  bool multi_key() const { return first_key != last_key; }
};

// Sorted by name.
[[nodiscard]] std::span<const CommandSpec> all_commands();

// Any case; null when there is none. "client|id" finds a sub-command. Internal commands are found, too.
[[nodiscard]] const CommandSpec* find_command(std::string_view name);

// Who sent a command: clients do not know the internal ones.
enum class Sender : uint8_t { kClient, kNode };

// What can be said of a command before it is proposed: that it exists, its number of arguments, the bounds of
// limits.h. Null after appending the canonical error to `error`. Of a container the sub-command's entry is returned.
// Syntax and numbers are examined only when it is executed (core/kv/execute.h), where they are needed anyway.
[[nodiscard]] const CommandSpec* check(Args args, std::string& error, Sender sender = Sender::kClient);

// Calls fn(key) for each key argument, in order. `args` passed check().
template <class Fn>
void for_each_key(const CommandSpec& spec, Args args, Fn fn) {
  if (spec.first_key == 0) return;
  auto last = spec.last_key >= 0 ? spec.last_key : static_cast<int>(args.size()) + spec.last_key;
  for (int at = spec.first_key; at <= last && at < static_cast<int>(args.size()); at += spec.key_step) fn(args[at]);
}

// The slot of a command's first key, kNoSlot without one. The proposer splits a command whose keys lie in several
// slots, so within one proposed command it is the slot of all.
inline constexpr uint16_t kNoSlot = 0xffff;
[[nodiscard]] uint16_t slot_of_command(const CommandSpec& spec, Args args);

// The whole COMMAND family: COMMAND, COUNT, DOCS, GETKEYS, INFO, LIST. `id` is that of check().
void answer_command(CommandId id, Args args, std::string& out);

}  // namespace mneme::kv
