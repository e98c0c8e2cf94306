#include "core/node/scatter.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "core/base/limits.h"
#include "core/kv/execute.h"
#include "core/kv/table.h"
#include "core/protocol/reply.h"
#include "core/protocol/reply_reader.h"
#include "tests/unit/shard/support.h"

using namespace mneme;
using namespace mneme::node;
using kv::CommandId;
using replica::Outcome;

namespace {

using Words = std::vector<std::string>;

std::vector<std::string_view> views(const Words& words) { return {words.begin(), words.end()}; }

// A command with what check() said of it.
struct Command {
  explicit Command(Words said) : words(std::move(said)), args(views(words)) {
    std::string error;
    spec = kv::check(args, error);
    INFO(error);
    REQUIRE(spec != nullptr);
  }
  Command(const Command&) = delete;

  Words words;
  std::vector<std::string_view> args;
  const kv::CommandSpec* spec;
};

Route route(const Words& words) {
  Command command(words);
  return route_of(*command.spec, command.args);
}

std::vector<Words> parts_of(const Scatter& scatter) {
  std::vector<Words> parts;
  for (const Scatter::Part& part : scatter.parts()) {
    kv::Args args = scatter.args(part);
    parts.emplace_back(args.begin(), args.end());
  }
  return parts;
}

std::string gather(const Scatter& scatter, const std::vector<std::string>& replies, uint64_t pick = 0) {
  std::string out;
  auto gathered = scatter.gather(views(replies), pick, out);
  return gathered ? out : "malformed";
}

std::string execute(kv::Table& table, const kv::CommandSpec& spec, kv::Args args) {
  std::string out;
  if (spec.is(kv::kWrite)) {
    kv::execute_write(spec.id, args, table, out);
  } else {
    kv::Reading reading{.store = table, .now_ms = 0};
    kv::execute_read(spec.id, args, reading, out);
  }
  return out;
}

// Tables by shard, and the same data in one.
struct Both {
  explicit Both(uint32_t shards) : map(shard::founded({.shards = shards})) {}

  std::string run_parted(const Command& command) {
    const Route where = route_of(*command.spec, command.args);
    if (where.spread == Spread::kSlot) return execute(parted[map.owner_of(where.slot)], *command.spec, command.args);
    REQUIRE((where.spread == Spread::kSlots || where.spread == Spread::kShards));
    const Scatter scatter = where.spread == Spread::kSlots ? Scatter::over_slots(*command.spec, command.args)
                                                           : Scatter::over_shards(*command.spec, command.args, map);
    std::vector<std::string> replies;
    for (const Scatter::Part& part : scatter.parts()) {
      const GroupId group = where.spread == Spread::kSlots ? map.owner_of(part.slot) : part.group;
      replies.push_back(execute(parted[group], *command.spec, scatter.args(part)));
    }
    return gather(scatter, replies);
  }

  shard::Map map;
  std::map<GroupId, kv::Table> parted;
  kv::Table whole;
};

std::vector<std::string> sorted_texts(const std::string& reply) {
  std::vector<std::string> texts;
  const auto parsed = protocol::parse_reply(reply);
  REQUIRE(parsed);
  for (const protocol::Reply& element : parsed->elements) texts.push_back(element.text);
  std::sort(texts.begin(), texts.end());
  return texts;
}

}  // namespace

TEST_CASE("every command that reaches the state machine has a route") {
  size_t routed = 0;
  for (const kv::CommandSpec& spec : kv::all_commands()) {
    if (spec.is(kv::kLocal) || spec.is(kv::kInternal)) continue;
    Words words(static_cast<size_t>(std::abs(spec.arity)), "7");
    const Route where = route_of(spec, views(words));
    CHECK((where.spread == Spread::kSlot) == (where.slot != kv::kNoSlot));
    ++routed;
  }
  CHECK(routed > 40);
}

