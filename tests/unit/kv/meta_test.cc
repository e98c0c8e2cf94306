// The meta group's machine: the shard map, changed by commands in batches.
#include "tests/test.h"
#include "tests/unit/kv/support.h"

using namespace mneme;
using namespace mneme::kv;
using namespace mneme::kv::testing;
using shard::AddNode;
using shard::FoundCluster;

namespace {

FoundCluster founding(uint32_t shards = 3) {
  FoundCluster found{.cluster = ClusterId(77), .copies = 3, .shards = shards};
  for (uint64_t n = 1; n <= 3; ++n) {
    const std::string name = "n" + std::to_string(n);
    found.nodes.push_back({NodeId(n), Incarnation(100 + n), name + ":1", name + ":2", ""});
  }
  return found;
}

AddNode joining(uint64_t incarnation) {
  const std::string name = "i" + std::to_string(incarnation);
  return {Incarnation(incarnation), name + ":1", name + ":2", ""};
}

Driver meta() { return Driver(std::make_unique<StateMachine>()); }

std::string answer(const shard::Answer& a) { return bulk(encode_answer(a)); }

}  // namespace

TEST_CASE("a machine without a cluster has an empty map, which costs nothing and changes no digest") {
  Driver d = meta();
  uint64_t digest = d.machine().digest();
  CHECK(!d.machine().map().cluster());
  CHECK(d.machine().map() == shard::Map());
  CHECK(d.run(map_command(joining(9))).starts_with("-UNAVAILABLE there is no cluster yet"));
  CHECK(d.machine().digest() == digest);
  CHECK(load(checkpoint_of(d.machine())).value()->digest() == digest);
}

TEST_CASE("map commands are applied in a group that is no shard, and answer what the map answers") {
  Driver d = meta();
  shard::Map model;
  for (const shard::Command& command :
       std::vector<shard::Command>{founding(), joining(9), joining(10), joining(9), shard::SetCopies{3, 1}}) {
    auto expected = model.apply(command);
    REQUIRE(expected);
    CHECK(d.run(map_command(command)) == answer(*expected));
    CHECK(d.machine().map() == model);
  }
  shard::Answer last{NodeId(1), shard::OperationId(2), GroupId(3)};
  CHECK(decode_answer(encode_answer(last)).value() == last);
  CHECK(!decode_answer(encode_answer(last).substr(1)));
  CHECK(!decode_answer(encode_answer(last) + "x"));
  CHECK(d.run({"SET", "a", "1"}) == error("CLUSTERDOWN Hash slot not served"));
}

TEST_CASE("what the map refuses is an error whose first word tells why, on one line, and changes nothing") {
  Driver d = meta();
  d.run(map_command(founding()));
  uint64_t digest = d.machine().digest();
  CHECK(d.run(map_command(founding(4))).starts_with("-EXISTS "));
  CHECK(d.run(map_command(shard::RemoveNode{NodeId(50)})).starts_with("-NOTFOUND "));
  CHECK(d.run(map_command(shard::SetCopies{2, 1})).starts_with("-REFUSED "));
  CHECK(d.run(map_command(shard::SetCopies{3, 0})).starts_with("-INVALID "));
  CHECK(d.run({"mneme.alter", "no command"}).starts_with("-ERR "));
  CHECK(d.run({"mneme.alter", ""}).starts_with("-ERR "));
  CHECK(d.machine().digest() == digest);
  std::string out;
  put_failure(out, Error{ErrorCode::kTooLarge, "two\r\nlines"});
  CHECK(out == "-TOOLARGE two  lines\r\n");
}

TEST_CASE("a map command in a session is applied once") {
  Driver d = meta();
  d.run(map_command(founding()));
  uint64_t s = d.open_session();
  CommandMeta meta{.session = SessionId(s), .sequence = 1};
  std::string first = d.run(map_command(joining(9)), meta);
  d.run(map_command(joining(10)));
  uint64_t version = d.machine().map().version();
  CHECK(d.run(map_command(joining(9)), meta) == first);
  CHECK(d.machine().map().version() == version);
}

TEST_CASE("the digest follows the map") {
  Driver one = meta();
  Driver other = meta();
  for (Driver* d : {&one, &other}) d->run(map_command(founding()));
  CHECK(one.machine().digest() == other.machine().digest());
  one.run(map_command(joining(9)));
  other.run(map_command(joining(10)));
  CHECK(one.machine().digest() != other.machine().digest());
}

TEST_CASE("a checkpoint has the map as it was when it began, in blocks of the usual size") {
  Driver d = meta();
  d.run(map_command(founding(3000)));
  uint64_t s = d.open_session();
  std::string bytes;
  d.machine().map().encode(bytes);
  REQUIRE(bytes.size() > 2 * kCheckpointBlockBytes);
  uint64_t digest = d.machine().digest();
  CheckpointWriter writer(d.machine(), Term(3));
  CHECK(writer.held_bytes() == bytes.size());
  std::string stream = writer.next_chunk(100);
  d.run(map_command(joining(9)));
  stream += write_all(writer);
  CHECK(writer.held_bytes() == 0);
  auto loaded = load(stream);
  REQUIRE(loaded);
  CHECK((*loaded)->digest() == digest);
  CHECK((*loaded)->map().nodes().size() == 3);
  CHECK((*loaded)->map().shards().size() == 3001);
  CHECK((*loaded)->sessions().all().contains(s));
  CHECK((checkpoint_of(**loaded) == stream));
  for (size_t at = 0; at < stream.size(); at += 997) {
    std::string damaged = stream;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    CHECK(!load(damaged));
    CHECK(!load(stream.substr(0, at)));
  }
}

TEST_CASE("a split leaves the map where it was") {
  Driver d;
  d.run(map_command(founding()));
  SplitRequest request{Epoch(1), 8192, GroupId(9), shard::OperationId(5), ""};
  Collected collected = d.apply(d.batch().add(split_command(request)).finish());
  REQUIRE(collected.splits.size() == 1);
  CHECK(d.machine().map().cluster() == ClusterId(77));
  CHECK(!collected.splits[0].second->map().cluster());
}
