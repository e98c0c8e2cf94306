// mneme cluster: looks at a running cluster and changes it, through any of its nodes.
#include <fmt/format.h>
#include <unistd.h>

#include <map>
#include <nlohmann/json.hpp>

#include "cmd/common.h"
#include "core/fiber/scope.h"
#include "core/protocol/reply_reader.h"
#include "core/protocol/request.h"
#include "net/event_loop.h"
#include "net/tcp.h"

namespace mneme::cmd {

namespace {

using Json = nlohmann::ordered_json;

constexpr Duration kTransferPatience{10s};
constexpr Duration kLook{10ms};  // how often a transfer's progress is asked for

struct Flags {
  std::string node = "127.0.0.1:6399";
  int64_t timeout_ms = 2'000;
  bool json = false;
  uint64_t to = 0;
};

class Asker {
 public:
  Asker(fiber::Scheduler& scheduler, net::EventLoop& loop, Duration timeout)
      : scheduler_(scheduler), loop_(loop), network_(loop), timeout_(timeout) {}

  // One command on a connection of its own. An error reply is kRefused.
  Result<std::string> ask(const std::string& address, std::initializer_list<std::string_view> command) {
    return fiber::with_deadline(scheduler_, loop_.timers(), loop_.now() + timeout_, [&]() -> Result<std::string> {
      auto stream = TRY(network_.connect(TRY(env::parse_address(address))));
      std::string request;
      protocol::put_command(request, command);
      TRY(stream->write(as_bytes(request)));
      protocol::ReplyParser parser;
      std::string buffer;
      for (;;) {
        auto step = parser.next(buffer);
        if (step.progress == protocol::Progress::kError) return std::unexpected(std::move(step.error));
        if (step.progress == protocol::Progress::kDone) {
          auto reply = TRY(protocol::parse_reply(std::string_view(buffer).substr(0, step.length)));
          if (reply.kind == protocol::Reply::Kind::kError) return fail(ErrorCode::kRefused, std::move(reply.text));
          return std::move(reply.text);
        }
        uint8_t chunk[16384];
        size_t got = TRY(stream->read(chunk));
        if (got == 0) return fail(ErrorCode::kClosed, "the node closed the connection without an answer");
        buffer.append(reinterpret_cast<char*>(chunk), got);
      }
    });
  }
  Result<Json> status(const std::string& address) {
    auto status = Json::parse(TRY(ask(address, {"MNEME.STATUS"})), nullptr, false);
    if (!status.is_object() || !status.contains("members"))
      return fail(ErrorCode::kCorrupt, "this is no node of Mneme, or one of another version");
    return status;
  }
  void sleep() { loop_.sleep_for(scheduler_, kLook); }
  Instant now() const { return loop_.now(); }

 private:
  fiber::Scheduler& scheduler_;
  net::EventLoop& loop_;
  net::TcpNetwork network_;
  Duration timeout_;
};

// What is known of the whole cluster: what the asked node says, and what each member says of itself.
struct Survey {
  Json asked;
  std::map<uint64_t, Json> nodes;  // by id; one that did not answer has "error"

