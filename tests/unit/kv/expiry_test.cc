#include "tests/test.h"
#include "tests/unit/kv/support.h"

using namespace mneme;
using namespace mneme::kv;
using namespace mneme::kv::testing;

TEST_CASE("a key is gone for every command once log time reaches its expiry, and not a millisecond before") {
  Driver d;
  d.run({"SET", "k", "v", "PX", "100"});
  int64_t expiry = d.now + 100;
  d.now = expiry - 1;
  CHECK(d.run({"STRLEN", "k"}) == integer(1));
  CHECK(d.read({"PTTL", "k"}) == integer(1));
  d.now = expiry;
  d.apply(Batch(d.now).finish());  // a time entry
  CHECK(d.read({"GET", "k"}) == kNull);
  CHECK(d.read({"DBSIZE"}) == integer(0));
  CHECK(d.read({"KEYS", "*"}) == "*0\r\n");
  CHECK(d.read({"RANGE", "", ""}) == "*0\r\n");
  CHECK(d.run({"DEL", "k"}) == integer(0));
  CHECK(d.run({"SET", "k", "w", "NX"}) == kOk);
  CHECK(d.read({"PTTL", "k"}) == integer(-1));
}

TEST_CASE("log time never goes back") {
  Driver d;
  d.run({"SET", "k", "v", "PX", "100"});
  int64_t start = d.now;
  d.now = start + 60;
  d.run({"PING"});
  d.now = start;
  d.run({"SET", "later", "v", "PX", "100"});
  CHECK(d.machine().log_time_ms() == start + 60);
  CHECK(d.read({"PEXPIRETIME", "later"}) == integer(start + 160));
}

TEST_CASE("expired keys are invisible before they are swept, and swept a bounded number per entry") {
  Driver d;
  constexpr int kKeys = 2000;
  for (int i = 0; i < kKeys; ++i) d.run({"SET", "k" + std::to_string(i), "v", "PX", "100000"});
  d.run({"SET", "stays", "v"});
  d.now += 100000;
  size_t left = kKeys + 1;
  int entries = 0;
  while (d.machine().table().record_count() > 1) {
    d.apply(Batch(d.now).finish());
    CHECK(d.read({"DBSIZE"}) == integer(1));
    CHECK(d.read({"EXISTS", "k1", "stays"}) == integer(1));
    size_t now_left = d.machine().table().record_count();
    CHECK(left - now_left <= 300);
    CHECK(now_left < left);
    left = now_left;
    ++entries;
  }
  CHECK(entries > 3);
  CHECK(!d.machine().sweep_pending());
  CHECK(d.machine().expired_keys() == kKeys);
}

TEST_CASE("a read that meets a key due by the caller's time says so, and not once log time has moved") {
  Driver d;
  d.run({"SET", "k", "v", "PX", "100"});
  d.run({"SET", "other", "v"});
  int64_t due = d.now + 100;
  for (const Words& words : std::vector<Words>{{"GET", "k"},
                                               {"EXISTS", "other", "k"},
                                               {"TTL", "k"},
                                               {"MGET", "k"},
                                               {"DBSIZE"},
                                               {"KEYS", "*"},
                                               {"RANGE", "", ""},
                                               {"STRLEN", "k"}}) {
    INFO(words[0]);
    d.read(words, due - 1);
    CHECK_FALSE(d.due);
    d.read(words, due);
    CHECK(d.due);
  }
  d.read({"GET", "other"}, due + 1000);
  CHECK_FALSE(d.due);
  d.now = due;
  d.apply(Batch(d.now).finish());
  CHECK(d.read({"GET", "k"}, due) == kNull);
  CHECK_FALSE(d.due);
}

