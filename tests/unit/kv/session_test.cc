#include "core/kv/session.h"

#include "tests/test.h"
#include "tests/unit/kv/support.h"

using namespace mneme;
using namespace mneme::kv;
using namespace mneme::kv::testing;

TEST_CASE("session ids come from the entry's index and the place in it, and never repeat") {
  Driver d;
  auto replies = d.apply(Batch(d.now).add({"SESSION", "OPEN"}).add({"session", "open"}).finish()).replies;
  CHECK(replies == std::vector<std::string>{integer(1 << 20), integer((1 << 20) + 1)});
  CHECK(d.open_session() == 2u << 20);
}

TEST_CASE("a repeated number gets the first answer again and executes nothing") {
  Driver d;
  uint64_t s = d.open_session();
  CHECK(d.in_session(s, 1, {"INCR", "n"}) == integer(1));
  CHECK(d.in_session(s, 1, {"INCR", "n"}) == integer(1));
  CHECK(d.read({"GET", "n"}) == bulk("1"));
  d.run({"SET", "n", "x"});
  CHECK(d.in_session(s, 2, {"INCR", "n"})[0] == '-');
  d.run({"SET", "n", "5"});
  CHECK(d.in_session(s, 2, {"INCR", "n"}) == error("ERR value is not an integer or out of range"));
  CHECK(d.read({"GET", "n"}) == bulk("5"));
}

TEST_CASE("the sink learns whether a command was executed, repeated or refused") {
  Driver d;
  uint64_t s = d.open_session();
  d.forget_session();
  CommandMeta meta{.session = SessionId(s), .sequence = 1};
  CommandMeta unknown{.session = SessionId(77), .sequence = 1};
  auto collected =
      d.apply(Batch(d.now).add({"INCR", "n"}, meta).add({"INCR", "n"}, meta).add({"INCR", "n"}, unknown).finish());
  CHECK(collected.outcomes == std::vector{Outcome::kExecuted, Outcome::kRepeated, Outcome::kRefused});
}

TEST_CASE("pipelined numbers may be retried in any order, not only the highest (S06)") {
  Driver d;
  uint64_t s = d.open_session();
  std::map<uint64_t, std::string> first;
  for (uint64_t n : {3, 1, 5, 2, 4}) first[n] = d.in_session(s, n, {"INCR", "n"});
  for (uint64_t n : {5, 4, 1, 3, 2, 2, 5}) CHECK(d.in_session(s, n, {"INCR", "n"}) == first[n]);
  CHECK(d.read({"GET", "n"}) == bulk("5"));
}

TEST_CASE("the same number on another slot is another part of the command") {
  Driver d;
  uint64_t s = d.open_session();
  CHECK(d.in_session(s, 1, {"DEL", "foo"}) == integer(0));
  CHECK(d.in_session(s, 1, {"SET", "bar", "v"}) == kOk);
  CHECK(d.in_session(s, 1, {"DEL", "foo"}) == integer(0));
  CHECK(d.in_session(s, 1, {"DBSIZE"}) == integer(1));
}

TEST_CASE("an ack frees replies, and what was acknowledged is refused for ever") {
  Driver d;
  uint64_t s = d.open_session();
  size_t empty = d.machine().bytes_used();
  uint64_t digest = d.machine().sessions().digest();
  for (uint64_t n = 1; n <= 10; ++n) d.in_session(s, n, {"GETDEL", "none"});
  size_t full = d.machine().bytes_used();
  CHECK(full > empty);
  CHECK(d.in_session(s, 11, {"GETDEL", "none"}, 9) == kNull);
  CHECK(d.machine().sessions().all().at(s).kept.size() == 2);
  CHECK(d.machine().bytes_used() < full);
  CHECK(d.in_session(s, 10, {"GETDEL", "none"}) == kNull);
  CHECK(d.in_session(s, 9, {"INCR", "n"}) ==
        error("EXPIRED the reply to number 9 of session " + std::to_string(s) + " was acknowledged"));
  CHECK(d.in_session(s, 12, {"INCR", "n"}, 12)[0] == '-');
  CHECK(d.in_session(s, 0, {"INCR", "n"})[0] == '-');
  CHECK(d.in_session(s, 13, {"SET", "k", "v"}, 3) == kOk);  // an older ack takes nothing back
  CHECK(d.machine().sessions().all().at(s).acknowledged == 12);
  CHECK(d.read({"EXISTS", "n"}) == integer(0));
  CHECK(d.machine().sessions().digest() != digest);
}

