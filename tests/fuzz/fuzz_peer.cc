// Peer framing: no bytes harm the decoders; frames arrive as sent however they are cut; a changed one never passes.
#include <algorithm>

#include "core/protocol/peer.h"
#include "tests/fuzz/target.h"

using namespace mneme;
using namespace mneme::protocol;
using fuzz::require;

namespace {

void greetings(std::string_view bytes) {
  auto hello = read_hello(bytes);
  if (hello.progress == Progress::kDone) {
    std::string again;
    put_hello(again, hello.value);
    require(read_hello(again).value == hello.value, "a hello is read back");
  }
  auto answer = read_answer(bytes);
  if (answer.progress == Progress::kDone) {
    require(answer.consumed <= bytes.size(), "no more is consumed than there is");
    std::string again;
    put_answer(again, answer.value);
    require(read_answer(again).value == answer.value, "an answer is read back");
  }
}

void raw_frames(std::string_view bytes) {
  PeerFrameParser parser;
  while (true) {
    auto step = parser.next(bytes);
    if (step.progress != Progress::kDone) return;
    require(step.consumed <= bytes.size(), "no more is consumed than there is");
    bytes.remove_prefix(step.consumed);
  }
}

// The input is a script: each byte pair says the type and length of a frame, whose body is what follows. The last
// eight bytes say how the stream is cut and which bit of it is changed.
void scripted(std::string_view bytes) {
  if (bytes.size() < 8) return;
  uint64_t choice = load_le<uint64_t>(as_bytes(bytes).data() + bytes.size() - 8);
  bytes.remove_suffix(8);
  PeerFrameWriter writer;
  std::string stream;
  std::vector<std::pair<FrameType, std::string_view>> sent;
  while (bytes.size() >= 2) {
    auto type = static_cast<FrameType>(1 + static_cast<uint8_t>(bytes[0]) % 8);
    std::string_view body = bytes.substr(2, static_cast<uint8_t>(bytes[1]));
    bytes.remove_prefix(2 + body.size());
    writer.put(stream, type, body);
    sent.emplace_back(type, body);
  }
  PeerFrameParser parser;
  size_t piece = 1 + choice % 100;
  size_t arrived = 0;
  size_t taken = 0;
  size_t received = 0;
  while (true) {
    auto step = parser.next(std::string_view(stream).substr(taken, arrived - taken));
    require(step.progress != Progress::kError, "what was sent passes");
    if (step.progress == Progress::kDone) {
      require(received < sent.size(), "no frame is made up");
      require(sent[received++] == std::pair(step.type, step.body), "a frame arrives as it was sent");
      taken += step.consumed;
    } else if (arrived == stream.size()) {
      break;
    } else {
      arrived = std::min(arrived + piece, stream.size());
    }
  }
  require(received == sent.size() && taken == stream.size(), "all frames arrive");
  if (stream.empty()) return;

  size_t bit = (choice >> 8) % (stream.size() * 8);
  stream[bit / 8] = static_cast<char>(stream[bit / 8] ^ (1 << (bit % 8)));
  PeerFrameParser wary;
  std::string_view rest = stream;
  for (size_t passed = 0;; ++passed) {
    auto step = wary.next(rest);
    if (step.progress != Progress::kDone) break;
    size_t begin = stream.size() - rest.size();
    require(bit / 8 < begin || bit / 8 >= begin + step.consumed, "a changed frame does not pass");
    require(sent[passed] == std::pair(step.type, step.body), "frames before it do");
    rest.remove_prefix(step.consumed);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // In a block of its own size, so that a read past its end is a sanitizer's business.
  std::vector<char> block(data, data + size);
  std::string_view bytes(block.data(), block.size());
  greetings(bytes);
  raw_frames(bytes);
  scripted(bytes);
  return 0;
}

std::vector<std::string> fuzz::corpus() {
  std::vector<std::string> inputs(6);
  put_hello(inputs[0],
            {.cluster = ClusterId(1), .sender = NodeId(2), .incarnation = Incarnation(3), .receiver = NodeId(4)});
  put_answer(inputs[1], {.accepted = true, .version = 1, .cluster = ClusterId(1), .sender = NodeId(4)});
  put_answer(inputs[2], {.sender = NodeId(4), .refusal = "another cluster"});
  PeerFrameWriter writer;
  writer.put(inputs[3], FrameType::kPing, "");
  writer.put(inputs[3], FrameType::kRaft, "a message");
  PeerFrameWriter().put(inputs[4], FrameType::kSnapshotChunk, std::string(300, 'c'));
  inputs[5] = "\1\5hello\7\0\2\3abc12345678";
  return inputs;
}
