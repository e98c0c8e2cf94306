// Where the client sends commands, and how it finds out.
#include "core/base/hash.h"
#include "tests/test.h"
#include "tests/unit/client/servers.h"

using namespace mneme;
using namespace mneme::client;
using namespace mneme::client::testing;

namespace {

// "b" lies in the first half of the slots, "a" in the second.
const std::string kLow = "b";
const std::string kHigh = "a";

Servers::Handler say(std::string reply) {
  return [reply = std::move(reply)](Peer& peer, const Words&) { peer.say(reply); };
}

Servers::Handler move_to(size_t server) {
  return [server](Peer& peer, const Words& words) {
    peer.say(fmt::format("-MOVED {} s{}:1\r\n", slot_of(words[1]), server));
  };
}

}  // namespace

TEST_CASE("every key goes to the node that serves its slot", "[client]") {
  REQUIRE(slot_of(kLow) < 8192);
  REQUIRE(slot_of(kHigh) > 8191);
  Servers servers(2);
  servers.halve();
  servers.handlers[1] = say("$3\r\none\r\n");
  servers.handlers[2] = say("$3\r\ntwo\r\n");
  std::vector<Answer> answers;
  Counters counters;
  REQUIRE(servers.run([&](Env& env) {
    (void)with_client(env, servers.options(), [&](Client& client) {
      answers.push_back(client.call({"GET", kLow}));
      answers.push_back(client.call({"GET", kHigh}));
      answers.push_back(client.call({"mget", "{" + kHigh + "}1", "{" + kHigh + "}2"}));
      answers.push_back(client.call({"SET", kLow, "x"}));
      counters = client.counters();
    });
  }));
  REQUIRE(answers.size() == 4);
  for (auto& answer : answers) CHECK(answer.outcome == Outcome::kDone);
  CHECK(answers[0].reply()->text == "one");
  CHECK(answers[1].reply()->text == "two");
  CHECK(answers[2].reply()->text == "two");
  CHECK(servers.heard[1].size() == 2);
  CHECK(servers.heard[2].size() == 2);
  CHECK(counters.redirections == 0);
  CHECK(servers.slots_asked == 1);
  CHECK(servers.heard[1].back().connection == 1);  // one connection for all
}

TEST_CASE("MOVED is followed at once and remembered, and the map is asked for again", "[client]") {
  Servers servers(2);
  servers.slots = "*1\r\n" + Servers::range(0, 16383, 1);
  servers.handlers[1] = [&](Peer& peer, const Words& words) {
    if (slot_of(words[1]) > 8191)
      move_to(2)(peer, words);
    else
      peer.say("+one\r\n");
  };
  servers.handlers[2] = say("+two\r\n");
  Duration took{};
  Counters counters;
  REQUIRE(servers.run([&](Env& env) {
    (void)with_client(env, servers.options(), [&](Client& client) {
      CHECK(client.call({"GET", kHigh}).outcome == Outcome::kDone);
      const Instant begun = env.clock.now();
      CHECK(client.call({"GET", kHigh}).raw == "+two\r\n");
      took = env.clock.now() - begun;
      CHECK(client.call({"GET", kLow}).raw == "+one\r\n");
      CHECK(client.counters().redirections == 1);
      servers.halve();
      env.clock.sleep_for(env.scheduler, 1s);
      CHECK(*client.topology().owner(16383) == Servers::address(2));
      CHECK(client.call({"GET", "z" + kHigh}).outcome == Outcome::kDone);
      counters = client.counters();
    });
  }));
  CHECK(took < 5ms);  // one round trip
  CHECK(counters.refreshes == 2);
}

