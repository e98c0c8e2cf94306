// The network's faults, one at a time.
#include <set>

#include "tests/unit/sim/two_machines.h"
// Last: its CHECK is Catch's.
#include "tests/test.h"

using namespace mneme;
using namespace mneme::sim;
using namespace mneme::sim::testing;

namespace {

constexpr WorldTime kLatency = TwoMachines::kLatency;
constexpr WorldTime kLeastPatience = 2 * kSecond;
constexpr WorldTime kMostPatience = 15 * kSecond;

bool between(WorldTime low, WorldTime time, WorldTime high) { return low <= time && time <= high; }

}  // namespace

TEST_CASE("a link sends the bytes given to it one after the other", "[link]") {
  Link link;
  CHECK(link.transmit(5, 1000, 0) == 5);  // no limit
  CHECK(link.transmit(0, 1'000'000, 1'000'000) == kSecond);
  CHECK(link.transmit(10, 1, 1'000'000) == kSecond + 1000);
  CHECK(link.transmit(2 * kSecond, 0, 1'000'000) == 2 * kSecond);
  CHECK(link.transmit(2 * kSecond, 1, 3) == 2 * kSecond + 333'333'334);  // rounded up
}

TEST_CASE("a slow link sends at its usual bandwidth what is left when it is not slow any more", "[link]") {
  Link link{.slow_until = kSecond, .slow_factor = 3, .slow_bandwidth = 1000};
  CHECK(link.transmit(0, 500, 0) == kSecond / 2);
  CHECK(link.transmit(0, 1500, 1'000'000) == kSecond + kMs);  // 500 slowly, 1000 fast
  CHECK(link.transmit(0, 1000, 0) == kSecond + kMs);          // behind them
  CHECK(link.slowed(kSecond - 1, 7) == 21);
  CHECK(link.slowed(kSecond, 7) == 7);
  // Slow only in its latency.
  Link far{.slow_until = kSecond, .slow_factor = 3};
  CHECK(far.transmit(0, 1000, 1'000'000) == kMs);
}

