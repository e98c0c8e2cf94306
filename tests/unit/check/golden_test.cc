#include "recorded.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::check;

TEST_CASE("recorded histories of real systems get their known verdicts, each way", "[check][golden]") {
  std::vector<Recorded> files = recorded_histories(MNEME_SOURCE_DIR "/tests/golden/histories");
  REQUIRE(files.size() == 24);
  for (const Recorded& file : files) {
    INFO(file.name);
    for (Method method : {Method::kBoth, Method::kDepthFirst, Method::kFrontier}) {
      Verdict verdict = check::check(file.history, {.method = method});
      REQUIRE(verdict.answer == (file.linearizable ? Answer::kLinearizable : Answer::kViolation));
      if (file.linearizable) {
        CHECK(replay(file.history, verdict.order));
      } else {
        CHECK(verdict.violation.core.operations.size() < file.history.operations.size() / 2);
      }
    }
  }
}
