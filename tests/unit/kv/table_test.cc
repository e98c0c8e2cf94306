#include "core/kv/table.h"

#include <set>

#include "tests/test.h"
#include "tests/unit/kv/support.h"

using namespace mneme;
using namespace mneme::kv;
using namespace mneme::kv::testing;

namespace {

struct ByValue {
  static uint64_t value(const uint64_t* item) { return *item; }
  static uint64_t value(uint64_t probe) { return probe; }
  template <class A, class B>
  static bool less(const A& a, const B& b) {
    return value(a) < value(b);
  }
};

}  // namespace

TEST_CASE("the ordered index agrees with std::set under random, ascending and descending use") {
  for (int order = 0; order < 3; ++order) {
    SplitMix random(order + 1);
    std::vector<uint64_t> items(6000);
    for (size_t i = 0; i < items.size(); ++i) items[i] = i * 2;
    OrderedIndex<uint64_t, ByValue> index;
    std::set<uint64_t> model;
    for (int round = 0; round < 60000; ++round) {
      bool growing = (round / 10000) % 2 == 0;
      size_t at = order == 0 ? random.below(items.size()) : static_cast<size_t>(round) % items.size();
      if (order == 2) at = items.size() - 1 - at;
      if (random.one_in(4) != growing) {
        if (model.insert(items[at]).second) index.insert(&items[at]);
      } else if (model.erase(items[at]) > 0) {
        index.erase(&items[at]);
      }
      if (round % 997 != 0) continue;
      CHECK(index.empty() == model.empty());
      uint64_t probe = random.below(2 * items.size());
      auto place = index.lower_bound(probe);
      auto expected = model.lower_bound(probe);
      for (int n = 0; n < 400; ++n) {
        const uint64_t* item = index.next(place);
        REQUIRE((item == nullptr) == (expected == model.end()));
        if (item == nullptr) break;
        REQUIRE(*item == *expected++);
      }
      if (!model.empty()) {
        auto nth = index.nth(model.size() - 1);
        CHECK(*index.next(nth) == *model.rbegin());
        CHECK(*index.first() == *model.begin());
      }
    }
  }
}

TEST_CASE("the digest and the bytes are those of the contents, whatever the path") {
  Table a;
  Table b;
  for (int i = 0; i < 1000; ++i) a.put("k" + std::to_string(i), {Kind::kString, "v" + std::to_string(i), i % 3});
  for (int i = 1500; i-- > 0;) b.put("k" + std::to_string(i), {Kind::kNum, "1", 5});
  CHECK(a.digest() != b.digest());
  for (int i = 1000; i < 1500; ++i) CHECK(b.erase("k" + std::to_string(i)));
  for (int i = 0; i < 1000; ++i) b.put("k" + std::to_string(i), {Kind::kString, "v" + std::to_string(i), 0});
  for (int i = 0; i < 1000; ++i) b.set_expiry("k" + std::to_string(i), i % 3);
  CHECK(a.digest() == b.digest());
  CHECK(a.bytes_used() == b.bytes_used());
  CHECK(a.size() == 1000);
}

TEST_CASE("the digest tells apart kinds, expiries, and bytes moved between key and value") {
  auto digest = [](std::string_view key, Value value) {
    Table table;
    table.put(key, value);
    return table.digest();
  };
  uint64_t base = digest("ab", {Kind::kString, "1", 0});
  CHECK(base != digest("ab", {Kind::kNum, "1", 0}));
  CHECK(base != digest("ab", {Kind::kString, "1", 1}));
  CHECK(base != digest("a", {Kind::kString, "b1", 0}));
  CHECK(base != digest("ab", {Kind::kString, "2", 0}));
}

TEST_CASE("a value may be put that is a view into the same table") {
  Table table;
  table.put("a", {Kind::kString, std::string(100, 'x'), 0});
  table.put("a", {Kind::kString, table.find("a")->bytes.substr(10, 20), 0});
  CHECK(table.find("a")->bytes == std::string(20, 'x'));
  for (int i = 0; i < 500; ++i) table.put("b" + std::to_string(i), *table.find("a"));
  CHECK(table.find("b499")->bytes == std::string(20, 'x'));
}
