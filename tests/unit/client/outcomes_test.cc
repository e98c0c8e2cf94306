// What the client says of commands whose answer is late, lost, cut off or not waited for.
#include "tests/test.h"
#include "tests/unit/client/servers.h"

using namespace mneme;
using namespace mneme::client;
using namespace mneme::client::testing;

namespace {

// Answers with the second word.
void echo(Peer& peer, const Words& words) { peer.say(fmt::format("${}\r\n{}\r\n", words[1].size(), words[1])); }

// The first command on each of the first `times` connections is answered by half a reply and a reset.
Servers::Handler cut_off(uint64_t times) {
  return [times](Peer& peer, const Words& words) {
    if (peer.nth > times) return echo(peer, words);
    peer.say("$10\r\nhalf");
    peer.sleep(10ms);
    peer.stream.close();
  };
}

}  // namespace

TEST_CASE("a write whose reply was cut off is not sent again without a session, a read is", "[client]") {
  Servers servers(1);
  servers.handlers[1] = cut_off(1);
  REQUIRE(servers.run([&](Env& env) {
    (void)with_client(env, servers.options(), [&](Client& client) {
      const Answer answer = client.call({"INCR", "k"});
      CHECK(answer.outcome == Outcome::kUnknown);
      CHECK_THAT(answer.why, Catch::Contains("s1:1"));
    });
  }));
  CHECK(servers.heard[1].size() == 1);

  Servers reading(1);
  reading.handlers[1] = cut_off(2);
  REQUIRE(reading.run([&](Env& env) {
    (void)with_client(env, reading.options(), [&](Client& client) {
      const Answer answer = client.call({"GET", "k"});
      CHECK(answer.outcome == Outcome::kDone);
      CHECK(answer.raw == "$1\r\nk\r\n");
    });
  }));
  CHECK(reading.heard[1].size() == 3);
}

TEST_CASE("a write that the node is uncertain of is not sent again without a session, a read is", "[client]") {
  Servers servers(1);
  servers.handlers[1] = [](Peer& peer, const Words&) {
    peer.say(peer.commands < 4 ? "-UNCERTAIN no answer in time\r\n" : "+OK\r\n");
  };
  REQUIRE(servers.run([&](Env& env) {
    (void)with_client(env, servers.options(), [&](Client& client) {
      const Answer write = client.call({"INCR", "k"});
      CHECK(write.outcome == Outcome::kUnknown);
      CHECK(write.why == "UNCERTAIN no answer in time");
      CHECK(servers.heard[1].size() == 1);
      CHECK(client.call({"GET", "k"}).raw == "+OK\r\n");
    });
  }));
  CHECK(servers.heard[1].size() == 3);
  CHECK(servers.heard[1].back().connection == 1);  // it stays
}

TEST_CASE("an answer after the deadline is skipped, and its call ends as unknown, in time", "[client]") {
  Servers servers(1);
  servers.handlers[1] = [](Peer& peer, const Words& words) {
    if (words[1] == "slow") peer.sleep(300ms);
    echo(peer, words);
  };
  REQUIRE(servers.run([&](Env& env) {
    (void)with_client(env, servers.options(), [&](Client& client) {
      (void)client.call({"GET", "warm"});
      const Instant begun = env.clock.now();
      const Answer write = client.call({"INCR", "slow"}, {.deadline = begun + 100ms});
      CHECK(write.outcome == Outcome::kUnknown);
      CHECK(env.clock.now() == begun + 100ms);
      CHECK(client.call({"GET", "next"}).raw == "$4\r\nnext\r\n");
    });
  }));
  CHECK(servers.heard[1].back().connection == 1);
}

TEST_CASE("a call whose deadline comes before it could be sent is not done", "[client]") {
  Servers servers(1);
  servers.handlers[1] = echo;
  REQUIRE(servers.run([&](Env& env) {
    (void)with_client(env, servers.options(), [&](Client& client) {
      CHECK(client.call({"INCR", "k"}, {.deadline = env.clock.now() + 1us}).outcome == Outcome::kNotDone);
    });
  }));
  CHECK(servers.heard[1].empty());
}

