// S-expressions: no frame harms the parsers, and what they accept is read back from what is printed.
#include <algorithm>

#include "core/protocol/sexp.h"
#include "core/protocol/sexp_reader.h"
#include "tests/fuzz/target.h"

using namespace mneme;
using namespace mneme::protocol;
using fuzz::require;

namespace {

void atoms(std::string_view bytes) {
  std::string printed;
  put_sexp_atom(printed, bytes);
  require(printed.size() == sexp_atom_size(bytes), "the size of an atom is known beforehand");
  SexpReader reader(printed);
  require(reader.next() == SexpReader::Token::kAtom, "a printed atom is an atom");
  require(reader.atom() == bytes, "a printed atom is read back");
  require(reader.next() == SexpReader::Token::kEnd, "a printed atom is one atom");
}

void commands(std::string_view body) {
  auto parsed = parse_commands(body);
  if (!parsed) {
    require(!parsed.error().message.empty(), "an error says what it is");
    return;
  }
  std::string frame;
  require(put_sexp_commands(frame, *parsed).has_value(), "what fitted fits");
  SexpFrame again = next_sexp_frame(frame);
  require(again.progress == Progress::kDone && again.consumed == frame.size(), "a printed frame is one frame");
  auto reparsed = parse_commands(again.body);
  require(reparsed && *reparsed == *parsed, "printed commands are read back");
}

void replies(std::string_view body) {
  auto parsed = parse_sexp_replies(body);
  if (!parsed) return;
  std::string frame;
  SexpReplyWriter writer(frame, parsed->size());
  for (const SexpReply& reply : *parsed) {
    switch (reply.kind) {
      case SexpReply::Kind::kSaved: writer.saved(); break;
      case SexpReply::Kind::kGot: writer.got(reply.key, reply.value); break;
      case SexpReply::Kind::kDeleted: writer.deleted(reply.key); break;
      case SexpReply::Kind::kMissing: writer.missing(reply.key); break;
      case SexpReply::Kind::kError: writer.error(reply.text); break;
      case SexpReply::Kind::kUnknown: writer.unknown(reply.text); break;
    }
  }
  writer.finish();
  auto reparsed = parse_sexp_replies(next_sexp_frame(frame).body);
  require(reparsed && *reparsed == *parsed, "printed replies are read back");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // In a block of its own size, so that a read past its end is a sanitizer's business.
  std::vector<char> block(data, data + size);
  std::string_view bytes(block.data(), block.size());
  SexpFrame frame = next_sexp_frame(bytes);
  if (frame.progress == Progress::kDone) {
    require(frame.consumed <= bytes.size(), "no more is consumed than there is");
    commands(frame.body);
  }
  commands(bytes);
  replies(bytes);
  atoms(bytes);
  return 0;
}

std::vector<std::string> fuzz::corpus() {
  using namespace std::string_literals;
  return {"((Set (String city) (String Oslo)) (Get (Num 7)) (Delete (String city)))",
          "\0\0\0\x0f((Get (Num 7)))"s,
          "((Save Committed) (Got (Num 7) (String x)) (Error \"no such thing\"))",
          "((Missing (String \"a b\")) (Deleted (Num -1)) (Unknown maybe))",
          "(#;(Get (Num 1)) (set (string \"\\065\\x42\\n\\q \\\n   b\")(num 2147483647)))",
          "#| a #| \"b |#\" |# |# ( ; c\n (Get (String #)) )",
          "()"};
}
