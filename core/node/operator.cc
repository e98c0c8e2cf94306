#include "core/node/operator.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "core/kv/errors.h"
#include "core/node/conductor.h"
#include "core/node/status.h"
#include "core/protocol/reply.h"
#include "core/protocol/request.h"

namespace mneme::node {

using kv::Args;
using kv::CommandId;
using shard::Action;
using shard::ActionKind;

namespace {

bool same_word(std::string_view text, std::string_view lower) {
  return text.size() == lower.size() && std::equal(text.begin(), text.end(), lower.begin(), [](char a, char b) {
           return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b;
         });
}

// One command of an operator, from what this node knows of the cluster.
class Operator {
 public:
  Operator(Server& server, std::string& out)
      : server_(server), deadline_(server.env.clock.now() + server.config.request_timeout), out_(out) {}

  Result<void> execute(const kv::CommandSpec& spec, Args args) {
    dry_ = changes(spec.id) && same_word(args.back(), "dryrun");
    if (dry_) args = args.first(args.size() - 1);
    switch (spec.id) {
      case CommandId::kSplitShard: return split(args);
      case CommandId::kMoveReplica: return move(args);
      case CommandId::kAddReplica: return on_node(args, ActionKind::kAdd, &Action::target, "MNEME.ADD group node");
      case CommandId::kRemoveReplica:
        return on_node(args, ActionKind::kRemove, &Action::source, "MNEME.REMOVE group node");
      case CommandId::kTransfer:
        return on_node(args, ActionKind::kTransfer, &Action::target, "MNEME.TRANSFER group node");
      case CommandId::kDrainNode: return drain(args);
      case CommandId::kForgetNode:
        TRY(expect(args.size() == 2, "MNEME.FORGET node"));
        return tell_and_confirm(shard::RemoveNode{TRY(known_node(args[1]))->id});
      case CommandId::kCopies: return set_copies(args);
      case CommandId::kOperation: return show_operation(args);
      case CommandId::kPlan: return show_plan();
      case CommandId::kRebalance: return rebalance(args);
      case CommandId::kMap: protocol::put_bulk(out_, map_json(server_)); return {};
      default: return fail(ErrorCode::kInvalid, fmt::format("'{}' is not supported", spec.name));
    }
  }

 private:
  static bool changes(CommandId id) {
    return id != CommandId::kOperation && id != CommandId::kPlan && id != CommandId::kRebalance &&
           id != CommandId::kMap;
  }
  static Result<void> expect(bool right, std::string_view form) {
    if (right) return {};
    return fail(ErrorCode::kInvalid, fmt::format("syntax error; say {}", form));
  }

  const shard::Map& map() const { return server_.map->map(); }

  static Result<uint64_t> number(std::string_view text, std::string_view what) {
    const auto parsed = protocol::parse_integer(text);
    if (!parsed || *parsed <= 0)
      return fail(ErrorCode::kInvalid,
                  fmt::format("{} is a whole number from 1 on, not '{}'", what, text.substr(0, 40)));
    return static_cast<uint64_t>(*parsed);
  }
  Result<const shard::Shard*> shard(std::string_view text) const {
    const GroupId group(TRY(number(text, "a shard's number")));
    if (const shard::Shard* found = map().shard(group)) return found;
    return fail(ErrorCode::kNotFound,
                fmt::format("shard {} is unknown; `mneme cluster status` lists the shards", group.value));
  }
  Result<const shard::Node*> known_node(std::string_view text) const {
    const NodeId id(TRY(number(text, "a node's id")));
    if (const shard::Node* found = map().node(id)) return found;
    return fail(ErrorCode::kNotFound,
                fmt::format("node {} is unknown; `mneme cluster status` lists the nodes", id.value));
  }

  // Until this node knows what it has just had done, so that who asks it next is not told of a time before.
  template <class Condition>
  void wait_for_map(Condition condition) {
    (void)fiber::with_deadline(server_.env.scheduler, server_.env.clock.timers(), deadline_, [&]() -> Result<void> {
      while (!condition()) server_.map->wait_for_change(map().version());
      return {};
    });
  }