TEST_CASE("a cancelled caller in the middle of the pipeline disturbs nobody", "[client]") {
  for (const bool sent : {false, true}) {
    Servers servers(1);
    servers.handlers[1] = [](Peer& peer, const Words& words) {
      peer.sleep(50ms);
      echo(peer, words);
    };
    std::vector<std::string> replies(5);
    bool told = false;
    REQUIRE(servers.run([&](Env& env) {
      (void)with_client(env, servers.options(), [&](Client& client) {
        if (sent) (void)client.call({"GET", "warm"});
        (void)fiber::with_scope(env.scheduler, [&](fiber::Scope& callers) {
          fiber::Scope* cancelled = nullptr;
          for (size_t i = 0; i < 5; ++i)
            callers.spawn("call", [&, i] {
              auto ask = [&] { replies[i] = client.call({"INCR", std::string(i + 1, 'k')}).raw; };
              if (i != 2) return ask();
              (void)fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
                cancelled = &scope;
                ask();
                told = true;
              });
            });
          // Of the second round: sent with the others, and the first of them is being answered. Otherwise still queued.
          env.clock.sleep_for(env.scheduler, sent ? 30ms : 0ms);
          cancelled->cancel();
        });
        CHECK(client.call({"GET", "after"}).raw == "$5\r\nafter\r\n");
      });
    }));
    CHECK_FALSE(told);
    CHECK(replies == std::vector<std::string>{"$1\r\nk\r\n", "$2\r\nkk\r\n", "", "$4\r\nkkkk\r\n", "$5\r\nkkkkk\r\n"});
    CHECK(servers.heard[1].size() == (sent ? 7 : 5));
    CHECK(servers.heard[1].back().connection == 1);
  }
}

TEST_CASE("no more than so many commands and bytes are under way, and everybody gets a turn", "[client]") {
  struct Underway final : Observer {
    void sent(uint64_t tag, uint64_t, uint64_t) override {
      if (tag != 0) most = std::max(most, ++now);
    }
    size_t now = 0, most = 0;
  };
  for (const bool by_bytes : {false, true}) {
    Servers servers(1);
    servers.handlers[1] = [](Peer& peer, const Words&) {
      peer.sleep(5ms);
      peer.say("+OK\r\n");
    };
    Underway underway;
    size_t done = 0;
    REQUIRE(servers.run([&](Env& env) {
      Options options = servers.options();
      options.observer = &underway;
      if (by_bytes)
        options.max_bytes = 3000;
      else
        options.max_requests = 3;
      (void)with_client(env, options, [&](Client& client) {
        (void)fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
          for (int i = 0; i < 50; ++i)
            scope.spawn("call", [&] {
              done += client.call({"SET", "k", std::string(900, 'x')}, {.tag = 1}).outcome == Outcome::kDone;
              --underway.now;
            });
        });
      });
    }));
    CHECK(underway.most == 3);
    CHECK(done == 50);
  }
}

TEST_CASE("one command larger than the bound passes alone", "[client]") {
  Servers servers(1);
  servers.handlers[1] = [](Peer& peer, const Words&) { peer.say("+OK\r\n"); };
  REQUIRE(servers.run([&](Env& env) {
    Options options = servers.options();
    options.max_bytes = 1000;
    (void)with_client(env, options, [&](Client& client) {
      CHECK(client.call({"SET", "k", std::string(5000, 'x')}).outcome == Outcome::kDone);
    });
  }));
}

