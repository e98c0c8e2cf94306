#include "core/protocol/peer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/base/check.h"
#include "core/base/hash.h"

namespace mneme::protocol {

namespace {

constexpr std::string_view kMagic = "\xD7mneme";
static_assert(static_cast<uint8_t>(kMagic[0]) == kPeerFirstByte);
static_assert(limits::kMaxPeerFrameBytes <= UINT32_MAX);

constexpr size_t kChecksumBytes = 8;
constexpr size_t kRefusalOffset = kAnswerBytes - kChecksumBytes;

void put_checksum(std::string& out, size_t from) {
  uint64_t sum = xxh3(std::string_view(out).substr(from));
  Writer(out).u64(sum);
}

bool checks(std::string_view greeting) {
  std::string_view covered = greeting.substr(0, greeting.size() - kChecksumBytes);
  return xxh3(covered) == load_le<uint64_t>(as_bytes(greeting).data() + covered.size());
}

// The part of both greetings that tells a peer from a stranger, judged as soon as its first bytes are there.
bool may_be_peer(std::string_view bytes) {
  size_t size = std::min(bytes.size(), kMagic.size());
  return bytes.substr(0, size) == kMagic.substr(0, size);
}

template <class T>
Greeting<T> bad(ErrorCode code, std::string_view what) {
  return {.progress = Progress::kError, .error = {code, fmt::format("peer connection: {}", what)}};
}

template <class T>
Greeting<T> stranger() {
  return bad<T>(ErrorCode::kInvalid, "the other side is no node of Mneme");
}

template <class T>
Greeting<T> more(size_t need) {
  return {.progress = Progress::kMore, .need = need};
}

uint64_t frame_checksum(const uint8_t* header, std::string_view body, uint64_t number) {
  return xxh3(body, xxh3(ByteView(header, 8), number));
}

void store_header(uint8_t* to, FrameType type, std::string_view body, uint64_t number) {
  CHECK(body.size() <= limits::kMaxPeerFrameBytes);
  store_le(to, static_cast<uint32_t>(body.size()));
  store_le(to + 4, static_cast<uint32_t>(type));  // flags and reserved bytes are 0
  store_le(to + 8, frame_checksum(to, body, number));
}

}  // namespace

void put_hello(std::string& out, const Hello& hello) {
  size_t from = out.size();
  Writer w(out);
  w.raw(kMagic);
  w.u16(hello.min_version);
  w.u16(hello.max_version);
  w.u8(static_cast<uint8_t>(hello.purpose));
  w.u8(0);
  w.u32(0);
  w.id(hello.cluster);
  w.id(hello.sender);
  w.id(hello.incarnation);
  w.id(hello.receiver);
  w.u64(0);
  put_checksum(out, from);
  CHECK(out.size() - from == kHelloBytes);
}

void put_answer(std::string& out, const Answer& answer) {
  size_t from = out.size();
  std::string_view refusal;
  if (!answer.accepted) refusal = std::string_view(answer.refusal).substr(0, kMaxRefusalBytes);
  Writer w(out);
  w.raw(kMagic);
  w.u16(answer.accepted ? answer.version : 0);
  w.u8(answer.accepted ? 0 : 1);
  w.u8(0);
  w.u16(static_cast<uint16_t>(refusal.size()));
  w.u32(0);
  w.id(answer.cluster);
  w.id(answer.sender);
  w.id(answer.incarnation);
  w.u64(0);
  w.raw(refusal);
  put_checksum(out, from);
  CHECK(out.size() - from == kAnswerBytes + refusal.size());
}

Greeting<Hello> read_hello(std::string_view bytes) {
  if (!may_be_peer(bytes)) return stranger<Hello>();
  if (bytes.size() < kHelloBytes) return more<Hello>(kHelloBytes - bytes.size());
  bytes = bytes.substr(0, kHelloBytes);
  if (!checks(bytes)) return bad<Hello>(ErrorCode::kCorrupt, "the checksum of the hello is wrong");
  Reader r(bytes.substr(kMagic.size()));
  Hello hello;
  hello.min_version = r.u16();
  hello.max_version = r.u16();
  uint8_t purpose = r.u8();
  r.raw(5);
  hello.cluster = r.id<ClusterId>();
  hello.sender = r.id<NodeId>();
  hello.incarnation = r.id<Incarnation>();
  hello.receiver = r.id<NodeId>();
  if (purpose < static_cast<uint8_t>(Purpose::kControl) || purpose > static_cast<uint8_t>(Purpose::kJoin)) {
    return bad<Hello>(ErrorCode::kUnsupported, fmt::format("purpose {} is not known here", purpose));
  }
  hello.purpose = static_cast<Purpose>(purpose);
  if (hello.min_version > hello.max_version) {
    return bad<Hello>(ErrorCode::kInvalid, "the lowest version of the hello is above its highest");
  }
  return {.progress = Progress::kDone, .value = hello, .consumed = kHelloBytes};
}

Greeting<Answer> read_answer(std::string_view bytes) {
  if (!may_be_peer(bytes)) return stranger<Answer>();
  if (bytes.size() < kAnswerBytes) return more<Answer>(kAnswerBytes - bytes.size());
  // Used before it is known to be right, hence the bound.
  size_t refusal_bytes = load_le<uint16_t>(as_bytes(bytes).data() + 10);
  if (refusal_bytes > kMaxRefusalBytes) return bad<Answer>(ErrorCode::kCorrupt, "the answer is longer than one can be");
  size_t size = kAnswerBytes + refusal_bytes;
  if (bytes.size() < size) return more<Answer>(size - bytes.size());
  bytes = bytes.substr(0, size);
  if (!checks(bytes)) return bad<Answer>(ErrorCode::kCorrupt, "the checksum of the answer is wrong");
  Reader r(bytes.substr(kMagic.size()));
  Answer answer;
  answer.version = r.u16();
  uint8_t status = r.u8();
  r.raw(7);
  answer.cluster = r.id<ClusterId>();
  answer.sender = r.id<NodeId>();
  answer.incarnation = r.id<Incarnation>();
  if (status > 1) return bad<Answer>(ErrorCode::kUnsupported, fmt::format("status {} is not known here", status));
  answer.accepted = status == 0;
  if (answer.accepted && (answer.version < kMinPeerVersion || answer.version > kMaxPeerVersion)) {
    return bad<Answer>(ErrorCode::kUnsupported, fmt::format("version {} was not offered", answer.version));
  }
  answer.refusal = bytes.substr(kRefusalOffset, refusal_bytes);
  return {.progress = Progress::kDone, .value = std::move(answer), .consumed = size};
}

std::optional<uint16_t> choose_version(const Hello& hello) {
  uint16_t version = std::min(hello.max_version, kMaxPeerVersion);
  if (version < hello.min_version || version < kMinPeerVersion) return std::nullopt;
  return version;
}

std::array<uint8_t, kFrameHeaderBytes> PeerFrameWriter::encode_frame_header(FrameType type, std::string_view body) {
  std::array<uint8_t, kFrameHeaderBytes> header;
  store_header(header.data(), type, body, number_++);
  return header;
}

void PeerFrameWriter::put(std::string& out, FrameType type, std::string_view body) {
  auto header = encode_frame_header(type, body);
  out += as_text(header);
  out += body;
}

size_t PeerFrameWriter::begin(std::string& out) {
  size_t frame = out.size();
  out.append(kFrameHeaderBytes, '\0');
  return frame;
}

void PeerFrameWriter::end(std::string& out, size_t frame, FrameType type) {
  std::string_view body = std::string_view(out).substr(frame + kFrameHeaderBytes);
  store_header(reinterpret_cast<uint8_t*>(out.data()) + frame, type, body, number_++);
}

PeerFrameParser::Step PeerFrameParser::next(std::string_view bytes) {
  auto bad = [&](ErrorCode code, std::string_view what) {
    return Step{.progress = Progress::kError,
                .error = {code, fmt::format("peer connection, frame {}: {}", number_, what)}};
  };
  if (bytes.size() < kFrameHeaderBytes) return {.progress = Progress::kMore, .need = kFrameHeaderBytes - bytes.size()};
  const uint8_t* header = as_bytes(bytes).data();
  size_t length = load_le<uint32_t>(header);
  if (length > limits::kMaxPeerFrameBytes) {
    return bad(ErrorCode::kTooLarge, fmt::format("{} bytes, more than {}", length, limits::kMaxPeerFrameBytes));
  }
  size_t size = kFrameHeaderBytes + length;
  if (bytes.size() < size) return {.progress = Progress::kMore, .need = size - bytes.size()};
  std::string_view body = bytes.substr(kFrameHeaderBytes, length);
  if (frame_checksum(header, body, number_) != load_le<uint64_t>(header + 8)) {
    return bad(ErrorCode::kCorrupt, "its checksum is wrong, or it is not the frame that comes next");
  }
  // Only what checks can be another version's.
  if (header[5] != 0 || load_le<uint16_t>(header + 6) != 0) {
    return bad(ErrorCode::kUnsupported, "flags that are not known here");
  }
  uint8_t type = header[4];
  if (type < static_cast<uint8_t>(FrameType::kRaft) || type > static_cast<uint8_t>(FrameType::kMapChange)) {
    return bad(ErrorCode::kUnsupported, fmt::format("type {} is not known here", type));
  }
  ++number_;
  return {.progress = Progress::kDone, .type = static_cast<FrameType>(type), .body = body, .consumed = size};
}

}  // namespace mneme::protocol
