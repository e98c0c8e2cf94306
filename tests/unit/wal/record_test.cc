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
  encode_entry(bytes, kOne, e);
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

TEST_CASE("a record of a type, kind or generation that is not known is refused as of a newer version", "[wal]") {
  Bytes bytes = encoded(entry(1, 1, "x"));
  bytes[0] = 7;
  CHECK(refusal(bytes) == ErrorCode::kUnsupported);
  bytes = encoded(entry(1, 1, "x"));
  bytes[1] = 3;
  CHECK(refusal(bytes) == ErrorCode::kUnsupported);
  bytes = encoded(entry(1, 1, "x"));
  bytes[2] = 2;
  CHECK(refusal(bytes) == ErrorCode::kUnsupported);
  bytes = encoded(entry(1, 1, "x"));
  bytes[32] = 1;
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
    for (const raft::Entry& e : entries) encode_entry(bytes, kOne, e);
    REQUIRE(table.apply(bytes, 1).has_value());
    bytes.clear();
    if (last.type == RecordType::kEntry)
      encode_entry(bytes, kOne, entry(last.position.index.value, 1, ""));
    else
      encode_state(bytes, last);
    auto applied = table.apply(bytes, 1);
    return !applied && applied.error().code == ErrorCode::kCorrupt;
  };
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
