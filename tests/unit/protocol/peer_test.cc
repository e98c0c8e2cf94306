#include "core/protocol/peer.h"

#include <string>
#include <vector>

#include "core/base/hash.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::protocol;
using namespace std::string_literals;

namespace {

Hello some_hello() {
  return {.min_version = 1,
          .max_version = 3,
          .purpose = Purpose::kBulk,
          .cluster = ClusterId(0x1122334455667788),
          .sender = NodeId(2),
          .incarnation = Incarnation(0x99),
          .receiver = NodeId(3)};
}

std::string bytes_of(const Hello& hello) {
  std::string out;
  put_hello(out, hello);
  return out;
}

std::string bytes_of(const Answer& answer) {
  std::string out;
  put_answer(out, answer);
  return out;
}

// With a checksum that is right again after a change.
std::string resealed(std::string greeting) {
  greeting.resize(greeting.size() - 8);
  uint64_t sum = xxh3(greeting);
  Writer(greeting).u64(sum);
  return greeting;
}

std::string hex(std::string_view bytes) {
  std::string out;
  for (char c : bytes) {
    out += "0123456789abcdef"[static_cast<uint8_t>(c) >> 4];
    out += "0123456789abcdef"[static_cast<uint8_t>(c) & 15];
  }
  return out;
}

ErrorCode code_of(std::string_view bytes) {
  PeerFrameParser parser;
  auto step = parser.next(bytes);
  REQUIRE(step.progress == Progress::kError);
  CHECK(step.error.message.starts_with("peer connection, frame 0: "));
  return step.error.code;
}

}  // namespace

TEST_CASE("greetings are read back, and asked for byte by byte", "[protocol]") {
  Answer yes{
      .accepted = true, .version = 1, .cluster = ClusterId(5), .sender = NodeId(3), .incarnation = Incarnation(7)};
  Answer no{.cluster = ClusterId(5), .sender = NodeId(3), .incarnation = Incarnation(7), .refusal = "another cluster"};
  std::string hello = bytes_of(some_hello());
  CHECK(hello.size() == kHelloBytes);
  CHECK(detect(static_cast<uint8_t>(hello[0])) == Protocol::kPeer);
  for (size_t size = 0; size < hello.size(); ++size) {
    auto step = read_hello(std::string_view(hello).substr(0, size));
    CHECK(step.progress == Progress::kMore);
    CHECK(step.need == hello.size() - size);
  }
  auto read = read_hello(hello + "more");
  REQUIRE(read.progress == Progress::kDone);
  CHECK(read.value == some_hello());
  CHECK(read.consumed == kHelloBytes);
  for (const Answer& answer : {yes, no}) {
    std::string bytes = bytes_of(answer);
    CHECK(bytes.size() == kAnswerBytes + answer.refusal.size());
    for (size_t size = 0; size < bytes.size(); ++size) {
      auto step = read_answer(std::string_view(bytes).substr(0, size));
      CHECK(step.progress == Progress::kMore);
      CHECK(step.need <= bytes.size() - size);
    }
    auto step = read_answer(bytes + "more");
    REQUIRE(step.progress == Progress::kDone);
    CHECK(step.value == answer);
    CHECK(step.consumed == bytes.size());
  }
}

TEST_CASE("any damaged byte of a greeting is found", "[protocol]") {
  Answer no{.sender = NodeId(3), .refusal = "no"};
  std::string hello = bytes_of(some_hello());
  std::string answer = bytes_of(no);
  for (size_t i = 0; i < hello.size() * 8; ++i) {
    std::string damaged = hello;
    damaged[i / 8] = static_cast<char>(damaged[i / 8] ^ (1 << (i % 8)));
    CHECK(read_hello(damaged).progress == Progress::kError);
  }
  for (size_t i = 0; i < answer.size() * 8; ++i) {
    std::string damaged = answer;
    damaged[i / 8] = static_cast<char>(damaged[i / 8] ^ (1 << (i % 8)));
    CHECK(read_answer(damaged).progress != Progress::kDone);  // a longer sentence may be waited for
    damaged += std::string(kMaxRefusalBytes, 'x');
    CHECK(read_answer(damaged).progress == Progress::kError);
  }
}

