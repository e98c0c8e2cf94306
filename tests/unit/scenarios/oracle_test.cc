// What the oracle says of a log and of what clients were told, without a run.
#include "core/kv/batch.h"
#include "core/kv/internal.h"
#include "sim/scenarios/kv_oracle.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::sim;

namespace {

constexpr uint64_t kStream = 9;

// A log of SETs, each an entry of its own, and the records of one client that sent them all on one connection.
struct Story {
  KvOracle oracle{[](Finding) {}, 1};
  std::vector<OpRecord> records;
  LogIndex last;

  // The nth command on the connection.
  void sent(uint64_t nth, ClientOutcome outcome) {
    OpRecord record{.client = 1, .nth = static_cast<uint32_t>(nth), .kind = OpKind::kSet};
    record.args = {"SET", "k", std::to_string(nth)};
    record.called = 10;
    record.returned = 20;
    record.outcome = outcome;
    record.reply = "+OK\r\n";
    record.attempts = {{kStream, nth}};
    records.push_back(record);
    oracle.admitted(kStream, nth, origin_of(nth), 0);
  }
  void executed(uint64_t nth) {
    if (!last) append(kv::begin_command(Epoch(1), shard::SlotSet::all()), {});
    append({"SET", "k", std::to_string(nth)}, origin_of(nth));
  }
  void append(const std::vector<std::string>& words, const kv::Origin& origin) {
    last = last.next();
    kv::BatchBuilder batch(kv::BatchHeader{.epoch = Epoch(1), .log_time_ms = 1, .origin = origin});
    batch.add({}, std::vector<std::string_view>(words.begin(), words.end()));
    const raft::Entry entry{Term(1), last, raft::EntryKind::kData,
                            std::make_shared<const std::string>(std::move(batch).finish())};
    oracle.applied(NodeId(1), GroupId(2), entry, last.value);
  }
  std::string property() {
    auto found = oracle.judge(records);
    return found ? found->property : "";
  }
  static kv::Origin origin_of(uint64_t nth) { return {NodeId(1), Incarnation(1), 100 + nth}; }
};

}  // namespace

TEST_CASE("commands of one connection that are executed in another order are found", "[scenarios]") {
  Story story;
  story.sent(1, ClientOutcome::kOk);
  story.sent(2, ClientOutcome::kOk);
  SECTION("as sent") {
    story.executed(1);
    story.executed(2);
    CHECK(story.property() == "");
  }
  SECTION("the other way round") {
    story.executed(2);
    story.executed(1);
    CHECK(story.property() == "pipeline order");
  }
}

TEST_CASE("what was answered as unknown may be executed after what was sent later", "[scenarios]") {
  Story story;
  story.sent(1, ClientOutcome::kUnknown);
  story.sent(2, ClientOutcome::kOk);
  story.executed(2);
  story.executed(1);
  CHECK(story.property() == "");
}

TEST_CASE("an expired session is found where the replicas' order has an answer", "[scenarios]") {
  Story story;
  story.sent(1, ClientOutcome::kUnknown);
  story.executed(1);
  SECTION("not told") { CHECK(story.property() == ""); }
  SECTION("told") {
    story.records[0].reply = "-EXPIRED session 9 is unknown\r\n";
    CHECK(story.property() == "exactly once");
  }
}

TEST_CASE("an answer that a client acknowledged while it waited for it is found", "[scenarios]") {
  Story story;
  story.sent(1, ClientOutcome::kUnknown);
  story.records[0].reply = "-EXPIRED the reply to number 1 of session 9 was acknowledged\r\n";
  CHECK(story.property() == "exactly once");
}

TEST_CASE("what a client calls not done must be in no log", "[scenarios]") {
  Story story;
  story.sent(1, ClientOutcome::kFailed);
  SECTION("it is in none") { CHECK(story.property() == ""); }
  SECTION("it is in one") {
    story.executed(1);
    CHECK(story.property() == "outcome");
  }
}

TEST_CASE("what a node proposes again is one operation, whichever of its batches is executed", "[scenarios]") {
  Story story;
  story.sent(1, ClientOutcome::kOk);
  const kv::Origin again = Story::origin_of(5);
  story.oracle.admitted(kStream, 1, again, 0);
  story.executed(1);
  SECTION("the first") { CHECK(story.property() == ""); }
  SECTION("both") {
    story.append({"SET", "k", "1"}, again);
    CHECK(story.property() == "exactly once");
  }
  SECTION("the first, which the client was told was not") {
    story.records[0].outcome = ClientOutcome::kFailed;
    CHECK(story.property() == "outcome");
  }
}

