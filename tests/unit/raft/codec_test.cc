#include "core/raft/codec.h"

#include "core/base/hash.h"
#include "core/base/limits.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::raft;

namespace {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t operator()() { return mix(state_ += 0x9e3779b97f4a7c15u); }
  uint64_t below(uint64_t bound) { return (*this)() % bound; }
  // Small numbers and huge ones.
  uint64_t number() { return (*this)() >> below(64); }

 private:
  uint64_t state_;
};

Entry random_entry(Random& random) {
  Entry entry;
  entry.term = Term(random.number());
  entry.index = LogIndex(random.number());
  entry.kind = static_cast<EntryKind>(random.below(3));
  if (entry.kind != EntryKind::kNoop) {
    std::string payload(random.below(40), 'x');
    for (char& c : payload) c = static_cast<char>(random());
    entry.payload = std::make_shared<const std::string>(std::move(payload));
  }
  return entry;
}

Message random_message(Random& random) {
  Message m;
  m.type = static_cast<MessageType>(1 + random.below(14));
  m.reject = random.below(2) == 1;
  m.suspect = random.below(2) == 1;
  m.transfer = random.below(2) == 1;
  m.rest = random.below(2) == 1;
  m.from = ReplicaId(random.number());
  m.to = ReplicaId(random.number());
  m.term = Term(random.number());
  m.log = {LogIndex(random.number()), Term(random.number())};
  m.hint = {LogIndex(random.number()), Term(random.number())};
  m.commit = LogIndex(random.number());
  m.round = random.number();
  for (uint64_t n = random.below(4); n > 0; --n) m.entries.push_back(random_entry(random));
  return m;
}

bool same(const Entry& a, const Entry& b) {
  return a.term == b.term && a.index == b.index && a.kind == b.kind && !a.payload == !b.payload &&
         (!a.payload || *a.payload == *b.payload);
}

bool same(const Message& a, const Message& b) {
  return a.type == b.type && a.reject == b.reject && a.suspect == b.suspect && a.transfer == b.transfer &&
         a.rest == b.rest && a.from == b.from && a.to == b.to && a.term == b.term && a.log == b.log &&
         a.hint == b.hint && a.commit == b.commit && a.round == b.round &&
         std::equal(a.entries.begin(), a.entries.end(), b.entries.begin(), b.entries.end(),
                    [](const Entry& x, const Entry& y) { return same(x, y); });
}

std::string encoded(const Message& m) {
  std::string bytes;
  encode(m, bytes);
  return bytes;
}

}  // namespace

TEST_CASE("a message comes back as it was encoded", "[raft]") {
  Random random(1);
  for (int n = 0; n < 2000; ++n) {
    Message m = random_message(random);
    auto decoded = decode(encoded(m));
    REQUIRE(decoded);
    REQUIRE(same(*decoded, m));
  }
}

TEST_CASE("a message's bytes are those of version 1", "[raft]") {
  Message m;
  m.type = MessageType::kAppend;
  m.suspect = true;
  m.from = ReplicaId(1);
  m.to = ReplicaId(2);
  m.term = Term(3);
  m.log = {LogIndex(4), Term(5)};
  m.hint = {LogIndex(6), Term(7)};
  m.commit = LogIndex(8);
  m.round = 9;
  m.entries = {{Term(10), LogIndex(11), EntryKind::kData, std::make_shared<const std::string>("ab")}};
  auto eight = [](char low) { return std::string(1, low) + std::string(7, '\0'); };
  std::string expected("\x01\x05\x02\x00", 4);
  for (char c = 1; c <= 9; ++c) expected += eight(c);
  expected += std::string("\x01\x00\x00\x00", 4) + eight(10) + eight(11) +
              std::string(
                  "\x01\x00\x02\x00\x00\x00"
                  "ab",
                  8);
  CHECK(encoded(m) == expected);
}

