#include "sim/scenarios/options.h"

#include <set>

#include "tests/test.h"

using namespace mneme;
using namespace mneme::sim;

namespace {

std::string error_of(std::string_view name, std::string_view text) {
  Options options;
  auto set = options.set(name, text);
  return set ? "" : set.error().message;
}

Range range_of(Option option, std::string_view name, std::string_view text) {
  Options options;
  REQUIRE(options.set(name, text).has_value());
  return options.range(option);
}

}  // namespace

TEST_CASE("a value is written in the option's unit, in another of its kind, or by name", "[scenarios]") {
  auto value = [](Option option, std::string_view name, std::string_view text) {
    const Range range = range_of(option, name, text);
    CHECK(range.from == range.to);
    return range.from;
  };
  CHECK(value(Option::heartbeat, "heartbeat", "100") == 100);
  CHECK(value(Option::heartbeat, "heartbeat", "100 ms") == 100);
  CHECK(value(Option::heartbeat, "heartbeat", " 2s ") == 2000);
  CHECK(value(Option::heartbeat, "heartbeat", "5000 us") == 5);
  CHECK(value(Option::duration, "duration", "2 h") == 7'200'000);
  CHECK(value(Option::segment, "segment", "1 MiB") == 1024);
  CHECK(value(Option::split, "split", "5 %") == 50'000);
  CHECK(value(Option::regime, "regime", "unrestricted") == static_cast<int64_t>(Regime::kUnrestricted));
  CHECK(value(Option::heal, "heal", "0") == static_cast<int64_t>(Heal::kAll));
}

TEST_CASE("two values with dots between them are a range, from which each seed draws", "[scenarios]") {
  const Range range = range_of(Option::sync_latency, "sync_latency", "100 us..2 ms");
  CHECK(range.from == 100);
  CHECK(range.to == 2000);
  Options options;
  REQUIRE(options.set("clients", "5..7").has_value());
  CHECK_FALSE(options.given(Option::clients));
  std::set<int64_t> drawn;
  for (uint64_t seed = 1; seed <= 100; ++seed) drawn.insert((*options.expand(Fate(seed)))[Option::clients]);
  CHECK(drawn == std::set<int64_t>{5, 6, 7});
}

TEST_CASE("a wrong value is answered with what is allowed", "[scenarios]") {
  CHECK(
      error_of("heartbeat", "100 KiB") ==
      "heartbeat = '100 KiB' is not a value of it: write a whole number from 5 to 10000, in ms or with a unit (us, s, "
      "min, h)");
  CHECK(error_of("heartbeat", "1500 us").find("heartbeat = '1500 us' is not a value of it") == 0);
  CHECK(error_of("heartbeat", "").find("is not a value of it") != std::string::npos);
  CHECK(error_of("heartbeat", "5..") != "");
  CHECK(error_of("nodes", "3 ms") == "nodes = '3 ms' is not a value of it: write a whole number from 1 to 9");
  CHECK(error_of("nodes", "10") == "nodes = 10 is out of bounds: it is a whole number from 1 to 9");
  CHECK(error_of("nodes", "5..3") == "nodes = 5..3: the range is empty");
  CHECK(error_of("nodes", "99999999999999999999") != "");
  CHECK(error_of("duration", "9223372036854775807 h") != "");
  CHECK(error_of("regime", "kind") == "regime = 'kind' is not a value of it: write recoverable or unrestricted");
  CHECK(error_of("kill", "1").find("unknown option 'kill'; the options are: nodes, ") == 0);
}

TEST_CASE("what is drawn gives way to what is given, and what was given twice over is refused", "[scenarios]") {
  Options options;
  REQUIRE(options.set("heartbeat", "900").has_value());
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    auto expanded = options.expand(Fate(seed));
    REQUIRE(expanded.has_value());
    CHECK((*expanded)[Option::heartbeat] == 900);
    CHECK((*expanded)[Option::election_timeout] >= 1800);
  }
  REQUIRE(options.set("election_timeout", "1000").has_value());
  CHECK(options.expand(Fate(1)).error().message ==
        "heartbeat = 900 ms must be at most half of election_timeout = 1000 ms");
}

TEST_CASE("a regime does not allow more damage than leaves a majority whole", "[scenarios]") {
  Options options;
  REQUIRE(options.set("nodes", "1").has_value());
  REQUIRE(options.set("rots", "2").has_value());
  CHECK(options.expand(Fate(1)).error().message ==
        "nodes = 1 leaves no copy that rots = 2 may damage: use nodes = 3 or more, or regime = unrestricted");
  REQUIRE(options.set("regime", "unrestricted").has_value());
  CHECK(options.expand(Fate(1)).has_value());
}

TEST_CASE("each option is drawn by its own name: what is given about one changes no other", "[scenarios]") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const Options all = *Options().expand(Fate(seed));
    Options some;
    REQUIRE(some.set("kills", "999").has_value());
    const Options with_kills = *some.expand(Fate(seed));
    for (size_t i = 0; i < kOptionCount; ++i)
      if (kOptionSpecs[i].name != "kills") CHECK(all[static_cast<Option>(i)] == with_kills[static_cast<Option>(i)]);
  }
}

TEST_CASE("the text of expanded options reads back as the same options", "[scenarios]") {
  const Options options = *Options().expand(Fate(7));
  const std::string text = options.text();
  Options read;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(' ', at), text.size());
    const size_t equals = text.find('=', at);
    REQUIRE(read.set(text.substr(at, equals - at), text.substr(equals + 1, end - equals - 1)).has_value());
    at = end + 1;
  }
  CHECK(read.text() == text);
}

TEST_CASE("a link carries the largest value while its client has patience", "[scenarios]") {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    Options options;
    REQUIRE(options.set("value_bytes", "4000").has_value());
    REQUIRE(options.set("client_timeout", "500").has_value());
    const Options expanded = *options.expand(Fate(seed));
    const int64_t bandwidth = expanded[Option::bandwidth];
    CHECK((bandwidth == 0 || bandwidth * 1024 / 2 > 4000 * 100 * 4));
  }
  Options given;
  REQUIRE(given.set("bandwidth", "1").has_value());
  CHECK((*given.expand(Fate(1)))[Option::bandwidth] == 1);
}

TEST_CASE("timeouts that are drawn leave time for the slowest disk", "[scenarios]") {
  Options options;
  REQUIRE(options.set("sync_latency", "20 ms").has_value());
  REQUIRE(options.set("sync_spread", "9").has_value());
  const Options expanded = *options.expand(Fate(1));
  CHECK(expanded[Option::request_timeout] >= 1400);
  CHECK(expanded[Option::election_timeout] >= 1400);
  CHECK(expanded[Option::client_timeout] >= 1400);
  REQUIRE(options.set("election_timeout", "300 ms").has_value());
  CHECK((*options.expand(Fate(1)))[Option::election_timeout] == 300);
}
