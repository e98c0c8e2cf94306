#include "core/protocol/sexp.h"

#include <string>
#include <vector>

#include "core/base/hash.h"
#include "core/protocol/first_byte.h"
#include "core/protocol/sexp_reader.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::protocol;
using namespace std::string_literals;

namespace {

using Kind = SexpCommand::Kind;

SexpValue str(std::string_view text) { return SexpValue::string(text); }
SexpValue num(int32_t number) { return SexpValue::number(number); }

std::string printed(std::string_view atom) {
  std::string out;
  put_sexp_atom(out, atom);
  CHECK(sexp_atom_size(atom) == out.size());
  return out;
}

// The atoms of a text, with parentheses as they stand.
std::vector<std::string> tokens(std::string_view text) {
  using Token = SexpReader::Token;
  SexpReader reader(text);
  std::vector<std::string> out;
  while (true) {
    Token token = reader.next();
    if (token == Token::kEnd) return out;
    if (token == Token::kError) {
      out.push_back(reader.error().message);
      CHECK(reader.next() == Token::kError);
      return out;
    }
    if (token == Token::kOpen) out.emplace_back("(");
    if (token == Token::kClose) out.emplace_back(")");
    if (token == Token::kAtom) out.emplace_back(reader.atom());
  }
}

using Tokens = std::vector<std::string>;

std::string error_of(std::string_view body) {
  auto commands = parse_commands(body);
  return commands ? "" : commands.error().message;
}

std::string body_of(std::string_view frame) {
  auto step = next_sexp_frame(frame);
  REQUIRE(step.progress == Progress::kDone);
  REQUIRE(step.consumed == frame.size());
  return std::string(step.body);
}

struct Random {
  uint64_t state;
  uint64_t next() { return mix(state += 0x9e3779b97f4a7c15u); }
  size_t below(size_t n) { return next() % n; }
  std::string text() {
    std::string out;
    bool plain = below(2) == 0;
    for (size_t i = below(12); i-- > 0;) {
      out += plain ? "ab\\\"#|; ()\n"[below(11)] : static_cast<char>(next());
    }
    return out;
  }
  SexpValue value() { return below(3) == 0 ? num(static_cast<int32_t>(next())) : str(text()); }
};

}  // namespace

TEST_CASE("the commands of the design are read with their types", "[protocol]") {
  auto commands = parse_commands("((Set (String city) (String Oslo)) (Get (Num 7)) (Delete (String city)))");
  REQUIRE(commands);
  CHECK(*commands == std::vector<SexpCommand>{{Kind::kSet, str("city"), str("Oslo")},
                                              {Kind::kGet, num(7), {}},
                                              {Kind::kDelete, str("city"), {}}});
  CHECK((*commands)[1].key.plain() == "7");
  CHECK(parse_commands("()")->empty());
  CHECK(parse_commands(" ( (set(num -2147483648)(string\"a b\")) ) ; done")->at(0) ==
        SexpCommand{Kind::kSet, num(INT32_MIN), str("a b")});
}

TEST_CASE("replies have the form of the design", "[protocol]") {
  std::string out = "before";
  SexpReplyWriter writer(out, 7);
  writer.saved();
  writer.got(num(7), str("x"));
  writer.error("no such thing");
  writer.missing(str("a b"));
  writer.deleted(str("city"));
  writer.unknown("maybe");
  writer.got(str("7"), num(-1));
  writer.finish();
  CHECK(out.starts_with("before"));
  std::string body = body_of(out.substr(6));
  CHECK(body ==
        "((Save Committed) (Got (Num 7) (String x)) (Error \"no such thing\") (Missing (String \"a b\")) "
        "(Deleted (String city)) (Unknown maybe) (Got (String 7) (Num -1)))");
  using R = SexpReply::Kind;
  auto replies = parse_sexp_replies(body);
  REQUIRE(replies);
  CHECK(*replies == std::vector<SexpReply>{{R::kSaved, {}, {}, {}},
                                           {R::kGot, num(7), str("x"), {}},
                                           {R::kError, {}, {}, "no such thing"},
                                           {R::kMissing, str("a b"), {}, {}},
                                           {R::kDeleted, str("city"), {}, {}},
                                           {R::kUnknown, {}, {}, "maybe"},
                                           {R::kGot, str("7"), num(-1), {}}});
  std::string refused;
  put_sexp_error_frame(refused, "byte 3: no");
  CHECK(body_of(refused) == "((Error \"byte 3: no\"))");
}