TEST_CASE("a node that owes an answer and is silent is given up, and reads go elsewhere", "[client]") {
  Servers servers(2);
  servers.slots = "*1\r\n" + Servers::range(0, 16383, 1);
  servers.handlers[1] = [](Peer&, const Words&) {};
  servers.handlers[2] = echo;
  Duration took{};
  REQUIRE(servers.run([&](Env& env) {
    Options options = servers.options();
    options.silence = 1s;
    (void)with_client(env, options, [&](Client& client) {
      const Instant begun = env.clock.now();
      CHECK(client.call({"GET", "k"}).raw == "$1\r\nk\r\n");
      took = env.clock.now() - begun;
      const Answer write = client.call({"INCR", "k"});
      CHECK(write.outcome == Outcome::kUnknown);
      CHECK_THAT(write.why, Catch::Contains("no answer for 1000 ms"));
    });
  }));
  CHECK(took >= 1s);
  CHECK(took < 1100ms);
}

TEST_CASE("silence is counted from the moment that something is owed", "[client]") {
  Servers servers(1);
  servers.handlers[1] = [](Peer& peer, const Words& words) {
    peer.sleep(900ms);
    echo(peer, words);
  };
  REQUIRE(servers.run([&](Env& env) {
    Options options = servers.options();
    options.silence = 1s;
    (void)with_client(env, options, [&](Client& client) {
      for (int i = 0; i < 5; ++i) {
        env.clock.sleep_for(env.scheduler, 700ms);
        CHECK(client.call({"INCR", "k"}).outcome == Outcome::kDone);
      }
    });
  }));
  CHECK(servers.heard[1].back().connection == 1);
}

TEST_CASE("what is no reply, or nobody's, ends the connection and not the client", "[client]") {
  for (const char* nonsense : {"hello\r\n", "$-7\r\n", "+OK\r\n+OK\r\n"}) {
    INFO(nonsense);
    Servers servers(1);
    servers.handlers[1] = [&](Peer& peer, const Words& words) {
      if (peer.nth > 1) return echo(peer, words);
      peer.say(nonsense);
      peer.sleep(1s);
    };
    REQUIRE(servers.run([&](Env& env) {
      (void)with_client(env, servers.options(), [&](Client& client) {
        const Answer first = client.call({"INCR", "k"});
        CHECK((first.outcome == Outcome::kUnknown || first.raw == "+OK\r\n"));
        env.clock.sleep_for(env.scheduler, 10ms);
        CHECK(client.call({"GET", "k"}).raw == "$1\r\nk\r\n");
      });
    }));
    CHECK(servers.heard[1].back().connection == 2);
  }
}

TEST_CASE("a client that ends in the middle leaves nothing behind", "[client]") {
  Servers servers(2);
  servers.halve();
  servers.handlers[1] = [](Peer&, const Words&) {};
  servers.handlers[2] = [](Peer&, const Words&) {};
  bool told = false;
  REQUIRE(servers.run([&](Env& env) {
    auto ended = with_client(env, servers.options(), [&](Client& client) -> Result<void> {
      return fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) -> Result<void> {
        for (int i = 0; i < 20; ++i)
          scope.spawn("call", [&, i] {
            (void)client.call({"INCR", std::to_string(i)});
            told = true;
          });
        env.clock.sleep_for(env.scheduler, 100ms);
        return fail(ErrorCode::kBusy, "enough");
      });
    });
    CHECK(ended.error().message == "enough");
  }));
  CHECK_FALSE(told);
}

TEST_CASE("a client may be cancelled between any two turns of its fibers", "[client]") {
  for (int turns = 0; turns < 12; ++turns) {
    INFO("turns " << turns);
    Servers servers(2);
    servers.halve();
    servers.handlers[1] = echo;
    servers.handlers[2] = echo;
    bool told = false, begun = false;
    REQUIRE(servers.run([&](Env& env) {
      (void)fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
        fiber::Promise<bool> calling(env.scheduler);
        scope.spawn("client", [&] {
          (void)with_client(env, servers.options(), [&](Client& client) {
            begun = client.call({"GET", "b"}).outcome == Outcome::kDone;
            calling.set(true);
            (void)client.call({"GET", "a"});  // makes a connection
            told = true;
          });
        });
        calling.wait();
        for (int turn = 0; turn < turns; ++turn) env.scheduler.yield();
        scope.cancel();
      });
    }));
    CHECK(begun);
    CHECK_FALSE(told);
  }
}
