#include "core/protocol/request.h"

#include <chrono>
#include <string>
#include <vector>

#include "core/base/hash.h"
#include "core/protocol/reply.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::protocol;
using namespace std::string_literals;

namespace {

using Command = std::vector<std::string>;

struct Outcome {
  std::vector<Command> commands;
  std::string error;
  size_t left = 0;  // bytes never consumed
  bool operator==(const Outcome&) const = default;
};

// Feeds pieces of the given sizes (the last one over and over) through a buffer that lies elsewhere after every piece.
Outcome feed(std::string_view stream, std::vector<size_t> pieces) {
  RequestParser parser;
  Outcome outcome;
  std::string buffer;
  std::vector<std::string> former;  // kept, so that no two buffers lie at the same place
  size_t piece = 0;
  while (true) {
    RequestParser::Step step = parser.next(buffer);
    if (step.progress == Progress::kDone) outcome.commands.emplace_back(step.args.begin(), step.args.end());
    buffer.erase(0, step.consumed);
    if (step.progress == Progress::kError) {
      outcome.error = step.error;
      return outcome;
    }
    if (step.progress == Progress::kDone) continue;
    REQUIRE(step.need > 0);
    if (stream.empty()) {
      outcome.left = buffer.size();
      return outcome;
    }
    size_t size = std::min(pieces[std::min(piece++, pieces.size() - 1)], stream.size());
    std::string moved = buffer + std::string(stream.substr(0, size));
    moved.reserve(moved.size() + 32);
    stream.remove_prefix(size);
    former.push_back(std::move(buffer));
    if (former.size() > 4) former.erase(former.begin());
    buffer = std::move(moved);
  }
}

Outcome feed_whole(std::string_view stream) { return feed(stream, {stream.size()}); }
Outcome feed_bytes(std::string_view stream) { return feed(stream, {1}); }

std::string error_of(std::string_view stream) {
  Outcome outcome = feed_whole(stream);
  // The very long ones would be quadratic byte by byte only in this test's copying.
  if (stream.size() < 4096) CHECK(feed_bytes(stream) == outcome);
  return outcome.error;
}

Command inline_args(std::string_view line) {
  Outcome outcome = feed_whole(std::string(line) + "\r\n");
  CHECK(outcome.error == "");
  CHECK(outcome.commands.size() <= 1);
  return outcome.commands.empty() ? Command{} : outcome.commands[0];
}

struct Random {
  uint64_t state;
  uint64_t next() { return mix(state += 0x9e3779b97f4a7c15u); }
  size_t below(size_t n) { return next() % n; }
  std::string bytes(size_t size) {
    std::string text;
    for (size_t i = 0; i < size; ++i) text += static_cast<char>(next());
    return text;
  }
};

}  // namespace

TEST_CASE("an array of bulk strings is a command, whatever bytes its arguments hold", "[protocol]") {
  Outcome outcome = feed_whole("*3\r\n$3\r\nSET\r\n$4\r\na\r\nb\r\n$0\r\n\r\n"s);
  CHECK(outcome == Outcome{{{"SET", "a\r\nb", ""}}, "", 0});
}

TEST_CASE("a pipeline yields its commands in order and leaves what is incomplete", "[protocol]") {
  Outcome outcome = feed_whole("*1\r\n$4\r\nPING\r\nECHO hi\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPI");
  CHECK(outcome == Outcome{{{"PING"}, {"ECHO", "hi"}, {"GET", "k"}}, "", 10});
}

TEST_CASE("empty lines, empty arrays and null arrays are no commands", "[protocol]") {
  CHECK(feed_whole("\r\n\n  \r\n*0\r\n*-1\r\n*-7\r\nPING\r\n") == Outcome{{{"PING"}}, "", 0});
  CHECK(feed("*-1\r\nPING\r\n", {5, 6}) == Outcome{{{"PING"}}, "", 0});
  CHECK(feed_bytes("\r\n\n  \r\n*0\r\n*-1\r\n*-7\r\nPING\r\n") == Outcome{{{"PING"}}, "", 0});
}

TEST_CASE("a command that ends too early is never an error and never a command", "[protocol]") {
  std::string whole;
  put_command(whole, {"SET", "key", "value\r\n"});
  for (size_t size = 0; size < whole.size(); ++size) {
    Outcome outcome = feed_bytes(std::string_view(whole).substr(0, size));
    CHECK(outcome == Outcome{{}, "", size});
  }
}