TEST_CASE("the connections between two machines share the bandwidth of each direction", "[network]") {
  WorldOptions options = TwoMachines::calm();
  options.bandwidth = 1'000'000;
  TwoMachines two(options);
  two.run([&] {
    two.connect();
    two.connect();
    const WorldTime begin = two.world.now();
    two.write(two.near, 0, Bytes(100'000, 'x'));
    two.write(two.near, 1, Bytes(100'000, 'y'));
    two.write(two.far, 0, "back");
    two.world.sleep_for(kSecond);
    CHECK(two.far[0].bytes.size() == 100'000);
    CHECK(two.far[1].bytes.size() == 100'000);
    const WorldTime last = std::max(two.far[0].at.back(), two.far[1].at.back());
    CHECK(between(begin + 200 * kMs + kLatency, last, begin + 200 * kMs + 2 * kLatency));
    // The other way is free.
    CHECK(two.near[0].text() == "back");
    CHECK(two.near[0].at.back() <= begin + 2 * kLatency + kMs);
  });
}

TEST_CASE("bytes written in the same instant wait for each other on a link with a bandwidth", "[network]") {
  WorldOptions options = TwoMachines::calm();
  options.bandwidth = 1'000'000;
  TwoMachines two(options);
  two.run([&] {
    two.connect();
    const WorldTime begin = two.world.now();
    two.write(two.near, 0, Bytes(10'000, 'x'));
    two.write(two.near, 0, Bytes(10'000, 'x'));
    two.world.sleep_for(kSecond);
    CHECK(two.far[0].bytes.size() == 20'000);
    CHECK(two.far[0].at.back() >= begin + 20 * kMs + kLatency);
  });
}

TEST_CASE("a slow link is slow one way and for a while, for handshakes too", "[network]") {
  TwoMachines two;
  two.run([&] {
    two.connect();
    two.world.network().slow(two.client.actor(), two.server.actor(), two.world.now() + kSecond, 50, 1000);
    const WorldTime begin = two.world.now();
    two.write(two.near, 0, Bytes(100, 'x'));
    two.write(two.far, 0, "back");
    two.connect();
    CHECK(two.world.now() >= begin + 50 * kLatency);
    two.world.sleep_until(begin + 2 * kSecond);
    CHECK(between(begin + 100 * kMs + 50 * kLatency, two.far[0].at.back(), begin + 100 * kMs + 100 * kLatency));
    CHECK(two.near[0].at.back() <= begin + 2 * kLatency + kMs);
    const WorldTime later = two.world.now();
    two.write(two.near, 0, "y");
    two.world.sleep_for(kSecond);
    CHECK(two.far[0].at.back() <= later + 2 * kLatency + kMs);
  });
}

TEST_CASE("a swallowed connection breaks where something is sent, when patience ends, and nowhere else", "[network]") {
  TwoMachines two;
  two.run([&] {
    two.connect();
    two.world.network().swallow(two.client.actor(), two.server.actor());
    const WorldTime begin = two.world.now();
    two.write(two.near, 0, "lost");
    two.connect();  // a new one is not concerned
    two.write(two.near, 1, "new");
    two.world.sleep_until(begin + kMostPatience + kSecond);
    CHECK(two.far[1].text() == "new");
    CHECK(two.far[0].bytes.empty());
    CHECK(between(begin + kLeastPatience, two.near[0].broken_at, begin + kMostPatience + kMs));
    CHECK(two.far[0].open());
    // Hours later the other end may still believe in it.
    two.world.sleep_for(3600 * kSecond);
    CHECK(two.far[0].open());
    const WorldTime then = two.world.now();
    two.write(two.far, 0, "anybody?");
    two.world.sleep_for(kMostPatience + kSecond);
    CHECK(between(then + kLeastPatience, two.far[0].broken_at, then + kMostPatience + kMs));
    CHECK(two.near[1].open());
  });
  CHECK(two.world.network().connection_count() == 0);
}

TEST_CASE("of a connection with one end reset the other end knows when it sends", "[network]") {
  TwoMachines two;
  two.run([&] {
    two.connect();
    two.write(two.near, 0, "before");
    two.world.sleep_for(1);
    two.world.network().reset_end(two.client.actor(), two.server.actor());
    two.world.sleep_for(kSecond);
    CHECK(two.near[0].broken_at > 0);
    CHECK(two.far[0].text() == "before");  // it was on its way
    CHECK(two.far[0].open());
    const WorldTime begin = two.world.now();
    two.write(two.far, 0, "hello?");
    two.world.sleep_for(kSecond);
    CHECK(between(begin + 2 * kLatency, two.far[0].broken_at, begin + 4 * kLatency + kMs));
    CHECK(two.near[0].bytes.empty());
  });
  CHECK(two.world.network().connection_count() == 0);
}

TEST_CASE("the bytes of a stalled connection arrive after those of a newer one", "[network]") {
  TwoMachines two;
  two.run([&] {
    two.connect();
    const WorldTime until = two.world.now() + kSecond;
    two.world.network().stall(two.client.actor(), two.server.actor(), until);
    two.write(two.near, 0, "old");
    two.write(two.far, 0, "back");
    two.world.sleep_for(kMs);
    two.connect();
    two.write(two.near, 1, "new");
    two.world.sleep_for(3 * kSecond);
    CHECK(two.far[0].text() == "old");
    CHECK(two.far[1].text() == "new");
    CHECK(two.far[0].at.back() > until);
    CHECK(two.far[1].at.back() < until);
    CHECK(two.near[0].at.back() < until);  // only one direction is stalled
    CHECK(two.near[0].open());
  });
}

TEST_CASE("healing ends stalls and slow links at once", "[network]") {
  TwoMachines two;
  two.run([&] {
    two.connect();
    Network& network = two.world.network();
    const WorldTime until = two.world.now() + 3600 * kSecond;
    network.stall(two.client.actor(), two.server.actor(), until);
    network.slow(two.server.actor(), two.client.actor(), until, 1000, 1);
    two.write(two.far, 0, Bytes(1000, 'x'));
    two.world.sleep_for(kMs);
    network.heal();
    const WorldTime begin = two.world.now();
    two.write(two.near, 0, "soon");
    two.connect();
    two.write(two.far, 1, "soon");
    two.world.sleep_for(kSecond);
    CHECK(two.far[0].at.back() <= begin + 2 * kLatency + kMs);
    CHECK(two.near[1].text() == "soon");
  });
}

TEST_CASE("a sender breaks when the way back stays blocked, although its bytes arrive", "[network]") {
  for (const bool for_long : {false, true}) {
    TwoMachines two;
    two.run([&] {
      two.connect();
      const WorldTime begin = two.world.now();
      two.world.network().block(two.server.actor(), two.client.actor(),
                                begin + (for_long ? 2 * kMostPatience : kLeastPatience / 2));
      two.write(two.near, 0, "there");
      two.world.sleep_for(kMostPatience + kSecond);
      CHECK(two.far[0].text() == "there");
      CHECK(two.far[0].at.back() <= begin + 2 * kLatency + kMs);
      CHECK(two.near[0].open() != for_long);
      if (for_long) CHECK(between(begin + kLeastPatience, two.near[0].broken_at, begin + kMostPatience + kMs));
      CHECK(two.far[0].open());
    });
    CHECK(two.world.network().connection_count() == 0);
  }
}

TEST_CASE("the first bytes of a segment may arrive one at a time", "[network]") {
  WorldOptions options = TwoMachines::calm();
  options.crumble_ppm = 500'000;
  TwoMachines two(options);
  std::string sent;
  two.run([&] {
    two.connect();
    for (int i = 0; i < 100; ++i) {
      const std::string text = "segment " + std::to_string(i) + std::string(static_cast<size_t>(i), '.');
      sent += text;
      two.write(two.near, 0, text);
      two.world.sleep_for(10 * kMs);
    }
    CHECK(two.far[0].text() == sent);
  });
  const auto& pieces = two.far[0].pieces;
  CHECK(std::count(pieces.begin(), pieces.end(), 1u) > 500);
  CHECK(std::count_if(pieces.begin(), pieces.end(), [](size_t piece) { return piece > 20; }) > 30);
}

TEST_CASE("a segment may wait for the next and arrive with it", "[network]") {
  WorldOptions options = TwoMachines::calm();
  options.coalesce_ppm = 1'000'000;
  TwoMachines two(options);
  two.run([&] {
    two.connect();
    for (std::string_view text : {"one ", "two ", "three"}) {
      two.write(two.near, 0, text);
      two.world.sleep_for(kLatency / 10);
    }
    two.world.sleep_for(10 * kLatency);
    CHECK(two.far[0].text() == "one two three");
    CHECK(two.far[0].pieces.size() == 1);
  });
}

TEST_CASE("a connection whose last words nobody ever hears is forgotten", "[network]") {
  TwoMachines two;
  two.run([&] {
    two.connect();
    two.server.crash(CrashKind::kKill);
    two.world.sleep_for(kSecond);
    two.world.network().block(two.client.actor(), two.server.actor(), two.world.now() + 3600 * kSecond);
    two.client.crash(CrashKind::kKill);
    two.world.sleep_for(kMostPatience + kSecond);
    CHECK(two.world.network().connection_count() == 0);
  });
}