TEST_CASE("every prefix of a message is an error, and so is a byte too many", "[raft]") {
  Random random(2);
  for (int n = 0; n < 200; ++n) {
    std::string bytes = encoded(random_message(random));
    for (size_t size = 0; size < bytes.size(); ++size) REQUIRE_FALSE(decode(std::string_view(bytes).substr(0, size)));
    REQUIRE_FALSE(decode(bytes + "x"));
  }
}

TEST_CASE("random and damaged bytes give an error or a message that encodes to the same bytes", "[raft]") {
  Random random(3);
  for (int n = 0; n < 20000; ++n) {
    std::string bytes;
    if (n % 2 == 0) {
      bytes = encoded(random_message(random));
      for (uint64_t k = 1 + random.below(3); k > 0; --k)
        bytes[random.below(bytes.size())] = static_cast<char>(random());
    } else {
      bytes.resize(random.below(200));
      for (char& c : bytes) c = static_cast<char>(random());
      if (!bytes.empty()) bytes[0] = 1;
    }
    auto decoded = decode(bytes);
    if (decoded) REQUIRE(encoded(*decoded) == bytes);
  }
}

TEST_CASE("counts and lengths beyond the input are refused before anything is allocated", "[raft]") {
  std::string bytes = encoded(Message{});
  std::string many = bytes;
  many.replace(76, 4, "\xff\xff\xff\xff");
  CHECK(decode(many).error().code == ErrorCode::kCorrupt);

  std::string entry;
  encode_entry({Term(1), LogIndex(1), EntryKind::kData, std::make_shared<const std::string>("abc")}, entry);
  std::string long_entry = entry;
  long_entry.replace(18, 4, std::string("\x04\x00\x00\x00", 4));
  Reader short_input{std::string_view(long_entry)};
  CHECK(decode_entry(short_input).error().code == ErrorCode::kCorrupt);
  long_entry.replace(18, 4, "\xff\xff\xff\x7f");
  Reader huge{std::string_view(long_entry)};
  CHECK(decode_entry(huge).error().code == ErrorCode::kTooLarge);

  std::string frame(limits::kMaxPeerFrameBytes + 1, '\1');
  CHECK(decode(frame).error().code == ErrorCode::kTooLarge);
}

TEST_CASE("what a newer build may write is told apart from damage", "[raft]") {
  std::string bytes = encoded(Message{});
  auto with = [&](size_t at, char value) {
    std::string changed = bytes;
    changed[at] = value;
    return decode(changed).error().code;
  };
  CHECK(with(0, 2) == ErrorCode::kUnsupported);
  CHECK(with(1, 15) == ErrorCode::kUnsupported);
  CHECK(with(1, 0) == ErrorCode::kUnsupported);
  CHECK(with(2, 16) == ErrorCode::kUnsupported);
  CHECK(with(3, 1) == ErrorCode::kUnsupported);

  Bytes entry;
  encode_entry({Term(1), LogIndex(1), EntryKind::kConfig, std::make_shared<const std::string>()}, entry);
  auto entry_with = [&](size_t at, uint8_t value) {
    Bytes changed = entry;
    changed[at] = value;
    Reader reader{ByteView(changed)};
    return decode_entry(reader).error().code;
  };
  CHECK(entry_with(16, 3) == ErrorCode::kUnsupported);
  CHECK(entry_with(17, 1) == ErrorCode::kUnsupported);
}

TEST_CASE("entries follow each other in one input", "[raft]") {
  Random random(4);
  std::string bytes;
  std::vector<Entry> entries;
  for (int n = 0; n < 50; ++n) {
    entries.push_back(random_entry(random));
    encode_entry(entries.back(), bytes);
  }
  Reader reader{std::string_view(bytes)};
  for (const Entry& entry : entries) {
    auto decoded = decode_entry(reader);
    REQUIRE(decoded);
    CHECK(same(*decoded, entry));
  }
  CHECK(reader.at_end());
}
