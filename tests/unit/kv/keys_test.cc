#include <set>

#include "core/kv/scan_cursors.h"
#include "tests/test.h"
#include "tests/unit/kv/support.h"

using namespace mneme;
using namespace mneme::kv;
using namespace mneme::kv::testing;

TEST_CASE("DEL, UNLINK, EXISTS and TOUCH count keys, repeated ones as often as Redis does") {
  Driver d;
  d.run({"MSET", "a", "1", "b", "2", "c", "3"});
  CHECK(d.read({"EXISTS", "a", "a", "x", "b"}) == integer(3));
  CHECK(d.read({"TOUCH", "a", "x"}) == integer(1));
  CHECK(d.run({"DEL", "a", "a", "x"}) == integer(1));
  CHECK(d.run({"UNLINK", "b", "c"}) == integer(2));
  CHECK(d.read({"DBSIZE"}) == integer(0));
}

TEST_CASE("RENAME and RENAMENX move value and time to live, over or not over the target") {
  Driver d;
  CHECK(d.run({"RENAME", "a", "b"}) == error("ERR no such key"));
  CHECK(d.run({"RENAMENX", "a", "a"}) == error("ERR no such key"));
  d.run({"SET", "a", "1", "PX", "900"});
  d.run({"SET", "b", "2"});
  CHECK(d.run({"RENAMENX", "a", "b"}) == integer(0));
  CHECK(d.run({"RENAMENX", "a", "a"}) == integer(0));
  CHECK(d.run({"RENAME", "a", "a"}) == kOk);
  CHECK(d.run({"RENAME", "a", "b"}) == kOk);
  CHECK(d.read({"GET", "b"}) == bulk("1"));
  CHECK(d.read({"PTTL", "b"}) == integer(900));
  CHECK(d.read({"EXISTS", "a"}) == integer(0));
  CHECK(d.run({"RENAMENX", "b", "c"}) == integer(1));
}

TEST_CASE("COPY copies value and time to live, replaces only when told, and knows one database") {
  Driver d;
  d.run({"SET", "a", "1", "PX", "900"});
  CHECK(d.run({"COPY", "a", "b"}) == integer(1));
  CHECK(d.read({"PTTL", "b"}) == integer(900));
  CHECK(d.run({"COPY", "a", "b"}) == integer(0));
  d.run({"SET", "a", "2"});
  CHECK(d.run({"COPY", "a", "b", "REPLACE"}) == integer(1));
  CHECK(d.read({"GET", "b"}) == bulk("2"));
  CHECK(d.read({"PTTL", "b"}) == integer(-1));
  CHECK(d.run({"COPY", "none", "c"}) == integer(0));
  CHECK(d.run({"COPY", "a", "a"}) == error("ERR source and destination objects are the same"));
  CHECK(d.run({"COPY", "a", "c", "DB", "0"}) == integer(1));
  CHECK(d.run({"COPY", "a", "c", "DB", "1"}) == error("ERR DB index is out of range"));
  CHECK(d.run({"COPY", "a", "c", "DB", "x"}) == error("ERR value is not an integer or out of range"));
  CHECK(d.run({"COPY", "a", "c", "DB"}) == error("ERR syntax error"));
}

TEST_CASE("TYPE, RANDOMKEY and MEMORY USAGE answer for present and absent keys") {
  Driver d;
  CHECK(d.read({"RANDOMKEY"}) == kNull);
  CHECK(d.read({"TYPE", "k"}) == "+none\r\n");
  CHECK(d.read({"MEMORY", "USAGE", "k"}) == kNull);
  d.run({"SET", "k", "v"});
  CHECK(d.read({"TYPE", "k"}) == "+string\r\n");
  CHECK(d.read({"RANDOMKEY"}) == bulk("k"));
  CHECK(d.read({"MEMORY", "USAGE", "k"}) == integer(static_cast<int64_t>(d.machine().table().bytes_used())));
}

TEST_CASE("RANDOMKEY reaches every key and never an expired one") {
  Driver d;
  for (int i = 0; i < 10; ++i) d.run({"SET", "k" + std::to_string(i), "v"});
  d.run({"SET", "dead", "v", "PX", "10"});
  Table copy;
  for (int i = 0; i < 10; ++i) copy.put("k" + std::to_string(i), {});
  copy.put("dead", {.expire_at_ms = 5});
  copy.advance(5, 0);
  std::set<std::string> seen;
  for (uint64_t pick = 0; pick < 11; ++pick) seen.insert(*copy.some_key(pick));
  CHECK(seen.size() == 10);
  CHECK(!seen.contains("dead"));
}