TEST_CASE("protocol errors have Redis' sentences", "[protocol]") {
  auto count = "ERR Protocol error: invalid multibulk length";
  auto length = "ERR Protocol error: invalid bulk length";
  for (auto bad : {"*abc\r\n", "*\r\n", "*+1\r\n", "*01\r\n", "*-0\r\n", "* 1\r\n", "*1 \r\n", "*99999999999\r\n",
                   "*9223372036854775808\r\n", "*-9223372036854775809\r\n", "*65537\r\n", "*2147483648\r\n"}) {
    CAPTURE(bad);
    CHECK(error_of(bad) == count);
  }
  for (auto bad : {"*1\r\n$abc\r\n", "*1\r\n$\r\n", "*1\r\n$-1\r\n", "*1\r\n$+3\r\nfoo\r\n", "*1\r\n$03\r\nfoo\r\n",
                   "*1\r\n$-0\r\n", "*1\r\n$3 \r\n", "*1\r\n$12582913\r\n", "*1\r\n$9223372036854775807\r\n",
                   "*1\r\n$18446744073709551617\r\n", "*2\r\n$12582900\r\n"}) {
    CAPTURE(bad);
    if (std::string_view(bad).starts_with("*2")) {
      CHECK(error_of(bad) == "");  // within the bound by itself
    } else {
      CHECK(error_of(bad) == length);
    }
  }
  CHECK(error_of("*1\r\nfoo\r\n") == "ERR Protocol error: expected '$', got 'f'");
  CHECK(error_of("*1\r\n:3\r\n") == "ERR Protocol error: expected '$', got ':'");
  CHECK(error_of("*1\r\n\r\n") == "ERR Protocol error: expected '$', got ' '");
  CHECK(error_of("*2\r\n$1\r\na\r\n*1\r\n") == "ERR Protocol error: expected '$', got '*'");
  auto quotes = "ERR Protocol error: unbalanced quotes in request";
  for (auto bad : {"SET \"a\r\n", "SET 'a\r\n", "SET \"a\"b\r\n", "SET 'a'b\r\n", "SET \"a\\\"\r\n", "\"\r\n"}) {
    CAPTURE(bad);
    CHECK(error_of(bad) == quotes);
  }
}

TEST_CASE("a header that does not end in CR LF, and a bulk string that does not, are refused", "[protocol]") {
  CHECK(error_of("*1\rX$4\r\nPING\r\n") == "ERR Protocol error: invalid multibulk length");
  CHECK(error_of("*1\r\n$4\rXPING\r\n") == "ERR Protocol error: invalid bulk length");
  CHECK(error_of("*1\r\n$3\r\nPING\r\n") == "ERR Protocol error: expected CRLF after bulk string");
}

TEST_CASE("a line that does not end within its bound is refused, one byte earlier it is not", "[protocol]") {
  std::string edge(limits::kMaxInlineBytes, 'x');
  CHECK(feed_whole(edge) == Outcome{{}, "", edge.size()});
  CHECK(feed_whole(edge + "\n") == Outcome{{{edge}}, "", 0});
  CHECK(error_of(edge + "x") == "ERR Protocol error: too big inline request");
  CHECK(error_of(edge + "x\n") == "ERR Protocol error: too big inline request");
  CHECK(feed(edge + "x\n", {4096}) == feed_whole(edge + "x\n"));
  CHECK(error_of("*" + edge) == "ERR Protocol error: too big mbulk count string");
  CHECK(error_of("*1\r\n$" + edge) == "ERR Protocol error: too big bulk count string");
  CHECK(error_of("*1\r\nx" + edge) == "ERR Protocol error: too big bulk count string");
}

TEST_CASE("all arguments of a command together are bounded", "[protocol]") {
  std::string half(limits::kMaxCommandBytes / 2, 'v');
  std::string header = "$" + std::to_string(half.size()) + "\r\n";
  std::string fits = "*2\r\n" + header + half + "\r\n" + header + half + "\r\n";
  CHECK(feed(fits, {1 << 20}).commands.size() == 1);
  CHECK(feed("*3" + fits.substr(2) + "$1\r\n", {1 << 20}).error == "ERR Protocol error: invalid bulk length");
  CHECK(feed("*3" + fits.substr(2) + "$0\r\n\r\n", {1 << 20}).commands.size() == 1);
}

