// The table against std::map, and copies of it that must not notice what happens to each other.
#include "core/shard/table.h"

#include <map>
#include <string>

#include "core/base/ids.h"
#include "tests/test.h"
#include "tests/unit/shard/random.h"

using namespace mneme;
using namespace mneme::shard;

namespace {

using Numbers = Table<GroupId, std::string>;
using Model = std::map<GroupId, std::string>;

void require_same(const Numbers& table, const Model& model) {
  REQUIRE(table.size() == model.size());
  auto expected = model.begin();
  for (const auto& [id, value] : table) {
    REQUIRE(expected->first == id);
    REQUIRE(expected->second == value);
    ++expected;
  }
  REQUIRE(expected == model.end());
}

Model changes(const Numbers& before, const Numbers& after) {
  Model changed;
  after.for_changes_since(before, [&](GroupId id, const std::string& value) {
    REQUIRE((changed.empty() || changed.rbegin()->first < id));
    changed[id] = value;
  });
  return changed;
}

}  // namespace

TEST_CASE("a table is a map, and its copies keep what they had", "[shard]") {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    Random random(seed);
    Numbers table;
    Model model;
    Numbers copy;
    Model copied;
    Model touched;
    const uint64_t ids = 1 + random.below(500);
    for (int step = 0; step < 1500; ++step) {
      const GroupId id(random.one_in(3) ? model.size() + 1 : 1 + random.below(ids));
      std::string value = random.text(3);
      REQUIRE(table.contains(id) == model.contains(id));
      model[id] = touched[id] = value;
      table.set(id, std::move(value));
      REQUIRE(*table.find(id) == model[id]);
      REQUIRE(table.last_id() == model.rbegin()->first);
      if (!random.one_in(100)) continue;
      require_same(table, model);
      require_same(copy, copied);
      std::erase_if(touched, [&](const auto& e) { return copied.contains(e.first) && copied[e.first] == e.second; });
      REQUIRE(changes(copy, table) == touched);
      REQUIRE((copy == table) == touched.empty());
      copy = table;
      copied = model;
      touched.clear();
      REQUIRE(copy == table);
      REQUIRE(changes(copy, table).empty());
    }
  }
}

TEST_CASE("a copy of a table shares all but what is changed", "[shard]") {
  Numbers table;
  for (uint64_t id = 1; id <= 10'000; ++id) table.set(GroupId(id), "x");
  Numbers copy = table;
  copy.set(GroupId(5000), "y");
  size_t shared = 0;
  for (uint64_t id = 1; id <= 10'000; ++id) shared += copy.find(GroupId(id)) == table.find(GroupId(id)) ? 1 : 0;
  REQUIRE(shared == 9'999);
  REQUIRE(table.at(GroupId(5000)) == "x");
}