TEST_CASE("an unknown or closed session executes nothing") {
  Driver d;
  d.forget_session();
  CHECK(d.in_session(5, 1, {"INCR", "n"}) == error("EXPIRED session 5 is unknown"));
  uint64_t s = d.open_session();
  CHECK(d.run({"SESSION", "CLOSE", std::to_string(s)}) == integer(1));
  CHECK(d.run({"SESSION", "CLOSE", std::to_string(s)}) == integer(0));
  CHECK(d.run({"SESSION", "CLOSE", "x"}) == error("ERR value is not an integer or out of range"));
  CHECK(d.in_session(s, 1, {"INCR", "n"}) == error("EXPIRED session " + std::to_string(s) + " is unknown"));
  CHECK(d.read({"EXISTS", "n"}) == integer(0));
  CHECK(d.machine().sessions().size() == 0);
  CHECK(d.machine().sessions().digest() == 0);
  CHECK(d.machine().bytes_used() == 0);
}

TEST_CASE("a session may close itself") {
  Driver d;
  uint64_t s = d.open_session();
  CHECK(d.in_session(s, 1, {"SESSION", "CLOSE", std::to_string(s)}) == integer(1));
  CHECK(d.machine().sessions().size() == 0);
}

TEST_CASE("a session idle for an hour of log time is gone at once, a used one stays") {
  Driver d;
  uint64_t idle = d.open_session();
  uint64_t used = d.open_session();
  d.now += kSessionIdleMs - 1;
  CHECK(d.in_session(used, 1, {"INCR", "n"}) == integer(1));
  d.now += 1;
  CHECK(d.in_session(idle, 1, {"INCR", "n"}) == error("EXPIRED session " + std::to_string(idle) + " is unknown"));
  CHECK(d.in_session(used, 2, {"INCR", "n"}) == integer(2));
  CHECK(d.machine().sessions().size() == 1);
}

TEST_CASE("idle sessions are swept a bounded number per entry and refused before") {
  Driver d;
  Batch opens(d.now);
  for (int i = 0; i < 1000; ++i) opens.add({"SESSION", "OPEN"});
  d.apply(opens.finish());
  d.now += kSessionIdleMs;
  d.apply(Batch(d.now).finish());
  size_t left = d.machine().sessions().size();
  CHECK(left > 0);
  CHECK(left < 1000);
  CHECK(d.machine().sweep_pending());
  uint64_t last = (1u << 20) + 999;
  CHECK(d.in_session(last, 1, {"INCR", "n"}) == error("EXPIRED session " + std::to_string(last) + " is unknown"));
}

TEST_CASE("beyond the most sessions the least recently used one goes, by log time and then by id") {
  SessionTable table;
  for (uint64_t id = 1; id <= limits::kMaxSessions; ++id) CHECK(table.open(SessionId(id), 100) == 0);
  table.admit(SessionId(1), 1, 0, 0, 101);
  CHECK(table.open(SessionId(limits::kMaxSessions + 1), 102) == 1);
  CHECK(table.size() == limits::kMaxSessions);
  CHECK(table.all().contains(1));
  CHECK(!table.all().contains(2));
  CHECK(table.forgotten() == SessionId(2));
  CHECK(table.all().contains(3));
}

TEST_CASE("a session that acknowledges nothing is refused at its bound, and goes on after an ack") {
  Driver d;
  uint64_t s = d.open_session();
  for (uint64_t n = 1; n <= limits::kMaxSessionReplies; ++n) d.in_session(s, n, {"INCR", "n"});
  std::string full =
      error("ERR session " + std::to_string(s) + " holds too many replies, acknowledge some with SESSION SEQ n ACK m");
  uint64_t next = limits::kMaxSessionReplies + 1;
  CHECK(d.in_session(s, next, {"INCR", "n"}) == full);
  CHECK(d.in_session(s, 7, {"INCR", "n"}) == integer(7));
  CHECK(d.in_session(s, next, {"INCR", "n"}, 1) == integer(static_cast<int64_t>(next)));
}

TEST_CASE("the bytes of kept replies are bounded, and a reply too long to keep is not executed twice") {
  Driver d;
  uint64_t s = d.open_session();
  std::string big(limits::kMaxValueBytes, 'x');
  d.run({"SET", "k", big});
  uint64_t n = 1;
  while (d.in_session(s, n, {"GETSET", "k", big}) == bulk(big)) ++n;
  CHECK(n == 3);
  CHECK(d.in_session(s, 1, {"GETSET", "k", "other"}) == bulk(big));
  uint64_t t = d.open_session();
  CommandMeta meta{.session = SessionId(t), .sequence = 1};
  auto transaction = [&] {
    return d.apply(Batch(d.now).transaction({{"GET", "k"}, {"GET", "k"}, {"INCR", "n"}}, meta).finish());
  };
  CHECK(transaction().replies == std::vector{bulk(big), bulk(big), integer(1)});
  auto again = transaction();
  CHECK(again.outcomes == std::vector(3, Outcome::kRepeated));
  CHECK(again.replies[0].starts_with("-EXPIRED the reply was too long"));
  CHECK(d.read({"GET", "n"}) == bulk("1"));
}

