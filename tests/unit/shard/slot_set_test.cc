#include "core/shard/slot_set.h"

#include <bitset>

#include "tests/test.h"
#include "tests/unit/shard/random.h"

using namespace mneme;
using namespace mneme::shard;

namespace {

using Model = std::bitset<kSlots>;

SlotRange random_range(Random& random) {
  // Often short, near others, or at an end.
  auto begin = static_cast<uint16_t>(random.one_in(4) ? random.below(kSlots + 1) : random.below(100));
  size_t room = kSlots - begin;
  auto size =
      static_cast<uint16_t>(random.one_in(4) ? random.below(room + 1) : random.below(std::min<size_t>(room, 9) + 1));
  return {begin, static_cast<uint16_t>(begin + size)};
}

void change(Model& model, SlotRange range, bool value) {
  for (size_t slot = range.begin; slot < range.end; ++slot) model[slot] = value;
}

SlotSet set_of(const Model& model) {
  SlotSet set;
  for (uint16_t slot = 0; slot < kSlots; ++slot)
    if (model[slot]) set.add({slot, static_cast<uint16_t>(slot + 1)});
  return set;
}

std::string encoded(const SlotSet& set) {
  std::string bytes;
  set.encode(bytes);
  return bytes;
}

Result<SlotSet> decoded(std::string_view bytes) {
  Reader in(bytes);
  auto set = SlotSet::decode(in);
  if (set && !in.at_end()) return fail(ErrorCode::kCorrupt, "more than a set");
  return set;
}

}  // namespace

TEST_CASE("a set of slots behaves as a set", "[shard]") {
  Random random(1);
  for (int round = 0; round < 30; ++round) {
    SlotSet set;
    Model model;
    for (int n = 0; n < 60; ++n) {
      SlotRange range = random_range(random);
      bool adds = !random.one_in(3);
      adds ? set.add(range) : set.remove(range);
      change(model, range, adds);
      REQUIRE(set.size() == model.count());
      REQUIRE(set.empty() == model.none());
      for (int i = 0; i < 20; ++i) {
        auto slot = static_cast<uint16_t>(i < 10 ? random.below(kSlots) : random.below(120));
        REQUIRE(set.contains(slot) == model[slot]);
      }
      size_t before = 0;  // the end of the range before, which must not touch the next
      for (SlotRange r : set.ranges()) {
        REQUIRE(r.begin < r.end);
        REQUIRE((r.begin > before || (r.begin == 0 && before == 0)));
        before = r.end;
      }
    }
    REQUIRE(set == set_of(model));
    REQUIRE(decoded(encoded(set)) == set);
    size_t n = 0;
    for (uint16_t slot = 0; slot < kSlots; ++slot)
      if (model[slot]) REQUIRE(set.nth(n++) == slot);
  }
}

TEST_CASE("sets are added to and taken from each other, and split at a slot", "[shard]") {
  Random random(2);
  for (int round = 0; round < 30; ++round) {
    Model a;
    Model b;
    for (int n = 0; n < 20; ++n) {
      for (Model* model : {&a, &b}) {
        const bool adds = !random.one_in(3);
        change(*model, random_range(random), adds);
      }
    }
    SlotSet both = set_of(a);
    both.add(set_of(b));
    REQUIRE(both == set_of(a | b));
    SlotSet difference = set_of(a);
    difference.remove(set_of(b));
    REQUIRE(difference == set_of(a & ~b));
    auto at = static_cast<uint16_t>(random.below(kSlots));
    Model low;
    change(low, {0, at}, true);
    SlotSet lower = set_of(a);
    SlotSet upper = lower.split_at(at);
    REQUIRE(lower == set_of(a & low));
    REQUIRE(upper == set_of(a & ~low));
  }
  SlotSet set = SlotSet::all();
  set.add(set);
  REQUIRE(set == SlotSet::all());
  set.remove(set);
  REQUIRE(set.empty());
}

TEST_CASE("slots are written as Redis writes them", "[shard]") {
  SlotSet set({0, 5461});
  set.add({5462, 5463});
  CHECK(set.text() == "0-5460,5462");
  set.add({5461, 5462});
  CHECK(set.text() == "0-5462");
  CHECK(SlotSet().text() == "none");
  CHECK(SlotSet::all().text() == "0-16383");
}

TEST_CASE("a set of slots has one encoding, and everything else is refused", "[shard]") {
  auto bytes = [](std::initializer_list<uint16_t> words) {
    std::string out;
    Writer w(out);
    for (uint16_t word : words) w.u16(word);
    return out;
  };
  CHECK(encoded(SlotSet({1, 3})) == bytes({1, 1, 3}));
  CHECK(decoded(bytes({2, 0, 1, 2, 16384})));
  CHECK_FALSE(decoded(bytes({2, 0, 1, 1, 2})));  // they touch
  CHECK_FALSE(decoded(bytes({2, 0, 5, 4, 9})));  // they overlap
  CHECK_FALSE(decoded(bytes({2, 5, 6, 0, 1})));  // unsorted
  CHECK_FALSE(decoded(bytes({1, 3, 3})));        // empty
  CHECK_FALSE(decoded(bytes({1, 3, 16385})));    // beyond the last slot
  CHECK_FALSE(decoded(bytes({65535, 0, 1})));    // fewer than claimed
  CHECK_FALSE(decoded(bytes({1, 3})));
  CHECK_FALSE(decoded(""));
  Random random(3);
  for (int n = 0; n < 20000; ++n) {
    Model model;
    for (uint64_t k = random.below(5); k > 0; --k) change(model, random_range(random), true);
    std::string damaged = encoded(set_of(model));
    random.damage(damaged);
    if (auto set = decoded(damaged)) REQUIRE(encoded(*set) == damaged);
  }
}
