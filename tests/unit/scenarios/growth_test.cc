// The bounds on what a node keeps: ordinary figures pass, those of a store that forgets to clean up do not.
#include "sim/scenarios/kv_growth.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::sim;

namespace {

constexpr GroupId kGroup{2};
constexpr uint64_t kEntries = 20'000;

struct Watched {
  Watched() : growth(options()) {
    const auto payload = std::make_shared<const std::string>(100, 'x');
    for (uint64_t i = 1; i <= kEntries; ++i)
      growth.applied(kGroup, {Term(1), LogIndex(i), raft::EntryKind::kData, payload});
    replica.role = raft::Role::kFollower;
    replica.applied = replica.commit = replica.persisted = replica.last = LogIndex(kEntries);
    replica.first = LogIndex(kEntries - 150);
  }
  static Options options() {
    Options options;
    for (auto [name, value] : {std::pair("checkpoint", "16 KiB"),
                               {"segment", "64 KiB"},
                               {"keep_entries", "100"},
                               {"value_bytes", "8"},
                               {"max_inflight", "4"},
                               {"max_append", "1024"},
                               {"rarely", "0"},
                               {"nodes", "3"}})
      REQUIRE(options.set(name, value).has_value());
    return *options.expand(Fate(1));
  }
  std::string property() const {
    auto found = growth.check_log(2, log_bytes);
    if (!found) found = growth.check(2, kGroup, checkpoint_files, &replica);
    return found ? found->property : "";
  }

  KvGrowth growth;
  uint64_t log_bytes = 256 * 1024;
  uint64_t checkpoint_files = 2;
  raft::View replica;
};

}  // namespace

TEST_CASE("a node that cleans up stays under its bounds", "[scenarios]") {
  Watched node;
  CHECK(node.property() == "");
  CHECK_FALSE(node.growth.check(2, kGroup, node.checkpoint_files, nullptr).has_value());
}

TEST_CASE("log segments that are never removed are found", "[scenarios]") {
  Watched node;
  node.log_bytes = 512 * kEntries;  // a sector for each entry
  CHECK(node.property() == "disk growth");
  CHECK(node.growth.check_log(2, node.log_bytes)->summary.starts_with("n2 has 10240000 bytes of log segments"));
}

TEST_CASE("checkpoints that are never removed are found", "[scenarios]") {
  Watched node;
  node.checkpoint_files = 12;
  CHECK(node.property() == "disk growth");
}

TEST_CASE("a log in memory that is never trimmed is found", "[scenarios]") {
  Watched node;
  node.replica.first = LogIndex(1);
  CHECK(node.property() == "memory growth");
}

TEST_CASE("a follower that is sent more than the window is found", "[scenarios]") {
  Watched node;
  node.replica.last = LogIndex(node.replica.persisted.value + 500);
  CHECK(node.property() == "queue growth");
  node.replica.role = raft::Role::kLeader;  // of what it is asked for itself, its clients are the bound
  CHECK(node.property() == "");
}

TEST_CASE("a follower whose log a snapshot has replaced has no entries waiting", "[scenarios]") {
  Watched node;
  node.replica.persisted = LogIndex(kEntries - 500);
  node.replica.first = node.replica.last.next();
  CHECK(node.property() == "");
}
