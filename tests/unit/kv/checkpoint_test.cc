#include "core/kv/checkpoint.h"

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "core/kv/checkpoint_format.h"
#include "tests/test.h"
#include "tests/unit/kv/support.h"

using namespace mneme;
using namespace mneme::kv;
using namespace mneme::kv::testing;

namespace {

// Random batches over few keys: plain and session commands, transactions, time that moves, retries.
class Stream {
 public:
  explicit Stream(uint64_t seed) : random_(seed) {}

  std::string next() {
    now_ += static_cast<int64_t>(random_.below(40));
    if (random_.one_in(300)) now_ += kSessionIdleMs / 2;
    Batch batch(random_.one_in(10) ? now_ - 100 : now_);
    for (uint64_t n = random_.below(4); n > 0; --n) {
      if (random_.one_in(6)) {
        std::vector<Words> commands(1 + random_.below(3));
        for (Words& words : commands) words = command();
        batch.transaction(commands, meta());
      } else {
        batch.add(command(), meta());
      }
    }
    return batch.finish();
  }
  void opened(uint64_t session) { sessions_.push_back(session); }

 private:
  CommandMeta meta() {
    if (sessions_.empty() || random_.one_in(2)) return {};
    uint64_t session = sessions_[random_.below(sessions_.size())];
    if (random_.one_in(50)) session += 12345;
    uint64_t& sequence = sequences_[session];
    uint64_t number = random_.one_in(4) && sequence > 3 ? sequence - random_.below(4) : ++sequence;
    return {.session = SessionId(session), .sequence = number, .ack = sequence > 5 ? sequence - 5 : 0};
  }
  std::string key() { return "k" + std::to_string(random_.below(random_.one_in(3) ? 400 : 10)); }
  std::string value() {
    return std::string(random_.below(random_.one_in(20) ? 3000 : 30), static_cast<char>('a' + random_.below(26)));
  }
  Words command() {
    switch (random_.below(16)) {
      case 0:
      case 1:
      case 2: return {"SET", key(), value()};
      case 3: return {"SET", key(), value(), "PX", std::to_string(1 + random_.below(500))};
      case 4: return {"DEL", key(), key()};
      case 5: return {"INCR", key()};
      case 6: return {"APPEND", key(), value()};
      case 7: return {"PEXPIRE", key(), std::to_string(random_.below(300))};
      case 8: return {"PERSIST", key()};
      case 9: return {"RENAME", key(), key()};
      case 10: return {"MNEME.SETNUM", key(), std::to_string(random_.below(1000))};
      case 11: return {"COPY", key(), key(), "REPLACE"};
      case 12: return {"MSET", key(), value(), key(), value()};
      case 13: return {"GETSET", key(), value()};
      case 14: return random_.one_in(15) ? Words{"FLUSHALL"} : Words{"GET", key()};
      default: return random_.one_in(5) ? Words{"SESSION", "OPEN"} : Words{"CAS", key(), "1", value()};
    }
  }

  SplitMix random_;
  int64_t now_ = 1'000'000;
  std::vector<uint64_t> sessions_;
  std::map<uint64_t, uint64_t> sequences_;
};

std::string sample_stream() {
  Driver d;
  d.run({"SET", "a", "1", "PX", "500"});
  d.run({"MNEME.SETNUM", "n", "7"});
  uint64_t s = d.open_session();
  d.in_session(s, 4, {"INCR", "n"}, 2);
  return checkpoint_of(d.machine());
}

}  // namespace

TEST_CASE("an empty and a filled state come back from their checkpoints with place, digest and sessions") {
  Driver empty;
  auto nothing = load(checkpoint_of(empty.machine()));
  REQUIRE(nothing);
  CHECK((*nothing)->digest() == empty.machine().digest());

  Driver d;
  d.run({"SET", "k", "v", "PX", "500"});
  uint64_t s = d.open_session();
  d.in_session(s, 1, {"INCR", "n"});
  CheckpointWriter writer(d.machine(), Term(9));
  CheckpointLoader loader;
  REQUIRE(loader.feed(write_all(writer)));
  CHECK(loader.term() == Term(9));
  CHECK(loader.index() == LogIndex(3));
  Driver restored(*std::move(loader).finish());
  CHECK(restored.machine().digest() == d.machine().digest());
  CHECK(restored.machine().bytes_used() == d.machine().bytes_used());
  CHECK(restored.read({"PTTL", "k"}) == integer(500));
  CHECK(restored.in_session(s, 1, {"INCR", "n"}) == integer(1));  // S05: no double apply after a restore
  CHECK(restored.read({"GET", "n"}) == bulk("1"));
}

