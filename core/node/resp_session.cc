#include "core/node/resp_session.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/kv/errors.h"
#include "core/kv/internal.h"
#include "core/node/topology.h"
#include "core/protocol/resp.h"

namespace mneme::node {

using kv::Args;
using kv::CommandId;
using protocol::Progress;
using protocol::put_error;
using protocol::put_ok;
using replica::Outcome;

namespace {

// A batch that has grown to this is executed before more is parsed.
constexpr size_t kEnoughBytes = 512 * limits::kKiB;
// So is one whose replies would come to this, values being as long as they are here and now.
constexpr size_t kEnoughReplyBytes = limits::kMiB;
static_assert(kEnoughBytes + limits::kMaxCommandBytes + limits::kMaxCommandArgs * 4 + 4096 <= limits::kMaxEntryBytes);

// The registry, which forgets what nobody uses, hears of a session that is in use so often: much more often than it
// forgets (kv::kSessionIdleMs).
constexpr Duration kTouchInterval = 1min;

bool same_word(std::string_view text, std::string_view lower) {
  return text.size() == lower.size() && std::equal(text.begin(), text.end(), lower.begin(), [](char a, char b) {
           return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b;
         });
}

}  // namespace

void RespSession::run() {
  for (;;) {
    const bool goes_on = fill_batch();
    execute_batch();
    if (!out_.empty()) {
      if (!stream_.write(as_bytes(out_))) return;
      out_.clear();
    }
    if (!goes_on) return;
    if (need_ == 0) continue;  // more commands are in the buffer
    if (used_ == buffer_.size()) {
      buffer_.clear();
    } else {
      buffer_.erase(0, used_);
    }
    used_ = 0;
    auto got = read_more(
        stream_, buffer_,
        std::max(need_,
                 server_.env.random.rarely(Site::kTinyRead, client_.commands) ? size_t{1} : size_t{16 * limits::kKiB}));
    if (!got || *got == 0) return;
  }
}

bool RespSession::fill_batch() {
  need_ = 0;
  while (slots_.size() < limits::kMaxBatchCommands && commands_.encoded_bytes() < kEnoughBytes &&
         reply_bytes_ < kEnoughReplyBytes) {
    auto step = parser_.next(std::string_view(buffer_).substr(used_));
    used_ += step.consumed;
    if (step.progress == Progress::kMore) {
      need_ = std::max<size_t>(step.need, 1);
      return true;
    }
    if (step.progress == Progress::kError) {
      answer_error(step.error);
      return false;
    }
    take(step.args);
    if (closing_) return false;
    if (resuming_) return true;  // what follows depends on whether the session is known
  }
  return true;
}

template <class F>
void RespSession::answer(F&& fn) {
  Slot slot{.kind = Slot::Kind::kLocal,
            .protocol = client_.protocol,
            .nth = client_.commands,
            .silent = silent_ || skip_next_,
            .begin = local_.size()};
  fn(local_);
  slot.end = local_.size();
  slot.protocol = client_.protocol;  // HELLO is answered in the version that it chose
  if (local_[slot.begin] == '-') count_error(std::string_view(local_).substr(slot.begin, slot.end - slot.begin));
  slots_.push_back(std::move(slot));
  skip_next_ = false;
}

void RespSession::answer_error(std::string_view text) {
  answer([&](std::string& out) { put_error(out, text); });
}

void RespSession::count_error(std::string_view reply) {
  std::string_view prefix = reply.substr(1, reply.find_first_of(" \r") - 1);
  auto& errors = server_.stats.errors;
  if (auto known = errors.find(prefix); known != errors.end())
    ++known->second;
  else if (errors.size() < Stats::kMaxErrorPrefixes)
    errors.emplace(prefix, 1);
}

kv::CommandMeta RespSession::next_meta() {
  kv::CommandMeta meta;
  if (sequence_ != 0) {
    meta.session = session_;
    meta.sequence = std::exchange(sequence_, 0);
    meta.ack = ack_;
  }
  return meta;
}

void RespSession::leave_transaction() {
  mode_ = Mode::kPlain;
  queued_.clear();
  queued_bytes_ = 0;
  transaction_slot_ = kv::kNoSlot;
}

void RespSession::take(Args args) {
  const uint64_t before = sequence_;
  take_command(args);
  // A number is for the next command or transaction, whatever becomes of that.
  if (sequence_ != 0 && sequence_ == before && !numbering_ && mode_ == Mode::kPlain) sequence_ = 0;
  numbering_ = false;
}

void RespSession::take_command(Args args) {
  ++client_.commands;
  ++server_.stats.commands;
  std::string error;
  const kv::CommandSpec* spec = kv::check(args, error);
  if (!spec) {
    if (!args.empty() && same_word(args[0], "exec")) {  // ends the transaction all the same, as Redis has it
      leave_transaction();
      constexpr std::string_view kPrefix = "-ERR ";
      return answer([&](std::string& out) {
        (out += "-EXECABORT Transaction discarded because of: ") += std::string_view(error).substr(kPrefix.size());
      });
    }
    if (mode_ == Mode::kQueueing) mode_ = Mode::kAborted;
    return answer([&](std::string& out) { out += error; });
  }
  client_.last_command = spec->name;
  switch (spec->id) {
    case CommandId::kMulti:
      if (mode_ != Mode::kPlain) return answer_error("ERR MULTI calls can not be nested");
      mode_ = Mode::kQueueing;
      return answer(put_ok);
    case CommandId::kExec: return exec();
    case CommandId::kDiscard:
      if (mode_ == Mode::kPlain) return answer_error("ERR DISCARD without MULTI");
      leave_transaction();
      return answer(put_ok);
    case CommandId::kQuit: closing_ = true; return answer(put_ok);
    case CommandId::kReset:
      leave_transaction();
      session_ = SessionId();
      session_failure_.clear();
      sequence_ = 0;
      client_.name.clear();
      answer([](std::string& out) { protocol::put_simple(out, "RESET"); });
      client_.protocol = 2;
      client_.redirected = client_.readonly = false;
      silent_ = false;
      return;
    default: break;
  }
  if (mode_ != Mode::kPlain) return queue(*spec, args);
  switch (spec->id) {
    case CommandId::kSessionResume:
    case CommandId::kSessionSeq: numbering_ = true; return session(*spec, args);
    case CommandId::kClientReply:
      if (same_word(args[2], "on")) {
        silent_ = false;
        return answer(put_ok);
      }
      if (same_word(args[2], "off"))
        silent_ = true;
      else if (same_word(args[2], "skip"))
        skip_next_ = true;
      else
        return answer_error(kv::kSyntaxError);
      return;
    default: break;
  }
  if (spec->is(kv::kLocal)) return answer([&](std::string& out) { execute_local(server_, client_, *spec, args, out); });
  take_data(*spec, args);
}

// Of those whose reply may be long. The leader's values may differ by now: this bounds memory as a rule, and the bound
// on a batch's replies (limits::kMaxReplyBytes) always.
size_t RespSession::expected_reply_bytes(const kv::CommandSpec& spec, Args args) const {
  switch (spec.id) {
    case CommandId::kScan:
    case CommandId::kKeys:
    case CommandId::kRange: return kEnoughReplyBytes;
    case CommandId::kSet:
      if (args.size() == 3) return 0;
      break;
    case CommandId::kGet:
    case CommandId::kMget:
    case CommandId::kGetrange:
    case CommandId::kSubstr:
    case CommandId::kGettyped:
    case CommandId::kGetset:
    case CommandId::kGetdel:
    case CommandId::kGetex: break;
    default: return 0;
  }
  if (commands_.empty() && used_ == buffer_.size()) return 0;  // alone, as most are: not worth a look
  size_t bytes = 0;
  kv::for_each_key(spec, args, [&](std::string_view key) {
    const replica::Replica* here = server_.groups->find(server_.map->map().owner_of(slot_of(key)));
    if (auto value = here ? here->machine().table().find(key) : std::nullopt) bytes += value->bytes.size();
  });
  return bytes;
}

bool RespSession::refuse_for_memory(const kv::CommandSpec& spec, Args args) {
  if (server_.max_memory_bytes == 0 || !server_.groups || !spec.is(kv::kDenyOom)) return false;
  const uint16_t slot = kv::slot_of_command(spec, args);
  const replica::Replica* here =
      slot == kv::kNoSlot ? nullptr : server_.groups->find(server_.map->map().owner_of(slot));
  if (!here || server_.groups->bytes_used() + here->machine().growth(spec, args) <= server_.max_memory_bytes)
    return false;
  server_.env.trace.reached(Probe::out_of_memory_refused);
  return true;
}

void RespSession::take_data(const kv::CommandSpec& spec, Args args) {
  if (!server_.router) return answer_error(kStarting);
  if (refuse_for_memory(spec, args)) return answer_error(kv::kOutOfMemory);
  if (auto moved = redirect(spec, args)) return answer_error(*moved);
  // Arguments of inline commands lie in the parser, which reuses their place.
  std::vector<std::string_view> kept;
  const char* begin = buffer_.data();
  const bool in_buffer = std::all_of(args.begin(), args.end(), [&](std::string_view arg) {
    return arg.data() >= begin && arg.data() + arg.size() <= begin + buffer_.size();
  });
  if (!in_buffer) {
    for (std::string_view arg : args) kept.push_back(copies_.emplace_back(arg));
    args = kept;
  }
  if (sequence_ != 0 && !session_failure_.empty()) {
    sequence_ = 0;
    return answer_error(session_failure_);
  }
  reply_bytes_ += expected_reply_bytes(spec, args);
  add_command(spec, args, next_meta());
}

// Of a command that another node is to be asked for, by a client that knows the slot map.
std::optional<std::string> RespSession::redirect(const kv::CommandSpec& spec, Args args) const {
  if (!client_.redirected || !server_.shards()) return std::nullopt;
  const uint16_t slot = kv::slot_of_command(spec, args);
  const shard::Shard* shard =
      slot == kv::kNoSlot ? nullptr : server_.map->map().shard(server_.map->map().owner_of(slot));
  if (!shard) return std::nullopt;
  const replica::Replica* here = server_.groups->find(shard->group());
  if (here && (here->raft().role() == raft::Role::kLeader || (client_.readonly && spec.is(kv::kRead))))
    return std::nullopt;
  // What is no news here: where the map says that this node leads, it forwards.
  if (shard->last.leader == server_.identity.node) return std::nullopt;
  return moved_text({*server_.shards(), server_.identity.node, server_.alive}, slot);
}

void RespSession::add_command(const kv::CommandSpec& spec, Args args, const kv::CommandMeta& meta) {
  const size_t at = commands_.items().size();
  commands_.add(spec, args, meta);
  slots_.push_back({.kind = Slot::Kind::kBatch,
                    .protocol = client_.protocol,
                    .nth = client_.commands,
                    .silent = silent_ || skip_next_,
                    .begin = at,
                    .end = at + 1});
  skip_next_ = false;
}

size_t RespSession::shards() const {
  return server_.map ? std::max<size_t>(server_.map->map().shards().size(), 2) - 1 : 1;
}

void RespSession::queue(const kv::CommandSpec& spec, Args args) {
  auto refuse = [&](std::string_view why) {
    mode_ = Mode::kAborted;
    answer_error(why);
  };
  if (spec.is(kv::kNoMulti) || spec.id == CommandId::kSessionResume || spec.id == CommandId::kSessionSeq ||
      spec.id == CommandId::kClientReply)
    return refuse(kv::kNotInTransaction);
  if (!spec.is(kv::kLocal) && refuse_for_memory(spec, args)) return refuse(kv::kOutOfMemory);
  if (!spec.is(kv::kLocal))
    if (auto why = refuse_in_transaction(spec, args, shards(), transaction_slot_)) return refuse(*why);
  Queued item{&spec, {}};
  for (std::string_view arg : args) {
    item.args.emplace_back(arg);
    queued_bytes_ += arg.size() + 4;
  }
  queued_bytes_ += kv::kBatchCommandBytes;
  if (queued_.size() >= limits::kMaxTransactionCommands || queued_bytes_ > limits::kMaxCommandBytes)
    return refuse("ERR transaction exceeds maximum allowed size");
  queued_.push_back(std::move(item));
  answer([](std::string& out) { protocol::put_simple(out, "QUEUED"); });
}

void RespSession::exec() {
  if (mode_ == Mode::kPlain) return answer_error("ERR EXEC without MULTI");
  if (mode_ == Mode::kAborted) {
    leave_transaction();
    return answer_error("EXECABORT Transaction discarded because of previous errors.");
  }
  if (!server_.router) {
    leave_transaction();
    return answer_error(kStarting);
  }
  if (sequence_ != 0 && !session_failure_.empty()) {
    sequence_ = 0;
    leave_transaction();
    return answer_error(session_failure_);
  }
  // A shard may have been split meanwhile.
  for (const Queued& item : queued_) {
    const std::vector<std::string_view> args(item.args.begin(), item.args.end());
    const auto why =
        item.spec->is(kv::kLocal) ? std::nullopt : refuse_in_transaction(*item.spec, args, shards(), transaction_slot_);
    if (!why) continue;
    leave_transaction();
    sequence_ = 0;
    return answer_error(fmt::format("EXECABORT Transaction discarded because of: {}", why->substr(why->find(' ') + 1)));
  }
  Slot slot{.kind = Slot::Kind::kTransaction,
            .protocol = client_.protocol,
            .nth = client_.commands,
            .silent = silent_ || skip_next_,
            .begin = commands_.items().size()};
  skip_next_ = false;
  const kv::CommandMeta numbered = next_meta();
  const size_t data = static_cast<size_t>(
      std::count_if(queued_.begin(), queued_.end(), [](const Queued& q) { return !q.spec->is(kv::kLocal); }));
  size_t nth = 0;
  for (Queued& item : queued_) {
    std::vector<std::string_view> args;
    for (std::string& arg : item.args) args.push_back(copies_.emplace_back(std::move(arg)));
    if (item.spec->is(kv::kLocal)) {
      // Its reply is made now and put in its place later.
      std::string& reply = copies_.emplace_back();
      execute_local(server_, client_, *item.spec, args, reply);
      slot.parts.push_back(static_cast<int>(copies_.size() - 1));
      continue;
    }
    kv::CommandMeta meta = numbered;
    meta.flags = kv::kInTransaction;
    if (nth == 0) meta.flags |= kv::kFirstOfTransaction;
    if (++nth == data) meta.flags |= kv::kLastOfTransaction;
    commands_.add(*item.spec, args, meta);
    slot.parts.push_back(-1);
  }
  slot.end = commands_.items().size();
  slots_.push_back(std::move(slot));
  leave_transaction();
}

void RespSession::session(const kv::CommandSpec& spec, Args args) {
  auto number = protocol::parse_integer(args[2]);
  if (!number || *number <= 0) return answer_error(kv::kNotAnInteger);
  if (spec.id == CommandId::kSessionResume) return resume(SessionId(static_cast<uint64_t>(*number)));
  if (!session_) return answer_error("ERR no session: use SESSION OPEN, then SESSION RESUME");
  uint64_t ack = ack_;
  if (args.size() == 5) {
    auto mark = protocol::parse_integer(args[4]);
    if (!same_word(args[3], "ack")) return answer_error(kv::kSyntaxError);
    if (!mark || *mark < 0) return answer_error(kv::kNotAnInteger);
    ack = static_cast<uint64_t>(*mark);
  } else if (args.size() != 3) {
    return answer_error(kv::kSyntaxError);
  }
  sequence_ = static_cast<uint64_t>(*number);
  ack_ = ack;
  if (session_failure_.empty() && server_.env.clock.now() < touched_at_ + kTouchInterval) return answer(put_ok);
  if (session_failure_.starts_with("EXPIRED")) return answer_error(session_failure_);
  ask_registry();  // once more: it could not be reached, or is to hear that the session is in use
}

// Asks the registry whether it knows the session; the answer is taken in assemble(), before anything that follows.
void RespSession::resume(SessionId session) {
  session_ = session;
  sequence_ = 0;
  ack_ = 0;
  ask_registry();
}

void RespSession::ask_registry() {
  touched_at_ = server_.env.clock.now();
  session_failure_ = kStarting;
  if (!server_.router) return answer_error(kStarting);
  std::vector<std::string_view> args;
  for (std::string& word : kv::touch_command(session_)) args.push_back(copies_.emplace_back(std::move(word)));
  resuming_ = true;
  add_command(*kv::find_command(args[0]), args, {});
}

void RespSession::execute_batch() {
  if (slots_.empty()) return;
  if (!commands_.empty()) {
    Router::Admitted admitted;
    if (server_.config.observer) {
      nth_.resize(commands_.items().size());
      for (const Slot& slot : slots_)
        if (slot.kind != Slot::Kind::kLocal)
          for (size_t i = slot.begin; i < slot.end; ++i) nth_[i] = slot.nth;
      admitted = [this](size_t command, const kv::Origin& origin, size_t position) {
        server_.config.observer->admitted(stream_.id(), nth_[command], origin, position);
      };
    }
    server_.router->execute(commands_, admitted, answers_,
                            client_.readonly ? Router::Reads::kHere : Router::Reads::kLeader);
  }
  assemble();
  slots_.clear();
  local_.clear();
  commands_.clear();
  reply_bytes_ = 0;
  copies_.clear();
}

std::string RespSession::failure(size_t command) {
  std::string out;
  if (answers_.outcome(command) == Outcome::kNotDone) {
    put_error(out, "CLUSTERDOWN Hash slot not served");
  } else if (answers_.outcome(command) == Outcome::kUnknown) {
    ++server_.stats.unknown_outcomes;
    put_error(out, fmt::format("UNCERTAIN {}; it may or may not have been executed", answers_.text(command)));
  }
  return out;
}

// The session's commands are refused, with the same words, until it is known.
void RespSession::note_resumed() {
  if (!std::exchange(resuming_, false)) return;
  const size_t command = answers_.size() - 1;
  const std::string_view reply = answers_.text(command);
  if (answers_.outcome(command) != Outcome::kDone)
    session_failure_ = "CLUSTERDOWN it cannot be found out whether the session is known";
  else
    session_failure_ = reply[0] == '-' ? reply.substr(1, reply.find('\r') - 1) : std::string_view();
}

void RespSession::assemble() {
  const Slot* asked_registry = resuming_ ? &slots_.back() : nullptr;
  note_resumed();
  std::string translated;
  auto put = [&](const Slot& slot, std::string_view canonical) {
    if (slot.silent) return;
    if (slot.protocol == 3)
      protocol::to_resp3(canonical, out_);
    else
      protocol::downgrade(canonical, out_);
  };
  for (const Slot& slot : slots_) {
    if (slot.kind == Slot::Kind::kLocal) {
      put(slot, std::string_view(local_).substr(slot.begin, slot.end - slot.begin));
      continue;
    }
    // A transaction has one outcome.
    std::string failed = slot.begin == slot.end ? std::string() : failure(slot.begin);
    if (asked_registry == &slot && !session_failure_.empty()) failed = fmt::format("-{}\r\n", session_failure_);
    if (!failed.empty()) {
      count_error(failed);
      put(slot, failed);
      continue;
    }
    if (slot.kind == Slot::Kind::kBatch) {
      std::string_view reply = answers_.text(slot.begin);
      if (reply[0] == '-') count_error(reply);
      put(slot, reply);
      continue;
    }
    translated.clear();
    protocol::put_array(translated, slot.parts.size());
    size_t next = slot.begin;
    for (int part : slot.parts)
      translated += part < 0 ? answers_.text(next++) : std::string_view(copies_[static_cast<size_t>(part)]);
    put(slot, translated);
  }
  // A client that reads nothing cannot make this grow: the next batch is not read before this is written.
  if (out_.size() > limits::kMaxReplyBytes) closing_ = true;
}

}  // namespace mneme::node