TEST_CASE("atoms are printed as sexplib prints them", "[protocol]") {
  CHECK(printed("Oslo") == "Oslo");

  CHECK(printed("") == R"("")");
  CHECK(printed("a b") == R"("a b")");
  CHECK(printed("(") == R"("(")");
  CHECK(printed("a;b") == R"("a;b")");
  CHECK(printed("say \"x\"") == R"("say \"x\"")");
  CHECK(printed("back\\slash") == R"("back\\slash")");
  CHECK(printed("\n\t\r\b") == R"("\n\t\r\b")");
  CHECK(printed("\0\x01\x7f\x80\xff"s) == R"("\000\001\127\128\255")");
  CHECK(printed("\xc3\xb8") == R"("\195\184")");
  CHECK(printed("#") == "#");
  CHECK(printed("|") == "|");
  CHECK(printed("a#|b") == R"("a#|b")");
  CHECK(printed("|#") == R"("|#")");
  CHECK(printed("#a|") == "#a|");
}

TEST_CASE("atoms are read as sexplib reads them", "[protocol]") {
  CHECK(tokens(R"(a "b c" d"e"f)") == Tokens{"a", "b c", "d", "e", "f"});
  CHECK(tokens(R"("\n\t\r\b\\\"\'\ ")") == Tokens{"\n\t\r\b\\\"' "});
  CHECK(tokens(R"("\065\x42\255\000")") == Tokens{"AB\xff\0"s});
  CHECK(tokens(R"("\q\A")") == Tokens{R"(\q\A)"});
  CHECK(tokens("\"one \\\n  \t two\\\r\n three\"") == Tokens{"one twothree"});
  CHECK(tokens("\"one\\\n  \\ntwo\"") == Tokens{"one\ntwo"});  // how sexplib prints lines for people
  CHECK(tokens("\"raw\nline\"") == Tokens{"raw\nline"});
  CHECK(tokens("back\\n \xc3\xb8") == Tokens{"back\\n", "\xc3\xb8"});
  CHECK(tokens("(\r\n\t\fa)") == Tokens{"(", "a", ")"});
  CHECK(tokens("# | a#b ##") == Tokens{"#", "|", "a#b", "##"});
  CHECK(tokens("\"#| no comment |#\"") == Tokens{"#| no comment |#"});
}

TEST_CASE("the three kinds of comments are left out", "[protocol]") {
  CHECK(tokens("a ; b ( \"\nc") == Tokens{"a", "c"});
  CHECK(tokens("a ; b") == Tokens{"a"});
  CHECK(tokens("a #| b #| c |# \"|#\" |# d") == Tokens{"a", "d"});
  CHECK(tokens("#|#|#||#|#|# a") == Tokens{"a"});
  CHECK(tokens("#;a b #;(c (d #;e) \"f\") g #; ; x\n #| y |# h i") == Tokens{"b", "g", "i"});
  CHECK(tokens("#;#; a b c") == Tokens{"c"});
  CHECK(tokens("(#;a b)") == Tokens{"(", "b", ")"});
  CHECK(tokens("#;(#;a) b") == Tokens{"b"});
  CHECK(tokens("a;b\n") == Tokens{"a"});
}

TEST_CASE("texts that are no S-expressions are refused with the place", "[protocol]") {
  auto error = [](std::string_view text) { return tokens(text).back(); };
  CHECK(error("(a") == "S-expression, byte 2: it ends with 1 list(s) still open");
  CHECK(error("(()") == "S-expression, byte 3: it ends with 1 list(s) still open");
  CHECK(error("a)") == "S-expression, byte 1: a closing parenthesis too many");
  CHECK(error("a \"b") == "S-expression, byte 2: a quoted atom without its closing quote");
  CHECK(error("\"b\\") == "S-expression, byte 0: a quoted atom without its closing quote");
  CHECK(error("\"b\\\"") == "S-expression, byte 0: a quoted atom without its closing quote");
  CHECK(error("a #| b") == "S-expression, byte 2: a comment #| without its |#");
  CHECK(error("#| \" |#") == "S-expression, byte 3: a quoted atom without its closing quote");
  CHECK(error("a |# b") == "S-expression, byte 2: the end of a comment, |#, without its beginning");
  CHECK(error("a#|b") == "S-expression, byte 1: #| or |# inside an atom without quotes");
  CHECK(error("a|#b") == "S-expression, byte 1: #| or |# inside an atom without quotes");
  CHECK(error("\"\\256\"") == "S-expression, byte 1: an escape \\ddd above 255");
  CHECK(error("\"\\12\"") == "S-expression, byte 1: an escape \\ddd needs three decimal digits");
  CHECK(error("\"\\x4g\"") == "S-expression, byte 1: an escape \\xHH needs two hexadecimal digits");
  CHECK(error("(a #;)") == "S-expression, byte 5: #; without an S-expression that it leaves out");
  CHECK(error("#;") == "S-expression, byte 2: #; without an S-expression that it leaves out");
  CHECK(error("#;#;a") == "S-expression, byte 5: #; without an S-expression that it leaves out");
}

TEST_CASE("nesting is bounded, in comments too, and never uses the stack", "[protocol]") {
  std::string deep(limits::kMaxSexpDepth, '(');
  std::string shut(limits::kMaxSexpDepth, ')');
  CHECK(tokens(deep + shut).size() == 2 * limits::kMaxSexpDepth);
  CHECK(tokens("(" + deep + shut + ")").back() == "S-expression, byte 32: lists nested deeper than 32");
  CHECK(tokens("#;(" + deep + shut + ")").back() == "S-expression, byte 34: lists nested deeper than 32");
  std::string million(1'000'000, '(');
  CHECK(error_of(million) == "S-expression, byte 32: lists nested deeper than 32");
  std::string out_of;
  std::string comments;
  for (int i = 0; i < 1'000'000; ++i) out_of += "#;", comments += "#|";
  CHECK(tokens(out_of).back() == "S-expression, byte 2000000: #; without an S-expression that it leaves out");
  CHECK(tokens(comments).back() == "S-expression, byte 0: a comment #| without its |#");
}

TEST_CASE("bodies that are no list of commands are refused with the place", "[protocol]") {
  CHECK(error_of("") == "S-expression, byte 0: a list of commands was expected");
  CHECK(error_of("Get") == "S-expression, byte 0: a list of commands was expected");
  CHECK(error_of("() ()") == "S-expression, byte 3: something follows the list");
  CHECK(error_of("(Get)") == "S-expression, byte 1: a list of commands was expected");
  CHECK(error_of("(())") == "S-expression, byte 2: a name was expected");
  CHECK(error_of("((Frob (Num 1)))") == "S-expression, byte 2: Frob is no command: Set, Get and Delete are");
  CHECK(error_of("((\"a b\"))") == "S-expression, byte 2: \"a b\" is no command: Set, Get and Delete are");
  CHECK(error_of("((Get))") == "S-expression, byte 5: (String ...) or (Num ...) was expected");
  CHECK(error_of("((Get city))") == "S-expression, byte 6: (String ...) or (Num ...) was expected");
  CHECK(error_of("((Get (Float 1)))") == "S-expression, byte 7: Float is no type: String and Num are");
  CHECK(error_of("((Get (String)))") == "S-expression, byte 13: the text of a String was expected");
  CHECK(error_of("((Get (String (a))))") == "S-expression, byte 14: the text of a String was expected");
  CHECK(error_of("((Get (String a b)))") == "S-expression, byte 16: a String or Num has one part");
  CHECK(error_of("((Get (Num 1) (Num 2)))") == "S-expression, byte 14: Get has a key");
  CHECK(error_of("((Set (Num 1)))") == "S-expression, byte 13: (String ...) or (Num ...) was expected");
  CHECK(error_of("((Get (Num 2147483648)))") ==
        "S-expression, byte 11: 2147483648 is no Num: a whole number from -2147483648 to 2147483647");
  for (auto bad : {"x", "\"\"", "1.5", "+1", "0x10", "1_000", "--1", "-2147483649", "99999999999999999999"}) {
    CHECK(
        error_of("((Get (Num " + std::string(bad) + ")))").ends_with("a whole number from -2147483648 to 2147483647"));
  }
  // Broken text is called broken, although the grammar is violated before.
  CHECK(error_of("((Frob (Num 1") == "S-expression, byte 13: it ends with 3 list(s) still open");
  CHECK(error_of("((Frob \"") == "S-expression, byte 7: a quoted atom without its closing quote");
  std::string many = "(";
  for (size_t i = 0; i <= kMaxSexpCommands; ++i) many += "(Get(Num 1))";
  CHECK(error_of(many + ")") == "a frame holds at most 65536 commands");
  auto name = std::string(1000, 'x');
  CHECK(error_of("((" + name + "))").size() < 200);
}

TEST_CASE("no body that ends too early is taken for a whole one", "[protocol]") {
  std::string body = R"(((Set (String "a b") (String c)) (Get (Num 7))))";
  REQUIRE(parse_commands(body));
  for (size_t size = 0; size < body.size(); ++size) CHECK_FALSE(parse_commands(body.substr(0, size)));
}

TEST_CASE("frames are found byte by byte and insane lengths at their first byte", "[protocol]") {
  std::string frame;
  REQUIRE(put_sexp_commands(frame, std::vector<SexpCommand>{{Kind::kGet, num(7), {}}}));
  CHECK(frame == "\0\0\0\x0f((Get (Num 7)))"s);
  CHECK(detect(static_cast<uint8_t>(frame[0])) == Protocol::kSexp);
  for (size_t size = 0; size < frame.size(); ++size) {
    auto step = next_sexp_frame(std::string_view(frame).substr(0, size));
    CHECK(step.progress == Progress::kMore);
    CHECK(step.need == (size < 4 ? 4 - size : frame.size() - size));
  }
  std::string two = frame + frame;
  auto step = next_sexp_frame(two);
  CHECK(step.progress == Progress::kDone);
  CHECK(step.consumed == frame.size());
  CHECK(step.body == "((Get (Num 7)))");
  CHECK(next_sexp_frame("\0\0\0\0"s).progress == Progress::kDone);
  CHECK(next_sexp_frame("\x01").progress == Progress::kError);
  CHECK(next_sexp_frame("\xff\xff\xff\xff").progress == Progress::kError);
  CHECK(next_sexp_frame("\x01\0\0\0"s).error.find("below 16 MiB") != std::string_view::npos);
  CHECK(next_sexp_frame("\0\xff\xff\xff"s).need == limits::kMaxSexpFrameBytes);
}

TEST_CASE("random commands and replies are read back as they were written", "[protocol]") {
  Random random{3};
  for (int round = 0; round < 2000; ++round) {
    std::vector<SexpCommand> commands;
    std::vector<SexpReply> replies;
    size_t count = random.below(5);
    std::string answer;
    SexpReplyWriter writer(answer, count);
    for (size_t i = 0; i < count; ++i) {
      auto key = random.value();
      auto value = random.value();
      auto text = random.text();
      auto kind = static_cast<Kind>(random.below(3));
      commands.push_back({kind, key, kind == Kind::kSet ? value : SexpValue{}});
      using R = SexpReply::Kind;
      switch (static_cast<R>(random.below(6))) {
        case R::kSaved: writer.saved(), replies.push_back({R::kSaved, {}, {}, {}}); break;
        case R::kGot: writer.got(key, value), replies.push_back({R::kGot, key, value, {}}); break;
        case R::kDeleted: writer.deleted(key), replies.push_back({R::kDeleted, key, {}, {}}); break;
        case R::kMissing: writer.missing(key), replies.push_back({R::kMissing, key, {}, {}}); break;
        case R::kError: writer.error(text), replies.push_back({R::kError, {}, {}, text}); break;
        case R::kUnknown: writer.unknown(text), replies.push_back({R::kUnknown, {}, {}, text}); break;
      }
    }
    writer.finish();
    std::string request;
    REQUIRE(put_sexp_commands(request, commands));
    CHECK(parse_commands(body_of(request)) == commands);
    CHECK(parse_sexp_replies(body_of(answer)) == replies);
  }
}

TEST_CASE("a reply that does not fit is replaced, one that was done never by an error", "[protocol]") {
  SexpValue huge = str(std::string(limits::kMaxValueBytes, '\1'));  // 4 bytes each when printed
  SexpValue key = str("k");
  std::string out;
  SexpReplyWriter writer(out, kMaxSexpCommands);
  writer.got(key, huge);
  SexpValue half = str(std::string(limits::kMaxValueBytes / 2, 'x'));
  writer.got(key, half);
  writer.got(key, half);
  SexpValue long_key = str(std::string(limits::kMaxKeyBytes, '\1'));
  for (size_t i = 3; i < kMaxSexpCommands - 2; ++i) writer.deleted(long_key);
  writer.saved();
  writer.error(std::string(1 << 20, 'x'));
  writer.finish();
  auto replies = parse_sexp_replies(body_of(out));
  REQUIRE(replies);
  REQUIRE(replies->size() == kMaxSexpCommands);
  using R = SexpReply::Kind;
  CHECK((*replies)[0].kind == R::kError);
  CHECK((*replies)[1].kind == R::kGot);
  CHECK((*replies)[2].kind == R::kGot);
  CHECK((*replies)[3].kind == R::kDeleted);
  CHECK((*replies)[kMaxSexpCommands - 3].kind == R::kUnknown);
  CHECK((*replies)[kMaxSexpCommands - 2].kind == R::kSaved);
  CHECK((*replies)[kMaxSexpCommands - 1].kind == R::kError);
}

TEST_CASE("a request that exceeds a frame is refused and leaves nothing behind", "[protocol]") {
  SexpCommand half{Kind::kSet, str("k"), str(std::string(limits::kMaxValueBytes, 'x'))};
  std::string out;
  CHECK(put_sexp_commands(out, std::vector{half}));
  out.clear();
  auto put = put_sexp_commands(out, std::vector{half, half});
  REQUIRE_FALSE(put);
  CHECK(put.error().code == ErrorCode::kTooLarge);
  CHECK(out.empty());
}
