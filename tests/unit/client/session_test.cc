// Exactly once: numbers, acknowledgements, and what is said when a session has expired.
#include "tests/test.h"
#include "tests/unit/client/servers.h"

using namespace mneme;
using namespace mneme::client;
using namespace mneme::client::testing;

namespace {

struct World : Servers {
  explicit World(size_t count = 1) : Servers(count) {}
  template <class F>
  bool with_sessions(F&& fn) {
    return run([&](Env& env) {
             Options options = this->options();
             options.sessions = true;
             (void)with_client(env, options, [&](Client& client) { fn(env, client); });
           }) > 0;
  }
};

void hang_up(Peer& peer) {
  peer.sleep(5ms);
  peer.stream.close();
}

}  // namespace

TEST_CASE("a write whose answer was lost is sent again under the same number, and the next acknowledges it",
          "[client]") {
  World servers;
  servers.handlers[1] = [](Peer& peer, const Words&) {
    if (peer.nth <= 2) return hang_up(peer);
    peer.say(":5\r\n");
  };
  REQUIRE(servers.with_sessions([&](Env&, Client& client) {
    CHECK(client.call({"INCR", "k"}).raw == ":5\r\n");
    CHECK(client.call({"INCR", "k"}).raw == ":5\r\n");
    CHECK(client.counters().sessions == 1);
  }));
  auto& heard = servers.heard[1];
  REQUIRE(heard.size() == 4);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(heard[i].connection == i + 1);
    CHECK(heard[i].session == "71");
    CHECK(heard[i].number == "1");
    CHECK(heard[i].ack == "0");
  }
  CHECK(heard[3].connection == 3);
  CHECK(heard[3].number == "2");
  CHECK(heard[3].ack == "1");
  CHECK(servers.resumed == 3);  // once per connection
}

TEST_CASE("a write of which the node is uncertain goes on under its number", "[client]") {
  World servers;
  servers.handlers[1] = [](Peer& peer, const Words&) {
    peer.say(peer.commands < 6 ? "-UNCERTAIN no answer in time\r\n" : ":1\r\n");
  };
  REQUIRE(servers.with_sessions([&](Env&, Client& client) { CHECK(client.call({"INCR", "k"}).raw == ":1\r\n"); }));
  REQUIRE(servers.heard[1].size() == 2);
  CHECK(servers.heard[1][0].number == "1");
  CHECK(servers.heard[1][1].number == "1");
}

TEST_CASE("reads have no number, and none that a refused write left behind", "[client]") {
  World servers;
  servers.handlers[1] = [](Peer& peer, const Words& words) { peer.say(words[0] == "SET" ? "-OOM no\r\n" : "$-1\r\n"); };
  REQUIRE(servers.with_sessions([&](Env&, Client& client) {
    CHECK(client.call({"GET", "k"}).outcome == Outcome::kDone);
    CHECK(client.call({"SET", "k", "x"}).raw == "-OOM no\r\n");
    const uint64_t before = servers.resumed;
    CHECK(client.call({"GET", "k"}).outcome == Outcome::kDone);
    CHECK(servers.resumed == before + 1);  // takes the number back
    CHECK(client.call({"GET", "k"}).outcome == Outcome::kDone);
    CHECK(servers.resumed == before + 1);
  }));
  CHECK(servers.heard[1][0].number.empty());
  CHECK(servers.heard[1][1].number == "1");
  CHECK(servers.heard[1][2].number.empty());
}

TEST_CASE("a node that refuses a write without looking says nothing of an attempt that may have been executed",
          "[client]") {
  for (const char* refusal : {"-OOM command not allowed\r\n", "-CROSSSLOT Keys in request\r\n"}) {
    for (const uint64_t refusals : {uint64_t{2}, UINT64_MAX}) {
      INFO(refusal << " " << refusals);
      World servers;
      uint64_t refused = 0;
      servers.handlers[1] = [&](Peer& peer, const Words&) {
        if (peer.nth == 1) return hang_up(peer);
        peer.say(refused++ < refusals ? refusal : ":7\r\n");
      };
      REQUIRE(servers.with_sessions([&](Env&, Client& client) {
        const Answer answer = client.call({"INCR", "k"});
        CHECK(answer.outcome == (refusals == 2 ? Outcome::kDone : Outcome::kUnknown));
        CHECK(answer.raw == (refusals == 2 ? ":7\r\n" : ""));
      }));
      for (auto& heard : servers.heard[1]) CHECK(heard.number == "1");
    }
  }
}