TEST_CASE("a stranger is told from a peer at its first wrong byte", "[protocol]") {
  CHECK(read_hello("\xD7mnemo").error.code == ErrorCode::kInvalid);
  CHECK(read_hello("GET").error.code == ErrorCode::kInvalid);
  CHECK(read_answer("-ERR").error.code == ErrorCode::kInvalid);
}

TEST_CASE("fields of a greeting that make no sense here are refused", "[protocol]") {
  std::string hello = bytes_of(some_hello());
  hello[10] = 9;
  CHECK(read_hello(resealed(hello)).error.message == "peer connection: purpose 9 is not known here");
  hello = bytes_of(some_hello());
  hello[6] = 4;
  CHECK(read_hello(resealed(hello)).error.code == ErrorCode::kInvalid);
  std::string answer = bytes_of(Answer{.accepted = true, .version = 1});
  answer[8] = 2;
  CHECK(read_answer(resealed(answer)).error.code == ErrorCode::kUnsupported);
  answer = bytes_of(Answer{.accepted = true, .version = kMaxPeerVersion + 1});
  CHECK(read_answer(answer).error.code == ErrorCode::kUnsupported);
  CHECK(read_answer(bytes_of(Answer{.accepted = true, .version = 0})).error.code == ErrorCode::kUnsupported);
}