TEST_CASE("replicas that applied everything, or restored a checkpoint taken under writes and applied the rest, agree") {
  for (uint64_t seed = 1; seed <= 25; ++seed) {
    INFO("seed " << seed);
    SplitMix random(seed * 77);
    Stream stream(seed);
    std::vector<std::string> log;
    Driver whole;
    auto step = [&] {
      log.push_back(stream.next());
      for (const std::string& reply : whole.apply(log.back()).replies) {
        if (reply[0] == ':' && reply.size() > 8 && reply.size() < 14) stream.opened(std::stoull(reply.substr(1)));
      }
    };
    for (uint64_t n = 100 + random.below(300); n > 0; --n) step();

    uint64_t digest = whole.machine().digest();
    uint64_t index = whole.machine().applied().value;
    std::string still = checkpoint_of(whole.machine());
    std::string under_writes;
    {
      CheckpointWriter writer(whole.machine(), Term(3));
      while (!writer.done()) {
        under_writes += writer.next_chunk(1 + random.below(random.one_in(2) ? 100 : 20000));
        if (log.size() < index + 500) step();
      }
      CHECK(writer.held_bytes() == 0);
    }
    CHECK((under_writes == still));

    auto loaded = load(under_writes);
    REQUIRE(loaded);
    Driver restored(*std::move(loaded));
    CHECK(restored.machine().digest() == digest);
    for (uint64_t n = 100; n > 0; --n) step();
    for (size_t i = index; i < log.size(); ++i) restored.apply(log[i]);
    CHECK(restored.machine().applied() == whole.machine().applied());
    CHECK(restored.machine().digest() == whole.machine().digest());
    CHECK(restored.machine().bytes_used() == whole.machine().bytes_used());
    CHECK((checkpoint_of(restored.machine()) == checkpoint_of(whole.machine())));

    Driver again;
    for (const std::string& entry : log) again.apply(entry);
    CHECK(again.machine().digest() == whole.machine().digest());
  }
}

TEST_CASE("a checkpoint abandoned half-way leaves no trace in the machine") {
  Driver d;
  for (int i = 0; i < 3000; ++i) d.run({"SET", "k" + std::to_string(i), std::string(100, 'x')});
  {
    CheckpointWriter writer(d.machine(), Term(1));
    writer.next_chunk(1000);
    d.run({"SET", "k5", "y"});
    CHECK(!writer.done());
  }
  d.run({"FLUSHALL"});
  CHECK(load(checkpoint_of(d.machine())));
}

