// The commands that the nodes of a cluster give to a group's state machine, and no client may: how their arguments are
// made and read. They travel in batches like all others. Numbers are 8 bytes, little-endian.
//
//   mneme.begin epoch slots   A new group becomes a shard. Refused if it is one, or holds data already.
//   mneme.raise epoch         Raises the epoch by one if it is exactly this: so that whatever was to be done at this
//                             epoch, and has not been, never will be.
//   mneme.alter command       Applies a command to the shard map (core/shard/command.h), which the meta group has.
//   mneme.divide request      Gives part of the slots, and all that belongs to them, to a new shard: SplitRequest.
//   mneme.touch session       Whether the session is known, which is asked where it was opened; it counts as used now.
//
// They write; nodes read by mneme.scan (execute_read.cc), which like clients' commands needs a shard.
//
// What they answer: +OK, mneme.alter the map's answer, or an error, whose first word follows from the error's code
// (put_failure).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/base/ids.h"
#include "core/shard/command.h"
#include "core/shard/map.h"
#include "core/shard/slot_set.h"
#include "core/shard/types.h"

namespace mneme::kv {

// The slots from `at` on become the shard of the group `child`, on the same nodes; both are at the epoch after `epoch`
// then. Made only at exactly `epoch`.
//
// Encoded: u8 version, epoch u64, at u16, child u64, operation u64, configuration as a 4-byte length and bytes.
struct SplitRequest {
  Epoch epoch;
  uint16_t at = 0;
  GroupId child;
  shard::OperationId operation;  // by which the shard map knows the split; means nothing here
  std::string configuration;     // the child's first, as StateMachine::configure() is given it

  bool operator==(const SplitRequest&) const = default;

  std::string encode() const;
  // kUnsupported, kCorrupt; kInvalid: there is no slot `at`, or no child.
  static Result<SplitRequest> decode(std::string_view bytes);
};

// The arguments of each command, its name included.
std::vector<std::string> begin_command(Epoch epoch, const shard::SlotSet& slots);
std::vector<std::string> raise_command(Epoch epoch);
std::vector<std::string> map_command(const shard::Command& command);
std::vector<std::string> split_command(const SplitRequest& request);
std::vector<std::string> touch_command(SessionId session);

// kCorrupt unless it is one number.
Result<uint64_t> decode_number(std::string_view bytes);
Result<shard::SlotSet> decode_slots(std::string_view bytes);

// Three numbers: node, operation and group.
std::string encode_answer(const shard::Answer& answer);
Result<shard::Answer> decode_answer(std::string_view bytes);

// An error reply: "REFUSED sentence", and so with NOTFOUND, INVALID, EXISTS and TOOLARGE; all other codes are ERR. Line
// ends in the sentence, which may quote what came from outside, become blanks.
void put_failure(std::string& out, const Error& error);

}  // namespace mneme::kv