TEST_CASE("a refusal is cut to its bound", "[protocol]") {
  auto read = read_answer(bytes_of(Answer{.refusal = std::string(10'000, 'x')}));
  REQUIRE(read.progress == Progress::kDone);
  CHECK(read.value.refusal == std::string(kMaxRefusalBytes, 'x'));
}

TEST_CASE("both sides choose the highest version that both speak", "[protocol]") {
  CHECK(choose_version({.min_version = 1, .max_version = 1}) == 1);
  CHECK(choose_version({.min_version = 0, .max_version = 9}) == kMaxPeerVersion);
  CHECK(choose_version({.min_version = kMaxPeerVersion + 1, .max_version = 9}) == std::nullopt);
  CHECK(choose_version({.min_version = 0, .max_version = 0}) == std::nullopt);
}

TEST_CASE("frames arrive in order with their types and bodies, however fragmented and however written", "[protocol]") {
  PeerFrameWriter writer;
  std::vector<std::pair<FrameType, std::string>> sent;
  std::string stream;
  for (uint8_t type = 1; type <= 8; ++type) {
    sent.emplace_back(FrameType{type}, std::string(type == 8 ? 0 : 1u << (2 * type), static_cast<char>('a' + type)));
    const auto& body = sent.back().second;
    if (type % 3 == 0) {
      writer.put(stream, FrameType{type}, body);
    } else if (type % 3 == 1) {
      size_t frame = PeerFrameWriter::begin(stream);
      stream += body;
      writer.end(stream, frame, FrameType{type});
    } else {
      auto header = writer.encode_frame_header(FrameType{type}, body);
      stream += as_text(header);
      stream += body;
    }
  }
  for (size_t piece : {size_t{1}, size_t{7}, size_t{1000}, stream.size()}) {
    PeerFrameParser parser;
    std::string buffer;
    std::string_view rest = stream;
    std::vector<std::pair<FrameType, std::string>> received;
    while (true) {
      auto step = parser.next(buffer);
      REQUIRE(step.progress != Progress::kError);
      if (step.progress == Progress::kDone) {
        received.emplace_back(step.type, step.body);
        buffer.erase(0, step.consumed);
        continue;
      }
      if (rest.empty()) break;
      buffer += rest.substr(0, piece);
      rest.remove_prefix(std::min(piece, rest.size()));
    }
    CHECK(buffer.empty());
    CHECK(received == sent);
  }
}

TEST_CASE("a frame that is damaged anywhere, repeated, left out or reordered does not pass", "[protocol]") {
  PeerFrameWriter writer;
  std::string first, second;
  writer.put(first, FrameType::kRaft, "body of the first");
  writer.put(second, FrameType::kRaft, "body of the first");  // equal but for its number
  for (size_t i = 0; i < first.size() * 8; ++i) {
    std::string damaged = first;
    damaged[i / 8] = static_cast<char>(damaged[i / 8] ^ (1 << (i % 8)));
    PeerFrameParser parser;
    CHECK(parser.next(damaged).progress != Progress::kDone);
  }
  CHECK(code_of(second) == ErrorCode::kCorrupt);
  PeerFrameParser parser;
  CHECK(parser.next(first).progress == Progress::kDone);
  auto again = parser.next(first);
  CHECK(again.error.code == ErrorCode::kCorrupt);
  CHECK(again.error.message ==
        "peer connection, frame 1: its checksum is wrong, or it is not the frame that comes next");
}

TEST_CASE("an oversized frame is refused at its header, and the largest is taken", "[protocol]") {
  std::string header;
  Writer(header).u32(static_cast<uint32_t>(limits::kMaxPeerFrameBytes + 1));
  header.resize(kFrameHeaderBytes);
  CHECK(code_of(header) == ErrorCode::kTooLarge);
  CHECK(code_of(std::string(kFrameHeaderBytes, '\xff')) == ErrorCode::kTooLarge);

  PeerFrameWriter writer;
  std::string stream;
  writer.put(stream, FrameType::kSnapshotChunk, std::string(limits::kMaxPeerFrameBytes, 'x'));
  PeerFrameParser parser;
  CHECK(parser.next(std::string_view(stream).substr(0, stream.size() - 1)).need == 1);
  auto step = parser.next(stream);
  REQUIRE(step.progress == Progress::kDone);
  CHECK(step.body.size() == limits::kMaxPeerFrameBytes);
  CHECK(step.body.data() == stream.data() + kFrameHeaderBytes);
}

TEST_CASE("a frame that checks but that this version does not know is unsupported", "[protocol]") {
  for (uint8_t type : {0, 13, 255}) {
    PeerFrameWriter writer;
    std::string frame;
    writer.put(frame, FrameType{type}, "x");
    CHECK(code_of(frame) == ErrorCode::kUnsupported);
  }
  std::string frame("\1\0\0\0\1\1\0\0", 8);
  uint64_t sum = xxh3("x"s, xxh3(frame, 0));
  Writer(frame).u64(sum);
  CHECK(code_of(frame + "x") == ErrorCode::kUnsupported);
}

TEST_CASE("version 1 has these bytes for ever", "[protocol]") {
  CHECK(hex(bytes_of(some_hello())) ==
        "d76d6e656d65010003000200000000008877665544332211020000000000000099000000000000000300000000000000"
        "00000000000000008c1ee75059e3ac10");
  Answer no{.cluster = ClusterId(5), .sender = NodeId(3), .incarnation = Incarnation(7), .refusal = "no"};
  CHECK(hex(bytes_of(no)) ==
        "d76d6e656d650000010002000000000005000000000000000300000000000000070000000000000000000000000000006e6f"
        "41e728f5582d4339");
  PeerFrameWriter writer;
  std::string frames;
  writer.put(frames, FrameType::kPing, "");
  writer.put(frames, FrameType::kRaft, "raft");
  CHECK(hex(frames) ==
        "0000000008000000afd45866dab7d24a"
        "04000000010000001edf5af63dec803772616674");
}

TEST_CASE("the first byte tells the protocols apart", "[protocol]") {
  CHECK(detect(0x00) == Protocol::kSexp);
  CHECK(detect(0x16) == Protocol::kTls);
  CHECK(detect(0xD7) == Protocol::kPeer);
  for (char c : "*PING ping\"'\r\n\t 0~"s) CHECK(detect(static_cast<uint8_t>(c)) == Protocol::kResp);
  for (int c : {0x01, 0x15, 0x17, 0x1b, 0x7f, 0x80, 0xc3, 0xff}) {
    CHECK(detect(static_cast<uint8_t>(c)) == Protocol::kUnknown);
  }
}
