// mneme client: sends S-expression commands to a node and prints its answers.
#include <fmt/format.h>

#include "cmd/common.h"
#include "core/fiber/scope.h"
#include "core/protocol/sexp.h"
#include "net/event_loop.h"
#include "net/tcp.h"

namespace mneme::cmd {

namespace {

struct Flags {
  std::string host = "127.0.0.1";
  uint16_t port = 6399;
  std::string commands;
  int64_t timeout_ms = 10'000;
};

Result<std::string> ask(fiber::Scheduler& scheduler, net::EventLoop& loop, const Flags& flags) {
  net::TcpNetwork network(loop);
  return fiber::with_deadline(scheduler, loop.timers(), loop.now() + std::chrono::milliseconds(flags.timeout_ms),
                              [&]() -> Result<std::string> {
                                auto stream = TRY(network.connect({flags.host, flags.port}));
                                std::string frame;
                                for (int shift : {24, 16, 8, 0})
                                  frame += static_cast<char>(flags.commands.size() >> shift & 0xff);
                                frame += flags.commands;
                                TRY(stream->write(as_bytes(frame)));
                                std::string buffer;
                                for (;;) {
                                  auto answer = protocol::next_sexp_frame(buffer);
                                  if (answer.progress == protocol::Progress::kError)
                                    return fail(ErrorCode::kCorrupt, std::string(answer.error));
                                  if (answer.progress == protocol::Progress::kDone) return std::string(answer.body);
                                  uint8_t chunk[16384];
                                  size_t got = TRY(stream->read(chunk));
                                  if (got == 0)
                                    return fail(ErrorCode::kClosed, "the node closed the connection without an answer");
                                  buffer.append(reinterpret_cast<char*>(chunk), got);
                                }
                              });
}

int run_client(const Flags& flags) {
  if (auto parsed = protocol::parse_commands(flags.commands); !parsed)
    return complain(kUsage, fmt::format("{}; write for instance '((Set (String k) (Num 1)) (Get (String k)))'",
                                        parsed.error().message));
  int exit = kOk;
  fiber::Scheduler scheduler;
  net::EventLoop loop(scheduler);
  scheduler.run(loop, nullptr, [&] {
    auto answer = ask(scheduler, loop, flags);
    if (!answer) {
      exit = complain(kUnavailable, fmt::format("{}:{}: {}", flags.host, flags.port, answer.error().message));
      return;
    }
    fmt::print("{}\n", *answer);
    auto replies = protocol::parse_sexp_replies(*answer);
    if (!replies) {
      exit = complain(kUnavailable, replies.error().message);
      return;
    }
    for (auto& reply : *replies)
      if (reply.kind == protocol::SexpReply::Kind::kError || reply.kind == protocol::SexpReply::Kind::kUnknown)
        exit = kViolated;
  });
  return exit;
}

}  // namespace

void add_client(CLI::App& app, Run& run) {
  auto flags = std::make_shared<Flags>();
  CLI::App* client = app.add_subcommand("client", "Send S-expression commands to a node; redis-cli speaks RESP");
  client->set_help_flag("--help", "print this help");
  client->add_option("-h,--host", flags->host, "node's host")->capture_default_str();
  client->add_option("-p,--port", flags->port, "node's port")->capture_default_str();
  client->add_option("--timeout", flags->timeout_ms, "milliseconds")
      ->check(CLI::Range(1, 3'600'000))
      ->capture_default_str();
  client->add_option("COMMANDS", flags->commands, "a list of commands")->required();
  client->footer(
      "Examples:\n  mneme client '((Set (String city) (String Oslo)) (Get (String city)))'\n"
      "  mneme client -p 7001 '((Delete (String city)))'");
  client->callback([flags, &run] { run = [flags] { return run_client(*flags); }; });
}

}  // namespace mneme::cmd
