#include "core/kv/command.h"

#include <cstdlib>

#include "core/base/limits.h"
#include "tests/test.h"
#include "tests/unit/kv/support.h"

using namespace mneme;
using namespace mneme::kv;
using namespace mneme::kv::testing;

namespace {

std::string check_error(const Words& words) {
  std::string out;
  const CommandSpec* spec = check(views(words), out);
  return spec == nullptr ? out : "accepted as " + std::string(spec->name);
}

std::string command_reply(const Words& words) {
  std::string out;
  auto args = views(words);
  const CommandSpec* spec = check(args, out);
  if (spec != nullptr) answer_command(spec->id, args, out);
  return out;
}

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("every command in the table is found by its name in any case, and nothing else is") {
  for (const CommandSpec& spec : all_commands()) {
    std::string upper(spec.name);
    for (char& c : upper) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
    CHECK(find_command(spec.name) == &spec);
    CHECK(find_command(upper) == &spec);
    CHECK(find_command(upper + "x") == nullptr);
  }
  CHECK(find_command("") == nullptr);
  CHECK(find_command(std::string(1000, 'g')) == nullptr);
}

TEST_CASE("every command either reaches the state machine as a read or a write, or is local") {
  for (const CommandSpec& spec : all_commands()) {
    INFO(spec.name);
    CHECK(int(spec.is(kRead)) + int(spec.is(kWrite)) + int(spec.is(kLocal)) == 1);
    CHECK((!spec.is(kInternal) || (!spec.is(kLocal) && spec.is(kNoMulti) && spec.first_key == 0)));
    CHECK((spec.first_key == 0) == (spec.key_step == 0));
    CHECK((!spec.is(kDenyOom) || spec.is(kWrite)));
  }
}

TEST_CASE("internal commands are known to nodes, and to clients there are none") {
  size_t internal = 0;
  for (const CommandSpec& spec : all_commands()) {
    if (!spec.is(kInternal)) continue;
    ++internal;
    INFO(spec.name);
    Words words(static_cast<size_t>(std::abs(spec.arity)), "x");
    words[0] = spec.name;
    CHECK(check_error(words).starts_with("-ERR unknown command '" + words[0] + "'"));
    std::string error;
    CHECK(check(views(words), error, Sender::kNode) == &spec);
    CHECK(command_reply({"COMMAND", "INFO", words[0]}) == "*1\r\n_\r\n");
    CHECK(command_reply({"COMMAND", "DOCS", words[0]}) == "%0\r\n");
    CHECK(command_reply({"COMMAND", "GETKEYS", words[0], "x"}) == "-ERR Invalid command specified\r\n");
    CHECK(command_reply({"COMMAND", "LIST", "FILTERBY", "PATTERN", words[0]}) == "*0\r\n");
    CHECK(!contains(command_reply({"COMMAND"}), words[0] + "\r\n"));
    CHECK(!contains(command_reply({"COMMAND", "DOCS"}), words[0] + "\r\n"));
  }
  CHECK(internal > 0);
}

TEST_CASE("commands that are missing on purpose say what to use instead, and are not listed") {
  constexpr std::string_view kTopology = "-ERR topology is managed by consensus; use `mneme cluster ...`\r\n";
  for (const Words& words : {Words{"CLUSTER", "MEET", "h", "1"}, Words{"cluster", "SetSlot"},
                             Words{"REPLICAOF", "h", "1"}, Words{"MIGRATE"}, Words{"CLUSTER", "SET-CONFIG-EPOCH", "1"}})
    CHECK(check_error(words) == kTopology);
  CHECK(contains(check_error({"WAIT", "1", "0"}), "durable on a majority"));
  CHECK(contains(check_error({"eval", "return 1", "0"}), "no scripts"));
  CHECK(contains(check_error({"FUNCTION", "LOAD", "x"}), "no scripts"));
  CHECK(check_error({"FUNCTION", "FLUSH"}) == "accepted as function|flush");
  CHECK(contains(check_error({"SUBSCRIBE", "c"}), "no channels"));
  CHECK(contains(check_error({"BLPOP", "l", "0"}), "no lists"));
  CHECK(contains(check_error({"DEBUG", "SLEEP", "1"}), "no DEBUG"));
  for (const char* name : {"wait", "eval", "migrate", "subscribe"}) {
    CHECK(find_command(name) == nullptr);
    CHECK(command_reply({"COMMAND", "INFO", name}) == "*1\r\n_\r\n");
  }
  // A sub-command is one only behind its container.
  CHECK(check_error({"cluster|meet"}).starts_with("-ERR unknown command"));
  CHECK(check_error({"CLUSTER", "MEET" + std::string(100, 'x')}).starts_with("-ERR unknown subcommand"));
}

TEST_CASE("unknown commands are refused in Redis's words, shortened and without line ends") {
  CHECK(check_error({"foo"}) == "-ERR unknown command 'foo', with args beginning with: \r\n");
  CHECK(check_error({"X", "y"}) == "-ERR unknown command 'X', with args beginning with: 'y' \r\n");
  CHECK(check_error({"f\r\no", "a\nb"}) == "-ERR unknown command 'f  o', with args beginning with: 'a b' \r\n");
  CHECK(check_error({std::string(200, 'x')}) ==
        "-ERR unknown command '" + std::string(128, 'x') + "', with args beginning with: \r\n");
  std::string long_args = check_error({"x", std::string(120, 'y'), std::string(120, 'z'), "w"});
  CHECK(long_args ==
        "-ERR unknown command 'x', with args beginning with: '" + std::string(120, 'y') + "' 'zzzzz' \r\n");
  CHECK(check_error({"client|id"}) == "-ERR unknown command 'client|id', with args beginning with: \r\n");
}

TEST_CASE("wrong numbers of arguments and unknown sub-commands are refused in Redis's words") {
  CHECK(check_error({"GET"}) == "-ERR wrong number of arguments for 'get' command\r\n");
  CHECK(check_error({"get", "a", "b"}) == "-ERR wrong number of arguments for 'get' command\r\n");
  CHECK(check_error({"SET", "a"}) == "-ERR wrong number of arguments for 'set' command\r\n");
  CHECK(check_error({"client"}) == "-ERR wrong number of arguments for 'client' command\r\n");
  CHECK(check_error({"CLIENT", "ID", "x"}) == "-ERR wrong number of arguments for 'client|id' command\r\n");
  CHECK(check_error({"client", "Foo"}) == "-ERR unknown subcommand 'Foo'. Try CLIENT HELP.\r\n");
  CHECK(check_error({"client", std::string(60, 'f')}) ==
        "-ERR unknown subcommand '" + std::string(60, 'f') + "'. Try CLIENT HELP.\r\n");
  CHECK(check_error({"set", "a", "b"}) == "accepted as set");
  CHECK(check_error({"Memory", "Usage", "k"}) == "accepted as memory|usage");
  CHECK(check_error({"COMMAND"}) == "accepted as command");
}

TEST_CASE("keys, values and whole commands over their bounds are refused before anything is proposed") {
  std::string key(limits::kMaxKeyBytes, 'k');
  std::string value(limits::kMaxValueBytes, 'v');
  CHECK(check_error({"set", key, value}) == "accepted as set");
  CHECK(check_error({"set", key + "k", "v"}) == "-ERR key exceeds maximum allowed size of 65535 bytes\r\n");
  CHECK(check_error({"mset", "a", "1", key + "k", "v"}) == "-ERR key exceeds maximum allowed size of 65535 bytes\r\n");
  CHECK(check_error({"set", "k", value + "v"}) == "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n");
  CHECK(check_error({"mset", "a", value, "b", value}) == "-ERR command exceeds maximum allowed size\r\n");
  CHECK(check_error(Words(limits::kMaxCommandArgs + 1, "del")) == "-ERR command exceeds maximum allowed size\r\n");
}

TEST_CASE("key positions follow first, last and step") {
  auto keys = [](const Words& words) {
    Words found;
    auto args = views(words);
    for_each_key(*find_command(args[0]), args, [&](std::string_view key) { found.emplace_back(key); });
    return found;
  };
  CHECK(keys({"get", "a"}) == Words{"a"});
  CHECK(keys({"mget", "a", "b", "c"}) == Words{"a", "b", "c"});
  CHECK(keys({"mset", "a", "1", "b", "2"}) == Words{"a", "b"});
  CHECK(keys({"copy", "a", "b", "replace"}) == Words{"a", "b"});
  CHECK(keys({"dbsize"}).empty());
  CHECK(slot_of_command(*find_command("mget"), views({"mget", "foo", "b"})) == 12182);
  CHECK(slot_of_command(*find_command("dbsize"), views({"dbsize"})) == kNoSlot);
}

TEST_CASE("COMMAND INFO describes a command as Redis 7.0 does, and an unknown one with null") {
  CHECK(command_reply({"COMMAND", "INFO", "get", "nope"}) ==
        "*2\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*3\r\n+@read\r\n+@string\r\n+@"
        "fast\r\n"
        "*0\r\n*1\r\n%3\r\n$5\r\nflags\r\n*2\r\n+RO\r\n+access\r\n$12\r\nbegin_search\r\n%2\r\n$4\r\ntype\r\n$"
        "5\r\nindex\r\n"
        "$4\r\nspec\r\n%1\r\n$5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n%2\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n%"
        "3\r\n"
        "$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n*0\r\n_\r\n");
  CHECK(contains(command_reply({"COMMAND", "INFO", "memory"}), "$12\r\nmemory|usage\r\n:-3\r\n"));
}

TEST_CASE("the COMMAND family counts, lists, documents and picks out keys") {
  size_t top_level = 0;
  for (const CommandSpec& spec : all_commands())
    top_level += spec.name.find('|') == std::string_view::npos && !spec.is(kInternal);
  CHECK(command_reply({"COMMAND", "COUNT"}) == integer(static_cast<int64_t>(top_level)));
  CHECK(command_reply({"COMMAND"}).starts_with("*" + std::to_string(top_level) + "\r\n*10\r\n$6\r\nappend\r\n"));
  CHECK(command_reply({"COMMAND", "LIST", "FILTERBY", "PATTERN", "msetn*"}) == "*1\r\n$6\r\nmsetnx\r\n");
  CHECK(command_reply({"COMMAND", "LIST", "x"}) == "-ERR syntax error\r\n");
  CHECK(contains(command_reply({"COMMAND", "DOCS", "get", "nope"}), "%1\r\n$3\r\nget\r\n%3\r\n$7\r\nsummary\r\n"));
  CHECK(command_reply({"COMMAND", "GETKEYS", "mset", "a", "1", "b", "2"}) == "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
  CHECK(command_reply({"COMMAND", "GETKEYS", "memory", "usage", "k"}) == "*1\r\n$1\r\nk\r\n");
  CHECK(command_reply({"COMMAND", "GETKEYS", "ping", "x"}) == "-ERR The command has no key arguments\r\n");
  CHECK(command_reply({"COMMAND", "GETKEYS", "nope", "x"}) == "-ERR Invalid command specified\r\n");
  CHECK(command_reply({"COMMAND", "GETKEYS", "get", "x", "y"}) ==
        "-ERR Invalid number of arguments specified for command\r\n");
  CHECK(command_reply({"COMMAND", "NOPE"}) == "-ERR unknown subcommand 'NOPE'. Try COMMAND HELP.\r\n");
}