TEST_CASE("FLUSHALL and FLUSHDB empty the table and take only SYNC or ASYNC") {
  for (const char* command : {"FLUSHALL", "FLUSHDB"}) {
    Driver d;
    uint64_t empty = d.machine().table().digest();
    d.run({"MSET", "a", "1", "b", "2"});
    d.run({"EXPIRE", "a", "10"});
    CHECK(d.run({command, "NOW"}) == error("ERR syntax error"));
    CHECK(d.run({command, "SYNC", "ASYNC"}) == error("ERR syntax error"));
    CHECK(d.read({"DBSIZE"}) == integer(2));
    CHECK(d.run({command, "async"}) == kOk);
    CHECK(d.read({"DBSIZE"}) == integer(0));
    CHECK(d.machine().table().digest() == empty);
    CHECK(d.machine().bytes_used() == 0);
  }
}

TEST_CASE("KEYS lists matches in byte order") {
  Driver d;
  d.run({"MSET", "b", "", "a1", "", "a2", "", "A", "", "\xff", ""});
  CHECK(d.read({"KEYS", "a*"}) == "*2\r\n$2\r\na1\r\n$2\r\na2\r\n");
  CHECK(d.read({"KEYS", "*"}) == "*5\r\n$1\r\nA\r\n$2\r\na1\r\n$2\r\na2\r\n$1\r\nb\r\n$1\r\n\xff\r\n");
}

TEST_CASE("glob patterns match as Redis's do") {
  struct Row {
    const char* pattern;
    const char* text;
    bool matches;
  };
  for (const Row& row : {Row{"h?llo", "hello", true},
                         {"h?llo", "hllo", false},
                         {"h*llo", "heeello", true},
                         {"h[ae]llo", "hallo", true},
                         {"h[ae]llo", "hillo", false},
                         {"h[^e]llo", "hello", false},
                         {"h[a-b]llo", "hbllo", true},
                         {"h[b-a]llo", "hallo", true},
                         {"\\*", "*", true},
                         {"\\*", "a", false},
                         {"a\\", "a\\", true},
                         {"[a", "a", true},
                         {"[", "[", false},
                         {"[]a]", "a]", false},
                         {"[\\]]", "]", true},
                         {"*a*b*c", "xxaxxbxxc", true},
                         {"*a*b*c", "xxaxxbxx", false},
                         {"", "", true},
                         {"", "a", false},
                         {"*", "", true},
                         {"a**", "a", true},
                         {"?", "", false}}) {
    INFO(row.pattern << " " << row.text);
    CHECK(glob_matches(row.pattern, row.text) == row.matches);
  }
  // Exponential in a matcher that recurses at every star.
  CHECK_FALSE(glob_matches("a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", std::string(20000, 'a')));
}

TEST_CASE("RANGE gives keys with values between two bounds, by prefix and limited") {
  Driver d;
  d.run({"MSET", "a", "1", "b", "2", "ba", "3", "bb", "4", "c", "5"});
  auto pairs = [](const Words& words) {
    std::string reply = "*" + std::to_string(words.size()) + "\r\n";
    for (const std::string& word : words) reply += bulk(word);
    return reply;
  };
  CHECK(d.read({"RANGE", "a", "b"}) == pairs({"a", "1"}));
  CHECK(d.read({"RANGE", "b", "c"}) == pairs({"b", "2", "ba", "3", "bb", "4"}));
  CHECK(d.read({"RANGE", "b", "b", "PREFIX"}) == pairs({"b", "2", "ba", "3", "bb", "4"}));
  CHECK(d.read({"RANGE", "ba", "b", "prefix", "limit", "1"}) == pairs({"ba", "3"}));
  CHECK(d.read({"RANGE", "bb", ""}) == pairs({"bb", "4", "c", "5"}));
  CHECK(d.read({"RANGE", "", "", "LIMIT", "2"}) == pairs({"a", "1", "b", "2"}));
  CHECK(d.read({"RANGE", "", "", "LIMIT", "0"}) == pairs({}));
  CHECK(d.read({"RANGE", "c", "a"}) == pairs({}));
  CHECK(d.read({"RANGE", "a", "b", "LIMIT"}) == error("ERR syntax error"));
  CHECK(d.read({"RANGE", "a", "b", "LIMIT", "-1"}) == error("ERR value is out of range, must be positive"));
  CHECK(d.read({"RANGE", "a", "b", "LIMIT", "x"}) == error("ERR value is not an integer or out of range"));
}

