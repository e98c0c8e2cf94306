#include <string>
#include <vector>

#include "core/base/hash.h"
#include "core/protocol/resp.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::protocol;
using namespace std::string_literals;

namespace {

std::string resp2(std::string_view canonical) {
  std::string out = "before";
  downgrade(canonical, out);
  return out.substr(6);
}

std::string resp3(std::string_view canonical) {
  std::string out = "before";
  to_resp3(canonical, out);
  return out.substr(6);
}

std::string error_of(std::string_view bytes) {
  auto reply = parse_reply(bytes);
  return reply ? "" : reply.error().message;
}

struct Random {
  uint64_t state;
  uint64_t next() { return mix(state += 0x9e3779b97f4a7c15u); }
  size_t below(size_t n) { return next() % n; }
};

std::string random_bytes(Random& random, size_t size) {
  std::string text;
  for (size_t i = 0; i < size; ++i) text += "\r\n*-1_$%\xff x"[random.below(12)];
  return text;
}

void put_random(Random& random, std::string& out, size_t depth) {
  switch (random.below(depth == 0 ? 10 : 14)) {
    case 0: put_ok(out); break;
    case 1: put_error(out, "ERR no"); break;
    case 2: put_integer(out, static_cast<int64_t>(random.next())); break;
    case 3: put_bulk(out, random_bytes(random, random.below(20))); break;
    case 4: put_null(out); break;
    case 5: put_null_array(out); break;
    case 6: put_boolean(out, random.below(2) == 0); break;
    case 7: put_double(out, "-1.5e10"); break;
    case 8: put_big_number(out, "-123456789012345678901234567890"); break;
    case 9: put_verbatim(out, "txt", random_bytes(random, random.below(20))); break;
    default: {
      size_t size = random.below(4);
      size_t kind = random.below(4);
      if (kind == 0) put_array(out, size);
      if (kind == 1) put_set(out, size);
      if (kind == 2) put_push(out, size);
      if (kind == 3) put_map(out, size);
      for (size_t i = 0; i < (kind == 3 ? size * 2 : size); ++i) put_random(random, out, depth - 1);
    }
  }
}

// What the RESP2 form of a reply must hold.
Reply expected_in_resp2(const Reply& reply) {
  using Kind = Reply::Kind;
  Reply out = reply;
  switch (reply.kind) {
    case Kind::kBoolean: out.kind = Kind::kInteger; break;
    case Kind::kDouble:
    case Kind::kBigNumber:
    case Kind::kVerbatim: out.kind = Kind::kBulk; break;
    case Kind::kMap:
    case Kind::kSet:
    case Kind::kPush: out.kind = Kind::kArray; break;
    default: break;
  }
  for (Reply& element : out.elements) element = expected_in_resp2(element);
  return out;
}

}  // namespace

TEST_CASE("replies that are the same in RESP2 are copied", "[protocol]") {
  for (auto same : {"+OK\r\n"s, "-ERR no\r\n"s, ":-7\r\n"s, "$0\r\n\r\n"s, "$5\r\n_\r\n#t\r\n"s, "*0\r\n"s, "*-1\r\n"s,
                    "*2\r\n$1\r\na\r\n:1\r\n"s, ""s}) {
    CHECK(resp2(same) == same);
  }
}

TEST_CASE("RESP3 types have their RESP2 forms, nested and one after another", "[protocol]") {
  CHECK(resp2("_\r\n") == "$-1\r\n");
  CHECK(resp2("#t\r\n#f\r\n") == ":1\r\n:0\r\n");
  CHECK(resp2(",1.5\r\n,inf\r\n") == "$3\r\n1.5\r\n$3\r\ninf\r\n");
  CHECK(resp2("(-123\r\n") == "$4\r\n-123\r\n");
  CHECK(resp2("%2\r\n+a\r\n_\r\n+b\r\n#t\r\n") == "*4\r\n+a\r\n$-1\r\n+b\r\n:1\r\n");
  CHECK(resp2("~1\r\n,2\r\n>1\r\n:3\r\n") == "*1\r\n$1\r\n2\r\n*1\r\n:3\r\n");
  CHECK(resp2("=6\r\ntxt:a\n\r\n") == "$2\r\na\n\r\n");
  CHECK(resp2("!7\r\nERR a\r\n\r\n") == "-ERR a  \r\n");
  CHECK(resp2("+OK\r\n%0\r\n+OK\r\n") == "+OK\r\n*0\r\n+OK\r\n");
}

