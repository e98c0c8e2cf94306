// The replicated state machine: a table of keys and a table of sessions, changed by log entries and by nothing else.
//
// apply() is a function of the state and the entry: no clock, no option, no cache, nothing of this node's own. Two
// replicas that applied the same entries have equal digests, answer the same replies and write the same checkpoint.
// Bounds that are constants of the build do take part; changing one needs a new cluster version.
//
// Time. Each batch carries the proposer's log time; the state's time is the greatest so far. Each applied batch also
// removes a bounded number of expired keys and idle sessions.
//
// Shards. A group's log also decides which hash slots the group has (shard_state.h). It begins with none: until
// mneme.begin is applied nothing is executed but what belongs to no shard, which are internal commands and the opening
// and closing of sessions; the meta group stays so. What was routed before the slots last changed is not executed: a
// batch as a whole, by its header's epoch, for what had no key then might have been for other keys. Nor is a command
// with a key of a slot that is not (any more) the shard's. Both are certain, and whoever sent it may send it elsewhere.
//
// The meta group's machine has the shard map (core/shard/map.h), changed by mneme.map and by nothing else. A machine
// that never saw it has none, and pays nothing for it.
//
// Sessions. A command with a session executes at most once per (session, sequence, slot): see session.h. A transaction
// counts as one command. Sessions are opened in one group, their registry. A shard gets to know them as they are used:
// it takes part in a session that it never saw, unless it may have forgotten it.
//
// Reads outside the log see the state as applied; that they are linearizable is the caller's work (read index). When a
// read meets a key whose time has come by the caller's estimate but not by log time, it says so: the caller then
// commits a batch without commands, which moves log time, and reads again.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/chance.h"
#include "core/base/error.h"
#include "core/base/ids.h"
#include "core/kv/batch.h"
#include "core/kv/command.h"
#include "core/kv/execute.h"
#include "core/kv/internal.h"
#include "core/kv/session.h"
#include "core/kv/shard_state.h"
#include "core/kv/table.h"
#include "core/shard/map.h"

namespace mneme::kv {

enum class Outcome : uint8_t {
  kExecuted,  // the reply may still be an error, as when a value is not a number
  kRepeated,  // executed by an earlier entry; the reply is that of then
  kRefused,   // not executed; every command of a refused transaction has the same error
};

class StateMachine;

// Takes the replies of a batch as it is applied. Must not call the state machine.
class ReplySink {
 public:
  virtual ~ReplySink() = default;
  virtual void begin(const BatchHeader& /*header*/, size_t /*commands*/) {}
  // `position` counts the batch's commands from 0. The reply is canonical and the view holds during the call.
  virtual void reply(size_t position, Outcome outcome, std::string_view reply) = 0;
  // Instead of these two: the batch was routed before the shard's slots changed, and nothing of it was executed.
  virtual void stale(const BatchHeader& /*header*/, size_t /*commands*/) {}
  // The shard was split, by a command whose reply follows. The child has applied all up to index 1, the made-up
  // position that its group's log begins after.
  virtual void split(const SplitRequest& /*request*/, std::unique_ptr<StateMachine> /*child*/) {}
};

class StateMachine {
 public:
  // Probes only observe and may be null. With a shard's state: as if it had begun with it. All replicas of a group are
  // made with the same.
  explicit StateMachine(Probes* probes = nullptr, ShardState shard = {});
  StateMachine(const StateMachine&) = delete;
  StateMachine& operator=(const StateMachine&) = delete;

  // Applies the entry after the last one applied. An error means that the payload is not a batch this build can read;
  // nothing has changed then and the replica must stop.
  Result<void> apply(LogIndex index, std::string_view payload, ReplySink& sink);
  // Hints which payloads are applied next, all of them and then expected(), so that what they need is in the cache by
  // then; false: there is no room for more. Changes nothing that can be observed.
  bool expect(std::string_view payload);
  void expected();
  // The entry after the last one applied carries nothing for us (a leader's no-op).
  void skip(LogIndex index);
  // It carries the group's configuration, which means nothing here but is part of the state: so a checkpoint has it.
  // Raises the epoch of a shard that has begun.
  void configure(LogIndex index, std::string_view configuration);
  const std::string& configuration() const { return configuration_; }  // empty before the first

