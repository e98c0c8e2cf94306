// Framing between nodes: who is there, in which version, and then frames whose bodies are opaque here.
//
// All integers are little-endian. The side that connects sends a hello and waits for the answer; each side then sends
// frames. A connection has one purpose for its whole life, so that a snapshot never delays a heartbeat.
//
// Hello, 64 bytes; this form is the same in every version:
//
//   offset  size
//        0     1  0xD7: no other protocol on the port begins so (core/protocol/first_byte.h)
//        1     5  "mneme"
//        6     2  lowest version that the sender speaks
//        8     2  highest version
//       10     1  purpose: 1 control, 2 bulk, 3 join
//       11     5  0, reserved
//       16     8  cluster id; 0: not known yet
//       24     8  node id of the sender; 0: it wants to join
//       32     8  incarnation of the sender
//       40     8  node id that the sender takes the receiver for; 0: any, when it wants to join
//       48     8  0, reserved
//       56     8  XXH3 of bytes 0 to 55
//
// Answer, 56 bytes and a sentence; the same in every version:
//
//        0     6  as in the hello
//        6     2  the version that both will use from here on; 0 when refused
//        8     1  status: 0 accepted, 1 refused
//        9     1  0, reserved
//       10     2  n: length of the sentence, at most kMaxRefusalBytes; 0 when accepted
//       12     4  0, reserved
//       16     8  cluster id of the sender
//       24     8  node id of the sender
//       32     8  incarnation of the sender
//       40     8  0, reserved
//       48     n  why it is refused, for a person
//     48+n     8  XXH3 of bytes 0 to 47+n
//
// Whoever refuses closes the connection after the answer. A receiver that cannot even parse the hello closes at once.
//
// Frame, in versions 1 and 2:
//
//        0     4  n: length of the body, at most limits::kMaxPeerFrameBytes
//        4     1  type
//        5     1  flags: 0
//        6     2  0, reserved
//        8     8  checksum: XXH3 of the body, seeded with the XXH3 of bytes 0 to 7, seeded with the frame's number
//       16     n  body
//
// Each direction of a connection numbers its frames 0, 1, 2...; the number is not sent but goes into the checksum, so
// that a frame that was lost, repeated, reordered or left over from elsewhere does not pass. The length is covered too.
// After a frame that does not check, nothing can be trusted: the connection is closed.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/base/ids.h"
#include "core/base/limits.h"
#include "core/protocol/first_byte.h"
#include "core/protocol/progress.h"

namespace mneme::protocol {

inline constexpr uint16_t kMinPeerVersion = 1;
inline constexpr uint16_t kMaxPeerVersion = 2;
inline constexpr size_t kHelloBytes = 64;
inline constexpr size_t kAnswerBytes = 56;  // without its sentence
inline constexpr size_t kMaxRefusalBytes = 512;
inline constexpr size_t kFrameHeaderBytes = 16;

// Values are part of the wire format.
enum class Purpose : uint8_t {
  kControl = 1,  // raft messages, forwarded requests and their replies
  kBulk = 2,     // snapshots
  kJoin = 3,     // a node without an id asks to be let in
};

struct Hello {
  uint16_t min_version = kMinPeerVersion;
  uint16_t max_version = kMaxPeerVersion;
  Purpose purpose = Purpose::kControl;
  ClusterId cluster;
  NodeId sender;
  Incarnation incarnation;
  NodeId receiver;

  bool operator==(const Hello&) const = default;
};

struct Answer {
  bool accepted = false;
  uint16_t version = 0;  // when accepted
  ClusterId cluster;
  NodeId sender;
  Incarnation incarnation;
  std::string refusal;  // when not accepted

  bool operator==(const Answer&) const = default;
};

// Appends. A refusal longer than kMaxRefusalBytes is cut.
void put_hello(std::string& out, const Hello& hello);
void put_answer(std::string& out, const Answer& answer);

// Decodes what begins the unconsumed bytes of a connection. Keeps nothing between calls.
template <class T>
struct Greeting {
  Progress progress;
  T value = {};         // kDone
  size_t consumed = 0;  // kDone
  size_t need = 0;      // kMore: at least so many more bytes
  Error error = {};     // kError: kInvalid, not a peer; kCorrupt, a checksum; kUnsupported, a field of another version
};
[[nodiscard]] Greeting<Hello> read_hello(std::string_view unconsumed);
[[nodiscard]] Greeting<Answer> read_answer(std::string_view unconsumed);

// The highest version that both sides speak.
[[nodiscard]] std::optional<uint16_t> choose_version(const Hello& hello);

// Values are part of the wire format.
enum class FrameType : uint8_t {
  kRaft = 1,           // group u64, generation u32, then one raft message
  kForward = 2,        // a request for the leader
  kForwardReply = 3,   // its outcome
  kSnapshotBegin = 4,  // snapshots go file by file, in chunks that are acknowledged
  kSnapshotChunk = 5,
  kSnapshotEnd = 6,
  kSnapshotAck = 7,
  kPing = 8,        // that the node is alive, which life of its process this is u64, the version of its shard map u64
  kMap = 9,         // a shard map, as shard::Map::encode() has it
  kJoin = 10,       // of a node that wants to join: address, rack, as counted texts
  kJoinReply = 11,  // its node id u64, then the shard map; or 0, 1 if it may ask again u8, then why not
  // From version 2 on:
  kMapChange = 12,  // what has changed in the shard map, as shard::Map::encode_change_since() has it
};

// Numbers and checks the frames of one direction of one connection. One writer per connection: the number goes on.
class PeerFrameWriter {
 public:
  // Appends a whole frame. The body is at most kMaxPeerFrameBytes: whoever made it has seen to that.
  void put(std::string& out, FrameType type, std::string_view body);

  // The same for a body that is encoded in place: begin, append the body to `out`, end with what begin returned.
  [[nodiscard]] static size_t begin(std::string& out);
  void end(std::string& out, size_t frame, FrameType type);

  // The same for a body that is sent from where it lies: header first, then exactly these bytes.
  [[nodiscard]] std::array<uint8_t, kFrameHeaderBytes> encode_frame_header(FrameType type, std::string_view body);

 private:
  uint64_t number_ = 0;
};

// Yields the frames of one direction of one connection as views into the connection's read buffer. Called with all
// bytes received and not yet consumed; after kDone the caller drops `consumed` bytes when it is done with the body. A
// frame is looked at when it is complete, so that its cost is linear however it is fragmented.
class PeerFrameParser {
 public:
  struct Step {
    Progress progress;
    FrameType type = FrameType::kPing;  // kDone
    std::string_view body;              // kDone
    size_t consumed = 0;                // kDone
    size_t need = 0;                    // kMore: at least so many more bytes
    Error error = {};                   // kError: kTooLarge, kCorrupt or kUnsupported; close the connection
  };

  [[nodiscard]] Step next(std::string_view unconsumed);

 private:
  uint64_t number_ = 0;
};

}  // namespace mneme::protocol