TEST_CASE("a checkpoint holds copies only of what changes before it is written") {
  Driver d;
  for (int i = 1000; i < 5000; ++i) d.run({"SET", "k" + std::to_string(i), std::string(100, 'x')});
  CheckpointWriter writer(d.machine(), Term(1));
  std::string stream = writer.next_chunk(100'000);
  CHECK(writer.held_bytes() == 0);
  d.run({"SET", "k1000", "y"});  // written already
  CHECK(writer.held_bytes() == 0);
  d.run({"SET", "k4999", "y"});
  size_t held = writer.held_bytes();
  CHECK(held > 100);
  CHECK(held < 1000);
  d.run({"SET", "k4999", "z"});
  CHECK(writer.held_bytes() == held);
  while (!writer.done()) stream += writer.next_chunk(100'000);
  CHECK(writer.held_bytes() == 0);
  Driver restored(*load(stream));
  CHECK(restored.read({"STRLEN", "k4999"}) == integer(100));
}

TEST_CASE("a chunk is never longer than asked and all together are the stream") {
  Driver d;
  for (int i = 0; i < 50; ++i) d.run({"SET", "k" + std::to_string(i), std::string(20'000, 'x')});
  std::string whole = checkpoint_of(d.machine());
  for (size_t max : {size_t(1), size_t(999), size_t(65'536), size_t(10'000'000)}) {
    if (max == 1 && whole.size() > 2'000'000) continue;
    CheckpointWriter writer(d.machine(), Term(3));
    std::string stream;
    while (!writer.done()) {
      std::string chunk = writer.next_chunk(max);
      REQUIRE(chunk.size() <= max);
      REQUIRE(!chunk.empty());
      stream += chunk;
    }
    CHECK((stream == whole));
    CHECK(writer.next_chunk(max).empty());
  }
}

TEST_CASE("a session with many replies spans blocks and comes back") {
  Driver d;
  uint64_t s = d.open_session();
  d.run({"SET", "k", std::string(3000, 'x')});
  for (uint64_t n = 1; n <= 500; ++n) d.in_session(s, n, {"GETSET", "k", std::string(3000, 'y')});
  uint64_t t = d.open_session();
  d.in_session(t, 1, {"INCR", "n"});
  auto loaded = load(checkpoint_of(d.machine()));
  REQUIRE(loaded);
  CHECK((*loaded)->digest() == d.machine().digest());
  CHECK((*loaded)->sessions().all().at(s).kept.size() == 500);
}

TEST_CASE("a checkpoint with any one bit changed, cut short or extended is refused") {
  std::string stream = sample_stream();
  REQUIRE(load(stream));
  for (size_t at = 0; at < stream.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = stream;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      INFO("byte " << at << " bit " << bit);
      CHECK(!load(damaged));
    }
    CHECK(!load(stream.substr(0, at)));
  }
  CHECK(!load(stream + '\0'));
  CHECK(!load(stream + stream));
}

TEST_CASE("a block from another checkpoint, or out of its place, is refused") {
  Driver d;
  for (int i = 1000; i < 4000; ++i) d.run({"SET", "k" + std::to_string(i), std::string(100, 'x')});
  std::string older = checkpoint_of(d.machine());
  d.run({"SET", "k3999", std::string(100, 'y')});
  std::string newer = checkpoint_of(d.machine());
  REQUIRE(older.size() == newer.size());
  auto blocks = [](const std::string& stream) {
    std::vector<std::pair<size_t, size_t>> found;
    for (size_t at = 0; at < stream.size();) {
      size_t size = 16 + load_le<uint32_t>(reinterpret_cast<const uint8_t*>(stream.data()) + at);
      found.emplace_back(at, size);
      at += size;
    }
    return found;
  };
  auto places = blocks(newer);
  REQUIRE(places.size() > 5);
  for (auto [at, size] : places) {
    std::string mixed = newer;
    mixed.replace(at, size, older, at, size);
    CHECK(!load(mixed));
  }
  std::string swapped = newer.substr(0, places[1].first) + newer.substr(places[2].first, places[2].second) +
                        newer.substr(places[1].first, places[1].second) + newer.substr(places[3].first);
  CHECK(!load(swapped));
  std::string left_out = newer;
  left_out.erase(places[2].first, places[2].second);
  CHECK(!load(left_out));
}

TEST_CASE("the loader survives random bytes and buffers no more than a block") {
  SplitMix random(5);
  std::string good = sample_stream();
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = good.substr(0, random.below(good.size()));
    for (uint64_t n = random.below(300); n > 0; --n) bytes += static_cast<char>(random.next());
    CHECK(!load(bytes));
  }
  std::string absurd(16, '\0');
  absurd[3] = '\x7f';
  CheckpointLoader loader;
  auto fed = loader.feed(absurd);
  REQUIRE(!fed);
  CHECK(fed.error().code == ErrorCode::kCorrupt);
}

const std::string kGolden = MNEME_SOURCE_DIR "/tests/golden/checkpoint/";

std::string golden(const std::string& name) {
  std::ifstream in(kGolden + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Something of everything that version 3 can hold.
std::string sample_of_version_3() {
  Driver d(std::make_unique<StateMachine>(nullptr, ShardState{Epoch(4), Epoch(3), shard::SlotSet({3000, 13000})}));
  d.now = 1'000'000'000'000;
  d.machine().configure(LogIndex(1), "a configuration");
  d.run({"SET", "foo", "1", "PX", "500"});
  d.run({"MNEME.SETNUM", "n", "7"});
  d.in_session(700, 4, {"INCR", "n"}, 2);
  d.in_session(800, 1, {"INCR", "bar"});
  d.run({"SESSION", "CLOSE", "700"});
  shard::FoundCluster found{.cluster = ClusterId(77), .copies = 1, .shards = 2};
  found.nodes.push_back({NodeId(1), Incarnation(100), "n1:1", "n1:2", "rack"});
  d.run(map_command(found));
  return checkpoint_of(d.machine());
}

// MNEME_UPDATE_GOLDEN=1 writes the file anew; a difference is a change of the format and needs a new version.
TEST_CASE("version 3 of the checkpoint format does not change") {
  const std::string stream = sample_of_version_3();
  if (std::getenv("MNEME_UPDATE_GOLDEN")) std::ofstream(kGolden + "v3.bin", std::ios::binary) << stream;
  CHECK((golden("v3.bin") == stream));
  auto loaded = load(golden("v3.bin"));
  REQUIRE(loaded);
  const StateMachine& machine = **loaded;
  CHECK(machine.configuration() == "a configuration");
  CHECK(machine.shard() == ShardState{Epoch(5), Epoch(3), shard::SlotSet({3000, 13000})});
  CHECK(machine.table().find("foo") == Value{Kind::kString, "1", 1'000'000'000'500});
  CHECK(machine.table().find("n") == Value{Kind::kString, "8", 0});
  CHECK(machine.sessions().all().size() == 1);
  CHECK(machine.sessions().all().at(800).kept.size() == 1);
  CHECK(machine.sessions().forgotten() == SessionId(700));
  CHECK(machine.map().cluster() == ClusterId(77));
}

// The stream with another header, all checksums made to fit.
template <class Change>
std::string with_header(std::string_view stream, Change change) {
  std::string changed;
  uint64_t identity = 0;
  for (uint64_t block = 0; !stream.empty(); ++block) {
    Reader head(stream);
    const size_t size = head.u32();
    const uint32_t type = head.u32();
    std::string payload(stream.substr(kBlockHeadBytes, size));
    if (block == 0) change(payload);
    const size_t at = changed.size();
    Writer out(changed);
    out.u32(static_cast<uint32_t>(payload.size()));
    out.u32(type);
    out.u64(block_checksum(identity, block, std::string_view(changed).substr(at, 8), payload));
    out.raw(payload);
    if (block == 0) identity = xxh3(payload);
    stream.remove_prefix(kBlockHeadBytes + size);
  }
  return changed;
}

TEST_CASE("a checkpoint of a shard that cannot be is refused") {
  const std::string stream = sample_of_version_3();
  const size_t shard_at = 64 + 4 + std::string_view("a configuration").size();
  auto why = [&](auto change) {
    auto loaded = load(with_header(stream, change));
    return loaded ? "loaded" : loaded.error().message;
  };
  auto set = [&](size_t at, uint64_t number) {
    return [=](std::string& header) { store_le(reinterpret_cast<uint8_t*>(header.data()) + shard_at + at, number); };
  };
  CHECK(why([](std::string&) {}) == "loaded");
  const std::string bad_header = "checkpoint is damaged: its header is not valid";
  CHECK(why(set(0, 0)) == bad_header);  // not begun, but slots
  CHECK(why(set(0, 2)) == bad_header);  // before its slots' epoch
  CHECK(why(set(8, 0)) == bad_header);  // slots of no epoch
  CHECK(why(set(24, limits::kMaxMapBytes + 1)) == bad_header);
  CHECK(why([](std::string& header) { header += 'x'; }) == bad_header);
  CHECK(why(set(24, 1)) == "checkpoint is damaged: its shard map is not as long as its header says");
  CHECK(why(set(24, 1'000'000)) == "checkpoint is damaged: its shard map is not complete");
  CHECK(why(set(16, 701)) == "checkpoint is damaged: its contents do not match its digest");
  auto slots = [&](uint16_t begin, uint16_t end) {
    return [=](std::string& header) {
      auto* at = reinterpret_cast<uint8_t*>(header.data()) + shard_at + 32;
      store_le(at + 2, begin);
      store_le(at + 4, end);
    };
  };
  CHECK(why(slots(5000, 13000)) == "checkpoint is damaged: a record is of a slot that is not its shard's");
  CHECK(why(slots(3000, 2000)).starts_with("checkpoint is damaged: range 0"));
}

TEST_CASE("the first two versions of the checkpoint format are still read, as shards that have not begun") {
  for (const std::string name : {"v1.bin", "v2.bin"}) {
    auto loaded = load(golden(name));
    INFO(name);
    REQUIRE(loaded);
    const StateMachine& machine = **loaded;
    CHECK(machine.configuration() == (name == "v1.bin" ? "" : "a configuration"));
    CHECK(!machine.shard().begun());
    CHECK(machine.table().find("a")->bytes == "1");
    CHECK(machine.table().find("n") == Value{Kind::kString, "8", 0});
    CHECK(machine.sessions().all().at(3 << 20).kept.size() == 1);
  }
}

TEST_CASE("a checkpoint has the group's configuration, and its digest covers it") {
  Driver d;
  d.run({"SET", "a", "1"});
  auto configured = [&](std::string_view configuration) {
    auto machine = load(checkpoint_of(d.machine())).value();
    machine->configure(machine->applied().next(), configuration);
    return machine;
  };
  auto one = configured("one");
  auto loaded = load(checkpoint_of(*one));
  REQUIRE(loaded);
  CHECK((*loaded)->configuration() == "one");
  CHECK((*loaded)->digest() == one->digest());
  CHECK(configured("two")->digest() != one->digest());
}