TEST_CASE("what was sent again is one operation: a write may be executed once, a read several times", "[scenarios]") {
  Story story;
  story.sent(1, ClientOutcome::kOk);
  story.sent(2, ClientOutcome::kOk);
  OpRecord& again = story.records[1];
  again.attempts.emplace_back(kStream, 3);
  story.oracle.admitted(kStream, 3, Story::origin_of(3), 0);
  story.executed(1);
  SECTION("a write") {
    story.executed(2);
    CHECK(story.property() == "");
  }
  SECTION("a write twice") {
    story.executed(2);
    story.append({"SET", "k", "2"}, Story::origin_of(3));
    CHECK(story.property() == "exactly once");
  }
  SECTION("a read") {
    again.kind = OpKind::kGet;
    again.args = {"GET", "k"};
    again.repeats = true;
    story.append(again.args, Story::origin_of(2));
    // What was called after the read had returned comes before its other attempt.
    story.sent(4, ClientOutcome::kOk);
    story.records[2].called = 30;
    story.records[2].returned = 40;
    story.executed(4);
    story.append(story.records[1].args, Story::origin_of(3));
    SECTION("was answered with the first") {
      story.records[1].reply = "$1\r\n1\r\n";
      CHECK(story.property() == "");
    }
    SECTION("was answered with what came only later") {
      story.records[1].reply = "$1\r\n4\r\n";
      CHECK(story.property() == "real-time order");
    }
    SECTION("was answered with what never was") {
      story.records[1].reply = "$1\r\n9\r\n";
      CHECK(story.property() == "commit order");
    }
    SECTION("is said not to have been done") {
      story.records[1].outcome = ClientOutcome::kFailed;
      CHECK(story.property() == "outcome");
    }
  }
}

struct Nothing final : Chance, Probes {
  uint64_t draw(Site, uint64_t, uint64_t) override { return 0; }
  bool rarely(Site, uint64_t) override { return false; }
  void reached(Probe) override {}
};
const raft::Config kOneOfThree{.id = ReplicaId(1), .voters = {ReplicaId(1), ReplicaId(2), ReplicaId(3)}};

TEST_CASE("what a crashed process still shows is no promise", "[scenarios]") {
  Nothing nothing;
  auto with_entries = [&](uint64_t count) {
    raft::Durable durable{.hard_state = {Term(1), ReplicaId()}};
    for (uint64_t i = 1; i <= count; ++i) durable.entries.push_back({Term(1), LogIndex(i), raft::EntryKind::kNoop, {}});
    return std::make_unique<raft::Raft>(kOneOfThree, std::move(durable), Instant{}, nothing, nothing);
  };
  std::string property;
  KvOracle oracle([&](Finding finding) { property = finding.property; }, 1);
  oracle.started(NodeId(1), GroupId(2), *with_entries(1), LogIndex(0), 0);
  SECTION("crashed") {
    oracle.stopped(NodeId(1));
    oracle.moved(NodeId(1), GroupId(2), *with_entries(2));
    oracle.started(NodeId(1), GroupId(2), *with_entries(1), LogIndex(0), 0);
    CHECK(property == "");
  }
  SECTION("running") {
    oracle.moved(NodeId(1), GroupId(2), *with_entries(2));
    oracle.stopped(NodeId(1));
    oracle.started(NodeId(1), GroupId(2), *with_entries(1), LogIndex(0), 0);
    CHECK(property == "raft invariant");
  }
}

TEST_CASE("a suspect whose disk nobody damaged is found", "[scenarios]") {
  Nothing nothing;
  const raft::Raft suspect(kOneOfThree, {.suspect = true}, Instant{}, nothing, nothing);
  std::string property;
  KvOracle oracle([&](Finding finding) { property = finding.property; }, 1);
  SECTION("damaged") {
    oracle.damaged(NodeId(1));
    oracle.started(NodeId(1), GroupId(2), suspect, LogIndex(0), 0);
    CHECK(property == "");
  }
  SECTION("not damaged") {
    oracle.started(NodeId(1), GroupId(2), suspect, LogIndex(0), 0);
    CHECK(property == "raft invariant");
  }
}