TEST_CASE("reads count TTL from the caller's time, rounded as Redis does, and change nothing") {
  Driver d;
  d.run({"SET", "k", "v", "PX", "10499"});
  uint64_t digest = d.machine().digest();
  CHECK(d.read({"TTL", "k"}) == integer(10));
  CHECK(d.read({"TTL", "k"}, d.now - 5000) == integer(10));
  CHECK(d.read({"TTL", "k"}, d.now + 9000) == integer(1));
  CHECK(d.read({"PTTL", "k"}, d.now + 9000) == integer(1499));
  CHECK(d.read({"PTTL", "k"}, d.now + 20000) == integer(0));
  CHECK(d.read({"EXPIRETIME", "k"}) == integer((d.now + 10499 + 500) / 1000));
  CHECK(d.read({"PEXPIRETIME", "k"}) == integer(d.now + 10499));
  CHECK(d.read({"TTL", "none"}) == integer(-2));
  CHECK(d.machine().digest() == digest);
  d.run({"SET", "k", "v", "PX", "10500"});
  CHECK(d.read({"TTL", "k"}) == integer(11));
}

TEST_CASE("EXPIRE and its relatives set, delete in the past, and refuse overflow") {
  Driver d;
  auto bad_time = [](const std::string& command) {
    return error("ERR invalid expire time in '" + command + "' command");
  };
  CHECK(d.run({"EXPIRE", "none", "10"}) == integer(0));
  d.run({"SET", "k", "v"});
  CHECK(d.run({"EXPIRE", "k", "10"}) == integer(1));
  CHECK(d.read({"PTTL", "k"}) == integer(10000));
  CHECK(d.run({"PEXPIRE", "k", "77"}) == integer(1));
  CHECK(d.read({"PTTL", "k"}) == integer(77));
  CHECK(d.run({"EXPIREAT", "k", std::to_string(d.now / 1000 + 5)}) == integer(1));
  CHECK(d.read({"EXPIRETIME", "k"}) == integer(d.now / 1000 + 5));
  CHECK(d.run({"PERSIST", "k"}) == integer(1));
  CHECK(d.run({"PERSIST", "k"}) == integer(0));
  CHECK(d.run({"EXPIRE", "k", "9223372036854775807"}) == bad_time("expire"));
  CHECK(d.run({"EXPIRE", "k", "-9223372036854775808"}) == bad_time("expire"));
  CHECK(d.run({"PEXPIRE", "k", "9223372036854775807"}) == bad_time("pexpire"));
  CHECK(d.run({"EXPIREAT", "k", "9223372036854776"}) == bad_time("expireat"));
  CHECK(d.run({"PEXPIREAT", "k", "x"}) == error("ERR value is not an integer or out of range"));
  CHECK(d.read({"PTTL", "k"}) == integer(-1));
  CHECK(d.run({"PEXPIREAT", "k", "-5"}) == integer(1));
  CHECK(d.read({"EXISTS", "k"}) == integer(0));
  d.run({"SET", "k", "v"});
  CHECK(d.run({"EXPIRE", "k", "0"}) == integer(1));
  CHECK(d.read({"EXISTS", "k"}) == integer(0));
}

TEST_CASE("EXPIRE's conditions treat no expiry as infinitely far") {
  Driver d;
  d.run({"SET", "k", "v"});
  CHECK(d.run({"EXPIRE", "k", "10", "XX"}) == integer(0));
  CHECK(d.run({"EXPIRE", "k", "10", "GT"}) == integer(0));
  CHECK(d.run({"EXPIRE", "k", "10", "LT"}) == integer(1));
  CHECK(d.run({"EXPIRE", "k", "10", "LT"}) == integer(0));
  CHECK(d.run({"EXPIRE", "k", "10", "NX"}) == integer(0));
  CHECK(d.run({"EXPIRE", "k", "20", "GT"}) == integer(1));
  CHECK(d.run({"EXPIRE", "k", "15", "GT", "XX"}) == integer(0));
  CHECK(d.run({"EXPIRE", "k", "15", "lt", "xx"}) == integer(1));
  CHECK(d.run({"EXPIRE", "k", "1", "NX", "XX"}) ==
        error("ERR NX and XX, GT or LT options at the same time are not compatible"));
  CHECK(d.run({"EXPIRE", "k", "1", "GT", "LT"}) == error("ERR GT and LT options at the same time are not compatible"));
  CHECK(d.run({"EXPIRE", "k", "1", "F\r\n"}) == error("ERR Unsupported option F  "));
}
