#include "core/raft/raft.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/hash.h"
#include "core/base/limits.h"
#include "tests/test.h"
#include "tests/unit/raft/random_world.h"

using namespace mneme;
using namespace mneme::raft;

namespace {

// One Raft of a group of three, whose peers are the test.
struct Fixture {
  TestChance chance{7};
  TestProbes probes;
  TestReplica replica;
  std::vector<Message> sent;

  explicit Fixture(size_t voters = 3, TestDisk disk = {}) {
    for (size_t n = 1; n <= voters; ++n) replica.config.voters.push_back(ReplicaId(n));
    replica.config.id = ReplicaId(1);
    replica.disk = std::move(disk);
    replica.now = Instant{1'000'000'000};
    replica.start(chance, probes);
    settle();
  }
  Raft& raft() { return *replica.raft; }
  // Takes and stores everything at once.
  std::vector<Ready> settle() {
    std::vector<Ready> readys;
    while (raft().has_ready()) {
      Ready ready = raft().ready();
      REQUIRE(replica.disk.store(ready));
      raft().persisted(ready.number);
      for (auto* messages : {&ready.messages, &ready.messages_after_persist})
        for (Message& m : *messages) sent.push_back(m);
      if (!ready.committed.empty()) raft().applied(ready.committed.back().index);
      readys.push_back(std::move(ready));
    }
    auto violation = check_state(raft(), view_of(raft()));
    INFO(violation.value_or(""));
    REQUIRE_FALSE(violation);
    return readys;
  }
  Message from(uint64_t node, MessageType type, uint64_t term) {
    Message m;
    m.type = type;
    m.from = ReplicaId(node);
    m.to = ReplicaId(1);
    m.term = Term(term);
    return m;
  }
  void step(Message m) {
    raft().step(std::move(m), replica.now);
    settle();
  }
  void lead() {
    raft().campaign(replica.now);
    settle();
    step(from(2, MessageType::kPreVoteReply, raft().term().value + 1));
    step(from(2, MessageType::kVoteReply, raft().term().value));
    REQUIRE(raft().role() == Role::kLeader);
    sent.clear();
  }
};

Entry entry(uint64_t index, uint64_t term) {
  return {Term(term), LogIndex(index), EntryKind::kData, std::make_shared<const std::string>(fmt::format("{}", index))};
}

}  // namespace

TEST_CASE("a leader refuses proposals while too much is uncommitted, and none when nothing is", "[raft]") {
  Fixture f;
  f.replica.config.max_uncommitted_bytes = 100;
  f.replica.start(f.chance, f.probes);
  f.lead();
  auto payload = [](size_t size) { return std::make_shared<const std::string>(size, 'x'); };
  CHECK(f.raft().propose(payload(1000), f.replica.now));
  auto refused = f.raft().propose(payload(1), f.replica.now);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::kUnavailable);
  CHECK(f.raft().last_index() == LogIndex(2));
  f.settle();
  Message ack = f.from(2, MessageType::kAppendReply, f.raft().term().value);
  ack.log = {LogIndex(2), f.raft().term()};
  f.step(ack);
  CHECK(f.raft().commit() == LogIndex(2));
  CHECK(f.raft().propose(payload(60), f.replica.now));
  CHECK(f.raft().propose(payload(40), f.replica.now));
  CHECK_FALSE(f.raft().propose(payload(1), f.replica.now));
}

TEST_CASE("proposals between two Readys share a message, which the byte bound cuts", "[raft]") {
  Fixture f(2);
  f.replica.config.max_append_bytes = 100;
  f.replica.start(f.chance, f.probes);
  f.lead();
  Message ack = f.from(2, MessageType::kAppendReply, f.raft().term().value);
  ack.log = {LogIndex(1), f.raft().term()};
  f.step(ack);
  f.sent.clear();
  for (int n = 0; n < 6; ++n) REQUIRE(f.raft().propose(std::make_shared<const std::string>(10, 'x'), f.replica.now));
  f.settle();
  // 32 bytes each: three fit.
  size_t entries = 0;
  for (const Message& m : f.sent) {
    CHECK(m.type == MessageType::kAppend);
    CHECK(m.entries.size() <= 3);
    entries += m.entries.size();
  }
  CHECK(entries == 6);
  CHECK(f.sent.size() < 6);
}