TEST_CASE("as many arguments as allowed are taken, and the next command starts anew", "[protocol]") {
  std::string many = "*65536\r\n";
  for (size_t i = 0; i < limits::kMaxCommandArgs; ++i) many += "$1\r\nx\r\n";
  Outcome outcome = feed(many + "PING\r\n", {64 * 1024});
  REQUIRE(outcome.commands.size() == 2);
  CHECK(outcome.commands[0].size() == limits::kMaxCommandArgs);
  CHECK(outcome.commands[1] == Command{"PING"});
}

TEST_CASE("after an error the parser repeats it and consumes nothing", "[protocol]") {
  RequestParser parser;
  CHECK(parser.next("*x\r\n").progress == Progress::kError);
  RequestParser::Step step = parser.next("PING\r\n");
  CHECK(step.progress == Progress::kError);
  CHECK(step.consumed == 0);
  CHECK(step.error == "ERR Protocol error: invalid multibulk length");
}

TEST_CASE("inline lines are split as Redis splits them", "[protocol]") {
  CHECK(inline_args("SET  key \t value ") == Command{"SET", "key", "value"});
  CHECK(inline_args(R"(SET "a b" 'c d')") == Command{"SET", "a b", "c d"});
  CHECK(inline_args(R"(ECHO "\x41\x4g\n\r\t\b\a\q\"\\")") == Command{"ECHO", "Ax4g\n\r\t\b\aq\"\\"});
  CHECK(inline_args(R"(ECHO "\x00\xfF")") == Command{"ECHO", "\0\xff"s});
  CHECK(inline_args(R"(ECHO 'it\'s \n \\ ')") == Command{"ECHO", R"(it's \n \\ )"});
  CHECK(inline_args(R"(ECHO "" '')") == Command{"ECHO", "", ""});
  CHECK(inline_args(R"(ECHO a"b c")") == Command{"ECHO", "ab c"});
  CHECK(inline_args("ECHO a\\nb") == Command{"ECHO", "a\\nb"});
  CHECK(inline_args("\vECHO a\vb \fc") == Command{"ECHO", "a\vb", "c"});
  CHECK(inline_args("ECHO \"a\"\v'b'") == Command{"ECHO", "a", "b"});
  CHECK(inline_args("ECHO \xc3\xa9") == Command{"ECHO", "\xc3\xa9"});
  CHECK(inline_args("ECHO a\0b"s) == Command{"ECHO", "a\0b"s});
  CHECK(inline_args(" \t ") == Command{});
  CHECK(feed_whole("PING\n") == Outcome{{{"PING"}}, "", 0});
  CHECK(feed_whole("PING a\r\r\n") == Outcome{{{"PING", "a"}}, "", 0});
}

TEST_CASE("integers are those of Redis' headers and commands", "[protocol]") {
  CHECK(parse_integer("0") == 0);
  CHECK(parse_integer("-1") == -1);
  CHECK(parse_integer("9223372036854775807") == INT64_MAX);
  CHECK(parse_integer("-9223372036854775808") == INT64_MIN);
  for (auto bad : {"", "-", "+1", " 1", "1 ", "01", "-0", "-01", "1a", "0x1", "9223372036854775808",
                   "-9223372036854775809", "18446744073709551616", "99999999999999999999", "1.0", "--1"}) {
    CAPTURE(bad);
    CHECK(parse_integer(bad) == std::nullopt);
  }
}