TEST_CASE("replies that several values add up to are bounded") {
  Driver d;
  d.run({"SET", "a", std::string(limits::kMaxValueBytes, 'x')});
  Words words = {"MGET"};
  words.resize(1 + limits::kMaxReplyBytes / limits::kMaxValueBytes + 1, "a");
  CHECK(d.read(words) == error("ERR reply exceeds maximum allowed size, ask for less at once"));
  for (char c = 'b'; c < 'm'; ++c) d.run({"COPY", "a", std::string(1, c)});
  CHECK(d.read({"RANGE", "", ""}) == error("ERR reply exceeds maximum allowed size, ask for less at once"));
  CHECK(d.read({"RANGE", "", "", "LIMIT", "1"}).size() > limits::kMaxValueBytes);
}

TEST_CASE("scan cursors are bounded in number and bytes, the least recently used going first") {
  ScanCursors cursors(7);
  uint64_t kept = cursors.advance(0, "kept");
  uint64_t forgotten = cursors.advance(0, "forgotten");
  for (size_t i = 0; i < ScanCursors::kMaxCursors; ++i) {
    CHECK(cursors.position(kept) == "kept");
    CHECK(cursors.advance(0, "x") >> 63 == 0);
  }
  CHECK(cursors.size() == ScanCursors::kMaxCursors);
  CHECK(cursors.position(forgotten).empty());
  for (int i = 0; i < 1000; ++i) cursors.advance(0, std::string(limits::kMaxKeyBytes, 'x'));
  CHECK(cursors.size() * limits::kMaxKeyBytes <= ScanCursors::kMaxPositionBytes);
  CHECK(ScanCursors(1).advance(0, "k") != ScanCursors(2).advance(0, "k"));
}

namespace {

// As nodes send it; clients do not know it.
std::string scan_slots(Driver& d, Words words) {
  words.insert(words.begin(), "mneme.scan");
  auto args = views(words);
  std::string out;
  const CommandSpec* spec = check(args, out, Sender::kNode);
  if (spec != nullptr) d.due = d.machine().read(*spec, args, {.now_ms = d.now}, out);
  return out;
}

}  // namespace

TEST_CASE("mneme.scan goes over the keys of some slots in key order and says where to go on") {
  Driver d;
  CHECK(scan_slots(d, {"", "0", "16384"}) == "*2\r\n_\r\n*0\r\n");
  // Slots: "" 0, bar 5061, baz 4813, foo 12182.
  for (const char* key : {"", "bar", "baz", "foo"}) d.run({"SET", key, "v"});
  CHECK(scan_slots(d, {"", "0", "16384", "COUNT", "2"}) == "*2\r\n$3\r\nbaz\r\n*2\r\n$0\r\n\r\n$3\r\nbar\r\n");
  CHECK(scan_slots(d, {"baz", "0", "16384", "COUNT", "2"}) == "*2\r\n_\r\n*2\r\n$3\r\nbaz\r\n$3\r\nfoo\r\n");
  CHECK(scan_slots(d, {"", "4813", "5061"}) == "*2\r\n_\r\n*1\r\n$3\r\nbaz\r\n");
  // COUNT counts keys of the slots, the key to go on from may be of another.
  CHECK(scan_slots(d, {"", "4813", "4814", "COUNT", "1"}) == "*2\r\n$3\r\nfoo\r\n*1\r\n$3\r\nbaz\r\n");
  CHECK(scan_slots(d, {"", "0", "16384", "MATCH", "ba?"}) == "*2\r\n_\r\n*2\r\n$3\r\nbar\r\n$3\r\nbaz\r\n");
  CHECK(scan_slots(d, {"", "0", "16384", "match", "b*", "type", "STRING", "count", "99"}) ==
        "*2\r\n_\r\n*2\r\n$3\r\nbar\r\n$3\r\nbaz\r\n");
  CHECK(scan_slots(d, {"", "0", "16384", "TYPE", "list"}) == "*2\r\n_\r\n*0\r\n");
}

TEST_CASE("mneme.scan refuses what it cannot read, and clients") {
  Driver d;
  for (const Words& words : {Words{"", "-1", "5"}, Words{"", "0", "16385"}, Words{"", "x", "5"}})
    CHECK(scan_slots(d, words) == error("ERR Invalid slot"));
  CHECK(scan_slots(d, {"", "0", "5", "COUNT"}) == error("ERR syntax error"));
  CHECK(scan_slots(d, {"", "0", "5", "COUNT", "0"}) == error("ERR syntax error"));
  CHECK(scan_slots(d, {"", "0", "5", "COUNT", "x"}) == error("ERR value is not an integer or out of range"));
  CHECK(scan_slots(d, {"", "0", "5", "FOO", "1"}) == error("ERR syntax error"));
  CHECK(d.read({"mneme.scan", "", "0", "5"}).starts_with("-ERR unknown command"));
}

TEST_CASE("SCAN itself goes over all shards, so that the state machine of one refuses it") {
  Driver d;
  CHECK(d.read({"SCAN", "0"}) == error("ERR Command not allowed inside a transaction"));
}