  const Json* leader() const {
    const Json* newest = nullptr;
    for (auto& [id, node] : nodes)
      if (node.value("role", "") == "leader" && (!newest || node["term"] > (*newest)["term"])) newest = &node;
    return newest;
  }
};

Result<Survey> survey(Asker& asker, const std::string& address) {
  Survey all;
  all.asked = TRY(asker.status(address));
  all.nodes[all.asked["node"]] = all.asked;
  for (const Json& member : all.asked["members"]) {
    const uint64_t id = member["node"];
    if (all.nodes.contains(id)) continue;
    auto status = asker.status(member["address"]);
    all.nodes[id] = status ? std::move(*status)
                           : Json{{"node", id}, {"address", member["address"]}, {"error", status.error().message}};
  }
  return all;
}

// What somebody should look into, a sentence each.
std::vector<std::string> troubles(const Survey& all) {
  std::vector<std::string> out;
  if (!all.asked.value("ready", false)) {
    out.push_back("the cluster is being founded: every node of --cluster must be started once");
    return out;
  }
  if (!all.leader()) out.push_back("nobody leads: a majority of the voters must be up and reach each other");
  for (auto& [id, node] : all.nodes) {
    if (node.contains("error"))
      out.push_back(fmt::format("n{} does not answer: {}", id, node["error"].get<std::string>()));
    else if (node.value("cluster", "") != all.asked.value("cluster", ""))
      out.push_back(fmt::format("n{} belongs to another cluster, {}", id, node.value("cluster", "")));
    else if (node.value("suspect", false))
      out.push_back(fmt::format("n{} lost a part of its log and waits for a leader to restore it", id));
  }
  return out;
}

void print(const Survey& all) {
  const Json* leader = all.leader();
  const Colors colors = colors_for(STDOUT_FILENO);
  fmt::print("cluster {}, {} node{}, ", all.asked.value("cluster", ""), all.nodes.size(),
             all.nodes.size() == 1 ? "" : "s");
  if (leader)
    fmt::print("n{} leads in term {}\n\n", (*leader)["node"].get<uint64_t>(), (*leader)["term"].get<uint64_t>());
  else
    fmt::print("nobody leads\n\n");
  std::map<uint64_t, std::string> roles;
  for (const Json& member : (leader ? *leader : all.asked)["members"])
    roles[member["node"]] = member["role"].get<std::string>();
  fmt::print("  {:<6} {:<22} {:<9} {:<13} {:>14} {:>9}\n", "node", "address", "member", "state", "applied", "behind");
  for (auto& [id, node] : all.nodes) {
    const bool answers = !node.contains("error");
    std::string applied = "-", behind = "-", state = answers ? node.value("role", "starting") : "no answer";
    if (answers && node.contains("applied")) {
      applied = grouped(node["applied"]);
      if (leader) {
        const uint64_t commit = (*leader)["commit"];
        behind = grouped(commit - std::min<uint64_t>(commit, node["applied"]));
      }
      if (node.value("suspect", false)) state = "suspect";
    }
    fmt::print("  {:<6} {:<22} {:<9} {}{:<13}{} {:>14} {:>9}\n", fmt::format("n{}", id),
               node["address"].get<std::string>(), roles[id], answers ? "" : colors.red, state,
               answers ? "" : colors.reset, applied, behind);
  }
  const auto wrong = troubles(all);
  if (!wrong.empty()) fmt::print("\n");
  for (const std::string& sentence : wrong) fmt::print("{}{}{}\n", colors.yellow, sentence, colors.reset);
}

int show_status(Asker& asker, const Flags& flags) {
  auto all = survey(asker, flags.node);
  if (!all) return complain(kUnavailable, fmt::format("{}: {}", flags.node, all.error().message));
  if (flags.json) {
    const Json* leader = all->leader();
    Json out{{"cluster", all->asked.value("cluster", "")},
             {"leader", leader ? (*leader)["node"].get<uint64_t>() : 0},
             {"nodes", Json::array()},
             {"wrong", troubles(*all)}};
    for (auto& [id, node] : all->nodes) out["nodes"].push_back(node);
    fmt::print("{}\n", out.dump());
  } else {
    print(*all);
  }
  return all->leader() ? kOk : kUnavailable;
}

int transfer(Asker& asker, const Flags& flags) {
  auto all = survey(asker, flags.node);
  if (!all) return complain(kUnavailable, fmt::format("{}: {}", flags.node, all.error().message));
  const Json* leader = all->leader();
  if (!leader) return complain(kUnavailable, "nobody leads; `mneme cluster status` says more");
  const uint64_t from = (*leader)["node"];
  auto target = all->nodes.find(flags.to);
  if (target == all->nodes.end())
    return complain(kUsage,
                    fmt::format("n{} is not in this cluster; `mneme cluster status` lists its nodes", flags.to));
  if (from != flags.to) {
    if (target->second.contains("error"))
      return complain(kUnavailable, fmt::format("n{} does not answer: {}; nothing was changed", flags.to,
                                                target->second["error"].get<std::string>()));
    if (auto asked = asker.ask((*leader)["address"], {"MNEME.TRANSFER", std::to_string(flags.to)}); !asked)
      return complain(kUnavailable, fmt::format("n{}: {}", from, asked.error().message));
  }
  const Instant begun = asker.now();
  for (;;) {
    auto status = asker.status(target->second["address"]);
    if (status && status->value("role", "") == "leader") {
      const auto ms = (asker.now() - begun).count() / 1'000'000;
      if (flags.json)
        fmt::print("{}\n", Json{{"from", from}, {"to", flags.to}, {"term", (*status)["term"]}, {"ms", ms}}.dump());
      else if (from == flags.to)
        fmt::print("n{} leads already, in term {}\n", flags.to, (*status)["term"].get<uint64_t>());
      else
        fmt::print("n{} leads in term {}, {} ms after n{} was asked\n", flags.to, (*status)["term"].get<uint64_t>(), ms,
                   from);
      return kOk;
    }
    if (asker.now() - begun > kTransferPatience)
      return complain(kUnavailable, fmt::format("n{} did not take over in {} s; n{} goes on if it can, and `mneme "
                                                "cluster status` says who leads",
                                                flags.to, kTransferPatience / 1s, from));
    asker.sleep();
  }
}

int run_with(const Flags& flags, int (*what)(Asker&, const Flags&)) {
  if (auto address = env::parse_address(flags.node); !address)
    return complain(kUsage, fmt::format("--node: {}", address.error().message));
  int exit = kOk;
  fiber::Scheduler scheduler;
  net::EventLoop loop(scheduler);
  scheduler.run(loop, nullptr, [&] {
    Asker asker(scheduler, loop, std::chrono::milliseconds(flags.timeout_ms));
    exit = what(asker, flags);
  });
  return exit;
}

void add_common(CLI::App& app, Flags& flags) {
  app.add_option("--node", flags.node, "HOST:PORT of any node of the cluster")
      ->envname("MNEME_NODE")
      ->capture_default_str();
  app.add_option("--timeout", flags.timeout_ms, "milliseconds that a node may take to answer")
      ->check(CLI::Range(1, 3'600'000))
      ->capture_default_str();
  app.add_flag("--json", flags.json, "one JSON object on stdout");
}

}  // namespace

void add_cluster(CLI::App& app, Run& run) {
  CLI::App* cluster = app.add_subcommand("cluster", "Look at a running cluster, and change it");
  cluster->require_subcommand(1);
  cluster->footer("Examples:\n  mneme cluster status --node 127.0.0.1:7001\n  mneme cluster transfer 2");

  auto flags = std::make_shared<Flags>();
  CLI::App* status = cluster->add_subcommand("status", "Who leads, who lags, what is wrong");
  add_common(*status, *flags);
  status->footer("Examples:\n  mneme cluster status\n  mneme cluster status --node 127.0.0.1:7001 --json");
  status->callback([flags, &run] { run = [flags] { return run_with(*flags, show_status); }; });

  CLI::App* move = cluster->add_subcommand("transfer", "Hand leadership to another node");
  add_common(*move, *flags);
  move->add_option("TO", flags->to, "id of the node that is to lead")->required()->check(CLI::PositiveNumber);
  move->footer("Examples:\n  mneme cluster transfer 2\n  mneme cluster transfer 3 --node 127.0.0.1:7001 --json");
  move->callback([flags, &run] { run = [flags] { return run_with(*flags, transfer); }; });
}

}  // namespace mneme::cmd
