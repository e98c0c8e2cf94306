#include "sim/check/formats.h"

#include "sim/check/command.h"
#include "support.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::check;

namespace {

std::string problem(const Result<History>& result) { return result ? "" : result.error().message; }

}  // namespace

TEST_CASE("a Jepsen log is read with each outcome it knows", "[check][formats]") {
  Result<History> history = parse_jepsen(
      "INFO  jepsen.core - setting up\r\n"
      "INFO  jepsen.util - 0\t:invoke\t:read\tnil\n"
      "INFO  jepsen.util - 1\t:invoke\t:write\t3\n"
      "\n"
      "INFO  jepsen.util - :nemesis :info :start nil\n"
      "INFO  jepsen.util - 0\t:ok\t:read\tnil\n"
      "INFO  jepsen.util - 1\t:info\t:write\t:timed-out\n"
      "INFO  jepsen.util - 2 :invoke :cas [1 4]\n"
      "INFO  jepsen.util - 3 :invoke :cas [3 4]\n"
      "INFO  jepsen.util - 2 :fail :cas [1 4]\n"
      "INFO  jepsen.util - 3 :ok :cas [3 4]\n"
      "INFO  jepsen.util - 0 :invoke :read nil\n"
      "INFO  jepsen.util - 0 :fail :read :timed-out\n"
      "INFO  jepsen.util - 4 :invoke :write 5");
  REQUIRE(history);
  const auto& ops = history->operations;
  REQUIRE(ops.size() == 6);
  CHECK(ops[0].reply_value == kAbsent);
  CHECK(ops[1].outcome == Outcome::kUnknown);
  CHECK(ops[2].reply == ReplyKind::kNo);
  CHECK(ops[3].reply == ReplyKind::kYes);
  CHECK(ops[4].outcome == Outcome::kFailed);
  CHECK(ops[5].outcome == Outcome::kUnknown);
  CHECK(check::check(*history).answer == Answer::kLinearizable);
}

TEST_CASE("what is wrong with a Jepsen log is told with its line", "[check][formats]") {
  const std::string good = "INFO  jepsen.util - 0 :invoke :read nil\n";
  auto told = [&](const std::string& line) { return problem(parse_jepsen(good + line + "\n")); };
  CHECK(told("hello") == "line 2: 'hello' begins no line of a Jepsen log");
  CHECK(told("INFO jepsen.util - x :invoke :read nil") == "line 2: 'x' is not the number of a process");
  CHECK(told("INFO jepsen.util - 1 :invoke :reed nil") == "line 2: ':reed' is not :read, :write or :cas");
  CHECK(told("INFO jepsen.util - 0 :invoke :read nil") == "line 2: process 0 has one open already");
  CHECK(told("INFO jepsen.util - 1 :ok :read 1") == "line 2: process 1 has nothing open");
  CHECK(told("INFO jepsen.util - 0 :ok :write 1") == "line 2: process 0 had something else open");
  CHECK(told("INFO jepsen.util - 0 :maybe :read 1") == "line 2: ':maybe' is not :invoke, :ok, :fail or :info");
  CHECK(told("INFO jepsen.util - 0 :ok :read") == "line 2: :ok :read does not go with this value");
  CHECK(told("INFO jepsen.util - 1 :invoke :cas 4") == "line 2: :invoke :cas does not go with this value");
  CHECK(told("INFO jepsen.util - 1 :invoke :cas [4").starts_with("line 2: cannot read the event"));
  CHECK(told("INFO jepsen.util - 1 :invoke :write 4 5").starts_with("line 2: cannot read the event"));
  CHECK(told("INFO jepsen.util - 99999999999 :invoke :read nil").starts_with("line 2: '99999999999' is not"));
}

TEST_CASE("what is wrong with a key-value log is told with its line", "[check][formats]") {
  const std::string good = R"({:process 0, :type :invoke, :f :put, :key "4", :value "x \"0\" y"})"
                           "\n";
  REQUIRE(parse_kv(good));
  CHECK(parse_kv(good)->values.find("x \"0\" y") != kAbsent);
  auto told = [&](const std::string& line) { return problem(parse_kv(good + line)); };
  CHECK(told("x") == "line 2: a line must be a map in braces");
  CHECK(told("{:process 0") == "line 2: the map is not closed");
  CHECK(told("{process 0}") == "line 2: a map's keys must be keywords");
  CHECK(told("{:process 0 :process 1}") == "line 2: ':process' is there twice");
  CHECK(told("{:process 0} x") == "line 2: 'x' follows the map");
  CHECK(told("{:process \"a") == "line 2: the value of ':process' cannot be read");
  CHECK(told("{:process 0}") == "line 2: :type is missing");
  CHECK(told(R"({:process a, :type :ok, :f :put, :key "4", :value "1"})") ==
        "line 2: 'a' is not the number of a process");
  CHECK(told(R"({:process 1, :type :ok, :f :put, :key "4", :value "1"})") == "line 2: process 1 has nothing open");
  CHECK(told(R"({:process 0, :type :ok, :f :put, :key "5", :value "1"})") ==
        "line 2: process 0 had something else open");
  CHECK(told(R"({:process 0, :type :ok, :f :cut, :key "5", :value "1"})") ==
        "line 2: ':cut' is not :get, :put or :append");
  CHECK(told(R"({:process 1, :type :invoke, :f :put, :key "5", :value nil})") ==
        "line 2: the value of :invoke :put must be a string");
  CHECK(told(R"({:process 1, :type :invoke, :f :put, :key 5, :value "1"})") == "line 2: :key must be a string");
}

