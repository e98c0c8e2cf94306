#include "core/base/bytes.h"

#include "core/base/hash.h"
#include "tests/test.h"

using namespace mneme;

TEST_CASE("what the writer writes the reader reads", "[base]") {
  Bytes out;
  Writer w(out);
  w.u8(1);
  w.u16(0x0203);
  w.u32(0x04050607);
  w.u64(~0ull);
  w.i64(-5);
  w.blob("abc");
  Reader r{ByteView(out)};
  CHECK(r.u8() == 1);
  CHECK(r.u16() == 0x0203);
  CHECK(r.u32() == 0x04050607);
  CHECK(r.u64() == ~0ull);
  CHECK(r.i64() == -5);
  CHECK(r.blob() == "abc");
  CHECK(r.ok());
  CHECK(r.at_end());
}

TEST_CASE("a reader past its end fails for good and yields zeros", "[base]") {
  Bytes out{1, 2, 3};
  Reader r{ByteView(out)};
  CHECK(r.u32() == 0);
  CHECK_FALSE(r.ok());
  CHECK(r.u8() == 0);
  CHECK_FALSE(r.ok());
}

TEST_CASE("a blob longer than the input is refused without allocating", "[base]") {
  Bytes out{0xff, 0xff, 0xff, 0xff, 'x'};
  Reader r{ByteView(out)};
  CHECK(r.blob().empty());
  CHECK_FALSE(r.ok());
}

TEST_CASE("slots are those of Redis Cluster", "[base]") {
  CHECK(slot_of("123456789") == 0x31c3);
  CHECK(slot_of("foo") == 12182);
  CHECK(slot_of("{user1000}.following") == slot_of("{user1000}.followers"));
  CHECK(slot_of("foo{}{bar}") == slot_of("foo{}{bar}"));
  CHECK(slot_of("foo{}{bar}") != slot_of("bar"));
  CHECK(slot_of("foo{{bar}}zap") == slot_of("{bar"));
}

TEST_CASE("a buffer that is reused keeps no more memory than it may", "[base]") {
  std::string small(1000, 'x');
  reuse(small, 4096);
  CHECK(small.empty());
  CHECK(small.capacity() >= 1000);
  std::string large(100'000, 'x');
  reuse(large, 4096);
  CHECK(large.empty());
  CHECK(large.capacity() <= 4096);
}
