#include "core/node/scan.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/base/hash.h"
#include "core/kv/execute.h"
#include "core/kv/table.h"
#include "core/protocol/reply.h"
#include "core/protocol/reply_reader.h"
#include "tests/unit/shard/support.h"

using namespace mneme;
using namespace mneme::node;
using shard::SlotRange;

namespace {

using Words = std::vector<std::string>;

struct Answer {
  std::string cursor;
  std::vector<std::string> keys;
};

Answer parse(const std::string& reply) {
  const auto parsed = protocol::parse_reply(reply);
  REQUIRE(parsed);
  REQUIRE(parsed->elements.size() == 2);
  Answer answer{parsed->elements[0].text, {}};
  for (const protocol::Reply& key : parsed->elements[1].elements) answer.keys.push_back(key.text);
  return answer;
}

// Data in shards that can be split while scans go on.
struct Store {
  explicit Store(uint32_t shards) : map(shard::founded({.shards = shards})) {}

  kv::Table& table_of(std::string_view key) { return tables[map.owner_of(slot_of(key))]; }
  void set(const std::string& key) { table_of(key).put(key, {}); }

  void split(GroupId group, uint16_t at) {
    shard::accept(map, shard::begin(map, group, {.kind = shard::ActionKind::kSplit, .at = at}));
    shard::accept(map, shard::advance(map, group));
    const GroupId child(map.next_group().value - 1);
    std::vector<std::string> gone;
    tables[group].visit({}, [&](std::string_view key, const kv::Value&) {
      if (slot_of(key) >= at) gone.emplace_back(key);
      return true;
    });
    for (const std::string& key : gone) {
      tables[group].erase(key);
      tables[child].put(key, {});
    }
  }

  // What a client is answered.
  std::string scan(Words words) {
    words.insert(words.begin(), "SCAN");
    const std::vector<std::string_view> args(words.begin(), words.end());
    std::string out;
    auto scan = Scan::open(args, cursors);
    if (!scan) {
      protocol::put_error(out, scan.error().message);
      return out;
    }
    asks = 0;
    while (!scan->enough()) {
      ++asks;
      const Scan::Ask ask = scan->next(map);
      std::string error;
      REQUIRE(kv::check(ask.args, error, kv::Sender::kNode) == ask.spec);
      kv::Reading reading{.store = tables[map.owner_of(ask.slot)]};
      std::string reply;
      kv::execute_read(ask.spec->id, ask.args, reading, reply);
      REQUIRE(scan->take(reply));
    }
    scan->answer(cursors, out);
    REQUIRE(protocol::reply_length(out) == out.size());
    return out;
  }

  shard::Map map;
  std::map<GroupId, kv::Table> tables;
  kv::ScanCursors cursors{7};
  size_t asks = 0;
};

}  // namespace

TEST_CASE("a position goes on where a range was not looked at to the end, and over what was not asked for") {
  ScanPosition position{{{0, 100}, "k"}, {{100, 16384}, ""}};
  const std::string_view next = "m";
  advance(position, {0, 40}, &next);
  CHECK(position == ScanPosition{{{0, 40}, "m"}, {{40, 100}, "k"}, {{100, 16384}, ""}});
  advance(position, {0, 40}, nullptr);
  CHECK(position == ScanPosition{{{40, 100}, "k"}, {{100, 16384}, ""}});
  CHECK(decode_scan_position(encode(position)) == position);
  advance(position, {40, 100}, nullptr);
  advance(position, {100, 16384}, nullptr);
  CHECK(position.empty());
  CHECK(decode_scan_position(encode(position)).empty());
}

TEST_CASE("a position of too many segments looks at some keys again rather than at none") {
  ScanPosition position{{{0, 16384}, ""}};
  for (uint16_t end = 8192; end >= 8192 >> kMaxScanSegments && end > 0; end /= 2) {
    const std::string key = "k" + std::to_string(end);
    const std::string_view next = key;
    advance(position, {0, end}, &next);
    REQUIRE(position.size() <= kMaxScanSegments);
    for (size_t i = 1; i < position.size(); ++i) REQUIRE(position[i - 1].slots.end == position[i].slots.begin);
    REQUIRE(position.front().slots.begin == 0);
    REQUIRE(position.back().slots.end == 16384);
    REQUIRE(position.back().from.empty());
  }
}

