// mneme node: a real node, on real sockets and files.
#include "core/node/node.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <csignal>

#include "cmd/common.h"
#include "core/fiber/scope.h"
#include "disk/real_disk.h"
#include "net/event_loop.h"
#include "net/random.h"
#include "net/tcp.h"
#include "net/trace.h"

namespace mneme::cmd {

namespace {

struct Flags {
  uint64_t id = 1;
  std::string listen = "127.0.0.1:6399";
  std::string data = "./mneme-data";
  std::string cluster;
  std::string io = "adaptive";
  std::string log = "info";
  int64_t election_timeout_ms = 1000;
  int64_t heartbeat_ms = 200;
  int64_t request_timeout_ms = 5000;
  uint64_t max_memory_mib = 0;
  uint64_t max_clients = limits::kMaxClients;
  uint64_t segment_mib = limits::kSegmentBytes / limits::kMiB;
  uint64_t checkpoint_mib = 64;
};

// "1=HOST:PORT,2=HOST:PORT"
Result<std::vector<node::Member>> parse_cluster(std::string_view text) {
  std::vector<node::Member> members;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view one = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    const size_t equals = one.find('=');
    uint64_t id = 0;
    for (char c : one.substr(0, std::min(equals, one.size()))) {
      if (c < '0' || c > '9' || id > 1'000'000) {
        id = 0;
        break;
      }
      id = id * 10 + static_cast<uint64_t>(c - '0');
    }
    if (equals == std::string_view::npos || id == 0)
      return fail(ErrorCode::kInvalid, fmt::format("--cluster: '{}' is not ID=HOST:PORT with an id from 1", one));
    auto address = env::parse_address(one.substr(equals + 1));
    if (!address) return fail(ErrorCode::kInvalid, fmt::format("--cluster: {}", address.error().message));
    members.push_back({NodeId(id), std::move(*address)});
  }
  std::sort(members.begin(), members.end(), [](auto& a, auto& b) { return a.id < b.id; });
  for (size_t i = 1; i < members.size(); ++i)
    if (members[i].id == members[i - 1].id)
      return fail(ErrorCode::kInvalid, fmt::format("--cluster names node {} twice", members[i].id.value));
  for (size_t i = 1; i < members.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (members[i].address == members[j].address)
        return fail(ErrorCode::kInvalid,
                    fmt::format("--cluster gives nodes {} and {} the same address {}", members[j].id.value,
                                members[i].id.value, env::to_string(members[i].address)));
  if (members.size() > limits::kMaxNodes)
    return fail(ErrorCode::kInvalid,
                fmt::format("--cluster names {} nodes, at most {} are possible", members.size(), limits::kMaxNodes));
  return members;
}

int exit_for(const Error& error) {
  switch (error.code) {
    case ErrorCode::kBusy:
    case ErrorCode::kUnavailable:
    case ErrorCode::kTimeout: return kUnavailable;
    case ErrorCode::kIo:
    case ErrorCode::kNoSpace:
    case ErrorCode::kCorrupt: return kIo;
    default: return kConfiguration;
  }
}

int run_node(const Flags& flags, bool listen_given) {
  node::Config config;
  config.id = NodeId(flags.id);
  if (!flags.cluster.empty()) {
    auto members = parse_cluster(flags.cluster);
    if (!members) return complain(kUsage, members.error().message);
    config.cluster = std::move(*members);
    auto self = std::find_if(config.cluster.begin(), config.cluster.end(), [&](auto& m) { return m.id == config.id; });
    if (self == config.cluster.end())
      return complain(kUsage,
                      fmt::format("--cluster does not name this node: add {}=HOST:PORT or say another --id", flags.id));
    config.listen = self->address;
  }
  if (config.cluster.empty() || listen_given) {
    auto address = env::parse_address(flags.listen);
    if (!address) return complain(kUsage, fmt::format("--listen: {}", address.error().message));
    config.listen = std::move(*address);
  }
  if (flags.heartbeat_ms * 2 > flags.election_timeout_ms)
    return complain(kUsage, "--heartbeat must be at most half of --election-timeout");
  config.election_timeout = std::chrono::milliseconds(flags.election_timeout_ms);
  config.heartbeat_interval = std::chrono::milliseconds(flags.heartbeat_ms);
  config.request_timeout = std::chrono::milliseconds(flags.request_timeout_ms);
  config.max_memory_bytes = flags.max_memory_mib * limits::kMiB;
  config.max_clients = flags.max_clients;
  config.segment_bytes = flags.segment_mib * limits::kMiB;
  config.checkpoint_log_bytes = flags.checkpoint_mib * limits::kMiB;

  fiber::Scheduler scheduler;
  net::EventLoop loop(scheduler);
  net::TcpNetwork network(loop);
  net::SystemRandom random;
  net::StderrTrace trace(loop, flags.log == "debug"  ? env::Level::kDebug
                               : flags.log == "info" ? env::Level::kInfo
                               : flags.log == "warn" ? env::Level::kWarn
                                                     : env::Level::kError);
  int exit = kOk;
  scheduler.run(loop, nullptr, [&] {
    size_t connections = 0;
    disk::Options disk_options{.root = flags.data, .make_root = true, .busy = [&connections] { return connections; }};
    disk_options.way = flags.io == "blocking" ? disk::Way::kBlocking
                       : flags.io == "thread" ? disk::Way::kThread
                       : flags.io == "uring"  ? disk::Way::kUring
                                              : disk::Way::kAdaptive;
    auto disk = disk::open_disk(scheduler, loop, disk_options);
    if (!disk) {
      exit = complain(exit_for(disk.error()), disk.error().message);
      return;
    }
    config.connections = &connections;
    Env env{scheduler, loop, network, **disk, random, trace};
    node::Ending ending(scheduler);
    auto ended = fiber::with_scope(scheduler, [&](fiber::Scope& scope) {
      // The second one does not wait for others.
      loop.on_signals({SIGTERM, SIGINT}, [&](int) {
        if (ending.asked()) scope.cancel();
        ending.ask();
      });
      scope.spawn("node", [&] {
        return node::run_node(
            env, config,
            [&](const env::Address& address) {
              fmt::print(stderr, "node {} listens on {}, data in {}; try: redis-cli -p {}\n", flags.id,
                         env::to_string(address), flags.data, address.port);
            },
            &ending);
      });
    });
    if (!ended) exit = complain(exit_for(ended.error()), ended.error().message);
  });
  return exit;
}

// Gives the options that neither the command line nor the environment gave. (CLI11 reads files for the main command
// only, and is silent about unknown keys.)
void read_config(CLI::App& node, const std::string& path) {
  auto refuse = [&](const toml::source_region& region, std::string_view what) {
    throw CLI::ValidationError("--config", fmt::format("{}:{}: {}", path, region.begin.line, what));
  };
  toml::table table;
  try {
    table = toml::parse_file(path);
  } catch (const toml::parse_error& error) {
    refuse(error.source(), error.description());
  }
  for (auto& [key, value] : table) {
    const std::string name(key.str());
    CLI::Option* option = node.get_option_no_throw("--" + name);
    if (!option || name == "config" || name == "help") refuse(key.source(), fmt::format("unknown key '{}'", name));
    if (option->count() > 0) continue;
    if (auto text = value.value_exact<std::string>())
      option->add_result(*text);
    else if (auto number = value.value_exact<int64_t>())
      option->add_result(std::to_string(*number));
    else
      refuse(value.source(), fmt::format("'{}' is a string or a whole number", name));
    option->run_callback();
  }
}

}  // namespace

void add_node(CLI::App& app, Run& run) {
  auto flags = std::make_shared<Flags>();
  CLI::App* node = app.add_subcommand("node", "Run a node");
  auto* config = node->add_option("--config", "read flags from this TOML file: key = value, keys as below without --")
                     ->check(CLI::ExistingFile)
                     ->envname("MNEME_CONFIG");
  node->add_option("--id", flags->id, "this node's id in --cluster")
      ->check(CLI::Range(1, 1'000'000))
      ->envname("MNEME_ID")
      ->capture_default_str();
  auto* listen = node->add_option("--listen", flags->listen,
                                  "HOST:PORT for clients and nodes; default with --cluster: its address there")
                     ->envname("MNEME_LISTEN")
                     ->capture_default_str();
  node->add_option("--data", flags->data, "data directory, made when missing")
      ->envname("MNEME_DATA")
      ->capture_default_str();
  node->add_option("--cluster", flags->cluster, "1=HOST:PORT,2=HOST:PORT,...: all nodes, the same list on every one")
      ->envname("MNEME_CLUSTER");
  node->add_option("--io", flags->io, "how the disk is used: adaptive, blocking, thread, uring")
      ->check(CLI::IsMember({"adaptive", "blocking", "thread", "uring"}))
      ->envname("MNEME_IO")
      ->capture_default_str();
  node->add_option("--log", flags->log, "debug, info, warn or error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
      ->envname("MNEME_LOG")
      ->capture_default_str();
  node->add_option("--election-timeout", flags->election_timeout_ms,
                   "milliseconds; the actual one is drawn from 1 to 2 times this")
      ->check(CLI::Range(50, 60'000))
      ->envname("MNEME_ELECTION_TIMEOUT")
      ->capture_default_str();
  node->add_option("--heartbeat", flags->heartbeat_ms, "milliseconds")
      ->check(CLI::Range(5, 30'000))
      ->envname("MNEME_HEARTBEAT")
      ->capture_default_str();
  node->add_option("--request-timeout", flags->request_timeout_ms,
                   "milliseconds until a client is told that its outcome is unknown")
      ->check(CLI::Range(10, 600'000))
      ->envname("MNEME_REQUEST_TIMEOUT")
      ->capture_default_str();
  node->add_option("--max-memory", flags->max_memory_mib,
                   "MiB of keys and values, then writes are refused; 0: no bound")
      ->check(CLI::Range(uint64_t{0}, uint64_t{1'000'000'000}))
      ->envname("MNEME_MAX_MEMORY")
      ->capture_default_str();
  node->add_option("--max-clients", flags->max_clients, "client connections")
      ->check(CLI::Range(1, 1'000'000))
      ->envname("MNEME_MAX_CLIENTS")
      ->capture_default_str();
  node->add_option("--segment", flags->segment_mib, "MiB of a write-ahead log segment")
      ->check(CLI::Range(size_t{1}, limits::kSegmentBytes / limits::kMiB))
      ->envname("MNEME_SEGMENT")
      ->capture_default_str();
  node->add_option("--checkpoint", flags->checkpoint_mib, "MiB of log applied between checkpoints")
      ->check(CLI::Range(1, 1'000'000))
      ->envname("MNEME_CHECKPOINT")
      ->capture_default_str();
  node->footer(
      "Examples:\n  mneme node\n  mneme node --id 1 --data n1 --cluster "
      "1=127.0.0.1:7001,2=127.0.0.1:7002,3=127.0.0.1:7003");
  node->callback([flags, listen, config, node, &run] {
    if (config->count() > 0) read_config(*node, config->as<std::string>());
    run = [flags, given = listen->count() > 0] { return run_node(*flags, given); };
  });
}

}  // namespace mneme::cmd
