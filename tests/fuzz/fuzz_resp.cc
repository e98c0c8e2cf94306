// Requests and replies: no input harms the parsers, fragmentation changes nothing, and what reply_length accepts can be
// translated.
#include <memory>

#include "core/protocol/resp.h"
#include "tests/fuzz/target.h"

using namespace mneme;
using namespace mneme::protocol;
using fuzz::require;

namespace {

struct Outcome {
  std::vector<std::vector<std::string>> commands;
  std::string error;
  bool operator==(const Outcome&) const = default;
};

// Every piece is shown in a block of its own size, so that a read past its end is a sanitizer's business, and made
// while the former one lives, so that the buffer moves.
Outcome feed(std::string_view stream, size_t piece) {
  RequestParser parser;
  Outcome outcome;
  std::string rest;
  std::unique_ptr<char[]> block;
  while (true) {
    block = std::unique_ptr<char[]>(new char[rest.size()]);
    rest.copy(block.get(), rest.size());
    std::string_view bytes(block.get(), rest.size());
    RequestParser::Step step;
    do {
      step = parser.next(bytes);
      require(step.consumed <= bytes.size(), "no more is consumed than there is");
      if (step.progress == Progress::kDone) {
        require(!step.args.empty(), "a command has arguments");
        outcome.commands.emplace_back(step.args.begin(), step.args.end());
      }
      bytes.remove_prefix(step.consumed);
    } while (step.progress == Progress::kDone);
    if (step.progress == Progress::kError) {
      outcome.error = step.error;
      require(outcome.error.starts_with("ERR Protocol error: "), "an error is a protocol error");
      return outcome;
    }
    require(step.need > 0, "something is needed");
    if (stream.empty()) return outcome;
    size_t size = std::min(piece, stream.size());
    rest = std::string(bytes) + std::string(stream.substr(0, size));
    stream.remove_prefix(size);
  }
}

void requests(std::string_view bytes) {
  Outcome whole = feed(bytes, bytes.size());
  require(feed(bytes, 1) == whole, "byte by byte the commands are the same");
  require(feed(bytes, 7) == whole, "in pieces the commands are the same");
  for (const auto& command : whole.commands) {
    std::vector<std::string_view> args(command.begin(), command.end());
    std::string sent;
    put_command(sent, args);
    require(feed(sent, sent.size()) == Outcome{{command}, ""}, "what is sent is what was received");
  }
}

void replies(std::string_view bytes) {
  ReplyParser whole;
  ReplyParser pieces;
  auto expected = whole.next(bytes);
  auto step = pieces.next({});
  for (size_t size = 1; size <= bytes.size() && step.progress == Progress::kMore; ++size) {
    step = pieces.next(bytes.substr(0, size));
  }
  require(step.progress == expected.progress && step.length == expected.length, "byte by byte a reply is the same");
  if (expected.progress == Progress::kDone) {
    auto tree = parse_reply(bytes.substr(0, expected.length));
    require(tree || tree.error().code == ErrorCode::kTooLarge, "a whole reply has a tree");
  }
  auto length = reply_length(bytes);
  if (!length) return;
  require(*length == expected.length, "both find the same end");
  std::string resp2, resp3;
  downgrade(bytes.substr(0, *length), resp2);
  to_resp3(bytes.substr(0, *length), resp3);
  auto tree = parse_reply(bytes.substr(0, *length));
  auto tree3 = parse_reply(resp3);
  require(parse_reply(resp2).has_value() == tree.has_value(), "a translated reply is a reply");
  require(!tree || (tree3 && *tree3 == *tree), "RESP3 says the same");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  requests(bytes);
  replies(bytes);
  return 0;
}

std::vector<std::string> fuzz::corpus() {
  return {"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n",
          "*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n",
          "PING\r\nSET \"a b\\x41\" 'it\\'s'\r\n\r\n*0\r\n*-1\r\nGET k\n",
          "*2\r\n$3\r\nGET\r\n$10\r\n\r\n*$\r\n$1\r\n\r\n",
          "+OK\r\n",
          "*3\r\n$3\r\na\r\n\r\n*-1\r\n_\r\n",
          "%2\r\n+a\r\n#t\r\n$1\r\nb\r\n~2\r\n,1.5\r\n(123\r\n",
          ">2\r\n=7\r\ntxt:a\r\n\r\n!5\r\nERR x\r\n",
          "*1\r\n*1\r\n*1\r\n*1\r\n:7\r\n",
          "$-1\r\n"};
}