TEST_CASE("a transaction executes in one go, and an error inside undoes nothing") {
  Driver d;
  auto collected = d.apply(Batch(d.now)
                               .add({"SET", "a", "1"})
                               .transaction({{"INCR", "a"}, {"INCR", "a", "b"}, {"NOPE"}, {"GET", "a"}})
                               .add({"GET", "a"})
                               .finish());
  CHECK(collected.replies == std::vector{kOk, integer(2), error("ERR wrong number of arguments for 'incr' command"),
                                         error("ERR unknown command 'NOPE', with args beginning with: "), bulk("2"),
                                         bulk("2")});
  CHECK(d.apply(Batch(d.now).transaction({{"SCAN", "0"}, {"SESSION", "OPEN"}, {"PING"}}).finish()).replies ==
        std::vector{error("ERR Command not allowed inside a transaction"),
                    error("ERR Command not allowed inside a transaction"),
                    error("ERR command is not executed by the state machine")});
}

TEST_CASE("a transaction in a session is one number: repeated or refused as a whole") {
  Driver d;
  uint64_t s = d.open_session();
  d.forget_session();
  CommandMeta meta{.session = SessionId(s), .sequence = 1};
  std::vector<Words> commands = {{"DBSIZE"}, {"INCR", "{n}a"}, {"INCR", "{n}b"}, {"GET", "{n}a"}};
  auto first = d.apply(Batch(d.now).transaction(commands, meta).finish());
  auto again = d.apply(Batch(d.now).transaction(commands, meta).add({"GET", "{n}b"}).finish());
  CHECK(first.replies == std::vector{integer(0), integer(1), integer(1), bulk("1")});
  CHECK(std::vector(again.replies.begin(), again.replies.end() - 1) == first.replies);
  CHECK(again.replies.back() == bulk("1"));
  meta.session = SessionId(99);
  auto refused = d.apply(Batch(d.now).transaction(commands, meta).add({"GET", "{n}b"}).finish());
  CHECK(refused.replies.front() == error("EXPIRED session 99 is unknown"));
  CHECK(refused.outcomes ==
        std::vector{Outcome::kRefused, Outcome::kRefused, Outcome::kRefused, Outcome::kRefused, Outcome::kExecuted});
  CHECK(refused.replies.back() == bulk("1"));
}

TEST_CASE("reads in a transaction whose replies are too long are refused, its writes are not") {
  Driver d;
  d.run({"SET", "k", std::string(limits::kMaxValueBytes, 'x')});
  std::vector<Words> commands(limits::kMaxReplyBytes / limits::kMaxValueBytes + 2, Words{"GET", "k"});
  commands.push_back({"INCR", "n"});
  auto replies = d.apply(Batch(d.now).transaction(commands).finish()).replies;
  CHECK(replies.end()[-2] == error("ERR reply exceeds maximum allowed size, ask for less at once"));
  CHECK(replies.back() == integer(1));
}

TEST_CASE("estimated growth covers what commands really add") {
  Driver d;
  std::string value(1000, 'v');
  for (const Words& words : std::vector<Words>{{"SET", "a", value},
                                               {"MSET", "b", value, "c", value},
                                               {"INCR", "d"},
                                               {"COPY", "a", "e"},
                                               {"SETRANGE", "f", "5000", "x"},
                                               {"APPEND", "a", value},
                                               {"MNEME.SETNUM", "g", "1"},
                                               {"SESSION", "OPEN"}}) {
    INFO(words[0]);
    auto args = views(words);
    std::string ignored;
    size_t growth = d.machine().growth(*check(args, ignored), args);
    size_t before = d.machine().bytes_used();
    d.run(words);
    CHECK(d.machine().bytes_used() > before);
    CHECK(d.machine().bytes_used() - before <= growth);
    CHECK(growth < d.machine().bytes_used() - before + 2000);
  }
  std::string ignored;
  Words del = {"DEL", "a"};
  CHECK(d.machine().growth(*check(views(del), ignored), views(del)) == 0);
}

TEST_CASE("a shard takes part in a session opened elsewhere as soon as it is used there, and then as in its own") {
  Driver d;
  CHECK(d.in_session(700, 3, {"INCR", "n"}, 1) == integer(1));
  CHECK(d.in_session(700, 3, {"INCR", "n"}) == integer(1));
  CHECK(d.in_session(700, 1, {"INCR", "n"}).starts_with("-EXPIRED"));
  CHECK(d.in_session(500, 1, {"INCR", "n"}) == integer(2));  // an older one, that nobody forgot
  CHECK(d.machine().sessions().size() == 2);
  CHECK(load(checkpoint_of(d.machine())).value()->digest() == d.machine().digest());
}