TEST_CASE("a command whose keys are in one slot is sent to it as it is") {
  CHECK(route({"GET", "foo"}) == Route{Spread::kSlot, 12182});
  CHECK(route({"MGET", "{foo}1", "{foo}2", "foo"}) == Route{Spread::kSlot, 12182});
  CHECK(route({"RENAME", "{foo}1", "{foo}2"}) == Route{Spread::kSlot, 12182});
  CHECK(route({"MEMORY", "USAGE", "foo"}) == Route{Spread::kSlot, 12182});
  CHECK(route({"MSET", "foo", "bar"}) == Route{Spread::kSlot, 12182});  // a value is no key
}

TEST_CASE("over several slots only what need not be atomic is cut up") {
  for (const char* name : {"MGET", "DEL", "UNLINK", "EXISTS", "TOUCH"})
    CHECK(route({name, "foo", "bar"}).spread == Spread::kSlots);
  CHECK(route({"MSET", "foo", "1", "bar", "2"}).spread == Spread::kSlots);
  CHECK(route({"MSETNX", "foo", "1", "bar", "2"}).spread == Spread::kCrossed);
  for (const char* name : {"RENAME", "RENAMENX", "COPY"}) CHECK(route({name, "foo", "bar"}).spread == Spread::kCrossed);
  // Without its last value it is wrong as a whole: no part of it may be executed.
  CHECK(route({"MSET", "foo", "1", "bar"}).spread == Spread::kCrossed);
  CHECK(route({"SESSION", "OPEN"}).spread == Spread::kMeta);
  CHECK(route({"SESSION", "CLOSE", "1"}).spread == Spread::kMeta);
  CHECK(route({"SCAN", "0"}).spread == Spread::kScan);
  for (const char* name : {"DBSIZE", "FLUSHALL", "FLUSHDB", "RANDOMKEY"})
    CHECK(route({name}).spread == Spread::kShards);
}

TEST_CASE("there is a part per slot, in the order of slots, each with its keys in the order asked") {
  // Slots: bar 5061, foo 12182, {foo}1 12182.
  Command mget({"MGET", "foo", "bar", "{foo}1", "foo"});
  Scatter scatter = Scatter::over_slots(*mget.spec, mget.args);
  CHECK(parts_of(scatter) == std::vector<Words>{{"MGET", "bar"}, {"MGET", "foo", "{foo}1", "foo"}});
  CHECK(scatter.parts()[0].slot == 5061);
  CHECK(scatter.parts()[1].slot == 12182);
  CHECK(gather(scatter, {"*1\r\n_\r\n", "*3\r\n$1\r\nA\r\n_\r\n$1\r\nA\r\n"}) ==
        "*4\r\n$1\r\nA\r\n_\r\n_\r\n$1\r\nA\r\n");

  Command mset({"mset", "foo", "1", "bar", "2", "foo", "3"});
  Scatter sets = Scatter::over_slots(*mset.spec, mset.args);
  CHECK(parts_of(sets) == std::vector<Words>{{"mset", "bar", "2"}, {"mset", "foo", "1", "foo", "3"}});
  CHECK(gather(sets, {"+OK\r\n", "+OK\r\n"}) == "+OK\r\n");
}

TEST_CASE("the first part's error is the whole's reply") {
  Command del({"DEL", "foo", "bar", "{x}"});
  Scatter scatter = Scatter::over_slots(*del.spec, del.args);
  CHECK(gather(scatter, {":1\r\n", "-ERR first\r\n", "-ERR second\r\n"}) == "-ERR first\r\n");
  CHECK(gather(scatter, {":1\r\n", ":0\r\n", ":1\r\n"}) == ":2\r\n");
}