  // Nothing, when it was only asked whether it would be accepted.
  Result<std::optional<shard::Answer>> tell(shard::Command command) {
    if (dry_) {
      TRY(shard::Map(map()).apply(command));
      return std::nullopt;
    }
    auto told = TRY(server_.conductor->tell({std::move(command)}, deadline_));
    return TRY(std::move(told.front()));
  }

  Result<void> tell_and_confirm(shard::Command command) {
    TRY(tell(std::move(command)));
    protocol::put_ok(out_);
    return {};
  }

  Result<void> begin(const shard::Shard& shard, const Action& action) {
    const shard::Operation* pending = shard.pending();
    if (!dry_ && pending && pending->action == action) {
      protocol::put_integer(out_, static_cast<int64_t>(pending->id.value));
      return {};
    }
    const auto answer = TRY(tell(shard::BeginOperation{shard.group(), shard.epoch(), shard.last_operation(), action}));
    if (!answer) {
      protocol::put_ok(out_);
      return {};
    }
    wait_for_map([&] { return map().next_operation() > answer->operation; });
    protocol::put_integer(out_, static_cast<int64_t>(answer->operation.value));
    return {};
  }

  Result<void> on_node(Args args, ActionKind kind, NodeId Action::*which, std::string_view form) {
    TRY(expect(args.size() == 3, form));
    Action action{.kind = kind};
    action.*which = TRY(known_node(args[2]))->id;
    return begin(*TRY(shard(args[1])), action);
  }

  Result<void> split(Args args) {
    const bool has_slot = args.size() == 4 && same_word(args[2], "at");
    TRY(expect(args.size() == 2 || has_slot, "MNEME.SPLIT group, or MNEME.SPLIT group AT slot"));
    const shard::Shard& shard = *TRY(this->shard(args[1]));
    Action action{.kind = ActionKind::kSplit};
    if (!has_slot) {
      action.at = middle_of(shard);
    } else {
      const uint64_t at = TRY(number(args[3], "the first slot of the new shard"));
      if (at >= kSlots)
        return fail(ErrorCode::kInvalid, fmt::format("there is no slot {}: the last one is {}", at, kSlots - 1));
      action.at = static_cast<uint16_t>(at);
    }
    return begin(shard, action);
  }

  // 0, which the map refuses with the reason, where there is none.
  uint16_t middle_of(const shard::Shard& shard) const {
    if (const replica::Replica* here = server_.groups->find(shard.group()); here && here->machine().shard().begun())
      if (const auto middle = here->machine().middle_slot(); middle && shard.slots.contains(*middle)) return *middle;
    return shard.slots.size() < 2 ? 0 : shard.slots.nth(shard.slots.size() / 2);
  }

  Result<void> move(Args args) {
    TRY(expect(args.size() == 6 && same_word(args[2], "from") && same_word(args[4], "to"),
               "MNEME.MOVE group FROM node TO node"));
    const Action action{ActionKind::kMove, TRY(known_node(args[3]))->id, TRY(known_node(args[5]))->id};
    return begin(*TRY(shard(args[1])), action);
  }

  Result<void> drain(Args args) {
    const bool stop = args.size() == 3 && same_word(args[2], "stop");
    TRY(expect(args.size() == 2 || stop, "MNEME.DRAIN node, or MNEME.DRAIN node STOP"));
    const shard::Node& node = *TRY(known_node(args[1]));
    return tell_and_confirm(shard::DrainNode{node.id, node.revision, !stop});
  }

  Result<void> set_copies(Args args) {
    TRY(expect(args.size() == 2, "MNEME.COPIES n"));
    const uint64_t copies = TRY(number(args[1], "the number of copies"));
    if (copies >= limits::kMaxReplicas)
      return fail(ErrorCode::kInvalid,
                  fmt::format("a shard has 1 to {} copies, not {}", limits::kMaxReplicas - 1, copies));
    return tell_and_confirm(shard::SetCopies{map().copies(), static_cast<uint32_t>(copies)});
  }

