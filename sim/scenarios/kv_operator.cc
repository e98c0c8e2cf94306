#include "sim/scenarios/kv_operator.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/hash.h"
#include "core/fiber/scope.h"
#include "core/protocol/reply_reader.h"
#include "core/protocol/request.h"
#include "sim/world.h"

namespace mneme::sim {

namespace {

constexpr int kAttempts = 8;
constexpr Duration kPause = 100ms;
constexpr Duration kForgetPause = 500ms;  // while a node is drained

// The nth of some, by a choice that knew nothing of how many there are.
template <class T>
const T& nth_of(const std::vector<T>& some, uint64_t choice) {
  return some[Fate::scale(choice, some.size())];
}

std::string text(uint64_t number) { return std::to_string(number); }

}  // namespace

KvOperator::KvOperator(World& world, KvCluster& cluster, const KvShape& shape, const Options& options, uint32_t number)
    : world_(world), cluster_(cluster), shape_(shape), options_(options), number_(number), wanted_(world.scheduler()) {}

void KvOperator::begin(const Fault& operation) {
  if (ended_) return;
  to_do_.push_back(operation);
  wanted_.notify_one();
}

Result<void> KvOperator::run(Env& env) {
  return fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) -> Result<void> {
    for (;;) {
      wanted_.wait_until([this] { return !to_do_.empty(); });
      const Fault operation = to_do_.front();
      to_do_.pop_front();
      scope.spawn("operation", [this, &env, operation] { perform(env, operation); });
    }
  });
}

void KvOperator::perform(Env& env, const Fault& operation) {
  if (!shape_.map().cluster()) return;
  switch (operation.kind) {
    case FaultKind::kSplit: return split(env, operation);
    case FaultKind::kDrain: return drain(env, operation);
    case FaultKind::kRemove: return remove(env, operation);
    default: return change_replicas(env, operation);
  }
}

const shard::Shard* KvOperator::pick_shard(const Fault& operation, bool data_only) const {
  std::vector<const shard::Shard*> shards;
  for (const auto& [group, shard] : shape_.map().shards())
    if (!data_only || group != shard::kMetaGroup) shards.push_back(&shard);
  return nth_of(shards, mix(operation.choice));
}

// Between keys that are in use, where the shard has such.
void KvOperator::split(Env& env, const Fault& operation) {
  const shard::Shard& shard = *pick_shard(operation, true);
  std::vector<uint16_t> slots;
  for (int64_t key = 0; key < options_[Option::keys]; ++key)
    if (const uint16_t slot = slot_of(fmt::format("k{}", key)); shard.slots.contains(slot)) slots.push_back(slot);
  std::sort(slots.begin(), slots.end());
  if (slots.size() > 1) slots.erase(slots.begin());  // so that there are keys on either side
  const uint16_t at =
      slots.empty() ? shard.slots.nth(shard.slots.size() / 2) : nth_of(slots, mix(operation.choice + 1));
  ask(env, {"MNEME.SPLIT", text(shard.group().value), "AT", text(at)});
}

void KvOperator::change_replicas(Env& env, const Fault& operation) {
  const shard::Shard& shard = *pick_shard(operation, false);
  const std::string group = text(shard.group().value);
  std::vector<NodeId> members;
  std::vector<NodeId> others;
  for (const auto& [id, node] : shape_.map().nodes()) {
    if (member_on(shard.configuration(), id))
      members.push_back(id);
    else if (node.state == shard::NodeState::kUp)
      others.push_back(id);
  }
  const std::string member = text(nth_of(members, mix(operation.choice + 2)).value);
  const std::string other = others.empty() ? "" : text(nth_of(others, mix(operation.choice + 3)).value);
  if (operation.kind == FaultKind::kTransfer)
    ask(env, {"MNEME.TRANSFER", group, member});
  else if (operation.kind == FaultKind::kTake)
    ask(env, {"MNEME.REMOVE", group, member});
  else if (others.empty())
    return;
  else if (operation.kind == FaultKind::kAdd)
    ask(env, {"MNEME.ADD", group, other});
  else
    ask(env, {"MNEME.MOVE", group, "FROM", member, "TO", other});
}

void KvOperator::drain(Env& env, const Fault& operation) {
  const NodeId node = cluster_.id(operation.a);
  if (!node) return;
  ask(env, {"MNEME.DRAIN", text(node.value)});
  env.clock.sleep_for(env.scheduler, Duration(operation.duration));
  ask(env, {"MNEME.DRAIN", text(node.value), "STOP"});
}

void KvOperator::remove(Env& env, const Fault& operation) {
  const NodeId node = cluster_.id(operation.a);
  if (!node || ask(env, {"MNEME.DRAIN", text(node.value)}).starts_with("-")) return;
  while (!ended_) {
    env.clock.sleep_for(env.scheduler, kForgetPause);
    ask(env, {"MNEME.FORGET", text(node.value)});
    const shard::Node* known = shape_.map().node(node);
    if (!known || known->state != shard::NodeState::kRemoved) continue;
    if (const uint32_t machine = cluster_.machine_of(node)) cluster_.retire(machine);
    return;
  }
}

std::string KvOperator::ask(Env& env, const std::vector<std::string>& command) {
  for (int attempt = 0; attempt < kAttempts && !ended_; ++attempt) {
    const uint64_t drawn = world_.choose(Choice::kClient, number_, ++asked_, 1);
    auto reply = ask(env, 1 + static_cast<uint32_t>(Fate::scale(drawn, cluster_.size())), command);
    std::string words;
    for (const std::string& word : command) words += (words.empty() ? "" : " ") + word;
    world_.record(0, "operator",
                  fmt::format("{} -> {}", words, reply ? reply->substr(0, reply->find('\r')) : reply.error().message));
    constexpr std::string_view kAskAnother[] = {"-CLUSTERDOWN", "-LOADING", "-TRYAGAIN", "-UNCERTAIN"};
    if (reply && std::none_of(std::begin(kAskAnother), std::end(kAskAnother),
                              [&](std::string_view word) { return reply->starts_with(word); }))
      return *reply;
    env.clock.sleep_for(env.scheduler, kPause);
  }
  return {};
}

Result<std::string> KvOperator::ask(Env& env, uint32_t node, const std::vector<std::string>& command) {
  const Duration patience = std::chrono::milliseconds(options_[Option::client_timeout]);
  return fiber::with_deadline(
      env.scheduler, env.clock.timers(), env.clock.now() + patience, [&]() -> Result<std::string> {
        const auto stream = TRY(env.network.connect(cluster_.address(node)));
        std::string out;
        protocol::put_command(out, std::vector<std::string_view>(command.begin(), command.end()));
        TRY(stream->write(as_bytes(out)));
        std::string buffer;
        protocol::ReplyParser parser;
        for (;;) {
          auto step = parser.next(buffer);
          if (step.progress == protocol::Progress::kError) return std::unexpected(step.error);
          if (step.progress == protocol::Progress::kDone) return buffer.substr(0, step.length);
          uint8_t chunk[4096];
          const size_t got = TRY(stream->read(chunk));
          if (got == 0) return fail(ErrorCode::kClosed, "the node closed the connection");
          buffer.append(reinterpret_cast<char*>(chunk), got);
        }
      });
}

}  // namespace mneme::sim
