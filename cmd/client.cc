// mneme client: sends a list of S-expression commands to a node, on a connection of its own, or a command of Redis's to
// the node that serves it, by the client library, and prints the answers.
#include "core/client/client.h"

#include <fmt/format.h>

#include "cmd/common.h"
#include "core/fiber/scope.h"
#include "core/protocol/sexp.h"
#include "net/event_loop.h"
#include "net/random.h"
#include "net/tcp.h"
#include "net/trace.h"

namespace mneme::cmd {

namespace {

struct Flags {
  std::string host = "127.0.0.1";
  uint16_t port = 6399;
  std::vector<std::string> words;  // one list of commands, or one command
  bool session = false;
  int64_t timeout_ms = 10'000;
};

Result<std::string> ask(fiber::Scheduler& scheduler, net::EventLoop& loop, const Flags& flags) {
  const std::string& commands = flags.words[0];
  net::TcpNetwork network(loop);
  return fiber::with_deadline(scheduler, loop.timers(), loop.now() + std::chrono::milliseconds(flags.timeout_ms),
                              [&]() -> Result<std::string> {
                                auto stream = TRY(network.connect({flags.host, flags.port}));
                                std::string frame;
                                for (int shift : {24, 16, 8, 0})
                                  frame += static_cast<char>(commands.size() >> shift & 0xff);
                                frame += commands;
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

int run_list(const Flags& flags) {
  const std::string& commands = flags.words[0];
  if (auto parsed = protocol::parse_commands(commands); !parsed)
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

// --- By the library

// For a program that has nothing to keep.
class NoDisk final : public env::Disk {
 public:
  Result<std::unique_ptr<env::File>> open(const std::string&, env::OpenMode) override { return none(); }
  Result<std::vector<std::string>> list(const std::string&) override { return none(); }
  Result<void> make_dir(const std::string&) override { return none(); }
  Result<void> rename(const std::string&, const std::string&) override { return none(); }
  Result<void> remove(const std::string&) override { return none(); }
  Result<void> sync_dir(const std::string&) override { return none(); }
  Result<std::unique_ptr<env::DirectoryLock>> lock(const std::string&) override { return none(); }

 private:
  static std::unexpected<Error> none() { return fail(ErrorCode::kUnsupported, "a client has no disk"); }
};

// As redis-cli does when its output is no terminal: a line for everything that is not a list, an empty one for nothing.
void print(const protocol::Reply& reply) {
  using Kind = protocol::Reply::Kind;
  if (reply.kind == Kind::kInteger)
    fmt::print("{}\n", reply.integer);
  else if (reply.elements.empty())
    fmt::print("{}\n", reply.text);
  for (const protocol::Reply& element : reply.elements) print(element);
}

int show(const client::Answer& answer) {
  switch (answer.outcome) {
    case client::Outcome::kNotDone: return complain(kUnavailable, fmt::format("it was not done: {}", answer.why));
    case client::Outcome::kUnknown:
      return complain(kViolated, fmt::format("it is unknown whether it was done, or will be yet: {}", answer.why));
    case client::Outcome::kDone: break;
  }
  auto reply = answer.reply();
  if (!reply) return complain(kUnavailable, reply.error().message);
  if (answer.is_error()) return complain(kViolated, reply->text);
  print(*reply);
  return kOk;
}

int run_command(const Flags& flags) {
  const std::vector<std::string_view> args(flags.words.begin(), flags.words.end());
  if (std::string why = client::why_refused(args); !why.empty())
    return complain(kUsage, fmt::format("{}; redis-cli has a connection of its own", why));
  int exit = kOk;
  fiber::Scheduler scheduler;
  net::EventLoop loop(scheduler);
  net::TcpNetwork network(loop);
  net::SystemRandom random;
  net::StderrTrace trace(loop, env::Level::kError);
  NoDisk disk;
  Env env{scheduler, loop, network, disk, random, trace};
  client::Options options{.seeds = {{flags.host, flags.port}},
                          .sessions = flags.session,
                          .timeout = std::chrono::milliseconds(flags.timeout_ms)};
  scheduler.run(loop, nullptr, [&] {
    auto ended =
        client::with_client(env, std::move(options), [&](client::Client& client) { exit = show(client.call(args)); });
    CHECK(ended.has_value());
  });
  return exit;
}

int run_client(const Flags& flags) {
  const std::string& first = flags.words[0];
  const size_t begin = first.find_first_not_of(" \t\r\n");
  const bool list = flags.words.size() == 1 && begin != std::string::npos && first[begin] == '(';
  return list ? run_list(flags) : run_command(flags);
}

}  // namespace

void add_client(CLI::App& app, Run& run) {
  auto flags = std::make_shared<Flags>();
  CLI::App* client = app.add_subcommand(
      "client", "Send a list of S-expression commands to a node, or one command to the node that serves it");
  client->set_help_flag("--help", "print this help");
  client->add_option("-h,--host", flags->host, "node's host")->capture_default_str();
  client->add_option("-p,--port", flags->port, "node's port")->capture_default_str();
  client->add_option("--timeout", flags->timeout_ms, "milliseconds")
      ->check(CLI::Range(1, 3'600'000))
      ->capture_default_str();
  client->add_flag("--session", flags->session, "exactly once: send a write again that may have been done");
  client->add_option("COMMANDS", flags->words, "a list of commands, or a command's name and arguments")->required();
  client->footer(
      "Examples:\n  mneme client '((Set (String city) (String Oslo)) (Get (String city)))'\n"
      "  mneme client -p 7001 SET city Oslo");
  client->callback([flags, &run] { run = [flags] { return run_client(*flags); }; });
}

}  // namespace mneme::cmd