TEST_CASE("shards are scanned one after the other, several in a call while they have little") {
  Store store(3);
  const Answer empty = parse(store.scan({"0"}));
  CHECK(empty.cursor == "0");
  CHECK(empty.keys.empty());
  CHECK(store.asks == 3);
  // In the slots 4813, 5061, 12182: the first and third shard.
  for (const char* key : {"foo", "bar", "baz"}) store.set(key);
  const Answer all = parse(store.scan({"0"}));
  CHECK(all.cursor == "0");
  CHECK(all.keys == Words{"bar", "baz", "foo"});
  const Answer first = parse(store.scan({"0", "COUNT", "1"}));
  CHECK(first.keys == Words{"bar"});
  CHECK(store.asks == 1);
  CHECK(parse(store.scan({first.cursor, "COUNT", "9"})).keys == Words{"baz", "foo"});
  CHECK(parse(store.scan({"0", "MATCH", "*o*", "TYPE", "string"})).keys == Words{"foo"});
  CHECK(parse(store.scan({"0", "TYPE", "list"})).keys.empty());
}

TEST_CASE("one call asks a bounded number of shards") {
  Store store(20);
  std::string cursor = "0";
  size_t calls = 0;
  do {
    cursor = parse(store.scan({cursor})).cursor;
    CHECK(store.asks <= kMaxScanAsks);
    ++calls;
  } while (cursor != "0");
  CHECK(calls == 3);
}

TEST_CASE("a cursor that is not known starts again, and one whose reply was lost may be used again") {
  Store store(2);
  for (int i = 0; i < 100; ++i) store.set("k" + std::to_string(i));
  const std::string first = store.scan({"0", "COUNT", "10"});
  const std::string cursor = parse(first).cursor;
  CHECK(parse(store.scan({"12345", "COUNT", "10"})).keys == parse(first).keys);
  CHECK(parse(store.scan({cursor, "COUNT", "10"})).keys == parse(store.scan({cursor, "COUNT", "10"})).keys);
  CHECK(store.scan({"x"}) == "-ERR invalid cursor\r\n");
}

TEST_CASE("a shard's error is the answer and leaves the cursor where it was") {
  Store store(2);
  for (int i = 0; i < 100; ++i) store.set("k" + std::to_string(i));
  const std::string cursor = parse(store.scan({"0", "COUNT", "10"})).cursor;
  CHECK(store.scan({cursor, "COUNT", "x"}) == "-ERR value is not an integer or out of range\r\n");
  CHECK(store.scan({cursor, "COUNT"}) == "-ERR syntax error\r\n");
  CHECK(parse(store.scan({cursor, "COUNT", "5"})).keys.size() == 5);
}

TEST_CASE("a reply that is none leaves the scan where it was") {
  Store store(1);
  const std::vector<std::string_view> args{"SCAN", "0"};
  Scan scan = *Scan::open(args, store.cursors);
  const std::string from(scan.next(store.map).args[1]);
  for (const char* bad : {"", "*1\r\n_\r\n", "*2\r\n_\r\n", "*2\r\n_\r\n*1\r\n", "*2\r\n:1\r\n*0\r\n",
                          "*2\r\n$1\r\na\r\n*2\r\n$1\r\nb\r\n:1\r\n"}) {
    auto taken = scan.take(bad);
    REQUIRE(!taken);
    CHECK(taken.error().code == ErrorCode::kCorrupt);
  }
  CHECK(!scan.enough());
  REQUIRE(scan.take("*2\r\n_\r\n*1\r\n$1\r\na\r\n"));
  std::string out;
  scan.answer(store.cursors, out);
  CHECK(out == "*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n");
}

TEST_CASE("a scan returns every key that is there all the time, whatever is split, set and deleted meanwhile") {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    uint64_t state = seed;
    auto below = [&](uint64_t bound) { return mix(state += 0x9e3779b97f4a7c15u) % bound; };
    Store store(static_cast<uint32_t>(1 + below(5)));
    std::set<std::string> stay;
    for (uint64_t i = 0; i < 300; ++i) {
      const std::string key = i == 0 ? "" : "k" + std::to_string(below(10'000));
      stay.insert(key);
      store.set(key);
    }
    std::set<std::string> seen;
    std::string cursor = "0";
    int calls = 0;
    do {
      const Answer answer = parse(store.scan({cursor, "COUNT", std::to_string(1 + below(40))}));
      seen.insert(answer.keys.begin(), answer.keys.end());
      cursor = answer.cursor;
      if (below(2)) {
        auto owner = store.map.owner_of(static_cast<uint16_t>(below(kSlots)));
        const shard::SlotSet& slots = store.map.shard(owner)->slots;
        if (slots.size() > 1) store.split(owner, slots.nth(1 + below(slots.size() - 1)));
      }
      const std::string other = "other" + std::to_string(below(100));
      if (below(2))
        store.set(other);
      else
        store.table_of(other).erase(other);
      REQUIRE(++calls < 1000);
    } while (cursor != "0");
    INFO("seed " << seed);
    CHECK(std::includes(seen.begin(), seen.end(), stay.begin(), stay.end()));
    CHECK(store.cursors.size() <= 2);
  }
}
