// Changes of the map as bytes: one that does not fit, or that somebody has spoilt, is refused and does no harm.
#include "core/shard/planner.h"
#include "tests/unit/shard/random.h"
#include "tests/unit/shard/support.h"

using namespace mneme;
using namespace mneme::shard;

namespace {

template <class T>
T must(Result<T> result) {
  INFO((result ? "" : result.error().message));
  REQUIRE(result);
  return std::move(*result);
}

// A map, and what it was before some nodes came and some shards were split and reported.
struct Versions {
  Map before = founded({.nodes = 5, .shards = 100, .copies = 3});
  Map after = before;
  std::string change;

  Versions() {
    must(after.apply(AddNode{Incarnation(900), "n6:1", "n6:1", "r6"}));
    const Shard& shard = *after.shard(GroupId(7));
    const Answer begun = must(
        after.apply(BeginOperation{GroupId(7), shard.epoch(), {}, {ActionKind::kSplit, {}, {}, shard.slots.nth(9)}}));
    Report report = after.shard(GroupId(7))->last;
    report.epoch = report.epoch.next();
    report.term = Term(1);
    report.slots = after.shard(GroupId(7))->slots;
    report.slots.split_at(report.slots.nth(9));
    must(after.apply(AdvanceOperation{begun.operation, Step::kSplit, report}));
    after.encode_change_since(before, change);
  }
};

}  // namespace

TEST_CASE("a change brings what is new and nothing else", "[shard]") {
  const Versions versions;
  CHECK(must(versions.before.with_change(versions.change)) == versions.after);
  std::string whole;
  versions.after.encode(whole);
  CHECK(versions.change.size() * 10 < whole.size());
}

TEST_CASE("a change of another version or another cluster is refused", "[shard]") {
  const Versions versions;
  CHECK(versions.after.with_change(versions.change).error().code == ErrorCode::kRefused);
  CHECK(Map().with_change(versions.change).error().code == ErrorCode::kRefused);
  std::string nothing;
  versions.before.encode_change_since(versions.before, nothing);
  CHECK(versions.before.with_change(nothing).error().code == ErrorCode::kCorrupt);
  std::string back;
  versions.before.encode_change_since(versions.after, back);
  CHECK(versions.after.with_change(back).error().code == ErrorCode::kCorrupt);
}

TEST_CASE("a spoilt change is refused, or leads to a map in which every slot has its owner", "[shard]") {
  const Versions versions;
  Random random(7);
  size_t refused = 0;
  for (int n = 0; n < 20'000; ++n) {
    std::string bytes = versions.change;
    if (random.one_in(10)) bytes.resize(random.below(bytes.size()));
    for (uint64_t spoilt = 1 + random.below(3); spoilt > 0 && !bytes.empty(); --spoilt)
      bytes[random.below(bytes.size())] = static_cast<char>(random.one_in(2) ? random() : random.below(4));
    const auto changed = versions.before.with_change(bytes);
    refused += changed ? 0 : 1;
    if (!changed) continue;
    size_t slots = 0;
    for (const auto& [group, shard] : changed->shards()) {
      slots += shard.slots.size();
      for (SlotRange range : shard.slots.ranges()) REQUIRE(changed->owner_of(range.begin) == group);
    }
    REQUIRE(slots == kSlots);
    (void)plan(*changed, {});
  }
  CHECK(refused > 10'000);
}