TEST_CASE("a follower has no more appends on the way than its window", "[raft]") {
  Fixture f(2);
  f.replica.config.max_append_bytes = 1;
  f.replica.config.max_inflight_appends = 3;
  f.replica.start(f.chance, f.probes);
  f.lead();
  Message ack = f.from(2, MessageType::kAppendReply, f.raft().term().value);
  ack.log = {LogIndex(1), f.raft().term()};
  f.step(ack);
  f.sent.clear();
  for (int n = 0; n < 10; ++n) REQUIRE(f.raft().propose(std::make_shared<const std::string>("x"), f.replica.now));
  f.settle();
  CHECK(f.sent.size() == 3);
  ack.log.index = LogIndex(3);
  f.step(ack);
  CHECK(f.sent.size() == 5);
}

TEST_CASE("one that was restored, and whose word of it was lost, is asked again", "[raft]") {
  Fixture f;
  f.lead();
  Message ack = f.from(2, MessageType::kAppendReply, f.raft().term().value);
  ack.log = {LogIndex(1), f.raft().term()};
  f.step(ack);
  Message suspect = ack;
  suspect.from = ReplicaId(3);
  suspect.suspect = true;
  f.step(suspect);
  // It is restored, ends before it has said so, and comes back with all that there is.
  f.raft().unreachable(ReplicaId(3));
  f.sent.clear();
  f.replica.now = f.replica.now + f.replica.config.heartbeat_interval;
  f.raft().tick(f.replica.now);
  f.settle();
  f.sent.clear();
  f.step(f.from(3, MessageType::kHeartbeatReply, f.raft().term().value));
  REQUIRE(f.sent.size() == 1);
  CHECK(f.sent[0].type == MessageType::kAppend);
  CHECK(f.sent[0].to == ReplicaId(3));
  CHECK(f.sent[0].entries.empty());
  suspect.suspect = false;
  f.step(suspect);
  f.sent.clear();
  REQUIRE(f.raft().transfer(ReplicaId(3), f.replica.now));
  f.settle();
  REQUIRE(f.sent.size() == 1);
  CHECK(f.sent[0].type == MessageType::kTimeoutNow);
}

