// Records and the table of groups, from bytes that somebody else may have written.
#include "core/wal/record.h"

#include "core/wal/table.h"
#include "tests/test.h"
#include "tests/unit/wal/world.h"

using namespace mneme;
using namespace mneme::wal;
using namespace mneme::wal::test;

namespace {

constexpr GroupId kOne(1);

Bytes encoded(const raft::Entry& e) {
  Bytes bytes;
  encode_entry(bytes, kOne, 0, e);
  return bytes;
}

ErrorCode refusal(const Bytes& bytes) {
  Reader reader(bytes);
  auto record = decode_record(reader);
  REQUIRE_FALSE(record.has_value());
  CHECK_FALSE(record.error().message.empty());
  return record.error().code;
}

}  // namespace

TEST_CASE("a record of a type or kind, or with something, that is not known is refused as of a newer version",
          "[wal]") {
  Bytes bytes = encoded(entry(1, 1, "x"));
  bytes[0] = 9;
  CHECK(refusal(bytes) == ErrorCode::kUnsupported);
  bytes = encoded(entry(1, 1, "x"));
  bytes[1] = 3;
  CHECK(refusal(bytes) == ErrorCode::kUnsupported);
  bytes = encoded(entry(1, 1, "x"));
  bytes[2] = 2;
  CHECK(refusal(bytes) == ErrorCode::kUnsupported);
  bytes = encoded(entry(1, 1, "x"));
  bytes[36] = 1;
  CHECK(refusal(bytes) == ErrorCode::kUnsupported);
}

TEST_CASE("a record that is cut short, or whose length lies, is corrupt", "[wal]") {
  const Bytes whole = encoded(entry(1, 1, "payload"));
  for (size_t size = 0; size < whole.size(); ++size)
    CHECK(refusal(Bytes(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size))) == ErrorCode::kCorrupt);
  Bytes lying = whole;
  store_le(lying.data() + 4, uint32_t{0xffffffff});
  CHECK(refusal(lying) == ErrorCode::kCorrupt);
  store_le(lying.data() + 4, uint32_t{31});
  CHECK(refusal(lying) == ErrorCode::kCorrupt);
  Bytes state;
  encode_state(state, {.type = RecordType::kHardState, .group = kOne});
  store_le(state.data() + 4, uint32_t{16});
  CHECK(refusal(state) == ErrorCode::kCorrupt);
}

TEST_CASE("records that do not follow from what went before are corrupt", "[wal]") {
  auto refuses = [](std::initializer_list<Record> states, std::initializer_list<raft::Entry> entries, Record last) {
    Table table(Table::Keep::kEntries);
    Bytes bytes;
    for (const Record& record : states) encode_state(bytes, record);
    for (const raft::Entry& e : entries) encode_entry(bytes, kOne, 0, e);
    REQUIRE(table.apply(bytes, 1).has_value());
    bytes.clear();
    if (last.type == RecordType::kEntry)
      encode_entry(bytes, kOne, 0, entry(last.position.index.value, 1, ""));
    else
      encode_state(bytes, last);
    auto applied = table.apply(bytes, 1);
    return !applied && applied.error().code == ErrorCode::kCorrupt;
  };
  const Record child{.type = RecordType::kSplitOff,
                     .group = kOne.next(),
                     .checkpoint = {LogIndex(1), Term(1)},
                     .origin = {kOne, {LogIndex(7), Term(2)}}};
  Record other = child;
  other.origin.entry.index = LogIndex(8);
  CHECK_FALSE(refuses({}, {}, child));
  CHECK_FALSE(refuses({child}, {}, child));
  CHECK(refuses({child}, {}, other));
  const Record term_2{.type = RecordType::kHardState, .group = kOne, .hard_state = {Term(2), ReplicaId(1)}};
  CHECK(refuses({term_2}, {}, {.type = RecordType::kHardState, .group = kOne, .hard_state = {Term(1), ReplicaId(1)}}));
  CHECK(refuses({term_2}, {}, {.type = RecordType::kHardState, .group = kOne, .hard_state = {Term(2), ReplicaId(3)}}));
  CHECK(refuses({}, {entry(1, 1, "")}, {.position = {LogIndex(3), Term(1)}}));
  CHECK(refuses({}, {}, {.position = {LogIndex(2), Term(1)}}));
  const Record at_9{.type = RecordType::kCheckpoint, .group = kOne, .checkpoint = {LogIndex(9), Term(1)}};
  CHECK(refuses({at_9}, {}, {.position = {LogIndex(9), Term(1)}}));
  CHECK(refuses({at_9}, {}, {.type = RecordType::kCheckpoint, .group = kOne, .checkpoint = {LogIndex(8), Term(1)}}));
  CHECK(refuses({}, {entry(1, 1, "")},
                {.type = RecordType::kCheckpoint, .group = kOne, .checkpoint = {LogIndex(1), Term(2)}}));
  CHECK(refuses({}, {}, {.type = RecordType::kSummary, .group = kOne}));
}

