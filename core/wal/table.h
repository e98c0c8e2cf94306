// What the log knows of each group: kept by the writer to begin segments with and to tell which segments are needed,
// and rebuilt by recovery from the same records. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/raft/types.h"
#include "core/wal/record.h"

namespace mneme::wal {

struct Group {
  uint32_t generation = 0;  // of the node's replica
  raft::HardState hard_state;
  raft::LogPosition checkpoint;
  uint64_t checkpoint_id = 0;
  Origin origin;  // of the state at `checkpoint` while there is none
  bool suspect = false;
  raft::LogPosition last;  // entry; the checkpoint when none follows it

  LogIndex first_held{1};  // entries from here to `last` were seen; those before went with segments already freed
  LogIndex covered;        // entries up to here are not needed
  struct Held {
    uint64_t segment;
    LogIndex first;  // after `last` when all were replaced
    LogIndex last;
    uint64_t bytes;  // of the records from `first` to `last`; where some were replaced, taken as equally large
  };
  std::vector<Held> held;            // which segments have entries that were not replaced since, ascending
  std::vector<raft::Entry> entries;  // after the checkpoint; recovery only
};

class Table {
 public:
  enum class Keep : uint8_t { kNothing, kEntries };
  explicit Table(Keep keep = Keep::kNothing) : keep_(keep) {}
  Table(Table&&) = default;
  Table& operator=(Table&&) = default;

  // A frame's records, found in `segment`. kCorrupt: they do not follow from what went before; kUnsupported. After an
  // error the table is good for nothing.
  Result<void> apply(ByteView records, uint64_t segment);

  enum class SummaryRole : uint8_t {
    kFirst,   // nothing is known yet
    kRepeat,  // must say what is known already
    kRepair,  // overrules: see format.h, Repair
  };
  Result<void> apply_summary(ByteView records, SummaryRole role);

  // From frames behind a cut: state records count, but for marks, and entries do not.
  Result<void> salvage(ByteView records, bool summary);
  // The highest generation of the node's replicas of the group that were removed; nothing: none was.
  [[nodiscard]] std::optional<uint32_t> removed(GroupId group) const;
  const std::map<GroupId, uint32_t>& removed() const { return removed_; }

  // Every group, those not known included.
  void mark_suspect();

  // kCorrupt: a group's entries do not reach back to its checkpoint.
  [[nodiscard]] Result<void> check() const;
  // What check() refuses loses its entries instead. Only for suspect groups, whose entries others give them again.
  void drop_incomplete();
  // Records for a summary frame.
  [[nodiscard]] Bytes summary() const;
  uint32_t summary_records() const;

  const std::map<GroupId, Group>& groups() const { return groups_; }
  std::map<GroupId, Group>& groups() { return groups_; }
  bool unknown_suspect() const { return unknown_suspect_; }

  void covered(GroupId group, LogIndex up_to);
  // The oldest segment with an entry that is needed; `none` when there is none.
  [[nodiscard]] uint64_t oldest_needed(uint64_t none) const;
  // What each group needs of the segments, about; only groups that need something, by id.
  struct Need {
    GroupId group;
    uint64_t oldest_segment;
    uint64_t bytes;
  };
  [[nodiscard]] std::vector<Need> needs() const;
  void freed(uint64_t segment);
  // From now on as a writer needs it.
  void forget_entries();

 private:
  Group& group_of(GroupId id);
  Result<void> apply(const Record& record, uint64_t segment);
  Result<void> check_known(const Record& record) const;
  Result<void> begin(const Record& record);
  void remove(const Record& record);
  Result<void> apply_entry(const Record& record, uint64_t segment);
  Result<void> apply_checkpoint(const Record& record, bool strict);
  Result<void> apply_split_off(const Record& record, bool strict);
  void apply_repair(const Record& record);
  static void cut_after(Group& group, LogIndex last);
  static void restart(Group& group, const raft::LogPosition& position);

  std::map<GroupId, Group> groups_;
  std::map<GroupId, uint32_t> removed_;
  Keep keep_;
  bool unknown_suspect_ = false;
  GroupId cached_id_;  // entries come in runs of one group
  Group* cached_ = nullptr;
};

}  // namespace mneme::wal
