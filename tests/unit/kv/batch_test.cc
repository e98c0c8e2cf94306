#include "core/kv/batch.h"

#include "core/base/limits.h"
#include "tests/test.h"
#include "tests/unit/kv/support.h"

using namespace mneme;
using namespace mneme::kv;
using namespace mneme::kv::testing;

namespace {

const BatchHeader kHeader{.cluster_version = 3,
                          .epoch = Epoch(4),
                          .log_time_ms = -5,
                          .origin = {.node = NodeId(6), .incarnation = Incarnation(7), .request = 8}};

std::string sample() {
  BatchBuilder builder(kHeader);
  builder.add({.session = SessionId(9), .sequence = 10, .ack = 11}, views({"SET", "k", ""}));
  builder.add({.flags = kInTransaction | kFirstOfTransaction}, views({"GET", "k"}));
  builder.add({.flags = kInTransaction | kLastOfTransaction}, views({"INCR", std::string("a\0b", 3)}));
  builder.add({.flags = kInTransaction | kFirstOfTransaction | kLastOfTransaction}, views({"DBSIZE"}));
  return std::move(builder).finish();
}

// Re-encodes what a reader gives.
std::string round_trip(BatchReader reader) {
  BatchBuilder builder(reader.header());
  CommandMeta meta;
  std::vector<std::string_view> args;
  while (reader.next(meta, args)) builder.add(meta, args);
  return std::move(builder).finish();
}

}  // namespace

TEST_CASE("a batch reads back as it was built") {
  std::string payload = sample();
  auto reader = BatchReader::open(payload);
  REQUIRE(reader);
  CHECK(reader->header() == kHeader);
  CHECK(reader->commands() == 4);
  CHECK(round_trip(*reader) == payload);
  CommandMeta meta;
  std::vector<std::string_view> args;
  REQUIRE(reader->next(meta, args));
  CHECK(meta == CommandMeta{.session = SessionId(9), .sequence = 10, .ack = 11});
  CHECK(args == std::vector<std::string_view>{"SET", "k", ""});
}

TEST_CASE("the first version of the batch format does not change") {
  std::string payload = sample();
  CHECK(payload.size() == kBatchHeaderBytes + 4 * kBatchCommandBytes + 8 * 4 + 21);
  CHECK(xxh3(payload) == 0x79fce26ff2aa8186);
}

TEST_CASE("the size of an encoded command is known before it is added") {
  BatchBuilder builder(kHeader);
  CHECK(builder.size() == kBatchHeaderBytes);
  Words words = {"SET", "key", std::string(1000, 'x')};
  size_t before = builder.size();
  builder.add({}, views(words));
  CHECK(builder.size() == before + BatchBuilder::encoded_size(views(words)));
  CHECK(builder.commands() == 1);
}

TEST_CASE("a batch cut short or with something behind it is refused") {
  std::string payload = sample();
  for (size_t size = 0; size < payload.size(); ++size) CHECK(!BatchReader::open(payload.substr(0, size)));
  CHECK(!BatchReader::open(payload + '\0'));
}

TEST_CASE("unknown versions and flags are unsupported, reserved bytes and broken transactions corrupt") {
  auto code = [](std::string payload) {
    auto reader = BatchReader::open(payload);
    return reader ? std::string("none") : std::string(name_of(reader.error().code));
  };
  auto with = [](size_t at, char byte) {
    std::string payload = sample();
    payload[at] = byte;
    return payload;
  };
  std::string unsupported(name_of(ErrorCode::kUnsupported));
  std::string corrupt(name_of(ErrorCode::kCorrupt));
  CHECK(code(sample()) == "none");
  CHECK(code(with(0, 2)) == unsupported);
  CHECK(code(with(1, 1)) == unsupported);
  CHECK(code(with(2, 1)) == corrupt);
  CHECK(code(with(52, 1)) == corrupt);
  CHECK(code(with(kBatchHeaderBytes, 8)) == unsupported);
  CHECK(code(with(kBatchHeaderBytes + 1, 1)) == corrupt);
  CHECK(code(with(kBatchHeaderBytes, kInTransaction)) == corrupt);
  CHECK(code(with(kBatchHeaderBytes, kFirstOfTransaction)) == corrupt);
  CHECK(code(with(kBatchHeaderBytes, kInTransaction | kFirstOfTransaction)) == corrupt);  // two begin
  auto transaction = [](CommandMeta first, CommandMeta second) {
    BatchBuilder builder(kHeader);
    first.flags = kInTransaction | kFirstOfTransaction;
    builder.add(first, views({"GET", "k"}));
    second.flags = kInTransaction | kLastOfTransaction;
    builder.add(second, views({"GET", "k"}));
    return std::move(builder).finish();
  };
  CHECK(code(transaction({.session = SessionId(1), .sequence = 2}, {.session = SessionId(1), .sequence = 2})) ==
        "none");
  CHECK(code(transaction({.session = SessionId(1), .sequence = 2}, {.session = SessionId(1), .sequence = 3})) ==
        corrupt);
  CHECK(code(transaction({.session = SessionId(1), .sequence = 2}, {})) == corrupt);
}

TEST_CASE("the reader survives random and damaged payloads, and what it accepts it reads back the same") {
  SplitMix random(1);
  std::string good = sample();
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string payload = good;
    if (random.one_in(4)) {
      payload.resize(random.below(200));
      for (char& c : payload) c = static_cast<char>(random.next());
      if (!payload.empty()) payload[0] = 1;
    }
    for (uint64_t flips = random.below(4); flips > 0 && !payload.empty(); --flips) {
      payload[random.below(payload.size())] = static_cast<char>(random.one_in(2) ? random.below(4) : random.next());
    }
    auto reader = BatchReader::open(payload);
    StateMachine machine(nullptr, ShardState{Epoch(4), Epoch(4), shard::SlotSet::all()});
    Collected replies;
    auto applied = machine.apply(LogIndex(1), payload, replies);
    CHECK(applied.has_value() == reader.has_value());
    if (!reader) {
      CHECK(machine.applied() == LogIndex(0));
      continue;
    }
    ++accepted;
    CHECK(round_trip(*reader) == payload);
    CHECK(replies.replies.size() + replies.stale_commands == reader->commands());
  }
  CHECK(accepted > 1000);
}

TEST_CASE("a damaged batch changes nothing, not even by its valid first commands") {
  Driver d;
  d.run({"SET", "a", "1"});
  uint64_t digest = d.machine().digest();
  std::string payload = Batch(d.now + 5).add({"SET", "a", "2"}).add({"SET", "b", "2"}).finish();
  payload.pop_back();
  Collected replies;
  CHECK(!d.machine().apply(LogIndex(2), payload, replies));
  CHECK(d.machine().digest() == digest);
  CHECK(d.machine().applied() == LogIndex(1));
  CHECK(replies.replies.empty());
}
