// What the internal commands (internal.h) do to a state machine.
#include <fmt/format.h>

#include "core/base/check.h"
#include "core/kv/errors.h"
#include "core/kv/state_machine.h"

namespace mneme::kv {

void StateMachine::execute_internal(const CommandSpec& spec, Args args, ReplySink& sink, std::string& out) {
  Result<void> done;
  switch (spec.id) {
    case CommandId::kSessionTouch: return touch_session(args, out);
    case CommandId::kShardMap: return change_map(args, out);
    case CommandId::kShardBegin: done = begin_shard(args); break;
    case CommandId::kShardRaise: done = raise_epoch(args); break;
    case CommandId::kShardSplit: done = split_shard(args, sink); break;
    default: return protocol::put_error(out, kNotReplicated);
  }
  if (!done) return put_failure(out, done.error());
  protocol::put_ok(out);
}

void StateMachine::touch_session(Args args, std::string& out) {
  auto id = decode_number(args[1]);
  if (!id) return put_failure(out, id.error());
  if (!sessions_.use(SessionId(*id), log_time_ms())) return protocol::put_error(out, unknown_session(SessionId(*id)));
  protocol::put_ok(out);
}

uint64_t StateMachine::map_digest() const {
  if (!map_digest_) map_digest_ = map_.digest();
  return *map_digest_;
}

void StateMachine::change_map(Args args, std::string& out) {
  auto command = shard::decode_command(args[1]);
  if (!command) return put_failure(out, command.error());
  auto answer = map_.apply(*command);
  if (!answer) return put_failure(out, answer.error());
  map_digest_.reset();
  protocol::put_bulk(out, encode_answer(*answer));
}

Result<void> StateMachine::begin_shard(Args args) {
  const Epoch epoch(TRY(decode_number(args[1])));
  ShardState begun{epoch, epoch, TRY(decode_slots(args[2]))};
  if (shard_.begun())
    return fail(ErrorCode::kExists, fmt::format("the shard has begun, and is at epoch {}", shard_.epoch.value));
  if (!epoch || !begun.valid()) return fail(ErrorCode::kInvalid, "a shard begins with an epoch");
  // Then it was not made for this: of what it once held it knows nothing.
  if (!begun.slots.empty() && (table_.record_count() > 0 || sessions_.size() > 0 || sessions_.forgotten()))
    return fail(ErrorCode::kRefused, "the group holds data already; make another one for the shard");
  set_shard(std::move(begun));
  return {};
}

Result<void> StateMachine::raise_epoch(Args args) {
  const Epoch epoch(TRY(decode_number(args[1])));
  if (!epoch || epoch != shard_.epoch)
    return fail(ErrorCode::kRefused, fmt::format("the shard is at epoch {}, and epoch {} was to be raised",
                                                 shard_.epoch.value, epoch.value));
  ShardState raised = shard_;
  raised.epoch = epoch.next();
  set_shard(std::move(raised));
  return {};
}

Result<void> StateMachine::split_shard(Args args, ReplySink& sink) {
  const SplitRequest request = TRY(SplitRequest::decode(args[1]));
  if (!request.epoch || request.epoch != shard_.epoch)
    return fail(ErrorCode::kRefused, fmt::format("the shard is at epoch {}, and was to be split at epoch {}",
                                                 shard_.epoch.value, request.epoch.value));
  const Epoch next = request.epoch.next();
  ShardState lower{next, next, shard_.slots};
  ShardState upper{next, next, lower.slots.split_at(request.at)};
  if (lower.slots.empty() || upper.slots.empty())
    return fail(ErrorCode::kInvalid,
                fmt::format("slot {} does not divide the slots {} of the shard", request.at, shard_.slots.text()));
  auto child = std::make_unique<StateMachine>(probes_, std::move(upper));
  child->applied_ = LogIndex(1);
  child->set_configuration(request.configuration);
  table_.split(request.at, child->table_);
  sessions_.split(request.at, child->sessions_);
  set_shard(std::move(lower));
  sink.split(request, std::move(child));
  return {};
}

}  // namespace mneme::kv
