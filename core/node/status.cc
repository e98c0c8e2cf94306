#include "core/node/status.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/protocol/reply.h"
#include "core/protocol/request.h"
#include "core/raft/text.h"

namespace mneme::node {

namespace {

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\')
      out += {'\\', c};
    else if (static_cast<unsigned char>(c) < 0x20)
      out += fmt::format("\\u{:04x}", c);
    else
      out += c;
  }
  return out + '"';
}

std::string address_of(const Config& config, NodeId node) {
  for (const Member& member : config.cluster)
    if (member.id == node) return env::to_string(member.address);
  return node == config.id ? env::to_string(config.listen) : "";
}

std::string_view role_of(const raft::Configuration& configuration, ReplicaId id) {
  auto in = [&](const std::vector<ReplicaId>& ids) { return std::binary_search(ids.begin(), ids.end(), id); };
  if (in(configuration.learners)) return "learner";
  if (!configuration.joint()) return "voter";
  return !in(configuration.voters) ? "outgoing" : in(configuration.outgoing) ? "voter" : "incoming";
}

std::string members_of(const Server& server) {
  std::string out;
  auto add = [&](NodeId node, std::string_view fields) {
    out += fmt::format("{}{{\"node\":{},\"address\":{},{}}}", out.empty() ? "" : ",", node.value,
                       quoted(address_of(server.config, node)), fields);
  };
  if (!server.replica) {
    for (const Member& member : server.config.cluster) add(member.id, "\"role\":\"founder\"");
    return out;
  }
  const raft::Raft& raft = server.replica->raft();
  for (ReplicaId id : raft.configuration().members()) {
    std::string fields =
        fmt::format("\"replica\":{},\"role\":{}", quoted(raft::text_of(id)), quoted(role_of(raft.configuration(), id)));
    if (raft.role() == raft::Role::kLeader) fields += fmt::format(",\"match\":{}", raft.match_index(id).value);
    add(id.node(), fields);
  }
  return out;
}

}  // namespace

std::string status_json(const Server& server) {
  const Identity& identity = server.identity;
  std::string out =
      fmt::format("{{\"node\":{},\"address\":{},\"cluster\":\"{:016x}\",\"incarnation\":\"{:016x}\",\"ready\":{}",
                  server.config.id.value, quoted(address_of(server.config, server.config.id)), identity.cluster.value,
                  identity.incarnation.value, server.replica != nullptr);
  if (const replica::Replica* replica = server.replica) {
    const raft::Raft& raft = replica->raft();
    out += fmt::format(",\"role\":{},\"term\":{},\"leader\":{},\"suspect\":{},\"handing_to\":{}",
                       quoted(raft::name_of(raft.role())), raft.term().value, raft.leader().node().value,
                       raft.suspect(), raft.transferring_to().node().value);
    out +=
        fmt::format(",\"log_first\":{},\"log_last\":{},\"persisted\":{},\"commit\":{},\"applied\":{},\"checkpoint\":{}",
                    raft.first_index().value, raft.last_index().value, raft.persisted_index().value,
                    raft.commit().value, replica->machine().applied().value, replica->checkpoint_index().value);
  }
  return out + ",\"members\":[" + members_of(server) + "]}";
}

void begin_transfer(Server& server, std::string_view node, std::string& out) {
  auto error = [&](std::string_view sentence) { protocol::put_error(out, fmt::format("ERR {}", sentence)); };
  if (!server.replica) return error("this node is not ready yet; try again in a moment");
  auto number = protocol::parse_integer(node);
  if (!number || *number <= 0) return error("a node's id is a whole number from 1 on");
  const NodeId to(static_cast<uint64_t>(*number));
  const raft::Raft& raft = server.replica->raft();
  if (raft.role() != raft::Role::kLeader) {
    if (!raft.leader()) return error("no leader is known; try again when there is one");
    return error(fmt::format("node {} leads, ask it instead", raft.leader().node().value));
  }
  if (to == server.config.id) return error(fmt::format("node {} leads already", to.value));
  if (auto begun = server.replica->hand_over(to); !begun) return error(begun.error().message);
  protocol::put_simple(out, "OK");
}

}  // namespace mneme::node