TEST_CASE("what is wrong with our own format is told with its line", "[check][formats]") {
  const std::string good =
      "{\"mneme_history\":1}\n"
      R"({"client":0,"key":"k","op":"set","value":"1","call":0,"return":1})"
      "\n";
  REQUIRE(parse_jsonl(good));
  auto told = [&](const std::string& line) { return problem(parse_jsonl(good + line)); };
  auto op = [&](const std::string& fields) { return told(R"({"client":0,"key":"k",)" + fields + "}"); };
  CHECK(told("{") == "line 3: not a JSON object");
  CHECK(told("[1]") == "line 3: not a JSON object");
  CHECK(told(std::string(100'000, '[')).starts_with("line 3: not"));
  std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  CHECK(op(R"("op":"get","call":5,"return":6,"result":)" + deep).starts_with("line 3: \"result\" must be a string"));
  CHECK(told(std::string(100'000, '{')).starts_with("line 3: not"));
  CHECK(told("{\"key\":\"k\"}").starts_with("line 3: \"op\" must be"));
  CHECK(told("{\"op\":\"get\"}") == "line 3: \"key\" is missing");
  CHECK(op(R"("op":"got","call":5)").starts_with("line 3: \"op\" must be"));
  CHECK(op(R"("op":"get","cal":5)") == "line 3: \"cal\" is not the name of a field");
  CHECK(op(R"("op":"get")") == "line 3: \"call\" must be a whole number");
  CHECK(op(R"("op":"get","call":-5)") == "line 3: \"call\" must not be below 0");
  CHECK(op(R"("op":"get","call":18446744073709551615)") == "line 3: \"call\" is too large");
  CHECK(op(R"("op":"get","call":5,"return":5)") == "line 3: \"return\" must not be below 6");
  CHECK(op(R"("op":"get","call":5,"return":6)") == "line 3: \"result\" of a get is missing");
  CHECK(op(R"("op":"get","call":5,"return":6,"result":true)") ==
        "line 3: this \"op\" does not answer with true or false");
  CHECK(op(R"("op":"get","call":5,"return":6,"result":7)") == "line 3: this \"op\" does not answer with a number");
  CHECK(op(R"("op":"set","value":"1","call":5,"return":6,"result":"x")") ==
        "line 3: this \"op\" does not answer with a value");
  CHECK(op(R"("op":"set","call":5)") == "line 3: \"value\" must be there, and not null");
  CHECK(op(R"("op":"cas","value":"1","call":5)") == "line 3: \"expected\" is missing");
  CHECK(op(R"("op":"incr","by":1.5,"call":5)") == "line 3: \"by\" must be a whole number");
  CHECK(op(R"("op":"set","value":{"hex":"0g"},"call":5)") ==
        "line 3: \"value\" has something else than hex digits in it");
  CHECK(op(R"("op":"set","value":{"hex":"000"},"call":5)") == "line 3: \"value\" has half a byte in it");
  CHECK(op(R"("op":"get","call":1)") ==
        "line 3: event 1 is in line 2 as well; \"call\" and \"return\" must all differ");
  CHECK(problem(parse_jsonl("{\"mneme_history\":2}")) == "line 1: written by a newer version of Mneme");
}

TEST_CASE("a history written in our format is read back the same", "[check][formats]") {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    Dice dice(seed);
    Recipe recipe = random_recipe(dice);
    recipe.texts.emplace_back("\xff\x00 bytes", 8);
    recipe.spoil_one_in = 0;
    History history = random_history(dice, recipe, 2);
    if (seed % 2 == 0) history.initial = history.value("");
    std::string text = write_jsonl(history);
    Result<History> back = parse_jsonl(text);
    INFO(text);
    REQUIRE(back);
    REQUIRE(write_jsonl(*back) == text);
    REQUIRE(check::check(*back).answer == check::check(history).answer);
  }
}

TEST_CASE("no damaged history file brings a parser down", "[check][formats]") {
  const std::string jepsen = "INFO  jepsen.util - 0 :invoke :cas [1 2]\nINFO  jepsen.util - 0 :ok :cas [1 2]\n";
  const std::string kv = R"({:process 0, :type :invoke, :f :put, :key "4", :value "x\n"})"
                         "\n"
                         R"({:process 0, :type :ok, :f :put, :key "4", :value "x"})"
                         "\n";
  const std::string jsonl =
      R"({"client":0,"key":"k","op":"cas","expected":null,"value":{"hex":"00"},"call":0,"return":1,"result":true})"
      "\n";
  uint64_t refused = 0;
  for (uint64_t seed = 0; seed < 30'000; ++seed) {
    Dice dice(seed);
    std::string text = seed % 3 == 0 ? jepsen : seed % 3 == 1 ? kv : jsonl;
    for (uint64_t times = 1 + dice.below(4); times > 0 && !text.empty(); --times) {
      size_t at = dice.below(text.size());
      switch (dice.below(4)) {
        case 0: text[at] = static_cast<char>(dice.next()); break;
        case 1: text.erase(at, 1 + dice.below(8)); break;
        case 2: text.insert(at, text.substr(dice.below(text.size()), dice.below(20))); break;
        default: text.resize(at + 1);
      }
    }
    Result<History> history = seed % 3 == 0 ? parse_jepsen(text) : seed % 3 == 1 ? parse_kv(text) : parse_jsonl(text);
    if (!history) {
      ++refused;
      REQUIRE(history.error().message.starts_with("line "));
    } else {
      check::check(*history);
    }
  }
  CHECK(refused > 10'000);
}

TEST_CASE("the command gives verdict, exit code, account and page", "[check][command]") {
  const std::string text =
      R"({"client":1,"key":"k<7>","op":"set","value":"5","call":0,"return":1,"call_ns":1000000000,"return_ns":1000600000})"
      "\n"
      R"({"client":1,"key":"k<7>","op":"set","value":"9","call":2,"return":3,"call_ns":2884000000,"return_ns":2951000000})"
      "\n"
      R"({"client":3,"key":"k<7>","op":"get","result":"5","call":6,"return":7,"call_ns":3098000000,"return_ns":3121000000})"
      "\n"
      R"({"client":2,"key":"k<7>","op":"set","value":"4","call":4})"
      "\n";
  CheckRequest request{.text = text, .name = "h.jsonl", .html = true};
  Result<CheckReport> report = run_check(request);
  REQUIRE(report);
  CHECK(report->answer == Answer::kViolation);
  CHECK(report->exit_code == 1);
  CHECK(report->text ==
        "not linearizable: key k<7>\n"
        "  no order of the operations explains that c3 GET gave 5: the key can only have held 9\n"
        "  2 of 4 on the key are impossible, whatever it held before (confirmed by brute force):\n"
        "    c1    SET 9  2.884 s .. 2.951 s  -> ok\n"
        "    c3    GET    3.098 s .. 3.121 s  -> 5   <- impossible\n"
        "  4 operations on 1 key, 1 of unknown outcome in all\n");
  CHECK(
      report->json ==
      R"({"verdict":"violation","operations":4,"keys":1,"steps":0,"key":"k<7>","operation":2,"core":[1,2],"confirmed":true})"
      "\n");
  CHECK(report->html.contains("<svg"));
  CHECK(report->html.contains("k&lt;7&gt;"));
  CHECK_FALSE(report->html.contains("k<7>"));
  CHECK_FALSE(report->html.contains("<script"));

  const std::string good = R"({"client":1,"key":"k","op":"get","result":null,"call":0,"return":1})";
  report = run_check({.text = good, .name = "h"});
  REQUIRE(report);
  CHECK(report->exit_code == 0);
  CHECK(report->text == "linearizable: 1 operation on 1 key, 0 of unknown outcome\n");
  CHECK(report->html.empty());
}

TEST_CASE("the command says when a file does not go with the flags, and when its budget ran out", "[check][command]") {
  auto told = [](const CheckRequest& request) { return run_check(request).error().message; };
  CHECK(told({.text = "", .name = "f", .model = Model::kKv, .format = Format::kJepsen}) ==
        "format jepsen records one register; use --model register");
  CHECK(told({.text = "", .name = "f", .model = Model::kRegister, .format = Format::kKv}) ==
        "format kv records a map of keys; use --model kv");
  CHECK(told({.text = "x", .name = "f.txt"}) == "f.txt: line 1: not a JSON object");
  CHECK(told({.text = "{\"key\":\"a\",\"op\":\"get\",\"call\":0}\n{\"key\":\"b\",\"op\":\"get\",\"call\":1}",
              .name = "f",
              .model = Model::kRegister}) == "f: has more than one key; use --model kv");
  CHECK(model_named("register") == Model::kRegister);
  CHECK(model_named("txn").error().code == ErrorCode::kUnsupported);
  CHECK(format_named("edn").error().message == "format 'edn' is not known; use jepsen, kv or jsonl");

  const std::string text =
      "{\"client\":1,\"key\":\"k\",\"op\":\"set\",\"value\":\"1\",\"call\":0,\"return\":1}\n"
      "{\"client\":1,\"key\":\"k\",\"op\":\"set\",\"value\":\"1\",\"call\":2,\"return\":3}\n";
  Result<CheckReport> report =
      run_check({.text = text, .name = "f", .html = true, .options = {.budget = {.steps = 1}}});
  REQUIRE(report);
  CHECK(report->exit_code == 4);
  CHECK(report->text.starts_with("inconclusive: the budget ran out on key k "));
}