  Result<void> show_operation(Args args) {
    const shard::OperationId id(TRY(number(args[1], "an operation's number")));
    if (id >= map().next_operation())
      return fail(ErrorCode::kNotFound,
                  fmt::format("operation {} is not known to this node: it has heard of {}; ask again in a moment if it "
                              "was begun through another node",
                              id.value, map().next_operation().value - 1));
    const shard::Shard* of = nullptr;
    for (const auto& [group, shard] : map().shards())
      if (shard.last_operation() == id) of = &shard;
    auto put = [&](std::string_view name, auto&& value) {
      protocol::put_bulk(out_, name);
      if constexpr (std::is_integral_v<std::decay_t<decltype(value)>>)
        protocol::put_integer(out_, static_cast<int64_t>(value));
      else
        protocol::put_bulk(out_, value);
    };
    protocol::put_map(out_, 6);
    put("id", id.value);
    put("group", of ? of->group().value : 0);
    put("action", of ? shard::text_of(of->operation->action) : std::string());
    put("step", of ? shard::name_of(of->operation->step) : std::string_view());
    put("outcome", of ? shard::name_of(of->operation->outcome) : std::string_view("ended"));
    put("child", of ? of->operation->child.value : 0);
    return {};
  }

  void put_sentences(const std::vector<std::string>& sentences) {
    protocol::put_array(out_, sentences.size());
    for (const std::string& sentence : sentences) protocol::put_bulk(out_, sentence);
  }

  Result<void> show_plan() {
    const shard::Plan plan = server_.conductor->plan();
    std::vector<std::string> sentences;
    for (const auto& one : plan.give_up)
      sentences.push_back(fmt::format("give up operation {}: {}", one.operation.value, one.reason));
    for (const auto& one : plan.operations) sentences.push_back(one.reason);
    for (const auto& one : plan.obstacles) sentences.push_back("obstacle: " + one);
    put_sentences(sentences);
    return {};
  }

  Result<void> rebalance(Args args) {
    std::optional<NodeId> from;
    TRY(expect(args.size() == 1 || (args.size() == 3 && same_word(args[1], "from")),
               "MNEME.REBALANCE, or MNEME.REBALANCE FROM node"));
    if (args.size() == 3) from = TRY(known_node(args[2]))->id;
    std::vector<shard::Command> commands;
    std::vector<std::string> sentences;
    for (shard::Proposal& one : server_.conductor->plan().operations) {
      if (from && one.command.action.source != *from) continue;
      commands.push_back(one.command);
      sentences.push_back(std::move(one.reason));
    }
    if (!commands.empty()) {
      const auto told = TRY(server_.conductor->tell(commands, deadline_));
      shard::OperationId last;
      for (size_t i = 0; i < told.size() && i < sentences.size(); ++i) {
        if (told[i]) last = std::max(last, told[i]->operation);
        sentences[i] = told[i] ? fmt::format("operation {}: {}", told[i]->operation.value, sentences[i])
                               : fmt::format("refused: {} ({})", told[i].error().message, sentences[i]);
      }
      wait_for_map([&] { return map().next_operation() > last; });
    }
    put_sentences(sentences);
    return {};
  }

  Server& server_;
  const Instant deadline_;
  bool dry_ = false;
  std::string& out_;
};

std::string_view prefix_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kTimeout: return "UNCERTAIN";
    case ErrorCode::kUnavailable: return "CLUSTERDOWN";
    case ErrorCode::kRefused:
    case ErrorCode::kExists:
    case ErrorCode::kTooLarge: return "REFUSED";
    default: return "ERR";
  }
}

}  // namespace

void execute_operator(Server& server, const kv::CommandSpec& spec, Args args, std::string& out) {
  if (!server.conductor) return protocol::put_error(out, "LOADING this node is not ready yet; ask again in a moment");
  if (auto done = Operator(server, out).execute(spec, args); !done)
    protocol::put_error(out, fmt::format("{} {}", prefix_of(done.error().code), done.error().message));
}

}  // namespace mneme::node