TEST_CASE("a null array is a null in RESP3 and stays one in RESP2, also inside other replies", "[protocol]") {
  std::string canonical;
  put_array(canonical, 3);
  put_null_array(canonical);
  put_bulk(canonical, "*-1\r\n");
  put_null(canonical);
  CHECK(resp3(canonical) == "*3\r\n_\r\n$5\r\n*-1\r\n\r\n_\r\n");
  CHECK(resp2(canonical) == "*3\r\n*-1\r\n$5\r\n*-1\r\n\r\n$-1\r\n");
  CHECK(resp3("*-1\r\n") == "_\r\n");
  CHECK(resp3("%1\r\n+a\r\n#t\r\n") == "%1\r\n+a\r\n#t\r\n");
}

TEST_CASE("the length of the first of several replies is found", "[protocol]") {
  for (auto reply :
       {"+OK\r\n"s, ":1\r\n"s, "_\r\n"s, "*-1\r\n"s, "$3\r\n\r\n\r\r\n"s, "*2\r\n*1\r\n_\r\n%1\r\n+a\r\n~0\r\n"s,
        "=7\r\ntxt:a\r\n\r\n"s, "!2\r\nno\r\n"s, ",-1.5e3\r\n"s, "(12\r\n"s, ">1\r\n#f\r\n"s}) {
    CAPTURE(reply);
    auto length = reply_length(reply + "+more\r\n");
    REQUIRE(length);
    CHECK(*length == reply.size());
    for (size_t size = 0; size < reply.size(); ++size) CHECK_FALSE(reply_length(reply.substr(0, size)));
  }
}

TEST_CASE("malformed replies are refused", "[protocol]") {
  for (auto bad : {"OK\r\n"s,
                   "\r\n"s,
                   ":\r\n"s,
                   ":+1\r\n"s,
                   ":1.0\r\n"s,
                   "$-2\r\n"s,
                   "$x\r\n"s,
                   "$1\r\nabc"s,
                   "*-2\r\n"s,
                   "*x\r\n"s,
                   "%-1\r\n"s,
                   "~-1\r\n"s,
                   "_x\r\n"s,
                   "#x\r\n"s,
                   "#\r\n"s,
                   ",\r\n"s,
                   ",x\r\n"s,
                   "(\r\n"s,
                   "(1.5\r\n"s,
                   "=3\r\ntxt\r\n"s,
                   "=4\r\ntxt;\r\n"s,
                   "|1\r\n+a\r\n+b\r\n:1\r\n"s,
                   "$?\r\n"s,
                   "*?\r\n"s,
                   "+a\nb\r\n"s,
                   "+a\rb\r\n"s,
                   "\xff\r\n"s,
                   "$99999999999\r\n"s,
                   "*99999999999\r\n"s,
                   "%9223372036854775807\r\n"s,
                   ":1\r\n:2\r\n"s}) {
    CAPTURE(bad);
    CHECK(error_of(bad).starts_with("malformed reply: "));
  }
  CHECK(error_of("|1\r\n") == "malformed reply: no reply begins with '|'");
  CHECK(error_of("\x01\r\n") == "malformed reply: no reply begins with byte 0x01");
}

TEST_CASE("a canonical reply has no RESP2 null, a server's may", "[protocol]") {
  CHECK_FALSE(reply_length("$-1\r\n"));
  CHECK(parse_reply("$-1\r\n")->kind == Reply::Kind::kNull);
  CHECK(parse_reply("*-1\r\n")->kind == Reply::Kind::kNull);
  CHECK(parse_reply("_\r\n")->kind == Reply::Kind::kNull);
}

