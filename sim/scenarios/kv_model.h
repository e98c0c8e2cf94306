// A second, independent implementation of the commands that the kv scenario uses, as plain as possible: a map with all
// versions of every key. It replays the log's entries in the order of their indices and says what each reply must be;
// and for a read, what the state was at an index.
//
// Its shard: which slots the group has, and as of which epoch, by the group's log alone. A batch that was routed before
// the slots last changed is not executed, nor is a command on a slot that is another's. A split's child begins with
// what the parent has of its slots.
//
// Its expiry: a key set with a time to live of d by an entry of log time t is there while the greatest log time of the
// entries applied so far is below t + d. A session is there while that is less than an hour after the entry that opened
// or last used it. Where it is opened, in the meta group, its id is its place in the log: 2^20 times the index, plus
// the position in the entry. Elsewhere it is there from its first use on, unless it, or one with a higher id, was there
// before and is forgotten.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/ids.h"
#include "core/kv/batch.h"
#include "core/shard/slot_set.h"

namespace mneme::sim {

class KvModel {
 public:
  struct Answer {
    std::string reply;      // canonical
    bool executed = false;  // by this entry; false: a retry was answered from the session
  };
  // Entries in order of their indices, from 1, without gaps. One answer per command; empty for entries without
  // commands.
  const std::vector<Answer>& apply(LogIndex index, std::string_view payload);
  void skip(LogIndex index) { times_.push_back(times_.back()), last_ = index; }
  // An entry that changes the group's configuration.
  void configure(LogIndex index);
  LogIndex last() const { return last_; }
  // What the last entry split off, by group.
  std::vector<std::pair<GroupId, KvModel>> take_children();

  // What a read command must answer at that index.
  std::string read(LogIndex at, const std::vector<std::string>& args) const;

 private:
  struct Version {
    LogIndex index;
    std::optional<std::string> value;
    int64_t expire_at_ms = 0;
  };
  struct Value {
    std::string bytes;
    int64_t expire_at_ms = 0;
  };
  bool is_stale(kv::BatchReader reader) const;
  KvModel child_of(std::string_view request);
  std::string change_shard(const std::vector<std::string_view>& args);
  bool owns(const std::vector<std::string_view>& args) const;
  std::optional<Value> get(std::string_view key, LogIndex at) const;
  void put(std::string_view key, std::optional<std::string> value, int64_t expire_at_ms);
  std::string execute(const std::vector<std::string_view>& args, size_t position);

  LogIndex last_;
  std::vector<int64_t> times_{0};  // log time after each index
  std::map<std::string, std::vector<Version>, std::less<>> keys_;
  struct Session {
    int64_t used_ms = 0;
    uint64_t acknowledged = 0;
    std::map<uint64_t, std::string> replies;  // by sequence number
  };
  // Null when it is unknown or was idle too long.
  Session* use_session(uint64_t id);
  std::map<uint64_t, Session> sessions_;
  uint64_t forgotten_ = 0;  // the highest id of a session that was there and is not any more
  uint64_t epoch_ = 0;
  uint64_t slots_epoch_ = 0;
  shard::SlotSet slots_;
  std::vector<std::pair<GroupId, KvModel>> children_;
  std::vector<Answer> answers_;
};

}  // namespace mneme::sim
