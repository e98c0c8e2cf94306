// History files: no text harms the parsers, what they accept is written and read back the same, and the checker, short
// of time as it is, never contradicts brute force.
#include "sim/check/brute_force.h"
#include "sim/check/checker.h"
#include "sim/check/formats.h"
#include "tests/fuzz/target.h"

using namespace mneme;
using namespace mneme::check;
using fuzz::require;

namespace {

void judge(const History& history) {
  const CheckOptions short_of_time{.budget = {.steps = 2000, .memory_bytes = 1 << 20}, .explain = false};
  const Verdict verdict = check::check(history, short_of_time);
  if (verdict.answer == Answer::kLinearizable) require(replay(history, verdict.order), "an order proves what it says");
  constexpr size_t kBruteForce = 6;
  if (verdict.answer == Answer::kInconclusive || verdict.keys != 1 || history.operations.size() > kBruteForce) return;
  auto truth = linearizable_by_brute_force(history.operations, history.values, {&history.initial, 1});
  require(truth == (verdict.answer == Answer::kLinearizable), "brute force agrees");
}

void one(const Result<History>& parsed) {
  if (!parsed) {
    require(parsed.error().message.starts_with("line "), "an error says where it is");
    return;
  }
  const std::string written = write_jsonl(*parsed);
  Result<History> back = parse_jsonl(written);
  require(back && write_jsonl(*back) == written, "what is written is read back");
  judge(*parsed);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // In a block of its own size, so that a read past its end is a sanitizer's business.
  std::vector<char> block(data, data + size);
  std::string_view text(block.data(), block.size());
  one(parse_jepsen(text));
  one(parse_kv(text));
  one(parse_jsonl(text));
  return 0;
}

std::vector<std::string> fuzz::corpus() {
  return {
      "INFO  jepsen.util - 0 :invoke :write 3\nINFO  jepsen.util - 1 :invoke :cas [3 4]\n"
      "INFO  jepsen.util - 0 :ok :write 3\nINFO  jepsen.util - 1 :info :cas :timed-out\n"
      "INFO  jepsen.util - 0 :invoke :read nil\nINFO  jepsen.util - 0 :ok :read 4\n",
      "{:process 0, :type :invoke, :f :append, :key \"4\", :value \"x 0 1 y\"}\n"
      "{:process 1, :type :invoke, :f :get, :key \"4\", :value nil}\n"
      "{:process 0, :type :ok, :f :append, :key \"4\", :value \"x 0 1 y\"}\n"
      "{:process 1, :type :ok, :f :get, :key \"4\", :value \"x 0 1 y\"}\n",
      R"({"mneme_history":1,"initial":"0"})"
      "\n"
      R"({"client":0,"key":"k","op":"incr","by":2,"call":0,"return":3,"result":2,"revision":5})"
      "\n"
      R"({"client":1,"key":"k","op":"cas","expected":"2","value":{"hex":"00ff"},"call":1,"return":4,"result":true})"
      "\n"
      R"({"key":"k","op":"expire","call":2})"
      "\n"
      R"({"client":2,"key":"k","op":"get","call":5,"return":6,"result":null})"
      "\n",
      R"({"client":1,"key":"k","op":"append","value":"a","call":0,"return":1,"result":1})"
      "\n"
      R"({"client":1,"key":"k","op":"set","value":"b","call":2})"
      "\n"
      R"({"client":2,"key":"k","op":"delete","call":3,"return":4,"result":true})"
      "\n"};
}
