#include "core/client/topology.h"

#include <fmt/format.h>

#include "core/base/limits.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::client;

namespace {

const env::Address kAsked{"asked", 7};

Result<void> learn(Topology& topology, std::string_view reply) {
  return topology.learn(*protocol::parse_reply(reply), kAsked);
}

}  // namespace

TEST_CASE("CLUSTER SLOTS says who serves what; replicas are known and serve nothing", "[client]") {
  Topology topology;
  CHECK(topology.owner(0) == nullptr);
  REQUIRE(learn(topology,
                "*2\r\n*4\r\n:0\r\n:99\r\n*3\r\n$2\r\nn1\r\n:1\r\n$2\r\nid\r\n*2\r\n$2\r\nn2\r\n:2\r\n"
                "*3\r\n:200\r\n:16383\r\n*4\r\n$2\r\nn3\r\n:3\r\n$2\r\nid\r\n*0\r\n"));
  CHECK(*topology.owner(0) == env::Address{"n1", 1});
  CHECK(*topology.owner(99) == env::Address{"n1", 1});
  CHECK(topology.owner(100) == nullptr);
  CHECK(*topology.owner(200) == env::Address{"n3", 3});
  CHECK(*topology.owner(16383) == env::Address{"n3", 3});
  CHECK(topology.owner(16384) == nullptr);
  CHECK(topology.nodes() == std::vector<env::Address>{{"n1", 1}, {"n2", 2}, {"n3", 3}});

  topology.moved(100, {"n4", 4});
  CHECK(*topology.owner(100) == env::Address{"n4", 4});
  CHECK(topology.owner(101) == nullptr);
  REQUIRE(learn(topology, "*0\r\n"));
  CHECK(topology.owner(100) == nullptr);
  CHECK(topology.nodes().empty());
}

TEST_CASE("a node that does not know its own host is where it was asked", "[client]") {
  for (const char* host : {"$-1\r\n", "_\r\n", "$0\r\n\r\n"}) {
    Topology topology;
    REQUIRE(learn(topology, fmt::format("*1\r\n*3\r\n:5\r\n:5\r\n*2\r\n{}:6\r\n", host)));
    CHECK(*topology.owner(5) == env::Address{"asked", 6});
  }
}

TEST_CASE("a malformed map changes nothing", "[client]") {
  Topology topology;
  topology.moved(7, {"old", 1});
  const std::string node = "*2\r\n$1\r\nn\r\n:1\r\n";
  for (const std::string& reply : {
           std::string("+OK\r\n"),
           std::string("*1\r\n:1\r\n"),
           std::string("*1\r\n*2\r\n:0\r\n:1\r\n"),
           "*1\r\n*3\r\n:1\r\n:0\r\n" + node,
           "*1\r\n*3\r\n:0\r\n:16384\r\n" + node,
           "*1\r\n*3\r\n:-1\r\n:0\r\n" + node,
           "*1\r\n*3\r\n$1\r\n0\r\n:0\r\n" + node,
           std::string("*1\r\n*3\r\n:0\r\n:0\r\n*1\r\n$1\r\nn\r\n"),
           std::string("*1\r\n*3\r\n:0\r\n:0\r\n*2\r\n$1\r\nn\r\n:0\r\n"),
           std::string("*1\r\n*3\r\n:0\r\n:0\r\n*2\r\n$1\r\nn\r\n:65536\r\n"),
           std::string("*1\r\n*3\r\n:0\r\n:0\r\n*2\r\n$2\r\na \r\n:1\r\n"),
           // The first range is good.
           "*2\r\n*3\r\n:0\r\n:0\r\n" + node + "*3\r\n:0\r\n:0\r\n:1\r\n",
       }) {
    INFO(reply);
    auto learnt = learn(topology, reply);
    REQUIRE_FALSE(learnt.has_value());
    CHECK(learnt.error().code == ErrorCode::kInvalid);
    CHECK(*topology.owner(7) == env::Address{"old", 1});
    CHECK(topology.owner(0) == nullptr);
  }
}

TEST_CASE("a map names so many nodes and no more", "[client]") {
  auto reply = [](size_t nodes) {
    std::string text = "*1\r\n";
    text += fmt::format("*{}\r\n:0\r\n:0\r\n", nodes + 2);
    for (size_t n = 1; n <= nodes; ++n) text += fmt::format("*2\r\n$1\r\nn\r\n:{}\r\n", n);
    return text;
  };
  Topology topology;
  CHECK_FALSE(learn(topology, reply(limits::kMaxMembers + 1)).has_value());
  REQUIRE(learn(topology, reply(limits::kMaxMembers)));
  topology.moved(1, {"one-too-many", 1});
  CHECK(topology.owner(1) == nullptr);
  topology.moved(1, {"n", 2});
  CHECK(*topology.owner(1) == env::Address{"n", 2});
}

TEST_CASE("redirections are read in all the ways in which hosts are written", "[client]") {
  auto to = [](std::string_view reply) {
    auto redirection = parse_redirection(reply, kAsked);
    return redirection ? fmt::format("{} {} {}", redirection->slot, redirection->to.host, redirection->to.port) : "-";
  };
  CHECK(to("-MOVED 3999 127.0.0.1:6381\r\n") == "3999 127.0.0.1 6381");
  CHECK(to("-ASK 0 host.example:1\r\n") == "0 host.example 1");
  CHECK(to("-MOVED 16383 [::1]:65535\r\n") == "16383 ::1 65535");
  CHECK(to("-MOVED 1 ::1:6379\r\n") == "1 ::1 6379");
  CHECK(to("-MOVED 1 :6379\r\n") == "1 asked 6379");
  for (const char* bad : {"-MOVED", "-MOVED 1", "-MOVED 1 host", "-MOVED 16384 h:1", "-MOVED -1 h:1", "-MOVED x h:1",
                          "-MOVED 1 h:0", "-MOVED 1 h:65536", "-MOVED 1 h:", "-MOVED 1 h h:1", "-MOVED  1 h:1"})
    CHECK(to(bad) == "-");
}