TEST_CASE("with leases, only one that has had no life before may stand at once", "[raft]") {
  for (const bool newborn : {false, true}) {
    INFO((newborn ? "newborn" : "restarted"));
    TestChance chance{7};
    TestProbes probes;
    const Config config{.id = ReplicaId(1), .voters = {ReplicaId(1), ReplicaId(2), ReplicaId(3)}, .lease = 800ms};
    const Instant now{1'000'000'000};
    Raft raft(config, {.hard_state = {.term = Term(1)}, .newborn = newborn}, now, chance, probes);
    raft.campaign(now);
    CHECK((raft.role() == Role::kPreCandidate) == newborn);
    Message ask{.type = MessageType::kPreVote, .from = ReplicaId(2), .to = ReplicaId(1), .term = Term(2)};
    Raft voter(config, {.hard_state = {.term = Term(1)}, .newborn = newborn}, now, chance, probes);
    voter.step(ask, now);
    CHECK(voter.has_ready() == newborn);  // a grant
  }
}

TEST_CASE("reads asked between two Readys share a round, and all of them fail with the leader", "[raft]") {
  Fixture f;
  f.lead();
  Message ack = f.from(2, MessageType::kAppendReply, f.raft().term().value);
  ack.log = {LogIndex(1), f.raft().term()};
  f.step(ack);
  f.sent.clear();
  REQUIRE(f.raft().read_index(1, f.replica.now));
  REQUIRE(f.raft().read_index(2, f.replica.now));
  f.settle();
  REQUIRE(f.sent.size() == 2);
  CHECK(f.sent[0].round == f.sent[1].round);
  REQUIRE(f.raft().read_index(3, f.replica.now));
  f.raft().step(f.from(3, MessageType::kHeartbeat, f.raft().term().value + 1), f.replica.now);
  CHECK(f.settle().front().failed_reads == std::vector<uint64_t>{1, 2, 3});
}

TEST_CASE("a reply from a round that was never begun confirms nothing", "[raft]") {
  Fixture f;
  f.lead();
  Message ack = f.from(2, MessageType::kAppendReply, f.raft().term().value);
  ack.log = {LogIndex(1), f.raft().term()};
  f.step(ack);
  REQUIRE(f.raft().read_index(1, f.replica.now));
  f.settle();
  Message reply = f.from(2, MessageType::kHeartbeatReply, f.raft().term().value);
  reply.round = 1000;
  f.raft().step(reply, f.replica.now);
  for (const Ready& ready : f.settle()) CHECK(ready.reads.empty());
  reply.round = 2;
  f.raft().step(reply, f.replica.now);
  CHECK(f.settle().front().reads.size() == 1);
}

TEST_CASE("an append that contradicts what is committed is dropped", "[raft]") {
  Fixture f;
  Message m = f.from(2, MessageType::kAppend, 1);
  m.entries = {entry(1, 1), entry(2, 1), entry(3, 1)};
  m.commit = LogIndex(2);
  f.step(m);
  REQUIRE(f.raft().commit() == LogIndex(2));
  Message other = f.from(3, MessageType::kAppend, 2);
  other.entries = {entry(1, 2), entry(2, 2), entry(3, 2)};
  f.step(other);
  CHECK(f.raft().term_at(LogIndex(2)) == Term(1));
  CHECK(f.raft().last_index() == LogIndex(3));
  CHECK(f.raft().term_at(LogIndex(3)) == Term(1));
}

TEST_CASE("a commit index beyond what the message verified is not taken over", "[raft]") {
  Fixture f;
  Message m = f.from(2, MessageType::kAppend, 1);
  m.entries = {entry(1, 1), entry(2, 1)};
  f.step(m);
  Message probe = f.from(2, MessageType::kAppend, 1);
  probe.log = {LogIndex(1), Term(1)};
  probe.commit = LogIndex(2);
  f.step(probe);
  CHECK(f.raft().commit() == LogIndex(1));
  Message heartbeat = f.from(2, MessageType::kHeartbeat, 1);
  heartbeat.commit = LogIndex(77);
  f.step(heartbeat);
  CHECK(f.raft().commit() == LogIndex(1));
}

TEST_CASE("messages from nobody, to others, or with impossible numbers change nothing", "[raft]") {
  Fixture f;
  Message vote = f.from(2, MessageType::kVote, 5);
  auto unchanged = [&](Message m) {
    f.raft().step(std::move(m), f.replica.now);
    return !f.raft().has_ready() && f.raft().term() == Term(0);
  };
  Message m = vote;
  m.from = ReplicaId();
  CHECK(unchanged(m));
  m = vote;
  m.from = ReplicaId(1);
  CHECK(unchanged(m));
  m = vote;
  m.to = ReplicaId(2);
  CHECK(unchanged(m));
  m = vote;
  m.term = Term(~0ull);
  CHECK(unchanged(m));
  m = vote;
  m.type = static_cast<MessageType>(200);
  CHECK(unchanged(m));
  m = vote;
  m.log = {LogIndex(1), Term(6)};
  CHECK(unchanged(m));
  CHECK_FALSE(unchanged(vote));
}

TEST_CASE("a damaged tail that took the term with it does not lead to terms below the log's", "[raft]") {
  TestDisk disk;
  disk.entries = {entry(1, 4)};
  disk.hard = {Term(2), ReplicaId(3)};
  disk.suspect = true;
  Fixture f(3, disk);
  CHECK(f.raft().term() == Term(4));
  CHECK(f.raft().vote() == ReplicaId());
  CHECK(f.replica.disk.hard.term == Term(4));
}

TEST_CASE("a snapshot that gets lost without a word is sent again after a while, to a follower that answers",
          "[raft]") {
  TestDisk disk;
  disk.base = {LogIndex(10), Term(1)};
  disk.hard = {Term(1), ReplicaId()};
  Fixture f(3, disk);
  f.lead();
  Message reject = f.from(2, MessageType::kAppendReply, f.raft().term().value);
  reject.reject = true;
  reject.log = {LogIndex(10), Term(1)};
  f.step(reject);
  auto snapshots = [&] {
    return std::count_if(f.sent.begin(), f.sent.end(), [](auto& m) { return m.type == MessageType::kSnapshot; });
  };
  CHECK(snapshots() == 1);
  for (int n = 0; n < 40; ++n) {
    f.replica.now = f.replica.now + 200ms;
    f.raft().tick(f.replica.now);
    f.settle();
    Message reply = f.from(2, MessageType::kHeartbeatReply, f.raft().term().value);
    reply.round = 1;
    f.step(reply);
    if (n < 20) CHECK(snapshots() == 1);
  }
  CHECK(snapshots() == 2);
}

// The child of a split, whose state every node has from its own half of the parent sooner or later.
TEST_CASE("a follower that comes to have where the log begins needs no checkpoint of the leader's", "[raft]") {
  TestDisk disk;
  disk.base = {LogIndex(1), Term(1)};
  disk.hard = {Term(1), ReplicaId()};
  disk.unsaved = true;
  Fixture f(3, disk);
  f.lead();
  Message reject = f.from(2, MessageType::kAppendReply, f.raft().term().value);
  reject.reject = true;
  reject.log = disk.base;
  f.step(reject);
  auto ask = [&] {
    f.sent.clear();
    f.replica.now = f.replica.now + 200ms;
    f.raft().tick(f.replica.now);
    f.settle();
    f.step(f.from(2, MessageType::kHeartbeatReply, f.raft().term().value));
    return std::count_if(f.sent.begin(), f.sent.end(), [&](const Message& m) {
      return m.type == MessageType::kAppend && m.to == ReplicaId(2) && m.log == disk.base;
    });
  };
  for (int n = 0; n < 3; ++n) {
    CHECK(ask() == 1);
    f.step(reject);
  }
  CHECK(f.raft().commit() == LogIndex(1));
  CHECK(ask() == 1);
  Message has = f.from(2, MessageType::kAppendReply, f.raft().term().value);
  has.log = {f.raft().last_index(), f.raft().term()};
  f.step(has);
  CHECK(f.raft().commit() == has.log.index);
  CHECK(std::none_of(f.sent.begin(), f.sent.end(), [](auto& m) { return m.type == MessageType::kSnapshot; }));
}

TEST_CASE("no message of any content makes a replica fail or contradict itself", "[raft]") {
  uint64_t state = 11;
  auto random = [&](uint64_t below) { return mix(state += 0x9e3779b97f4a7c15u) % below; };
  for (int world = 0; world < 300; ++world) {
    Fixture f(1 + random(5));
    f.replica.config.may_rest = f.replica.config.follower_reads = random(2) == 0;
    if (random(2) == 0) f.replica.config.lease = 900ms;
    f.replica.start(f.chance, f.probes);
    f.replica.view = view_of(f.raft());
    int n = 0;
    auto check = [&] {
      f.settle();
      auto violation = f.replica.check();
      INFO("world " << world << " message " << n << ": " << violation.value_or(""));
      REQUIRE_FALSE(violation);
    };
    for (; n < 200; ++n) {
      // Drawn one by one: arguments are evaluated in any order.
      const uint64_t from = 1 + random(6);
      const auto type = static_cast<MessageType>(random(16));
      Message m = f.from(from, type, random(6));
      auto position = [&] {
        return LogPosition{LogIndex(random(40) == 0 ? ~0ull >> random(4) : random(8)), Term(random(5))};
      };
      m.log = position();
      m.hint = position();
      m.commit = position().index;
      m.reject = random(2) == 0;
      m.suspect = random(4) == 0;
      m.round = random(4);
      m.rest = random(2) == 0;
      uint64_t index = m.log.index.value;
      for (uint64_t k = random(4); k > 0; --k) {
        const uint64_t at = ++index + (random(20) == 0);
        m.entries.push_back(entry(at, 1 + random(5)));
      }
      if (m.type != MessageType::kAppend && random(8) != 0) m.entries.clear();
      if (m.type == MessageType::kSnapshot && random(8) != 0) m.entries.assign(1, entry(m.log.index.value, 1));
      for (Entry& e : m.entries) {
        if (m.type != MessageType::kSnapshot && random(6) != 0) continue;
        e.kind = EntryKind::kConfig;
        Configuration c{.generation = 9};
        for (uint64_t node = 1; node <= 6; ++node) {
          const ReplicaId id(NodeId(node), static_cast<uint32_t>(random(4) == 0));
          const uint64_t role = random(5);
          if (role <= 1) c.voters.push_back(id);
          if (role == 1 && random(2) == 0) c.outgoing.push_back(id);
          if (role == 2) c.learners.push_back(id);
        }
        std::sort(c.voters.begin(), c.voters.end());
        std::sort(c.outgoing.begin(), c.outgoing.end());
        std::sort(c.learners.begin(), c.learners.end());
        if (random(20) != 0) e.payload = std::make_shared<const std::string>(encode(c));
        if (random(20) == 0) e.payload = nullptr;
      }
      f.replica.now = f.replica.now + std::chrono::milliseconds(random(400));
      if (random(10) == 0) f.raft().tick(f.replica.now);
      check();
      if (random(20) == 0) f.raft().campaign(f.replica.now);
      check();
      if (random(10) == 0) (void)f.raft().propose(std::make_shared<const std::string>("p"), f.replica.now);
      if (random(10) == 0) (void)f.raft().read_index(n, f.replica.now);
      if (random(20) == 0) (void)f.raft().transfer(ReplicaId(random(6)), f.replica.now);
      if (random(10) == 0) {
        Change change;
        if (random(2) == 0) change.add.push_back(ReplicaId(NodeId(1 + random(6)), 10 + static_cast<uint32_t>(n)));
        for (ReplicaId id : f.raft().configuration().learners)
          if (random(2) == 0) change.promote.push_back(id);
        for (ReplicaId id : f.raft().configuration().voters)
          if (random(4) == 0) change.remove.push_back(id);
        (void)f.raft().propose_change(change, f.replica.now);
        check();
      }
      if (random(30) == 0) f.raft().unreachable(ReplicaId(random(6)));
      if (random(30) == 0) f.raft().compact(f.raft().applied());
      f.raft().step(std::move(m), f.replica.now);
      check();
    }
  }
}

TEST_CASE("founders may have generations, of which the first configuration knows the highest", "[raft]") {
  Fixture f(1);
  f.replica.config.voters = {ReplicaId(NodeId(2)), ReplicaId(NodeId(1), 1), ReplicaId(NodeId(3), 1)};
  f.replica.config.id = f.replica.config.voters[1];
  f.replica.disk = {};
  f.replica.start(f.chance, f.probes);
  CHECK(f.raft().configuration().generation == 1);
  CHECK(f.raft().configuration().voters == f.replica.config.voters);
  CHECK_FALSE(after_change(f.raft().configuration(), {.add = {ReplicaId(NodeId(4), 1)}}));
  CHECK(after_change(f.raft().configuration(), {.add = {ReplicaId(NodeId(4), 2)}}));
  CHECK(decode_configuration(encode(f.raft().configuration())));
}

TEST_CASE("a replica that does not know of rest answers a heartbeat of rest as any other", "[raft]") {
  Fixture f;
  Message m = f.from(2, MessageType::kAppend, 1);
  m.entries = {entry(1, 1)};
  m.commit = LogIndex(1);
  f.step(m);
  f.sent.clear();
  Message rest = f.from(2, MessageType::kHeartbeat, 1);
  rest.rest = true;
  rest.log = {LogIndex(1), Term(1)};
  rest.commit = LogIndex(1);
  rest.round = 5;
  f.step(rest);
  CHECK_FALSE(f.raft().resting());
  REQUIRE(f.sent.size() == 1);
  CHECK(f.sent[0].type == MessageType::kHeartbeatReply);
}

TEST_CASE("a follower rests only if its log ends where the leader's does and all of it is durable", "[raft]") {
  Fixture f;
  f.replica.config.may_rest = true;
  f.replica.start(f.chance, f.probes);
  Message m = f.from(2, MessageType::kAppend, 1);
  m.entries = {entry(1, 1), entry(2, 1)};
  m.commit = LogIndex(1);
  f.step(m);
  Message rest = f.from(2, MessageType::kHeartbeat, 1);
  rest.rest = true;
  auto rests = [&](LogPosition position, uint64_t commit) {
    rest.log = position;
    rest.commit = LogIndex(commit);
    ++rest.round;
    f.step(rest);
    return f.raft().resting();
  };
  CHECK_FALSE(rests({LogIndex(1), Term(1)}, 1));
  CHECK_FALSE(rests({LogIndex(3), Term(1)}, 3));
  CHECK_FALSE(rests({LogIndex(2), Term(1)}, 1));
  CHECK(rests({LogIndex(2), Term(1)}, 2));
  CHECK(f.raft().next_deadline() == kNever);
  f.raft().wake(f.replica.now);
  CHECK_FALSE(f.raft().resting());
  f.raft().step(rest, f.replica.now);  // the same again
  f.settle();
  CHECK_FALSE(f.raft().resting());
  m.log = {LogIndex(2), Term(1)};
  m.entries = {entry(3, 1)};
  m.round = rest.round;
  f.raft().step(m, f.replica.now);
  rest.log = {LogIndex(3), Term(1)};
  rest.commit = LogIndex(3);
  ++rest.round;
  f.raft().step(rest, f.replica.now);  // before entry 3 is durable
  CHECK_FALSE(f.raft().resting());
  f.settle();
  CHECK(rests({LogIndex(3), Term(1)}, 3));
}

TEST_CASE("a leader answers the read requests that come between two Readys with one round", "[raft]") {
  Fixture f;
  f.lead();
  Message ack = f.from(2, MessageType::kAppendReply, f.raft().term().value);
  ack.log = {LogIndex(1), f.raft().term()};
  f.step(ack);
  f.sent.clear();
  for (uint64_t n = 1; n <= 3; ++n) {
    Message ask = f.from(2 + n % 2, MessageType::kReadIndex, f.raft().term().value);
    ask.round = 70 + n;
    f.raft().step(ask, f.replica.now);
  }
  REQUIRE(f.raft().read_index(5, f.replica.now));
  f.settle();
  REQUIRE(f.sent.size() == 2);
  const uint64_t round = f.sent[0].round;
  f.sent.clear();
  Message reply = f.from(3, MessageType::kHeartbeatReply, f.raft().term().value);
  reply.round = round;
  f.raft().step(reply, f.replica.now);
  CHECK(f.settle().front().reads.size() == 1);
  std::vector<std::pair<uint64_t, uint64_t>> answers;
  for (const Message& m : f.sent)
    if (m.type == MessageType::kReadIndexReply && !m.reject) answers.emplace_back(m.to.value, m.round);
  CHECK(answers == std::vector<std::pair<uint64_t, uint64_t>>{{3, 71}, {2, 72}, {3, 73}});
}

TEST_CASE("no more reads wait than may, wherever they come from, and others are told so", "[raft]") {
  Fixture f;
  f.lead();
  for (size_t n = 0; n < limits::kMaxWaitingReads; ++n) REQUIRE(f.raft().read_index(n, f.replica.now));
  CHECK_FALSE(f.raft().read_index(1, f.replica.now));
  f.sent.clear();
  Message ask = f.from(2, MessageType::kReadIndex, f.raft().term().value);
  ask.round = 9;
  f.step(ask);
  REQUIRE(f.sent.size() == 1);
  CHECK(f.sent[0].type == MessageType::kReadIndexReply);
  CHECK(f.sent[0].reject);
}

TEST_CASE("a follower's reads share a request, and fail when it is refused, too late, or its leader changes",
          "[raft]") {
  Fixture f;
  f.replica.config.follower_reads = true;
  f.replica.start(f.chance, f.probes);
  CHECK_FALSE(f.raft().read_index(1, f.replica.now));  // it knows no leader
  f.step(f.from(2, MessageType::kHeartbeat, 1));
  auto request = [&](uint64_t context) {
    REQUIRE(f.raft().read_index(context, f.replica.now));
    REQUIRE(f.raft().read_index(context + 1, f.replica.now));
    f.sent.clear();
    f.settle();
    REQUIRE(f.sent.size() == 1);
    CHECK(f.sent[0].to == ReplicaId(2));
    Message reply = f.from(2, MessageType::kReadIndexReply, 1);
    reply.round = f.sent[0].round;
    return reply;
  };
  auto failed = [&] {
    std::vector<uint64_t> contexts;
    for (const Ready& ready : f.settle()) {
      CHECK(ready.reads.empty());
      contexts.insert(contexts.end(), ready.failed_reads.begin(), ready.failed_reads.end());
    }
    return contexts;
  };
  using Contexts = std::vector<uint64_t>;

  Message reply = request(10);
  reply.commit = LogIndex(4);
  f.raft().step(reply, f.replica.now);
  std::vector<Ready> readys = f.settle();
  REQUIRE(readys.size() == 1);
  REQUIRE(readys[0].reads.size() == 2);
  CHECK(readys[0].reads[1].context == 11);
  CHECK(readys[0].reads[1].index == LogIndex(4));
  f.raft().step(reply, f.replica.now);  // the same again
  CHECK(f.settle().empty());

  reply = request(20);
  reply.reject = true;
  f.raft().step(reply, f.replica.now);
  CHECK(failed() == Contexts{20, 21});

  reply = request(30);
  f.replica.now = f.raft().next_deadline();
  f.raft().tick(f.replica.now);
  CHECK(failed() == Contexts{30, 31});
  f.raft().step(reply, f.replica.now);
  CHECK(f.settle().empty());

  f.step(f.from(2, MessageType::kHeartbeat, 1));
  request(40);
  f.raft().step(f.from(3, MessageType::kHeartbeat, 2), f.replica.now);
  CHECK(failed() == Contexts{40, 41});
}