TEST_CASE("a shard begins no session that it may have forgotten: idle, closed or evicted") {
  Driver d;
  d.in_session(700, 1, {"INCR", "n"});
  d.in_session(900, 1, {"INCR", "n"});
  auto refused = [&](uint64_t session) {
    return d.in_session(session, 1, {"INCR", "n"}) ==
           error("EXPIRED session " + std::to_string(session) + " is unknown");
  };
  d.run({"SESSION", "CLOSE", "700"});
  CHECK(d.machine().sessions().forgotten() == SessionId(700));
  CHECK(refused(700));
  CHECK(refused(699));  // the price
  CHECK(d.in_session(701, 1, {"INCR", "n"}) == integer(3));
  CHECK(d.in_session(900, 1, {"INCR", "n"}) == integer(2));
  d.now += kSessionIdleMs;
  CHECK(refused(900));
  CHECK(refused(701));
  CHECK(d.machine().sessions().forgotten() == SessionId(900));
  CHECK(d.in_session(901, 1, {"INCR", "n"}) == integer(4));

  uint64_t digest = d.machine().digest();
  auto loaded = load(checkpoint_of(d.machine()));
  REQUIRE(loaded);
  CHECK((*loaded)->digest() == digest);
  Driver restored(*std::move(loaded));
  CHECK(restored.in_session(899, 1, {"INCR", "n"}).starts_with("-EXPIRED"));

  SessionTable table;
  for (uint64_t id = 1; id <= limits::kMaxSessions; ++id) table.open(SessionId(2 * id), 100);
  CHECK(table.never_seen(SessionId(1)));
  CHECK(table.open(SessionId(1), 101) == 1);
  CHECK(table.forgotten() == SessionId(2));
  CHECK(!table.never_seen(SessionId(1)));  // it is there
  CHECK(!table.never_seen(SessionId(2)));
  CHECK(table.never_seen(SessionId(3)));
}

TEST_CASE("what is forgotten is part of the digest, and both halves of a split know it") {
  Driver d;
  Driver other;
  d.in_session(600, 1, {"INCR", "bar"});
  other.in_session(500, 1, {"INCR", "bar"});
  for (Driver* each : {&d, &other}) each->in_session(700, 1, {"INCR", "foo"});
  CHECK(d.run({"SESSION", "CLOSE", "600"}) == integer(1));
  CHECK(other.run({"SESSION", "CLOSE", "500"}) == integer(1));
  CHECK(d.machine().sessions().digest() == other.machine().sessions().digest());
  CHECK(d.machine().digest() != other.machine().digest());
  SplitRequest request{Epoch(1), 8192, GroupId(9), shard::OperationId(5), ""};
  Collected collected = d.apply(d.batch().add(split_command(request)).finish());
  REQUIRE(collected.splits.size() == 1);
  Driver child(std::move(collected.splits[0].second));
  CHECK(d.in_session(600, 2, {"INCR", "bar"}).starts_with("-EXPIRED"));
  CHECK(child.in_session(600, 2, {"INCR", "foo"}).starts_with("-EXPIRED"));
  CHECK(child.in_session(700, 1, {"INCR", "foo"}) == integer(1));
  CHECK(child.read({"GET", "foo"}) == bulk("1"));
  CHECK(child.in_session(701, 1, {"INCR", "foo"}) == integer(2));
}

TEST_CASE("a number that somebody made up is not given to a session that is opened") {
  Driver d;
  uint64_t next = 2u << 20;
  CHECK(d.in_session(next, 1, {"INCR", "n"}) == integer(1));
  CHECK(d.run({"SESSION", "OPEN"}) == error("ERR session " + std::to_string(next) + " is there already, open another"));
  CHECK(d.open_session() == 3u << 20);
}

TEST_CASE("the registry of sessions begins none by itself, and says which there are") {
  Driver registry(std::make_unique<StateMachine>());
  uint64_t s = registry.open_session();
  auto touch = [&](uint64_t id) { return registry.run(touch_command(SessionId(id))); };
  CHECK(touch(s) == kOk);
  CHECK(touch(s + 1) == error("EXPIRED session " + std::to_string(s + 1) + " is unknown"));
  CHECK(registry.run({"mneme.touch", "1"}).starts_with("-ERR "));
  Words open = {"SESSION", "OPEN"};
  CHECK(registry.in_session(s + 1, 1, open) == error("EXPIRED session " + std::to_string(s + 1) + " is unknown"));
  registry.now += kSessionIdleMs - 1;
  CHECK(touch(s) == kOk);
  registry.now += kSessionIdleMs - 1;
  CHECK(touch(s) == kOk);
  CHECK(registry.open_session() > s);
  CHECK(registry.run({"SESSION", "CLOSE", std::to_string(s)}) == integer(1));
  CHECK(touch(s).starts_with("-EXPIRED"));
  CHECK(load(checkpoint_of(registry.machine())).value()->digest() == registry.machine().digest());
}
