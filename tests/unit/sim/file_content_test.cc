// What a power loss leaves of a file, against the rules in crash_rules.h, with syncs that end while later writes are
// under way.
#include "sim/file_content.h"

#include <set>
#include <string>

#include "core/base/hash.h"
#include "tests/test.h"
#include "tests/unit/sim/crash_rules.h"

using namespace mneme;
using namespace mneme::sim;
using namespace mneme::sim::testing;

namespace {

// As crash_rules.h writes a disk with one file f.
std::string text(const SparseBytes& content) {
  std::string line = "f=";
  for (uint64_t at = 0; at < content.size(); at += kUnit) {
    Bytes unit(std::min(kUnit, content.size() - at));
    content.read(at, unit);
    const bool whole = unit.size() == kUnit && std::ranges::count(unit, unit[0]) == kUnit;
    line += !whole ? '?' : unit[0] == 0 ? '.' : static_cast<char>(unit[0]);
  }
  return line + ' ';
}

class Numbers {
 public:
  explicit Numbers(uint64_t seed) : state_(mix(seed)) {}
  uint64_t below(uint64_t bound) { return mix(state_ += 0x9e3779b97f4a7c15u) % bound; }

 private:
  uint64_t state_;
};

// A file and the rules about it, to which the same is done.
struct Both {
  Both() {
    rules.take(op::make("f"));
    rules.take(op::sync_dir(""));
    write(0, 5, 'a');
    content.sync(content.operations());
    rules.take(op::sync("f"));
  }
  void write(uint64_t begin, uint64_t count, char letter) {
    content.write(begin * kUnit, Bytes(count * kUnit, static_cast<uint8_t>(letter)));
    rules.take(op::write("f", begin, count, letter));
  }
  void truncate(uint64_t size) {
    content.truncate(size * kUnit);
    rules.take(op::truncate("f", size));
  }

  FileContent content;
  Rules rules;
};

}  // namespace

TEST_CASE("a sync in the midst of writes leaves all legal states of those it does not cover, and no other",
          "[sim][disk]") {
  size_t states = 0;
  for (uint64_t seed = 1; seed <= 2'000; ++seed) {
    Numbers numbers(seed);
    Both both;
    std::string all;
    uint64_t asked_operations = 0;
    size_t asked_steps = 0;
    for (uint64_t step = 0, steps = 2 + numbers.below(6); step < steps; ++step) {
      const uint64_t kind = numbers.below(8);
      const uint64_t place = numbers.below(9);
      const uint64_t count = 1 + numbers.below(3);
      const char letter = static_cast<char>('k' + step);
      if (kind == 0) {
        asked_operations = both.content.operations();
        asked_steps = both.rules.steps();
        all += "sync is asked for; ";
      } else if (kind == 1) {
        both.content.sync(asked_operations);
        both.rules.sync("f", asked_steps);
        all += "sync ends; ";
      } else if (kind == 2) {
        both.truncate(place);
        all += fmt::format("truncate {}; ", place);
      } else {
        both.write(place, count, letter);
        all += fmt::format("write {}+{} {}; ", place, count, letter);
      }
      INFO(all);
      REQUIRE(text(both.content.cached()) == testing::text(both.rules.cached()));
    }
    INFO(all);
    FileContent evicted = both.content;
    evicted.evict();
    REQUIRE(text(evicted.cached()) == text(both.content.cached()));

    const std::set<std::string> legal = both.rules.legal_states();
    if (legal.size() > 200) continue;
    std::set<std::string> left;
    for (int attempt = 0; attempt < 20'000 && left.size() < legal.size(); ++attempt) {
      FileContent crashed = both.content;
      crashed.settle(numbers.below(crashed.size_versions()),
                     [&](uint64_t, uint64_t versions) { return numbers.below(versions); });
      crashed.evict();
      left.insert(text(crashed.cached()));
      REQUIRE(text(crashed.cached()) == text(crashed.durable()));
    }
    CHECK(left == legal);
    states += legal.size();
  }
  CHECK(states > 20'000);
}