TEST_CASE("replies are bounded in depth, length and number of elements", "[protocol]") {
  std::string deep;
  for (size_t i = 0; i < kMaxReplyDepth; ++i) deep += "*1\r\n";
  CHECK(reply_length(deep + ":1\r\n"));
  CHECK(parse_reply(deep + ":1\r\n"));
  CHECK(error_of("*1\r\n" + deep + ":1\r\n") == "malformed reply: nested deeper than 32");
  CHECK(error_of("*1\r\n" + deep) == "malformed reply: nested deeper than 32");
  CHECK_FALSE(error_of("+" + std::string(limits::kMaxInlineBytes + 1, 'x')).empty());

  std::string many = "*" + std::to_string(kMaxReplyElements) + "\r\n";
  for (size_t i = 0; i < kMaxReplyElements; ++i) many += "_\r\n";
  CHECK(reply_length(many));
  CHECK(error_of(many) == "");
  CHECK(error_of("*1\r\n" + many) == "a reply of more than 1048576 elements");

  ReplyParser parser;
  std::string header = "$" + std::to_string(limits::kMaxReplyBytes) + "\r\n";
  CHECK(parser.next(header).progress == Progress::kError);
}

TEST_CASE("the tree of a reply has its kinds, numbers, texts and elements", "[protocol]") {
  auto reply = parse_reply("%2\r\n+a\r\n*2\r\n:-5\r\n$2\r\nhi\r\n-ERR x\r\n=5\r\ntxt:v\r\n");
  REQUIRE(reply);
  CHECK(reply->kind == Reply::Kind::kMap);
  REQUIRE(reply->elements.size() == 4);
  CHECK(reply->elements[0].text == "a");
  CHECK(reply->elements[1].kind == Reply::Kind::kArray);
  CHECK(reply->elements[1].elements[0].integer == -5);
  CHECK(reply->elements[1].elements[1].text == "hi");
  CHECK(reply->elements[2].kind == Reply::Kind::kError);
  CHECK(reply->elements[2].text == "ERR x");
  CHECK(reply->elements[3].kind == Reply::Kind::kVerbatim);
  CHECK(reply->elements[3].text == "v");
}

TEST_CASE("random canonical replies survive fragmentation and mean the same in both versions", "[protocol]") {
  Random random{7};
  for (int round = 0; round < 2000; ++round) {
    std::string canonical;
    put_random(random, canonical, 4);
    auto length = reply_length(canonical + "rest");
    REQUIRE(length);
    REQUIRE(*length == canonical.size());
    auto reply = parse_reply(canonical);
    REQUIRE(reply);
    CHECK(parse_reply(resp3(canonical)) == *reply);
    CHECK(parse_reply(resp2(canonical)) == expected_in_resp2(*reply));
    CHECK(resp3(canonical + canonical) == resp3(canonical) + resp3(canonical));
    CHECK(resp2(canonical + canonical) == resp2(canonical) + resp2(canonical));

    // Byte by byte, twice in a row; the buffer lies elsewhere each time.
    ReplyParser parser;
    for (int repeat = 0; repeat < 2; ++repeat) {
      for (size_t size = 0; size < canonical.size(); ++size) {
        auto step = parser.next(std::string(canonical, 0, size));
        REQUIRE(step.progress == Progress::kMore);
        REQUIRE(step.need > 0);
        REQUIRE(step.need <= canonical.size() - size);
      }
      auto step = parser.next(canonical + "+x");
      REQUIRE(step.progress == Progress::kDone);
      REQUIRE(step.length == canonical.size());
    }
  }
}

TEST_CASE("damaged replies are judged the same however they are fragmented", "[protocol]") {
  Random random{8};
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    put_random(random, bytes, 3);
    for (int i = 0; i < 2; ++i) bytes[random.below(bytes.size())] = "\r\n*$%_-19t"[random.below(10)];
    ReplyParser whole;
    auto expected = whole.next(bytes);
    ReplyParser pieces;
    for (size_t size = 0; size <= bytes.size(); ++size) {
      auto step = pieces.next(std::string_view(bytes).substr(0, size));
      if (step.progress == Progress::kMore && size < bytes.size()) continue;
      CHECK(step.progress == expected.progress);
      CHECK(step.length == expected.length);
      CHECK(step.error.message == expected.error.message);
      break;
    }
    if (auto length = reply_length(bytes)) {
      CHECK(parse_reply(resp2(bytes.substr(0, *length))));
      CHECK(parse_reply(resp3(bytes.substr(0, *length))));
    }
  }
}
