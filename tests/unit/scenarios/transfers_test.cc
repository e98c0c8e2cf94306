// What is made of the answers that conservation is judged by.
#include "sim/scenarios/kv_transfer_client.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::sim;

namespace {

Result<int64_t> total(std::string_view answer) {
  auto reply = protocol::parse_reply(answer);
  REQUIRE(reply.has_value());
  return total_of(*reply);
}

}  // namespace

TEST_CASE("a bank's total is what its accounts hold, and those that are not there hold nothing", "[scenarios]") {
  CHECK(total("*3\r\n$-1\r\n$-1\r\n$-1\r\n") == 0);
  CHECK(total("*3\r\n$2\r\n-7\r\n$1\r\n4\r\n$1\r\n3\r\n") == 0);
  CHECK(total("*3\r\n$2\r\n-7\r\n$-1\r\n$1\r\n3\r\n") == -4);
}

TEST_CASE("an answer that is no list of all accounts is not a total", "[scenarios]") {
  CHECK_FALSE(total("*2\r\n$1\r\n0\r\n$1\r\n0\r\n").has_value());
  CHECK_FALSE(total("*3\r\n$1\r\n0\r\n$1\r\n0\r\n$3\r\n0.5\r\n").has_value());
  CHECK_FALSE(total("*3\r\n$1\r\n0\r\n$1\r\n0\r\n$0\r\n\r\n").has_value());
  CHECK_FALSE(total("-ERR unknown command\r\n").has_value());
}