TEST_CASE("how random pipelines are fragmented does not matter", "[protocol]") {
  Random random{1};
  for (int round = 0; round < 300; ++round) {
    std::string stream;
    std::vector<Command> sent;
    for (size_t i = random.below(6); i-- > 0;) {
      Command command;
      for (size_t n = 1 + random.below(5); n-- > 0;)
        command.push_back(random.bytes(random.below(random.below(40) + 1)));
      std::vector<std::string_view> views(command.begin(), command.end());
      put_command(stream, views);
      sent.push_back(command);
      if (random.below(3) == 0) stream += "\r\n";
    }
    CHECK(feed_whole(stream) == Outcome{sent, "", 0});
    CHECK(feed_bytes(stream) == Outcome{sent, "", 0});
    std::vector<size_t> pieces;
    for (int i = 0; i < 100; ++i) pieces.push_back(1 + random.below(30));
    CHECK(feed(stream, pieces) == Outcome{sent, "", 0});
    // A damaged stream: whatever comes out, it does not depend on the pieces.
    for (int i = 0; i < 3 && !stream.empty(); ++i) {
      stream[random.below(stream.size())] = "\r\n*$-01 \"'x"[random.below(11)];
      Outcome outcome = feed_whole(stream);
      CHECK(feed_bytes(stream) == outcome);
      CHECK(feed(stream, pieces) == outcome);
    }
  }
}

TEST_CASE("what is needed is never more than what is missing, and exact inside a last argument", "[protocol]") {
  std::string whole;
  put_command(whole, {"SET", "k", std::string(1000, 'v')});
  for (size_t size = 0; size < whole.size(); ++size) {
    RequestParser parser;
    auto step = parser.next(std::string_view(whole).substr(0, size));
    CHECK(step.progress == Progress::kMore);
    CHECK(step.need <= whole.size() - size);
    if (size >= whole.size() - 1002) CHECK(step.need == whole.size() - size);
  }
}

TEST_CASE("a large value that arrives in pieces is not scanned again", "[protocol]") {
  // Bytes that look like headers and lines: a parser that looked at them again would find something.
  std::string value;
  while (value.size() < limits::kMaxValueBytes) value += "\r\n$1\r\n*1\r\n";
  value.resize(limits::kMaxValueBytes);
  std::string whole;
  put_command(whole, {"SET", "k", value});
  RequestParser parser;
  for (size_t size = 64 * 1024; size < whole.size(); size += 64 * 1024) {
    auto step = parser.next(std::string_view(whole).substr(0, size));
    REQUIRE(step.progress == Progress::kMore);
    REQUIRE(step.need == whole.size() - size);
  }
  auto step = parser.next(whole);
  REQUIRE(step.progress == Progress::kDone);
  CHECK(step.args[2] == value);
  CHECK(step.args[2].data() > whole.data());  // a view into the caller's buffer
  CHECK(step.args[2].data() < whole.data() + whole.size());
}

TEST_CASE("pipelined SETs per second", "[.bench]") {
  Random random{1};
  for (size_t most : {3, 100, 1024}) {
    for (bool same_size : {true, false}) {
      std::string stream;
      size_t commands = 1000;
      for (size_t i = 0; i < commands; ++i) {
        std::string key(same_size ? 16 : 1 + random.below(32), 'k');
        put_command(stream, {"SET", key, std::string(same_size ? most : random.below(2 * most), 'v')});
      }
      RequestParser parser;
      size_t rounds = 5000;
      size_t seen = 0;
      auto began = std::chrono::steady_clock::now();
      for (size_t round = 0; round < rounds; ++round) {
        std::string_view rest = stream;
        while (!rest.empty()) {
          auto step = parser.next(rest);
          seen += step.args.size();
          rest.remove_prefix(step.consumed);
        }
      }
      std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
      REQUIRE(seen == rounds * commands * 3);
      WARN("SET of " << most << " bytes, " << (same_size ? "all of one size: " : "sizes at random: ")
                     << static_cast<double>(rounds * commands) / took.count() / 1e6 << " million/s");
    }
  }
}

TEST_CASE("8 MiB in pieces of 64 KiB", "[.bench]") {
  std::string whole;
  put_command(whole, {"SET", "k", std::string(limits::kMaxValueBytes, 'v')});
  auto began = std::chrono::steady_clock::now();
  size_t rounds = 1000;
  for (size_t round = 0; round < rounds; ++round) {
    RequestParser parser;
    for (size_t size = 64 * 1024; size < whole.size(); size += 64 * 1024) {
      REQUIRE(parser.next(std::string_view(whole).substr(0, size)).progress == Progress::kMore);
    }
    REQUIRE(parser.next(whole).progress == Progress::kDone);
  }
  std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  WARN(took.count() / static_cast<double>(rounds) * 1e6 << " microseconds each");
}
