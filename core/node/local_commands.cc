#include <fmt/format.h>

#include <algorithm>

#include "core/base/hash.h"
#include "core/kv/errors.h"
#include "core/node/operator.h"
#include "core/node/server.h"
#include "core/node/status.h"
#include "core/node/topology.h"
#include "core/protocol/reply.h"
#include "core/protocol/request.h"

namespace mneme::node {

using kv::Args;
using kv::CommandId;
using protocol::put_array;
using protocol::put_bulk;
using protocol::put_error;
using protocol::put_integer;
using protocol::put_map;
using protocol::put_ok;
using protocol::put_simple;

namespace {

bool same_word(std::string_view text, std::string_view lower) {
  return text.size() == lower.size() && std::equal(text.begin(), text.end(), lower.begin(), [](char a, char b) {
           return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b;
         });
}

bool is_printable_name(std::string_view name) {
  return std::all_of(name.begin(), name.end(), [](char c) { return c >= '!' && c <= '~'; });
}

void hello(Server& server, Client& client, Args args, std::string& out) {
  int version = client.protocol;
  size_t at = 1;
  if (args.size() > 1) {
    auto wanted = protocol::parse_integer(args[1]);
    if (!wanted) return put_error(out, "ERR Protocol version is not an integer or out of range");
    if (*wanted != 2 && *wanted != 3) return put_error(out, "NOPROTO unsupported protocol version");
    version = static_cast<int>(*wanted);
    at = 2;
  }
  std::string_view name;
  for (; at < args.size(); ++at) {
    if (same_word(args[at], "auth") && at + 2 < args.size())
      return put_error(out, "ERR Client sent AUTH, but no password is set. Did you mean AUTH <username> <password>?");
    if (same_word(args[at], "setname") && at + 1 < args.size()) {
      name = args[++at];
      if (!is_printable_name(name))
        return put_error(out, "ERR Client names cannot contain spaces, newlines or special characters.");
      continue;
    }
    return put_error(out, fmt::format("ERR Syntax error in HELLO option '{}'", args[at]));
  }
  client.protocol = version;
  if (!name.empty()) client.name = name;
  put_map(out, 7);
  put_bulk(out, "server");
  put_bulk(out, "redis");
  put_bulk(out, "version");
  put_bulk(out, "7.2.4");
  put_bulk(out, "proto");
  put_integer(out, version);
  put_bulk(out, "id");
  put_integer(out, static_cast<int64_t>(client.id));
  put_bulk(out, "mode");
  put_bulk(out, server.clustered() ? "cluster" : "standalone");
  put_bulk(out, "role");
  bool leads = false;
  if (server.groups)
    for (const auto& [group, replica] : server.groups->all()) leads |= replica->raft().role() == raft::Role::kLeader;
  put_bulk(out, leads ? "master" : "replica");
  put_bulk(out, "modules");
  put_array(out, 0);
}

std::string describe(const Server& server, const Client& client) {
  const int64_t age = (server.env.clock.now() - client.since) / 1s;
  return fmt::format(
      "id={} addr={} laddr={} fd=0 name={} age={} idle=0 flags=N db=0 sub=0 psub=0 multi=-1 cmd={} user=default "
      "resp={} lib-name={} lib-ver={}",
      client.id, env::to_string(client.stream->peer()), env::to_string(server.config.listen), client.name, age,
      client.last_command, client.protocol, client.library, client.library_version);
}

void client_kill(Server& server, Client& self, Args args, std::string& out) {
  // CLIENT KILL addr:port, or filters ID n, ADDR a, SKIPME yes|no in pairs.
  std::string_view address;
  std::optional<int64_t> id;
  bool skip_me = true;
  const bool old_form = args.size() == 3;
  if (old_form) {
    address = args[2];
    skip_me = false;
  } else {
    for (size_t i = 2; i + 1 < args.size(); i += 2) {
      if (same_word(args[i], "id")) {
        id = protocol::parse_integer(args[i + 1]);
        if (!id) return put_error(out, "ERR client-id should be greater than 0");
      } else if (same_word(args[i], "addr")) {
        address = args[i + 1];
      } else if (same_word(args[i], "skipme")) {
        skip_me = same_word(args[i + 1], "yes");
      } else {
        return put_error(out, kv::kSyntaxError);
      }
    }
    if (args.size() % 2 != 0) return put_error(out, kv::kSyntaxError);
  }
  int64_t killed = 0;
  for (auto& [number, other] : server.clients) {
    if (id && static_cast<int64_t>(number) != *id) continue;
    if (!address.empty() && env::to_string(other->stream->peer()) != address) continue;
    if (other == &self && skip_me) continue;
    other->stream->close();
    ++killed;
  }
  if (!old_form) return put_integer(out, killed);
  if (killed > 0) return put_ok(out);
  put_error(out, "ERR No such client");
}

// Glob with * ? and [..], case-insensitive, as CONFIG GET has it.
bool matches(std::string_view pattern, std::string_view text) {
  while (!pattern.empty()) {
    if (pattern[0] == '*') {
      while (!pattern.empty() && pattern[0] == '*') pattern.remove_prefix(1);
      for (size_t i = 0; i <= text.size(); ++i)
        if (matches(pattern, text.substr(i))) return true;
      return false;
    }
    if (text.empty()) return false;
    char p = pattern[0];
    if (p >= 'A' && p <= 'Z') p = static_cast<char>(p + 32);
    if (p != '?' && p != text[0]) return false;
    pattern.remove_prefix(1);
    text.remove_prefix(1);
  }
  return text.empty();
}

std::vector<std::pair<std::string, std::string>> settings(const Server& server) {
  return {{"appendfsync", "always"},
          {"appendonly", "yes"},
          {"bind", server.config.listen.host},
          {"databases", "1"},
          {"dir", "."},
          {"hz", "10"},
          {"maxclients", std::to_string(server.config.max_clients)},
          {"maxmemory", std::to_string(server.max_memory_bytes)},
          {"maxmemory-policy", "noeviction"},
          {"port", std::to_string(server.config.listen.port)},
          {"proto-max-bulk-len", std::to_string(limits::kMaxValueBytes)},
          {"save", ""},
          {"timeout", "0"}};
}

void config_get(Server& server, Args args, std::string& out) {
  std::vector<std::pair<std::string, std::string>> found;
  for (auto& setting : settings(server)) {
    auto pattern = std::find_if(args.begin() + 2, args.end(),
                                [&](std::string_view wanted) { return matches(wanted, setting.first); });
    if (pattern == args.end()) continue;
    if (pattern->find_first_of("*?") == std::string_view::npos) setting.first = *pattern;  // as it was asked
    found.push_back(setting);
  }
  put_map(out, found.size());
  for (auto& [name, value] : found) {
    put_bulk(out, name);
    put_bulk(out, value);
  }
}

void config_set(Server& server, Args args, std::string& out) {
  if (args.size() % 2 != 0) return kv::put_arity_error(out, "config|set");
  size_t max_memory = server.max_memory_bytes;
  for (size_t i = 2; i < args.size(); i += 2) {
    auto known = settings(server);
    auto setting = std::find_if(known.begin(), known.end(), [&](auto& s) { return same_word(args[i], s.first); });
    if (setting == known.end())
      return put_error(out, fmt::format("ERR Unknown option or number of arguments for CONFIG SET - '{}'", args[i]));
    if (setting->first == "maxmemory") {
      auto bytes = protocol::parse_integer(args[i + 1]);
      if (!bytes || *bytes < 0)
        return put_error(
            out, "ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a memory value");
      max_memory = static_cast<size_t>(*bytes);
    } else if (setting->second != args[i + 1]) {
      return put_error(
          out, fmt::format("ERR CONFIG SET failed (possibly related to argument '{}') - can't set immutable config",
                           setting->first));
    }
  }
  server.max_memory_bytes = max_memory;
  put_ok(out);
}

void answer_cluster(const Server& server, Client& client, CommandId id, std::string& out) {
  if (!server.clustered()) return put_error(out, "ERR This instance has cluster support disabled");
  if (server.shards() == nullptr) return put_error(out, kStarting);
  const Topology topology{*server.shards(), server.identity.node, server.alive, true};
  switch (id) {
    case CommandId::kClusterInfo: return put_cluster_info(topology, out);
    case CommandId::kClusterMyid:
      return put_bulk(out, cluster_node_id(server.identity.node, server.identity.incarnation));
    case CommandId::kClusterNodes: client.redirected = true; return put_cluster_nodes(topology, out);
    case CommandId::kClusterShards: client.redirected = true; return put_cluster_shards(topology, out);
    case CommandId::kClusterSlots: client.redirected = true; return put_cluster_slots(topology, out);
    case CommandId::kReadonly: client.readonly = true; return put_ok(out);
    case CommandId::kReadwrite: client.readonly = false; return put_ok(out);
    default: return put_ok(out);  // ASKING: no slot is ever half moved
  }
}

void execute(Server& server, Client& client, const kv::CommandSpec& spec, Args args, std::string& out) {
  switch (spec.id) {
    case CommandId::kPing:
      if (args.size() > 2) return kv::put_arity_error(out, "ping");
      return args.size() == 2 ? put_bulk(out, args[1]) : put_simple(out, "PONG");
    case CommandId::kEcho: return put_bulk(out, args[1]);
    case CommandId::kHello: return hello(server, client, args, out);
    case CommandId::kSelect: {
      auto index = protocol::parse_integer(args[1]);
      if (!index) return put_error(out, kv::kNotAnInteger);
      if (*index < INT32_MIN || *index > INT32_MAX)
        return put_error(out, "ERR value is out of range, value must between -2147483648 and 2147483647");
      if (*index != 0)
        return put_error(
            out, server.clustered() ? "ERR SELECT is not allowed in cluster mode" : "ERR DB index is out of range");
      return put_ok(out);
    }
    case CommandId::kAuth:
      if (args.size() > 3) return put_error(out, kv::kSyntaxError);
      return put_error(out,
                       args.size() == 2
                           ? "ERR AUTH <password> called without any password configured for the default user. Are you "
                             "sure your configuration is correct?"
                           : "WRONGPASS invalid username-password pair or user is disabled.");
    case CommandId::kClientId: return put_integer(out, static_cast<int64_t>(client.id));
    case CommandId::kClientGetname: return client.name.empty() ? protocol::put_null(out) : put_bulk(out, client.name);
    case CommandId::kClientSetname:
      if (!is_printable_name(args[2]))
        return put_error(out, "ERR Client names cannot contain spaces, newlines or special characters.");
      client.name = args[2];
      return put_ok(out);
    case CommandId::kClientSetinfo:
      if (!is_printable_name(args[3]))
        return put_error(out, fmt::format("ERR {} cannot contain spaces, newlines or special characters.", args[2]));
      if (same_word(args[2], "lib-name"))
        client.library = args[3];
      else if (same_word(args[2], "lib-ver"))
        client.library_version = args[3];
      else
        return put_error(out, fmt::format("ERR Unrecognized option '{}'", args[2]));
      return put_ok(out);
    case CommandId::kClientInfo: return protocol::put_verbatim(out, "txt", describe(server, client) + "\n");
    case CommandId::kClientList: {
      std::string list;
      for (auto& [id, other] : server.clients) list += describe(server, *other) + "\n";
      return protocol::put_verbatim(out, "txt", list);
    }
    case CommandId::kClientKill: return client_kill(server, client, args, out);
    case CommandId::kClientNoEvict:
    case CommandId::kClientNoTouch: return put_ok(out);
    case CommandId::kCommand:
    case CommandId::kCommandCount:
    case CommandId::kCommandDocs:
    case CommandId::kCommandGetkeys:
    case CommandId::kCommandInfo:
    case CommandId::kCommandList: return kv::answer_command(spec.id, args, out);
    case CommandId::kConfigGet: return config_get(server, args, out);
    case CommandId::kConfigSet: return config_set(server, args, out);
    case CommandId::kConfigResetstat: server.stats = {}; return put_ok(out);
    case CommandId::kInfo: return protocol::put_verbatim(out, "txt", info_text(server, args.size() > 1 ? args[1] : ""));
    case CommandId::kTime: {
      const int64_t ms = server.env.clock.wall().ms;
      put_array(out, 2);
      put_bulk(out, std::to_string(ms / 1000));
      return put_bulk(out, std::to_string(ms % 1000 * 1000));
    }
    case CommandId::kFunctionFlush: return put_ok(out);
    case CommandId::kStatus: return put_bulk(out, status_json(server));
    case CommandId::kAddReplica:
    case CommandId::kCopies:
    case CommandId::kDrainNode:
    case CommandId::kForgetNode:
    case CommandId::kMap:
    case CommandId::kMoveReplica:
    case CommandId::kOperation:
    case CommandId::kPlan:
    case CommandId::kRebalance:
    case CommandId::kRemoveReplica:
    case CommandId::kSplitShard:
    case CommandId::kTransfer: return execute_operator(server, spec, args, out);
    case CommandId::kClusterKeyslot: return put_integer(out, slot_of(args[2]));
    case CommandId::kAsking:
    case CommandId::kClusterInfo:
    case CommandId::kClusterMyid:
    case CommandId::kClusterNodes:
    case CommandId::kClusterShards:
    case CommandId::kClusterSlots:
    case CommandId::kReadonly:
    case CommandId::kReadwrite: return answer_cluster(server, client, spec.id, out);
    default: break;
  }
  put_error(out, fmt::format("ERR '{}' is not supported", spec.name));
}

}  // namespace

void execute_local(Server& server, Client& client, const kv::CommandSpec& spec, Args args, std::string& out) {
  const size_t begin = out.size();
  execute(server, client, spec, args, out);
  // Errors repeat the client's words, whose line ends would end the reply in the middle.
  if (out[begin] == '-')
    std::replace_if(
        out.begin() + static_cast<std::ptrdiff_t>(begin), out.end() - 2, [](char c) { return c == '\r' || c == '\n'; },
        ' ');
}

}  // namespace mneme::node