TEST_CASE("a reply of another kind, or cut off, is an error that leaves the output alone") {
  Command mget({"MGET", "foo", "bar"});
  Scatter values = Scatter::over_slots(*mget.spec, mget.args);
  Command del({"DEL", "foo", "bar"});
  Scatter counts = Scatter::over_slots(*del.spec, del.args);
  const std::string good = "*1\r\n$1\r\nA\r\n";
  CHECK(gather(values, {good, good}) != "malformed");
  for (std::string bad : {"", "*", "*1\r\n", "*0\r\n", ":1\r\n", "*1\r\n$9\r\nA\r\n", "*1\r\n$-1\r\n\r\n",
                          "*1\r\n$1\r\nA", "*1\r\n:1\r\n", "*-1\r\n", "*2\r\n_\r\n_\r\n", "*1\r\n_\r\n_\r\n",
                          "*1\r\n$1\r\nAB\r\n", "*99999999999\r\n", "*1\r\n$99999999999999999999\r\nA\r\n"})
    CHECK(gather(values, {good, bad}) == "malformed");
  for (std::string bad : {"", ":", ":x\r\n", ":-1\r\n", "+OK\r\n", ":1\r\n:1\r\n", ":1", ":9223372036854775807\r\n"})
    CHECK(gather(counts, {":1\r\n", bad}) == "malformed");
  std::string out = "before";
  std::vector<std::string_view> replies{good, "*0\r\n"};
  auto gathered = values.gather(replies, 0, out);
  REQUIRE(!gathered);
  CHECK(gathered.error().code == ErrorCode::kCorrupt);
  CHECK(out == "before");
}

TEST_CASE("the whole is done if all parts are, and certainly not if none is or nothing can have happened") {
  using enum Outcome;
  auto whole = [](std::vector<Outcome> parts, bool writes) { return whole_of(parts, writes); };
  for (bool writes : {false, true}) {
    CHECK(whole({kDone, kDone}, writes) == kDone);
    CHECK(whole({kNotDone, kNotDone}, writes) == kNotDone);
    CHECK(whole({kNotDone, kUnknown}, writes) == kUnknown);
    CHECK(whole({kDone, kUnknown}, writes) == kUnknown);
  }
  CHECK(whole({kDone, kNotDone}, true) == kUnknown);
  CHECK(whole({kDone, kNotDone}, false) == kNotDone);
}

TEST_CASE("RANGE is merged in key order up to its limit") {
  const shard::Map map = shard::founded({.shards = 3});
  Command range({"RANGE", "a", "", "LIMIT", "3"});
  Scatter scatter = Scatter::over_shards(*range.spec, range.args, map);
  REQUIRE(scatter.parts().size() == 3);
  CHECK(parts_of(scatter)[1] == range.words);
  auto pairs = [](const Words& words) {
    std::string reply;
    protocol::put_array(reply, words.size());
    for (const std::string& word : words) protocol::put_bulk(reply, word);
    return reply;
  };
  CHECK(gather(scatter, {pairs({"b", "1", "e", "2"}), pairs({}), pairs({"a", "3", "c", "4", "d", "5"})}) ==
        pairs({"a", "3", "b", "1", "c", "4"}));
  CHECK(gather(scatter, {pairs({"b"}), pairs({}), pairs({})}) == "malformed");
}

TEST_CASE("RANDOMKEY picks among the shards that have keys") {
  Command random({"RANDOMKEY"});
  Scatter scatter = Scatter::over_shards(*random.spec, random.args, shard::founded({.shards = 3}));
  const std::vector<std::string> replies{"$1\r\na\r\n", "_\r\n", "$1\r\nb\r\n"};
  CHECK(gather(scatter, replies, 0) == replies[0]);
  CHECK(gather(scatter, replies, 1) == replies[2]);
  CHECK(gather(scatter, replies, 2) == replies[0]);
  CHECK(gather(scatter, {"_\r\n", "_\r\n", "_\r\n"}, 5) == "_\r\n");
}

TEST_CASE("a part whose shard was split is followed to all shards that came of it, and no other part is") {
  shard::Map map = shard::founded({.shards = 2});
  Command flush({"FLUSHALL"});
  Scatter scatter = Scatter::over_shards(*flush.spec, flush.args, map);
  REQUIRE(scatter.parts().size() == 2);
  const GroupId first = scatter.parts()[0].group;
  const GroupId second = scatter.parts()[1].group;
  for (uint16_t at : {2000, 1000}) {
    shard::accept(map, shard::begin(map, first, {.kind = shard::ActionKind::kSplit, .at = at}));
    shard::accept(map, shard::advance(map, first));
  }
  scatter.follow_split(0, map);
  REQUIRE(scatter.parts().size() == 4);
  CHECK(scatter.parts()[0].group == first);
  CHECK(scatter.parts()[1].group == second);
  shard::SlotSet all;
  for (const Scatter::Part& part : scatter.parts()) {
    CHECK(map.shard(part.group)->slots == part.slots);
    CHECK(parts_of(scatter)[0] == flush.words);
    all.add(part.slots);
  }
  CHECK(all == shard::SlotSet::all());
  CHECK(gather(scatter, {"+OK\r\n", "+OK\r\n", "+OK\r\n", "+OK\r\n"}) == "+OK\r\n");
}

