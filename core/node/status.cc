#include "core/node/status.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/node/conductor.h"
#include "core/node/json.h"
#include "core/raft/text.h"

namespace mneme::node {

namespace {

// The elements of a JSON list.
class List {
 public:
  void add(std::string_view element) {
    if (text_.size() > 1) text_ += ',';
    text_ += element;
  }
  std::string text() const { return text_ + ']'; }

 private:
  std::string text_ = "[";
};

std::string own_address(const Server& server) {
  for (const Member& member : server.config.cluster)
    if (member.id == server.identity.node) return env::to_string(member.address);
  return env::to_string(server.config.listen);
}

std::string_view role_of(const raft::Configuration& configuration, ReplicaId id) {
  auto in = [&](const std::vector<ReplicaId>& ids) { return std::binary_search(ids.begin(), ids.end(), id); };
  if (in(configuration.learners)) return shard::name_of(shard::Role::kLearner);
  if (!configuration.joint()) return shard::name_of(shard::Role::kVoter);
  return shard::name_of(!in(configuration.voters)    ? shard::Role::kOutgoing
                        : in(configuration.outgoing) ? shard::Role::kVoter
                                                     : shard::Role::kIncoming);
}

std::string founders(const Server& server) {
  List list;
  for (const Member& member : server.config.cluster) {
    const bool heard =
        member.id == server.identity.node || (server.peers && server.peers->known_incarnation(member.id));
    list.add(fmt::format("{{\"node\":{},\"address\":{},\"heard\":{}}}", member.id.value,
                         quoted(env::to_string(member.address)), heard));
  }
  return list.text();
}

std::string members(const raft::Raft& raft) {
  List list;
  for (ReplicaId id : raft.configuration().members()) {
    std::string match;
    if (raft.role() == raft::Role::kLeader) match = fmt::format(",\"match\":{}", raft.match_index(id).value);
    list.add(fmt::format("{{\"node\":{},\"replica\":{},\"role\":{}{}}}", id.node().value, quoted(raft::text_of(id)),
                         quoted(role_of(raft.configuration(), id)), match));
  }
  return list.text();
}

std::string group_json(const replica::Replica& replica) {
  const raft::Raft& raft = replica.raft();
  const kv::StateMachine& machine = replica.machine();
  std::string out = fmt::format(
      "{{\"group\":{},\"replica\":{},\"role\":{},\"term\":{},\"leader\":{},\"suspect\":{},\"handing_to\":{}",
      replica.group().value, quoted(raft::text_of(raft.id())), quoted(raft::name_of(raft.role())), raft.term().value,
      raft.leader().node().value, raft.suspect(), raft.transferring_to().node().value);
  out += fmt::format(",\"epoch\":{},\"slots\":{}", machine.shard().epoch.value, quoted(machine.shard().slots.text()));
  out += fmt::format(",\"log_first\":{},\"log_last\":{},\"persisted\":{},\"commit\":{},\"applied\":{}",
                     raft.first_index().value, raft.last_index().value, raft.persisted_index().value,
                     raft.commit().value, machine.applied().value);
  return out + fmt::format(",\"checkpoint\":{},\"bytes\":{},\"members\":{}}}", replica.checkpoint_index().value,
                           machine.bytes_used(), members(raft));
}

std::string node_json(const Server& server, const shard::Node& node) {
  std::string silent;
  if (node.state != shard::NodeState::kRemoved) {
    const bool self = node.id == server.identity.node;
    silent = fmt::format(",\"silent_ms\":{}", self ? 0 : server.peers->silent_for(node.id) / 1ms);
  }
  return fmt::format("{{\"id\":{},\"address\":{},\"rack\":{},\"state\":{},\"incarnation\":\"{:016x}\"{}}}",
                     node.id.value, quoted(node.client_address), quoted(node.rack), quoted(shard::name_of(node.state)),
                     node.incarnation.value, silent);
}

std::string operation_json(const shard::Operation& operation) {
  std::string child;
  if (operation.child) child = fmt::format(",\"child\":{}", operation.child.value);
  return fmt::format("{{\"id\":{},\"action\":{},\"step\":{},\"outcome\":{}{}}}", operation.id.value,
                     quoted(shard::text_of(operation.action)), quoted(shard::name_of(operation.step)),
                     quoted(shard::name_of(operation.outcome)), child);
}

std::string shard_json(const shard::Shard& shard) {
  List replicas;
  for (const shard::Member& member : shard.configuration())
    replicas.add(fmt::format("{{\"node\":{},\"generation\":{},\"role\":{}}}", member.replica.node.value,
                             member.replica.generation, quoted(shard::name_of(member.role))));
  std::string operation;
  if (shard.operation) operation = ",\"operation\":" + operation_json(*shard.operation);
  return fmt::format(
      "{{\"group\":{},\"slots\":{},\"epoch\":{},\"replicas\":{},\"leader\":{},\"term\":{},\"bytes\":{},"
      "\"writes_per_second\":{}{}}}",
      shard.group().value, quoted(shard.slots.text()), shard.epoch().value, replicas.text(), shard.last.leader.value,
      shard.last.term.value, shard.last.bytes, shard.last.writes_per_second, operation);
}

}  // namespace

std::string status_json(const Server& server) {
  const Identity& identity = server.identity;
  std::string out =
      fmt::format("{{\"node\":{},\"address\":{},\"cluster\":\"{:016x}\",\"incarnation\":\"{:016x}\",\"ready\":{}",
                  identity.node.value, quoted(own_address(server)), identity.cluster.value, identity.incarnation.value,
                  server.groups != nullptr);
  if (!server.groups) return out + ",\"map_version\":0,\"founders\":" + founders(server) + "}";
  List groups;
  for (const auto& [group, replica] : server.groups->all()) groups.add(group_json(*replica));
  return out + fmt::format(",\"map_version\":{},\"groups\":{}}}", server.map->version(), groups.text());
}

std::string map_json(const Server& server) {
  const auto map = server.map->shared();
  List nodes, shards;
  for (const auto& [id, node] : map->nodes()) nodes.add(node_json(server, node));
  for (const auto& [group, shard] : map->shards()) shards.add(shard_json(shard));
  return fmt::format(
      "{{\"cluster\":\"{:016x}\",\"version\":{},\"copies\":{},\"balance\":{},\"nodes\":{},\"shards\":{}}}",
      map->cluster().value, map->version(), map->copies(), server.config.balance, nodes.text(), shards.text());
}

}  // namespace mneme::node