TEST_CASE("nodes that send the client in circles are asked ever more rarely, until the deadline", "[client]") {
  Servers servers(2);
  servers.halve();
  servers.handlers[1] = move_to(2);
  servers.handlers[2] = move_to(1);
  Answer answer;
  uint64_t attempts = 0;
  const sim::WorldTime took = servers.run([&](Env& env) {
    (void)with_client(env, servers.options(), [&](Client& client) {
      answer = client.call({"SET", kHigh, "x"});
      attempts = client.counters().attempts;
    });
  });
  CHECK(answer.outcome == Outcome::kNotDone);
  CHECK_THAT(answer.why, Catch::Contains("MOVED"));
  CHECK(attempts > 10);
  CHECK(attempts < 50);
  CHECK(servers.slots_asked < 110);
  CHECK(took > 5000 * kMs);
  CHECK(took <= 10'100 * kMs);
}

TEST_CASE("ASK is followed once, announced by ASKING, and changes no map", "[client]") {
  Servers servers(2);
  servers.slots = "*1\r\n" + Servers::range(0, 16383, 1);
  servers.handlers[1] = [&](Peer& peer, const Words& words) {
    peer.say(fmt::format("-ASK {} s2:1\r\n", slot_of(words[1])));
  };
  servers.handlers[2] = say("+OK\r\n");
  REQUIRE(servers.run([&](Env& env) {
    (void)with_client(env, servers.options(), [&](Client& client) {
      for (int i = 0; i < 2; ++i) {
        Answer answer = client.call({"SET", kHigh, "x"});
        CHECK(answer.outcome == Outcome::kDone);
        CHECK(answer.raw == "+OK\r\n");
      }
      CHECK(*client.topology().owner(slot_of(kHigh)) == Servers::address(1));
    });
  }));
  CHECK(servers.heard[1].size() == 2);
  REQUIRE(servers.heard[2].size() == 4);
  CHECK(servers.heard[2][0].words == Words{"ASKING"});
  CHECK(servers.heard[2][1].words == Words{"SET", kHigh, "x"});
  CHECK(servers.heard[2][2].words == Words{"ASKING"});
}

TEST_CASE("a redirection that cannot be understood is asked elsewhere", "[client]") {
  Servers servers(2);
  servers.slots = "*1\r\n" + Servers::range(0, 16383, 1);
  servers.handlers[1] = say("-MOVED to nowhere\r\n");
  servers.handlers[2] = say("+OK\r\n");
  REQUIRE(servers.run([&](Env& env) {
    (void)with_client(env, servers.options(), [&](Client& client) {
      CHECK(client.call({"SET", kHigh, "x"}).raw == "+OK\r\n");
    });
  }));
}

TEST_CASE("what a node says it did not do is tried again until the deadline", "[client]") {
  for (const char* reply : {"-CLUSTERDOWN Hash slot not served\r\n", "-LOADING soon\r\n", "-TRYAGAIN\r\n"}) {
    INFO(reply);
    Servers servers(1);
    servers.handlers[1] = [&](Peer& peer, const Words&) { peer.say(servers.heard[1].size() < 4 ? reply : "+OK\r\n"); };
    REQUIRE(servers.run([&](Env& env) {
      (void)with_client(env, servers.options(), [&](Client& client) {
        CHECK(client.call({"SET", "k", "x"}).raw == "+OK\r\n");
      });
    }));
    CHECK(servers.heard[1].size() == 4);

    Servers never(1);
    never.handlers[1] = say(reply);
    REQUIRE(never.run([&](Env& env) {
      (void)with_client(env, never.options(), [&](Client& client) {
        const Answer answer = client.call({"SET", "k", "x"}, {.deadline = env.clock.now() + 2s});
        CHECK(answer.outcome == Outcome::kNotDone);
        CHECK("-" + answer.why + "\r\n" == reply);
      });
    }));
    CHECK(never.heard[1].size() > 4);
    CHECK(never.heard[1].size() < 20);
  }
}

TEST_CASE("with cluster mode off everything goes to one node, and to another when that cannot", "[client]") {
  Servers servers(3);
  bool first_fails = false;
  size_t home = 0;
  for (size_t n = 1; n <= 3; ++n)
    servers.handlers[n] = [&, n](Peer& peer, const Words&) {
      if (home == 0) home = n;
      peer.say(first_fails && n == home ? "-CLUSTERDOWN Hash slot not served\r\n" : "+OK\r\n");
    };
  REQUIRE(servers.run([&](Env& env) {
    (void)with_client(env, servers.options(), [&](Client& client) {
      for (int i = 0; i < 10; ++i) CHECK(client.call({"SET", fmt::format("k{}", i), "x"}).raw == "+OK\r\n");
      CHECK(servers.heard[home].size() == 10);
      first_fails = true;
      for (int i = 0; i < 10; ++i) CHECK(client.call({"SET", fmt::format("k{}", i), "x"}).raw == "+OK\r\n");
      CHECK(client.counters().attempts < 27);
    });
  }));
}

TEST_CASE("when a node goes and another takes over its slots, calls go on there", "[client]") {
  Servers servers(2);
  servers.halve();
  servers.handlers[1] = say("+one\r\n");
  servers.handlers[2] = say("+two\r\n");
  bool gone = false;
  Duration took{};
  uint64_t late_attempts = 0;
  REQUIRE(servers.run(
      [&](Env& env) {
        (void)with_client(env, servers.options(), [&](Client& client) {
          CHECK(client.call({"GET", kLow}).raw == "+one\r\n");
          while (!gone) env.clock.sleep_for(env.scheduler, 10ms);
          const Instant begun = env.clock.now();
          CHECK(client.call({"GET", kLow}).raw == "+two\r\n");
          took = env.clock.now() - begun;
          env.clock.sleep_for(env.scheduler, 1s);
          const uint64_t before = client.counters().attempts;
          CHECK(client.call({"GET", kLow}).raw == "+two\r\n");
          late_attempts = client.counters().attempts - before;
        });
      },
      [&] {
        servers.world.sleep_for(100 * kMs);
        servers.crash(1);
        servers.slots = "*1\r\n" + Servers::range(0, 16383, 2);
        servers.world.sleep_for(kMs);
        gone = true;
      }));
  CHECK(took < 1s);
  CHECK(late_attempts == 1);
}

TEST_CASE("with nobody there calls end as not done, and the client waits for somebody to come", "[client]") {
  Servers servers(2);
  servers.handlers[2] = say("+OK\r\n");
  Answer early, late;
  REQUIRE(servers.run(
      [&](Env& env) {
        (void)with_client(env, {.seeds = {Servers::address(1)}}, [&](Client& client) {
          early = client.call({"SET", "k", "x"}, {.deadline = env.clock.now() + 3s});
          late = client.call({"SET", "k", "x"});
        });
      },
      [&] {
        servers.world.sleep_for(5000 * kMs);
        servers.handlers[1] = say("+OK\r\n");
        servers.start(1);
      }));
  CHECK(early.outcome == Outcome::kNotDone);
  CHECK_FALSE(early.why.empty());
  CHECK(late.raw == "+OK\r\n");
}

TEST_CASE("a node that takes no more connections has done nothing", "[client]") {
  Servers servers(2);
  servers.slots = "*1\r\n" + Servers::range(0, 16383, 1);
  servers.handlers[2] = say("+OK\r\n");
  // Speaks first and hangs up, as Redis does.
  Answer answer;
  REQUIRE(servers.run(
      [&](Env& env) {
        env.clock.sleep_for(env.scheduler, 10ms);
        (void)with_client(env, servers.options(), [&](Client& client) { answer = client.call({"SET", "k", "x"}); });
      },
      [&] {
        servers.machines[0]->boot(
            *servers.scope,
            [](Env& env) -> Result<void> {
              auto listener = TRY(env.network.listen(Servers::address(1)));
              for (;;) {
                auto stream = TRY(listener->accept());
                TRY(stream->write(as_bytes("-ERR max number of clients reached\r\n")));
              }
            },
            [](Result<void>) {});
      }));
  CHECK(answer.outcome == Outcome::kDone);
  CHECK(answer.raw == "+OK\r\n");
  CHECK(servers.heard[2].size() == 1);
}

TEST_CASE("what would change a shared connection is refused, and what no node would take", "[client]") {
  Servers servers(1);
  servers.handlers[1] = say("+OK\r\n");
  REQUIRE(servers.run([&](Env& env) {
    (void)with_client(env, servers.options(), [&](Client& client) {
      for (auto words : std::vector<std::vector<std::string_view>>{{"MULTI"},
                                                                   {"exec"},
                                                                   {"WATCH", "k"},
                                                                   {"subscribe", "c"},
                                                                   {"SELECT", "0"},
                                                                   {"HELLO", "3"},
                                                                   {"CLIENT", "REPLY", "OFF"},
                                                                   {"SESSION", "SEQ", "1"},
                                                                   {"QUIT"}}) {
        Answer answer = client.call(words);
        CHECK(answer.outcome == Outcome::kNotDone);
        CHECK_THAT(answer.why, Catch::Contains("is about a connection"));
      }
      CHECK(client.call(std::vector<std::string_view>{}).outcome == Outcome::kNotDone);
      const std::string large(limits::kMaxCommandBytes, 'x');
      CHECK(client.call({"SET", "k", large}).outcome == Outcome::kNotDone);
      CHECK(client.call(std::vector<std::string_view>(limits::kMaxCommandArgs + 1, "DEL")).outcome ==
            Outcome::kNotDone);
      CHECK(client.call({"CLIENT", "ID"}).raw == "+OK\r\n");
      CHECK(client.call({"NEWER.COMMAND"}).raw == "+OK\r\n");
    });
  }));
  CHECK(servers.heard[1].size() == 2);
}