TEST_CASE("mneme.scan looks at a bounded number of keys in one call") {
  Driver d;
  for (int i = 0; i < 40'000; i += 100) {
    Words mset{"MSET"};
    for (int k = i; k < i + 100; ++k) mset.insert(mset.end(), {"k" + std::to_string(k), "v"});
    d.run(mset);
  }
  std::string from;
  size_t keys = 0;
  int calls = 0;
  for (bool more = true; more; ++calls) {
    std::string reply = scan_slots(d, {from, "0", "16384", "COUNT", "1000000"});
    more = !reply.starts_with("*2\r\n_");
    if (more) {
      size_t at = reply.find("\r\n", 4) + 2;
      from = reply.substr(at, reply.find("\r\n", at) - at);
    }
    keys += static_cast<size_t>(std::stoi(reply.substr(reply.find("\r\n*") + 3)));
  }
  CHECK(keys == 40'000);
  CHECK(calls == 3);
}

TEST_CASE("mneme.scan says when a key that it met is due to expire") {
  Driver d;
  d.run({"SET", "foo", "v", "PX", "10"});
  scan_slots(d, {"", "0", "16384"});
  CHECK(!d.due);
  d.now += 20;
  scan_slots(d, {"", "0", "100"});
  CHECK(!d.due);
  scan_slots(d, {"", "0", "16384"});
  CHECK(d.due);
}

TEST_CASE("the keys of a slot are counted and listed, few or many, without those that have expired") {
  Driver d;
  const std::string slot = std::to_string(slot_of("{t}"));
  auto count = [&] { return d.read({"CLUSTER", "COUNTKEYSINSLOT", slot}); };
  auto list = [&](const std::string& n) { return d.read({"cluster", "getkeysinslot", slot, n}); };
  CHECK(count() == integer(0));
  CHECK(list("10") == "*0\r\n");
  for (int others : {100, 10'000}) {  // both sides of where counting begins
    for (int i = 0; i < others; ++i) d.run({"SET", "{u}" + std::to_string(i), "v"});
    for (const char* key : {"{t}b", "{t}a", "{t}c"}) d.run({"SET", key, "v"});
    CHECK(count() == integer(3));
    CHECK(list("10") == "*3\r\n" + bulk("{t}a") + bulk("{t}b") + bulk("{t}c"));
    CHECK(list("2") == "*2\r\n" + bulk("{t}a") + bulk("{t}b"));
    CHECK(list("0") == "*0\r\n");
    CHECK(d.run({"CLUSTER", "COUNTKEYSINSLOT", slot}) == integer(3));
    d.run({"PEXPIRE", "{t}b", "5"});
    CHECK(d.read({"CLUSTER", "COUNTKEYSINSLOT", slot}, d.now + 5) == integer(3));
    CHECK(d.due);
    CHECK(d.read({"CLUSTER", "GETKEYSINSLOT", slot, "9"}, d.now + 5).starts_with("*3"));
    CHECK(d.due);
    // Due at once, and more than one entry sweeps.
    for (int i = 0; i < 500; ++i) d.run({"SET", "{u}a" + std::to_string(i), "v", "PX", "2"});
    d.now += 5;
    d.apply(d.batch().finish());
    REQUIRE(d.machine().sweep_pending());
    CHECK(count() == integer(2));
    CHECK(list("9") == "*2\r\n" + bulk("{t}a") + bulk("{t}c"));
    d.run({"DEL", "{t}c"});
    CHECK(count() == integer(1));
  }
  d.run({"FLUSHALL"});
  CHECK(count() == integer(0));
}

TEST_CASE("what is no slot, or no number of keys, is refused in Redis's words") {
  Driver d;
  for (const char* slot : {"-1", "16384"}) {
    CHECK(d.read({"CLUSTER", "COUNTKEYSINSLOT", slot}) == error("ERR Invalid slot"));
    CHECK(d.read({"CLUSTER", "GETKEYSINSLOT", slot, "1"}) == error("ERR Invalid slot or number of keys"));
  }
  CHECK(d.read({"CLUSTER", "GETKEYSINSLOT", "0", "-1"}) == error("ERR Invalid slot or number of keys"));
  CHECK(d.read({"CLUSTER", "COUNTKEYSINSLOT", "x"}) == error("ERR value is not an integer or out of range"));
  CHECK(d.read({"CLUSTER", "GETKEYSINSLOT", "0", "x"}) == error("ERR value is not an integer or out of range"));
  CHECK(d.read({"CLUSTER", "GETKEYSINSLOT", "0"}) ==
        error("ERR wrong number of arguments for 'cluster|getkeysinslot' command"));
}
