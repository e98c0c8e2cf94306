#include "core/node/resp_session.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/kv/errors.h"
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
      sequence_ = 0;
      client_.name.clear();
      answer([](std::string& out) { protocol::put_simple(out, "RESET"); });
      client_.protocol = 2;
      silent_ = false;
      return;
    default: break;
  }
  if (mode_ != Mode::kPlain) return queue(*spec, args);
  switch (spec->id) {
    case CommandId::kSessionResume:
    case CommandId::kSessionSeq: return session(*spec, args);
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
    if (auto value = server_.replica->machine().table().find(key)) bytes += value->bytes.size();
  });
  return bytes;
}

bool RespSession::refuse_for_memory(const kv::CommandSpec& spec, Args args) {
  if (server_.max_memory_bytes == 0 || !server_.replica || !spec.is(kv::kDenyOom)) return false;
  const kv::StateMachine& machine = server_.replica->machine();
  if (machine.bytes_used() + machine.growth(spec, args) <= server_.max_memory_bytes) return false;
  server_.env.trace.reached(Probe::out_of_memory_refused);
  return true;
}

void RespSession::take_data(const kv::CommandSpec& spec, Args args) {
  if (!server_.router) return answer_error("LOADING the node is starting, or its cluster is being formed");
  if (refuse_for_memory(spec, args)) return answer_error(kv::kOutOfMemory);
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
  const size_t at = commands_.items().size();
  reply_bytes_ += expected_reply_bytes(spec, args);
  commands_.add(spec, args, next_meta());
  slots_.push_back({.kind = Slot::Kind::kBatch,
                    .protocol = client_.protocol,
                    .nth = client_.commands,
                    .silent = silent_ || skip_next_,
                    .begin = at,
                    .end = at + 1});
  skip_next_ = false;
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
  bool crossed = false;
  kv::for_each_key(spec, args, [&](std::string_view key) {
    const uint16_t slot = slot_of(key);
    if (transaction_slot_ == kv::kNoSlot) transaction_slot_ = slot;
    crossed |= slot != transaction_slot_;
  });
  if (crossed) return refuse("CROSSSLOT Keys in request don't hash to the same slot");
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
    return answer_error("LOADING the node is starting, or its cluster is being formed");
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
  if (spec.id == CommandId::kSessionResume) {
    session_ = SessionId(static_cast<uint64_t>(*number));
    sequence_ = 0;
    ack_ = 0;
    return answer(put_ok);
  }
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
  answer(put_ok);
}

void RespSession::execute_batch() {
  if (slots_.empty()) return;
  replica::ReplySet replies;
  std::string reason;
  Outcome outcome = Outcome::kDone;
  if (!commands_.empty()) {
    const kv::Origin origin = server_.router->next_origin();
    if (server_.config.observer) {
      for (const Slot& slot : slots_)
        if (slot.kind != Slot::Kind::kLocal)
          server_.config.observer->admitted(stream_.id(), slot.nth, origin, slot.begin);
    }
    outcome = server_.router->execute(origin, commands_, replies, reason);
    if (outcome == Outcome::kUnknown) ++server_.stats.unknown_outcomes;
    CHECK(outcome != Outcome::kDone || replies.size() == commands_.items().size());
  }
  assemble(outcome, replies, reason);
  slots_.clear();
  local_.clear();
  commands_.clear();
  reply_bytes_ = 0;
  copies_.clear();
}

void RespSession::assemble(Outcome outcome, const replica::ReplySet& replies, std::string_view reason) {
  std::string translated;
  auto put = [&](const Slot& slot, std::string_view canonical) {
    if (slot.silent) return;
    if (slot.protocol == 3)
      protocol::to_resp3(canonical, out_);
    else
      protocol::downgrade(canonical, out_);
  };
  std::string failure;
  if (outcome == Outcome::kNotDone)
    put_error(failure, "CLUSTERDOWN Hash slot not served");
  else if (outcome == Outcome::kUnknown)
    put_error(failure, fmt::format("UNCERTAIN {}; it may or may not have been executed", reason));
  for (const Slot& slot : slots_) {
    if (slot.kind == Slot::Kind::kLocal) {
      put(slot, std::string_view(local_).substr(slot.begin, slot.end - slot.begin));
      continue;
    }
    if (!failure.empty() && slot.begin != slot.end) {
      count_error(failure);
      put(slot, failure);
      continue;
    }
    if (slot.kind == Slot::Kind::kBatch) {
      std::string_view reply = replies[slot.begin];
      if (reply[0] == '-') count_error(reply);
      put(slot, reply);
      continue;
    }
    translated.clear();
    protocol::put_array(translated, slot.parts.size());
    size_t next = slot.begin;
    for (int part : slot.parts)
      translated += part < 0 ? replies[next++] : std::string_view(copies_[static_cast<size_t>(part)]);
    put(slot, translated);
  }
  // A client that reads nothing cannot make this grow: the next batch is not read before this is written.
  if (out_.size() > limits::kMaxReplyBytes) closing_ = true;
}

}  // namespace mneme::node