TEST_CASE("in a transaction all keys are in one slot, and nothing concerns several shards") {
  uint16_t slot = kv::kNoSlot;
  auto refuse = [&](const Words& words, size_t shards = 2) {
    Command command(words);
    return std::string(refuse_in_transaction(*command.spec, command.args, shards, slot).value_or(""));
  };
  CHECK(refuse({"DBSIZE"}, 1).empty());
  CHECK(slot == kv::kNoSlot);
  CHECK(refuse({"MGET", "foo", "bar"}) == kCrossSlot);
  CHECK(slot == kv::kNoSlot);
  CHECK(refuse({"GET", "foo"}).empty());
  CHECK(slot == 12182);
  CHECK(refuse({"DEL", "{foo}1", "foo"}).empty());
  CHECK(refuse({"GET", "bar"}) == kCrossSlot);
  CHECK(refuse({"RENAME", "foo", "bar"}) == kCrossSlot);
  CHECK(slot == 12182);
  for (const Words& words : {Words{"KEYS", "*"}, Words{"FLUSHALL"}, Words{"RANGE", "a", "b"}})
    CHECK(refuse(words).starts_with("ERR Command not allowed inside a transaction"));
}

TEST_CASE("a whole longer than a reply may be is refused as one of a single shard is") {
  Command keys({"KEYS", "*"});
  Scatter scatter = Scatter::over_shards(*keys.spec, keys.args, shard::founded({.shards = 2}));
  std::string half;
  protocol::put_array(half, 1);
  protocol::put_bulk(half, std::string(limits::kMaxReplyBytes / 2, 'x'));
  CHECK(gather(scatter, {half, "*0\r\n"}).size() > limits::kMaxReplyBytes / 2);
  CHECK(gather(scatter, {half, half}).starts_with("-ERR reply exceeds maximum allowed size"));
}

TEST_CASE("commands over shards answer as one table would") {
  for (uint32_t shards : {1, 2, 7}) {
    Both both(shards);
    uint64_t state = shards;
    auto below = [&](uint64_t bound) { return mix(state += 0x9e3779b97f4a7c15u) % bound; };
    auto key = [&] { return "k" + std::to_string(below(40)); };
    for (int round = 0; round < 2000; ++round) {
      Words words;
      const uint64_t kind = below(10);
      const char* const names[] = {"MGET",   "MSET",   "DEL",   "EXISTS", "TOUCH",
                                   "UNLINK", "DBSIZE", "RANGE", "KEYS",   "FLUSHALL"};
      words.push_back(names[kind]);
      if (kind == 9 && !below(20)) words[0] = "FLUSHDB";
      if (kind == 9 && below(20)) words[0] = "RANDOMKEY";
      if (kind < 6) {
        for (uint64_t n = 1 + below(8); n > 0; --n) {
          words.push_back(key());
          if (kind == 1) words.push_back(std::to_string(round));
        }
      } else if (kind == 7) {
        words.push_back(key());
        words.push_back(below(2) ? key() : "");
        if (below(2)) words.insert(words.end(), {"LIMIT", std::to_string(below(12))});
      } else if (kind == 8) {
        words.push_back("k1*");
      }
      Command command(words);
      const std::string parted = both.run_parted(command);
      const std::string whole = execute(both.whole, *command.spec, command.args);
      INFO(words[0] << " with " << words.size() << " words");
      if (command.spec->id == CommandId::kKeys)
        CHECK(sorted_texts(parted) == sorted_texts(whole));
      else if (command.spec->id == CommandId::kRandomkey)
        CHECK((parted == "_\r\n") == (whole == "_\r\n"));
      else
        CHECK(parted == whole);
    }
  }
}
