#include "core/node/sexp_session.h"

#include <deque>

#include "core/kv/command.h"
#include "core/node/peers.h"
#include "core/protocol/reply_reader.h"
#include "core/protocol/request.h"
#include "core/protocol/sexp.h"

namespace mneme::node {

using protocol::Progress;
using protocol::SexpCommand;
using protocol::SexpValue;
using replica::Outcome;

namespace {

// The error's sentence without its '-' and line end.
std::string_view sentence(std::string_view reply) { return reply.substr(1, reply.size() - 3); }

void answer_get(protocol::SexpReplyWriter& writer, const SexpCommand& command, std::string_view reply) {
  auto parsed = protocol::parse_reply(reply);
  CHECK(parsed.has_value());
  if (parsed->elements.size() != 2) return writer.missing(command.key);
  const protocol::Reply& value = parsed->elements[1];
  if (parsed->elements[0].text == "num")
    writer.got(command.key, SexpValue::number(static_cast<int32_t>(value.integer)));
  else
    writer.got(command.key, SexpValue::string(value.text));
}

void execute(Server& server, const std::vector<SexpCommand>& wanted, std::string& out) {
  replica::CommandList commands;
  std::deque<std::string> texts;
  std::vector<std::string> refusals(wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    const SexpCommand& command = wanted[i];
    std::vector<std::string_view> args;
    const bool set_number = command.kind == SexpCommand::Kind::kSet && command.value.kind == SexpValue::Kind::kNum;
    switch (command.kind) {
      case SexpCommand::Kind::kSet: args.push_back(set_number ? "MNEME.SETNUM" : "SET"); break;
      case SexpCommand::Kind::kGet: args.push_back("MNEME.GETTYPED"); break;
      case SexpCommand::Kind::kDelete: args.push_back("DEL"); break;
    }
    args.push_back(texts.emplace_back(command.key.plain()));
    if (command.kind == SexpCommand::Kind::kSet) args.push_back(texts.emplace_back(command.value.plain()));
    if (const kv::CommandSpec* spec = kv::check(args, refusals[i])) commands.add(*spec, args);
  }
  Answers answers;
  if (!commands.empty()) {
    std::string_view refusal;
    if (commands.encoded_bytes() > limits::kMaxCommandBytes)
      refusal = "the commands of one frame exceed the maximum allowed size";
    else if (!server.router)
      refusal = "the node is starting, or its cluster is being formed";
    if (refusal.empty()) {
      server.router->execute(commands, {}, answers);
    } else {
      std::vector<size_t> all(commands.items().size());
      for (size_t i = 0; i < all.size(); ++i) all[i] = i;
      answers.reset(all.size());
      answers.not_done(all, Outcome::kNotDone, refusal);
    }
  }
  protocol::SexpReplyWriter writer(out, wanted.size());
  size_t next = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (!refusals[i].empty()) {
      writer.error(sentence(refusals[i]));
      continue;
    }
    const size_t command = next++;
    const std::string_view reply = answers.text(command);
    if (answers.outcome(command) == Outcome::kNotDone) {
      writer.error(reply);
      continue;
    }
    if (answers.outcome(command) == Outcome::kUnknown) {
      writer.unknown(reply);
      continue;
    }
    if (reply[0] == '-') {
      writer.error(sentence(reply));
    } else if (wanted[i].kind == SexpCommand::Kind::kSet) {
      writer.saved();
    } else if (wanted[i].kind == SexpCommand::Kind::kGet) {
      answer_get(writer, wanted[i], reply);
    } else if (reply == ":1\r\n") {
      writer.deleted(wanted[i].key);
    } else {
      writer.missing(wanted[i].key);
    }
  }
  writer.finish();
}

}  // namespace

void serve_sexp(Server& server, env::Stream& stream, std::string buffer) {
  std::string out;
  for (;;) {
    auto frame = protocol::next_sexp_frame(buffer);
    if (frame.progress == Progress::kMore) {
      auto got = read_more(stream, buffer, frame.need);
      if (!got || *got == 0) return;
      continue;
    }
    out.clear();
    if (frame.progress == Progress::kError) {
      protocol::put_sexp_error_frame(out, frame.error);
      (void)stream.write(as_bytes(out));
      return;
    }
    auto commands = protocol::parse_commands(frame.body);
    if (commands)
      execute(server, *commands, out);
    else
      protocol::put_sexp_error_frame(out, commands.error().message);
    buffer.erase(0, frame.consumed);
    if (!stream.write(as_bytes(out))) return;
  }
}

}  // namespace mneme::node