  const ShardState& shard() const { return shard_; }
  // Whether what was routed at this epoch came to the right shard, for reads: of a batch apply() sees to it.
  bool accepts(Epoch routed) const { return shard_.begun() && routed >= shard_.slots_epoch; }
  // Where to split the shard into halves of about equal bytes: the slot that the upper one would begin with. Nothing
  // where there is one slot or none. Looks at every record.
  std::optional<uint16_t> middle_slot() const;
  // Empty until a cluster was founded in it.
  const shard::Map& map() const { return map_; }
  // What the map, or one like it, is made into by the batch's commands that change it.
  static void change_map(shard::Map& map, std::string_view payload);
  // Whether the command would be executed, as far as its keys tell. `args` passed check().
  bool serves(const CommandSpec& spec, Args args) const;

  struct ReadOptions {
    int64_t now_ms = 0;  // the caller's estimate of the time; log time counts if it is later
    uint64_t pick = 0;   // for RANDOMKEY
  };
  // Executes a command that check() returned with flag kRead, or refuses it for a key that is not the shard's. True
  // when a key it met is due to expire (see above).
  bool read(const CommandSpec& spec, Args args, const ReadOptions& options, std::string& out) const;

  // About how many bytes executing the command may add at most, without what a session keeps of its reply. For refusing
  // with kOutOfMemory (errors.h) before anything is proposed; only commands flagged kDenyOom can grow.
  size_t growth(const CommandSpec& spec, Args args) const;

  LogIndex applied() const { return applied_; }
  int64_t log_time_ms() const { return table_.log_time_ms(); }
  // Equal for equal states, whatever path led there; changes with every change, at a cost that does not grow.
  uint64_t digest() const;
  size_t bytes_used() const { return table_.bytes_used() + sessions_.bytes_used(); }
  const Table& table() const { return table_; }
  const SessionTable& sessions() const { return sessions_; }
  // Keys removed because their time had come since this object was made; for INFO.
  uint64_t expired_keys() const { return expired_keys_; }
  // Whether expired keys or idle sessions wait for more entries to be removed by, at this log time.
  bool sweep_pending() const;

 private:
  friend class CheckpointWriter;
  friend class CheckpointLoader;

  struct Command {
    CommandMeta meta;
    std::vector<std::string_view> args;
  };

  void set_configuration(std::string_view configuration);
  void set_shard(ShardState shard);
  bool is_stale(BatchReader reader);
  void move_time(int64_t ms, size_t commands);
  void open_session(SessionId id);
  // With `only_writes`, reads are refused: the transaction's replies are long enough.
  void execute(Args args, bool transaction, bool only_writes, SessionId own_id, ReplySink& sink, std::string& out);
  void execute_session(const CommandSpec& spec, Args args, SessionId own_id, std::string& out);
  void execute_internal(const CommandSpec& spec, Args args, ReplySink& sink, std::string& out);
  void touch_session(Args args, std::string& out);
  void change_map(Args args, std::string& out);
  uint64_t map_digest() const;
  Result<void> begin_shard(Args args);
  Result<void> raise_epoch(Args args);
  Result<void> split_shard(Args args, ReplySink& sink);
  // A unit is a command outside of transactions or a whole transaction; `reader` stands behind its first command.
  // Returns the number of its commands.
  size_t apply_unit(BatchReader& reader, size_t position, ReplySink& sink);
  // Executes the unit and passes its replies on; with `kept`, collects them there.
  size_t execute_unit(BatchReader& reader, size_t position, ReplySink& sink, std::string* kept);
  // Answers the unit without executing it, from kept replies or with one error for all.
  size_t answer_unit(BatchReader& reader, size_t position, ReplySink& sink, Outcome outcome, std::string_view kept,
                     std::string_view error);
  uint16_t slot_of_unit(BatchReader reader) const;
  bool serves_unit(BatchReader reader) const;
  SessionId id_at(size_t position) const;
  void reached(Probe probe) const {
    if (probes_ != nullptr) probes_->reached(probe);
  }

  Table table_;
  SessionTable sessions_;
  LogIndex applied_;
  std::string configuration_;
  uint64_t configuration_digest_ = 0;
  ShardState shard_;
  uint64_t shard_digest_ = 0;
  bool all_slots_ = false;                      // are the shard's: nothing need be looked up
  shard::Map map_;                              // empty: no cluster was founded
  mutable std::optional<uint64_t> map_digest_;  // nothing: not made since the map's last change, for it takes long
  uint64_t expired_keys_ = 0;
  Probes* probes_;
  Command command_;                 // the one being applied
  std::vector<uint64_t> expected_;  // hashes of keys
  std::string reply_;               // its reply; here only to keep their memory
};

}  // namespace mneme::kv
