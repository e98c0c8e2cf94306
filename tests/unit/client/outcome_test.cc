#include "core/client/outcome.h"

#include "core/base/limits.h"
#include "core/client/session.h"
#include "core/fiber/scope.h"
#include "tests/one_machine.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::client;

TEST_CASE("a reply's first word says what is known of the command", "[client]") {
  CHECK(judge("-MOVED 1 h:1\r\n") == Verdict::kMoved);
  CHECK(judge("-ASK 1 h:1\r\n") == Verdict::kAsk);
  CHECK(judge("-TRYAGAIN later\r\n") == Verdict::kTryAgain);
  CHECK(judge("-CLUSTERDOWN Hash slot not served\r\n") == Verdict::kUnserved);
  CHECK(judge("-LOADING\r\n") == Verdict::kUnserved);
  CHECK(judge("-UNCERTAIN no answer in time\r\n") == Verdict::kUncertain);
  CHECK(judge("-EXPIRED session 7 is unknown\r\n") == Verdict::kExpired);
  CHECK(judge("-OOM command not allowed\r\n") == Verdict::kRefused);
  CHECK(judge("-CROSSSLOT Keys in request don't hash to the same slot\r\n") == Verdict::kRefused);
  CHECK(judge("-ERR max number of clients reached\r\n") == Verdict::kTurnedAway);
  CHECK(judge("-ERR session 7 holds too many replies, acknowledge some with SESSION SEQ n ACK m\r\n") ==
        Verdict::kTryAgain);
  for (const char* answer :
       {"+OK\r\n", "$-1\r\n", "$6\r\n-MOVED\r\n", ":-1\r\n", "-ERR syntax error\r\n", "-WRONGTYPE no\r\n",
        "-MOVEDX 1 h:1\r\n", "-moved 1 h:1\r\n", "-ASKING\r\n", "-ERR MOVED\r\n"})
    CHECK(judge(answer) == Verdict::kDone);
}

TEST_CASE("what may have been executed is sent again only where that does no harm", "[client]") {
  for (Repeatable command : {Repeatable::kRead, Repeatable::kNumbered, Repeatable::kNo}) {
    CHECK_FALSE(may_repeat(Outcome::kDone, command));
    CHECK(may_repeat(Outcome::kNotDone, command));
  }
  CHECK(may_repeat(Outcome::kUnknown, Repeatable::kRead));
  CHECK(may_repeat(Outcome::kUnknown, Repeatable::kNumbered));
  CHECK_FALSE(may_repeat(Outcome::kUnknown, Repeatable::kNo));
}

TEST_CASE("what is acknowledged is all that is done with, up to the first number that is not", "[client]") {
  testing::OneMachine one;
  one.run([&] {
    Session session(one.world().scheduler(), SessionId(7));
    CHECK(session.acknowledged() == 0);
    CHECK(session.take() == 1);
    CHECK(session.take() == 2);
    CHECK(session.take() == 3);
    CHECK(session.acknowledged() == 0);
    session.done_with(2);
    CHECK(session.acknowledged() == 0);
    session.done_with(1);
    CHECK(session.acknowledged() == 2);
    session.done_with(3);
    CHECK(session.acknowledged() == 3);
    CHECK(session.take() == 4);
    CHECK(session.acknowledged() == 3);
    session.done_with(4);
  });
}

TEST_CASE("numbers wait while a node would refuse them, and go on when the oldest is done with", "[client]") {
  testing::OneMachine one;
  one.run([&] {
    Session session(one.world().scheduler(), SessionId(7));
    uint64_t taken = 0;
    auto ended = fiber::with_scope(one.world().scheduler(), [&](fiber::Scope& scope) {
      scope.spawn_daemon("take", [&] {
        for (size_t i = 0; i < 2 * limits::kMaxSessionReplies; ++i) taken = session.take();
      });
      one.world().sleep_for(1);
      REQUIRE(taken < limits::kMaxSessionReplies);
      const uint64_t before = taken;
      session.done_with(2);
      one.world().sleep_for(1);
      CHECK(taken == before);
      session.done_with(1);
      one.world().sleep_for(1);
      CHECK(taken == before + 2);
    });
    CHECK(ended.has_value());
  });
}