TEST_CASE("a replica that was removed never begins again, and nothing is said of it", "[wal]") {
  auto removed = [](uint32_t generation) {
    return Record{.type = RecordType::kRemoved, .group = kOne, .generation = generation, .has_generation = true};
  };
  auto begun = [](uint32_t generation) {
    return Record{.type = RecordType::kBegun, .group = kOne, .generation = generation};
  };
  const Record vote{.type = RecordType::kHardState, .group = kOne, .hard_state = {Term(2), ReplicaId(1)}};
  auto table_after = [](const std::vector<Record>& records) {
    Bytes bytes;
    for (const Record& record : records) encode_state(bytes, record);
    Table table;
    auto applied = table.apply(bytes, 1);
    return std::pair(std::move(table), applied.has_value());
  };
  CHECK(table_after({vote, removed(0), begun(1), vote}).second);
  CHECK_FALSE(table_after({vote, removed(0), vote}).second);
  CHECK_FALSE(table_after({vote, removed(0), begun(0)}).second);
  CHECK_FALSE(table_after({vote, begun(1)}).second);
  CHECK_FALSE(table_after({vote, removed(1)}).second);
  CHECK_FALSE(table_after({begun(3), removed(3), begun(2)}).second);
  CHECK(table_after({begun(3), removed(3), begun(4), removed(4)}).first.removed(kOne) == 4u);

  // A summary says the same as the records did.
  auto [table, applied] = table_after({vote, removed(0), begun(7), vote});
  REQUIRE(applied);
  Table other;
  REQUIRE(other.apply_summary(table.summary(), Table::SummaryRole::kFirst).has_value());
  CHECK(other.summary() == table.summary());
  CHECK(other.groups().at(kOne).generation == 7);
  CHECK(other.removed(kOne) == 0u);
  CHECK(other.removed(GroupId(2)) == std::nullopt);
  CHECK(table.summary_records() == 3);
}

TEST_CASE("an entry of another generation than the replica's is corrupt", "[wal]") {
  for (uint32_t generation : {0u, 6u, 7u}) {
    Bytes bytes;
    encode_state(bytes, {.type = RecordType::kBegun, .group = kOne, .generation = 6});
    encode_entry(bytes, kOne, generation, entry(1, 1, "x"));
    Table table;
    CHECK(table.apply(bytes, 1).has_value() == (generation == 6));
  }
}

TEST_CASE("a group is split off one with a lower id, and off another than itself", "[wal]") {
  for (const uint64_t parent : {0, 2, 3}) {
    Bytes bytes;
    encode_state(bytes, {.type = RecordType::kSplitOff, .group = GroupId(2), .origin = {GroupId(parent), {}}});
    CHECK(refusal(bytes) == ErrorCode::kCorrupt);
  }
}

TEST_CASE("where a group comes from is known until it has a checkpoint, and through summaries", "[wal]") {
  const GroupId child(2);
  const Origin origin{kOne, {LogIndex(7), Term(2)}};
  Bytes bytes;
  encode_state(bytes,
               {.type = RecordType::kSplitOff, .group = child, .checkpoint = {LogIndex(1), Term(1)}, .origin = origin});
  encode_entry(bytes, child, 0, entry(2, 1, "x"));
  Table table;
  REQUIRE(table.apply(bytes, 1));
  const Bytes summary = table.summary();
  REQUIRE(table.apply_summary(summary, Table::SummaryRole::kRepeat));
  for (const auto role : {Table::SummaryRole::kFirst, Table::SummaryRole::kRepair}) {
    Table next;
    REQUIRE(next.apply_summary(summary, role));
    CHECK(next.groups().at(child).origin == origin);
    CHECK(next.groups().at(child).last == raft::LogPosition{LogIndex(2), Term(1)});
  }
  // At the very place where it began, too.
  bytes.clear();
  encode_state(
      bytes,
      {.type = RecordType::kCheckpoint, .group = child, .checkpoint = {LogIndex(1), Term(1)}, .checkpoint_id = 1});
  REQUIRE(table.apply(bytes, 1));
  CHECK_FALSE(table.groups().at(child).origin);
  CHECK(table.groups().at(child).last.index == LogIndex(2));
}

TEST_CASE("behind a cut it is found out where a group comes from, unless that is known already", "[wal]") {
  const GroupId child(2);
  const Origin origin{kOne, {LogIndex(7), Term(2)}};
  Bytes split;
  encode_state(split,
               {.type = RecordType::kSplitOff, .group = child, .checkpoint = {LogIndex(1), Term(1)}, .origin = origin});
  Table table(Table::Keep::kEntries);
  REQUIRE(table.salvage(split, false));
  CHECK(table.groups().at(child).origin == origin);
  Bytes bytes;
  encode_entry(bytes, child, 0, entry(2, 1, "x"));
  REQUIRE(table.apply(bytes, 1));
  REQUIRE(table.salvage(split, false));
  CHECK(table.groups().at(child).entries.size() == 1);
}
