// Which parts a client's command has when keys live in several shards, and how the parts' outcomes and replies become
// those of the whole.
//
// Pure. The router asks route_of() for every command; most have their keys in one slot and go, untouched, to the shard
// that owns it. The others are cut up by a Scatter:
//
//   Over slots: MGET, MSET, DEL, UNLINK, EXISTS, TOUCH. One part per slot, not per shard, because a session finds its
//   replies by (session, sequence, slot): a retry after a split finds those of each part, wherever its slot is by then.
//   Every part carries the whole's session and number.
//   Over shards: DBSIZE, KEYS, RANDOMKEY, RANGE, FLUSHALL, FLUSHDB. One part per shard.
//
// Each part is atomic, the whole is not: the parts happen at points of their own between request and answer. So RANGE,
// DBSIZE and KEYS are exact for each shard and no snapshot of all, and a reader may find some shards emptied by
// FLUSHALL and others not yet. A part that certainly was not executed may be asked for again by itself.
//
// Every node answers for all shards, whoever asks. A cluster client that asks each master and adds up counts a key once
// per master. It cannot be told from others: clients ask for the slot map on one of their connections and for DBSIZE on
// all of them, and redis-py, which holds a node that SLOTS lists as a replica anywhere for no master, would miss the
// keys of those if a node answered for what it leads.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/base/ids.h"
#include "core/kv/command.h"
#include "core/replica/call.h"
#include "core/shard/map.h"

namespace mneme::node {

inline constexpr std::string_view kCrossSlot = "CROSSSLOT Keys in request don't hash to the same slot";

enum class Spread : uint8_t {
  kSlot,     // the shard that owns Route::slot executes it as it is
  kSlots,    // Scatter::over_slots
  kShards,   // Scatter::over_shards
  kScan,     // core/node/scan.h
  kMeta,     // the meta group executes it as it is: what is about sessions
  kCrossed,  // is answered kCrossSlot: it must be atomic, and its keys are in several slots
};

struct Route {
  Spread spread = Spread::kSlot;
  uint16_t slot = kv::kNoSlot;  // of the first key; kNoSlot without keys

  bool operator==(const Route&) const = default;
};

// Of a command that check() returned to a client, executed by the state machine. Allocates nothing.
[[nodiscard]] Route route_of(const kv::CommandSpec& spec, kv::Args args);

// Why the command cannot be part of a transaction whose keys so far are in `slot` (kNoSlot: no key yet), as an error's
// text; nothing if it can, and `slot` is then that of its keys too. Of commands without kNoMulti. With more than one
// shard those that concern all data are refused; as a shard may be split while commands are queued, EXEC must ask
// again.
[[nodiscard]] std::optional<std::string_view> refuse_in_transaction(const kv::CommandSpec& spec, kv::Args args,
                                                                    size_t shards, uint16_t& slot);

// The whole of all parts. Done only if every part is. It is certain that nothing happened only if that is certain of
// every part, or if there was nothing that could happen: a read of which a part was not executed. Of none kPending.
[[nodiscard]] replica::Outcome whole_of(std::span<const replica::Outcome> parts, bool writes);

// The parts of one command. Refers to the command's own arguments, which must outlive it.
class Scatter {
 public:
  struct Part {
    uint16_t slot = kv::kNoSlot;  // over slots: of all its keys; to be sent to the slot's owner at the time
    GroupId group;                // over shards: where to
    shard::SlotSet slots;         // over shards: those that the group had in the map
    // Of its arguments in the scatter.
    size_t first = 0;
    size_t count = 0;
  };

  // route_of() said kSlots.
  static Scatter over_slots(const kv::CommandSpec& spec, kv::Args args);
  // route_of() said kShards; the cluster is founded.
  static Scatter over_shards(const kv::CommandSpec& spec, kv::Args args, const shard::Map& map);

  // At least one; over slots in their order, over shards in that of the groups.
  const std::vector<Part>& parts() const { return parts_; }
  kv::Args args(const Part& part) const { return kv::Args(words_).subspan(part.first, part.count); }

  // Over shards: the part was certainly not executed because its shard has been split since. The part becomes one for
  // what is left of the shard in the newer map, and further ones, at the end, are for the shards that came of it.
  void follow_split(size_t part, const shard::Map& map);

  // The whole's reply, of one canonical reply for each part, all of them done. The first error among them is the reply.
  // `pick` decides what RANDOMKEY picks: among the shards that have keys, each as likely as another. kCorrupt, and
  // nothing is appended: a reply is not what such a command answers.
  [[nodiscard]] Result<void> gather(std::span<const std::string_view> replies, uint64_t pick, std::string& out) const;

 private:
  explicit Scatter(const kv::CommandSpec& spec) : spec_(&spec) {}

  const kv::CommandSpec* spec_;
  std::vector<Part> parts_;
  std::vector<std::string_view> words_;
  std::vector<uint32_t> part_of_key_;  // MGET: by the key's place in the command
  uint64_t limit_ = UINT64_MAX;        // RANGE: pairs
};

}  // namespace mneme::node
