#include "tests/test.h"
#include "tests/unit/kv/support.h"

using namespace mneme;
using namespace mneme::kv;
using namespace mneme::kv::testing;

namespace {
const std::string kSyntax = error("ERR syntax error");
const std::string kNotInteger = error("ERR value is not an integer or out of range");
const std::string kTooLong = error("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
}  // namespace

TEST_CASE("SET honours NX, XX and GET in every combination that Redis 7.0 allows") {
  Driver d;
  CHECK(d.run({"SET", "k", "1", "XX"}) == kNull);
  CHECK(d.run({"SET", "k", "1", "NX"}) == kOk);
  CHECK(d.run({"SET", "k", "2", "NX"}) == kNull);
  CHECK(d.run({"SET", "k", "2", "XX"}) == kOk);
  CHECK(d.run({"SET", "k", "3", "NX", "GET"}) == bulk("2"));
  CHECK(d.read({"GET", "k"}) == bulk("2"));
  CHECK(d.run({"SET", "new", "3", "NX", "GET"}) == kNull);
  CHECK(d.read({"GET", "new"}) == bulk("3"));
  CHECK(d.run({"SET", "none", "3", "XX", "GET"}) == kNull);
  CHECK(d.read({"EXISTS", "none"}) == integer(0));
  CHECK(d.run({"set", "k", "4", "get", "get"}) == bulk("2"));
}

TEST_CASE("SET refuses options that exclude each other, lack a value or are unknown, and changes nothing") {
  Driver d;
  d.run({"SET", "k", "old"});
  for (const Words& options : std::vector<Words>{{"NX", "XX"},
                                                 {"XX", "NX"},
                                                 {"EX"},
                                                 {"EX", "1", "PX", "1"},
                                                 {"KEEPTTL", "EX", "1"},
                                                 {"EX", "1", "KEEPTTL"},
                                                 {"PERSIST"},
                                                 {""},
                                                 {"FOO"},
                                                 {"EXAT", "5", "EX", "5"},
                                                 {"GET", "x"}}) {
    Words words = {"SET", "k", "new"};
    words.insert(words.end(), options.begin(), options.end());
    CHECK(d.run(words) == kSyntax);
  }
  CHECK(d.read({"GET", "k"}) == bulk("old"));
}

TEST_CASE("expire times of SET and its relatives are checked for form, sign and overflow") {
  Driver d;
  auto bad_time = [](const std::string& command) {
    return error("ERR invalid expire time in '" + command + "' command");
  };
  CHECK(d.run({"SET", "k", "v", "EX", "abc"}) == kNotInteger);
  CHECK(d.run({"SET", "k", "v", "EX", "0"}) == bad_time("set"));
  CHECK(d.run({"SET", "k", "v", "PX", "-1"}) == bad_time("set"));
  CHECK(d.run({"SET", "k", "v", "EX", "9223372036854776"}) == bad_time("set"));
  CHECK(d.run({"SET", "k", "v", "PX", "9223372036854775807"}) == bad_time("set"));
  CHECK(d.run({"SETEX", "k", "0", "v"}) == bad_time("setex"));
  CHECK(d.run({"PSETEX", "k", "-5", "v"}) == bad_time("psetex"));
  CHECK(d.read({"EXISTS", "k"}) == integer(0));
  d.run({"SET", "k", "v"});
  CHECK(d.run({"GETEX", "k", "EX", "0"}) == bad_time("getex"));
  CHECK(d.run({"GETEX", "none", "EX", "0"}) == kNull);
  CHECK(d.run({"SET", "k", "v", "PXAT", "9223372036854775807"}) == kOk);
  CHECK(d.read({"PEXPIRETIME", "k"}) == integer(INT64_MAX));
  CHECK(d.run({"SET", "k", "w", "EXAT", "1"}) == kOk);
  CHECK(d.read({"EXISTS", "k"}) == integer(0));
}

TEST_CASE("SET drops a time to live, KEEPTTL keeps it, GETSET and MSET drop it, INCR and APPEND keep it") {
  Driver d;
  auto with_ttl = [&] { CHECK(d.run({"SET", "k", "1", "PX", "5000"}) == kOk); };
  auto ttl = [&] { return d.read({"PTTL", "k"}); };
  with_ttl();
  CHECK(ttl() == integer(5000));
  d.run({"SET", "k", "1"});
  CHECK(ttl() == integer(-1));
  with_ttl();
  d.run({"SET", "k", "1", "KEEPTTL"});
  CHECK(ttl() == integer(5000));
  d.run({"INCR", "k"});
  d.run({"APPEND", "k", "0"});
  d.run({"SETRANGE", "k", "0", "3"});
  d.run({"CAS", "k", "30", "31"});
  CHECK(ttl() == integer(5000));
  CHECK(d.read({"GET", "k"}) == bulk("31"));
  d.run({"GETSET", "k", "1"});
  CHECK(ttl() == integer(-1));
  with_ttl();
  d.run({"MSET", "k", "1"});
  CHECK(ttl() == integer(-1));
}

TEST_CASE("SETNX, GETSET, GETDEL and GETEX answer and change as Redis does") {
  Driver d;
  CHECK(d.run({"SETNX", "k", "1"}) == integer(1));
  CHECK(d.run({"SETNX", "k", "2"}) == integer(0));
  CHECK(d.run({"GETSET", "k", "3"}) == bulk("1"));
  CHECK(d.run({"GETSET", "other", "3"}) == kNull);
  CHECK(d.run({"GETEX", "k", "PX", "700"}) == bulk("3"));
  CHECK(d.read({"PTTL", "k"}) == integer(700));
  CHECK(d.run({"GETEX", "k"}) == bulk("3"));
  CHECK(d.read({"PTTL", "k"}) == integer(700));
  CHECK(d.run({"GETEX", "k", "PERSIST"}) == bulk("3"));
  CHECK(d.read({"PTTL", "k"}) == integer(-1));
  CHECK(d.run({"GETEX", "k", "PERSIST", "EX", "1"}) == kSyntax);
  CHECK(d.run({"GETEX", "k", "NX"}) == kSyntax);
  CHECK(d.run({"GETEX", "k", "PXAT", "1"}) == bulk("3"));
  CHECK(d.read({"GET", "k"}) == kNull);
  CHECK(d.run({"GETDEL", "other"}) == bulk("3"));
  CHECK(d.run({"GETDEL", "other"}) == kNull);
}

TEST_CASE("MSET, MSETNX and MGET treat their keys in order and all or none") {
  Driver d;
  CHECK(d.run({"MSET", "a", "1", "b", "2", "a", "3"}) == kOk);
  CHECK(d.read({"MGET", "a", "b", "c"}) == "*3\r\n$1\r\n3\r\n$1\r\n2\r\n_\r\n");
  CHECK(d.run({"MSET", "a", "1", "b"}) == error("ERR wrong number of arguments for 'mset' command"));
  CHECK(d.run({"MSETNX", "x", "1", "b", "9"}) == integer(0));
  CHECK(d.read({"EXISTS", "x"}) == integer(0));
  CHECK(d.run({"MSETNX", "x", "1", "y", "2"}) == integer(1));
  CHECK(d.run({"MSETNX", "x", "1", "y"}) == error("ERR wrong number of arguments for 'msetnx' command"));
}

TEST_CASE("numbers are exactly those that print as they are written") {
  Driver d;
  for (const char* good : {"0", "-1", "9223372036854775806", "-9223372036854775808"}) {
    d.run({"SET", "k", good});
    INFO(good);
    CHECK(d.run({"INCR", "k"})[0] == ':');
  }
  for (const char* bad : {"", " 1", "1 ", "+1", "01", "-0", "-", "1.0", "0x1", "9223372036854775808",
                          "-9223372036854775809", "100000000000000000000000"}) {
    d.run({"SET", "k", bad});
    INFO(bad);
    CHECK(d.run({"INCR", "k"}) == kNotInteger);
    CHECK(d.run({"INCRBY", "n", bad}) == kNotInteger);
    CHECK(d.run({"DECRBY", "n", bad}) == kNotInteger);
  }
  CHECK(d.run({"SET", "k", std::string("1\0", 2)}) == kOk);
  CHECK(d.run({"INCR", "k"}) == kNotInteger);
}

TEST_CASE("INCR and its relatives count, start from zero and refuse to overflow") {
  Driver d;
  CHECK(d.run({"INCR", "k"}) == integer(1));
  CHECK(d.run({"INCRBY", "k", "41"}) == integer(42));
  CHECK(d.run({"DECR", "k"}) == integer(41));
  CHECK(d.run({"DECRBY", "k", "-1"}) == integer(42));
  CHECK(d.run({"DECRBY", "k", "-9223372036854775808"}) == error("ERR decrement would overflow"));
  CHECK(d.run({"INCRBY", "k", "9223372036854775807"}) == error("ERR increment or decrement would overflow"));
  CHECK(d.read({"GET", "k"}) == bulk("42"));
  d.run({"SET", "k", "-9223372036854775808"});
  CHECK(d.run({"DECR", "k"}) == error("ERR increment or decrement would overflow"));
}

TEST_CASE("GETRANGE and SUBSTR follow Redis's rules for negative and far indices") {
  Driver d;
  d.run({"SET", "k", "Hello World"});
  auto range = [&](const char* from, const char* to) { return d.read({"GETRANGE", "k", from, to}); };
  CHECK(range("0", "4") == bulk("Hello"));
  CHECK(range("0", "-1") == bulk("Hello World"));
  CHECK(range("-5", "-1") == bulk("World"));
  CHECK(range("-1", "-5") == bulk(""));
  CHECK(range("5", "3") == bulk(""));
  CHECK(range("-100", "2") == bulk("Hel"));
  CHECK(range("-100", "-100") == bulk("H"));
  CHECK(range("0", "-100") == bulk("H"));
  CHECK(range("20", "30") == bulk(""));
  CHECK(range("0", "9223372036854775807") == bulk("Hello World"));
  CHECK(range("-9223372036854775808", "-1") == bulk("Hello World"));
  CHECK(range("a", "1") == kNotInteger);
  CHECK(d.read({"GETRANGE", "none", "0", "-1"}) == bulk(""));
  CHECK(d.read({"SUBSTR", "k", "6", "-1"}) == bulk("World"));
}

TEST_CASE("SETRANGE pads with zero bytes and refuses bad offsets and lengths") {
  Driver d;
  CHECK(d.run({"SETRANGE", "k", "3", "abc"}) == integer(6));
  CHECK(d.read({"GET", "k"}) == bulk(std::string_view("\0\0\0abc", 6)));
  CHECK(d.run({"SETRANGE", "k", "1", "xy"}) == integer(6));
  CHECK(d.read({"GET", "k"}) == bulk(std::string_view("\0xyabc", 6)));
  CHECK(d.run({"SETRANGE", "k", "100", ""}) == integer(6));
  CHECK(d.run({"SETRANGE", "none", "100", ""}) == integer(0));
  CHECK(d.read({"EXISTS", "none"}) == integer(0));
  CHECK(d.run({"SETRANGE", "k", "-1", "x"}) == error("ERR offset is out of range"));
  CHECK(d.run({"SETRANGE", "k", "x", "x"}) == kNotInteger);
  CHECK(d.run({"SETRANGE", "k", std::to_string(limits::kMaxValueBytes), "x"}) == kTooLong);
  CHECK(d.run({"SETRANGE", "k", "9223372036854775807", "x"}) == kTooLong);
  CHECK(d.run({"SETRANGE", "k", std::to_string(limits::kMaxValueBytes - 1), "x"}) == integer(limits::kMaxValueBytes));
}

TEST_CASE("APPEND creates, extends and stops at the largest value") {
  Driver d;
  CHECK(d.run({"APPEND", "k", ""}) == integer(0));
  CHECK(d.read({"EXISTS", "k"}) == integer(1));
  CHECK(d.run({"APPEND", "k", "ab"}) == integer(2));
  CHECK(d.run({"APPEND", "k", "cd"}) == integer(4));
  CHECK(d.read({"STRLEN", "k"}) == integer(4));
  CHECK(d.read({"STRLEN", "none"}) == integer(0));
  d.run({"SET", "k", std::string(limits::kMaxValueBytes, 'x')});
  CHECK(d.run({"APPEND", "k", "y"}) == kTooLong);
  CHECK(d.read({"STRLEN", "k"}) == integer(limits::kMaxValueBytes));
}

TEST_CASE("CAS swaps only an existing, equal value") {
  Driver d;
  CHECK(d.run({"CAS", "k", "", "new"}) == integer(0));
  CHECK(d.read({"EXISTS", "k"}) == integer(0));
  d.run({"SET", "k", "a"});
  CHECK(d.run({"CAS", "k", "b", "c"}) == integer(0));
  CHECK(d.run({"CAS", "k", "a", "c"}) == integer(1));
  CHECK(d.read({"GET", "k"}) == bulk("c"));
}

TEST_CASE("a number set with its kind keeps it until a string command changes the value") {
  Driver d;
  CHECK(d.run({"MNEME.SETNUM", "n", "-7"}) == kOk);
  CHECK(d.read({"GET", "n"}) == bulk("-7"));
  CHECK(d.read({"MNEME.GETTYPED", "n"}) == "*2\r\n$3\r\nnum\r\n:-7\r\n");
  CHECK(d.run({"RENAME", "n", "m"}) == kOk);
  CHECK(d.run({"COPY", "m", "n"}) == integer(1));
  CHECK(d.run({"EXPIRE", "n", "100"}) == integer(1));
  CHECK(d.read({"MNEME.GETTYPED", "n"}) == "*2\r\n$3\r\nnum\r\n:-7\r\n");
  CHECK(d.run({"INCR", "n"}) == integer(-6));
  CHECK(d.read({"MNEME.GETTYPED", "n"}) == "*2\r\n$6\r\nstring\r\n$2\r\n-6\r\n");
  CHECK(d.run({"SET", "m", "-7"}) == kOk);
  CHECK(d.read({"MNEME.GETTYPED", "m"}) == "*2\r\n$6\r\nstring\r\n$2\r\n-7\r\n");
  CHECK(d.read({"MNEME.GETTYPED", "none"}) == kNull);
  CHECK(d.run({"MNEME.SETNUM", "n", "2147483648"}) == kNotInteger);
  CHECK(d.run({"MNEME.SETNUM", "n", "-2147483648"}) == kOk);
}