TEST_CASE("many at once have a number each, and acknowledge only what all before were answered", "[client]") {
  World servers;
  servers.handlers[1] = [](Peer& peer, const Words& words) {
    if (words[1] == "k3" && peer.nth == 1) return hang_up(peer);
    peer.say("+OK\r\n");
  };
  REQUIRE(servers.with_sessions([&](Env& env, Client& client) {
    (void)client.call({"GET", "warm"});
    (void)fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
      for (int i = 1; i <= 6; ++i)
        scope.spawn("call", [&, i] { CHECK(client.call({"INCR", fmt::format("k{}", i)}).raw == "+OK\r\n"); });
    });
    CHECK(client.call({"INCR", "last"}).raw == "+OK\r\n");
  }));
  std::map<std::string, std::string> number_of;
  for (auto& heard : servers.heard[1]) {
    if (heard.words[0] == "GET") continue;
    auto [known, added] = number_of.emplace(heard.words[1], heard.number);
    CHECK(known->second == heard.number);
    if (heard.connection == 2 && heard.words[1] != "last") CHECK(heard.ack == "2");
  }
  CHECK(number_of.size() == 7);
  CHECK(servers.heard[1].back().ack == "6");
}

TEST_CASE("an expired session is replaced, and what it cannot have executed goes on in the new one", "[client]") {
  World servers;
  servers.handlers[1] = [](Peer& peer, const Words&) {
    peer.say(peer.session == "71" ? "-EXPIRED session 71 is unknown\r\n" : ":1\r\n");
  };
  REQUIRE(servers.with_sessions([&](Env&, Client& client) {
    CHECK(client.call({"INCR", "k"}).raw == ":1\r\n");
    CHECK(client.counters().sessions == 2);
  }));
  REQUIRE(servers.heard[1].size() == 2);
  CHECK(servers.heard[1][1].session == "72");
  CHECK(servers.heard[1][1].number == "1");
}

TEST_CASE("a write that may have been executed in an expired session is unknown, and not sent again", "[client]") {
  World servers;
  servers.handlers[1] = [](Peer& peer, const Words&) {
    if (peer.nth == 1) return hang_up(peer);
    peer.say(peer.session == "71" ? "-EXPIRED session 71 is unknown\r\n" : ":1\r\n");
  };
  REQUIRE(servers.with_sessions([&](Env&, Client& client) {
    const Answer answer = client.call({"INCR", "k"});
    CHECK(answer.outcome == Outcome::kUnknown);
    CHECK(answer.why == "EXPIRED session 71 is unknown");
    CHECK(servers.heard[1].size() == 2);
    CHECK(client.call({"INCR", "k"}).raw == ":1\r\n");  // in a new one
  }));
  CHECK(servers.heard[1].back().session == "72");
}

TEST_CASE("a node that takes no numbers may have executed the command without: it is not sent again", "[client]") {
  World servers(1);
  servers.handlers[1] = [](Peer& peer, const Words&) { peer.say("+OK\r\n"); };
  servers.refuse_numbers = true;
  REQUIRE(servers.with_sessions([&](Env&, Client& client) {
    const Answer answer = client.call({"INCR", "k"});
    CHECK(answer.outcome == Outcome::kUnknown);
    CHECK_THAT(answer.why, Catch::Contains("refuses to number"));
  }));
  CHECK(servers.heard[1].size() <= 1);
}

TEST_CASE("where nobody knows sessions, nothing is sent at all", "[client]") {
  World servers(1);
  servers.handlers[1] = [](Peer& peer, const Words&) { peer.say("+OK\r\n"); };
  servers.no_sessions = true;
  REQUIRE(servers.with_sessions([&](Env&, Client& client) {
    const Answer answer = client.call({"INCR", "k"});
    CHECK(answer.outcome == Outcome::kNotDone);
    CHECK_THAT(answer.why, Catch::Contains("no session could be opened") && Catch::Contains("unknown command"));
    CHECK(client.call({"GET", "k"}).raw == "+OK\r\n");
  }));
}

TEST_CASE("callers that come while a session is being opened share it, also when its opener is cancelled", "[client]") {
  World servers;
  servers.handlers[1] = [](Peer& peer, const Words&) { peer.say("+OK\r\n"); };
  int done = 0;
  REQUIRE(servers.with_sessions([&](Env& env, Client& client) {
    (void)client.call({"GET", "warm"});
    (void)fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
      scope.spawn("first", [&] {
        (void)fiber::with_deadline(env.scheduler, env.clock.timers(), env.clock.now() + 1ms, [&]() -> Result<void> {
          (void)client.call({"INCR", "first"});
          return {};
        });
      });
      for (int i = 0; i < 5; ++i)
        scope.spawn("call", [&] { done += client.call({"INCR", "k"}).outcome == Outcome::kDone; });
    });
  }));
  CHECK(done == 5);
  CHECK(servers.sessions_opened == 2);
  for (auto& heard : servers.heard[1])
    if (heard.words[0] == "INCR") CHECK(heard.session == "72");
}

TEST_CASE("commands that we do not know are numbered, and not sent again when in doubt", "[client]") {
  World servers;
  servers.handlers[1] = [](Peer& peer, const Words&) { peer.say("-UNCERTAIN no answer in time\r\n"); };
  REQUIRE(servers.with_sessions([&](Env&, Client& client) {
    CHECK(client.call({"NEWER.COMMAND", "k"}).outcome == Outcome::kUnknown);
  }));
  REQUIRE(servers.heard[1].size() == 1);
  CHECK(servers.heard[1][0].number == "1");
}
