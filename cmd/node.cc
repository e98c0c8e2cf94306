// mneme node: a real node, on real sockets and files.
#include "core/node/node.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "cmd/common.h"
#include "core/base/hash.h"
#include "core/fiber/scope.h"
#include "core/node/identity.h"
#include "core/node/map_cache.h"
#include "disk/real_disk.h"
#include "net/event_loop.h"
#include "net/random.h"
#include "net/tcp.h"
#include "net/trace.h"

namespace mneme::cmd {

namespace {

constexpr int64_t kPpm = 1'000'000;
constexpr uint32_t kShardsOfCluster = 16;  // enough to spread over a few nodes; more come by splitting

struct Flags {
  uint64_t id = 0;  // not given
  std::string listen = "127.0.0.1:6399";
  std::string data = "./mneme-data";
  std::string cluster;
  std::vector<std::string> join;
  uint32_t shards = 0;  // not given
  uint32_t copies = 0;  // not given
  std::string rack;
  bool no_balance = false;
  std::string lost_after = "5m";
  uint64_t split_bytes = node::Config().split_bytes;
  uint64_t split_writes = node::Config().split_writes_per_second;
  std::string io = "adaptive";
  std::string log = "info";
  int64_t election_timeout_ms = 1000;
  int64_t heartbeat_ms = 200;
  int64_t request_timeout_ms = 5000;
  int64_t lease_ms = 0;        // none
  uint32_t max_drift_ppm = 0;  // not given
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

std::unexpected<Error> impossible(std::string sentence) { return fail(ErrorCode::kInvalid, std::move(sentence)); }

// A lease is safe for as long as voters keep to their leader, and worth having where heartbeats renew it in time.
Result<void> check_lease(const Flags& flags) {
  if (flags.lease_ms == 0) {
    if (flags.max_drift_ppm) return impossible("--max-drift is for leases: say --lease MS too, or leave it out");
    return {};
  }
  if (flags.lease_ms > flags.election_timeout_ms)
    return impossible(fmt::format(
        "--lease {} is longer than --election-timeout {}, for which voters keep to a leader: make it at most that",
        flags.lease_ms, flags.election_timeout_ms));
  const int64_t drift = flags.max_drift_ppm ? flags.max_drift_ppm : node::Config().drift_ppm;
  const int64_t lasts_us = flags.lease_ms * (kPpm - drift) / 1000;
  if (lasts_us <= flags.heartbeat_ms * 1000)
    return impossible(
        fmt::format("--lease {} lasts {}.{:03} ms where clocks differ by --max-drift {} ppm, and would end "
                    "before the next of the heartbeats, --heartbeat {}, can renew it: make it longer",
                    flags.lease_ms, lasts_us / 1000, lasts_us % 1000, drift, flags.heartbeat_ms));
  return {};
}

Result<void> check_combinations(const Flags& flags, const node::Config& config) {
  if (!config.join.empty()) {
    if (!config.cluster.empty()) return impossible("--cluster founds a cluster and --join joins one: say one of them");
    if (flags.id) return impossible("a node that joins is given its id by the cluster: leave out --id");
    if (flags.shards || flags.copies)
      return impossible("--shards and --copies are for the nodes that found a cluster, not for one that joins");
  }
  if (!flags.rack.empty() && config.join.empty())
    return impossible("--rack is for a node that joins; founding nodes have none yet");
  if (std::any_of(flags.rack.begin(), flags.rack.end(), [](char c) { return c <= ' ' || c > '~'; }))
    return impossible("--rack is a word of ASCII letters, digits and signs");
  if (flags.rack.size() > limits::kMaxRackBytes)
    return impossible(
        fmt::format("--rack has {} bytes, at most {} are possible", flags.rack.size(), limits::kMaxRackBytes));
  const size_t founders = std::max<size_t>(config.cluster.size(), 1);
  if (flags.copies > founders && config.join.empty())
    return impossible(
        fmt::format("{} founding node{} cannot hold {} copies of a shard: add nodes to --cluster, or say "
                    "--copies {} and raise it later with `mneme cluster copies`",
                    founders, founders == 1 ? "" : "s", flags.copies, founders));
  if (flags.heartbeat_ms * 2 > flags.election_timeout_ms)
    return impossible("--heartbeat must be at most half of --election-timeout");
  return check_lease(flags);
}

// All but what depends on the data directory. Every error is one of usage.
Result<node::Config> make_config(const Flags& flags) {
  node::Config config;
  config.id = NodeId(flags.id);
  config.cluster = TRY(parse_cluster(flags.cluster));
  for (const std::string& text : flags.join) {
    auto address = env::parse_address(text);
    if (!address) return impossible(fmt::format("--join: {}", address.error().message));
    config.join.push_back(std::move(*address));
  }
  TRY(check_combinations(flags, config));
  auto lost_after = parse_duration(flags.lost_after);
  if (!lost_after) return impossible(fmt::format("--lost-after: {}", lost_after.error().message));
  config.lost_after = Duration(*lost_after);
  config.election_timeout = std::chrono::milliseconds(flags.election_timeout_ms);
  config.heartbeat_interval = std::chrono::milliseconds(flags.heartbeat_ms);
  config.request_timeout = std::chrono::milliseconds(flags.request_timeout_ms);
  config.lease = std::chrono::milliseconds(flags.lease_ms);
  if (flags.max_drift_ppm) config.drift_ppm = flags.max_drift_ppm;
  if (config.lost_after < 5 * config.election_timeout)
    return impossible("--lost-after must be at least 5 times --election-timeout: less is no silence yet");
  config.shards = flags.shards ? flags.shards : config.cluster.empty() ? 1 : kShardsOfCluster;
  if (flags.copies) config.copies = flags.copies;
  config.rack = flags.rack;
  config.balance = !flags.no_balance;
  config.split_bytes = flags.split_bytes;
  config.split_writes_per_second = flags.split_writes;
  config.max_memory_bytes = flags.max_memory_mib * limits::kMiB;
  config.max_clients = flags.max_clients;
  config.segment_bytes = flags.segment_mib * limits::kMiB;
  config.checkpoint_log_bytes = flags.checkpoint_mib * limits::kMiB;
  return config;
}

const node::Member* named_in(const node::Config& config) {
  for (const node::Member& member : config.cluster)
    if (member.id == config.id) return &member;
  return nullptr;
}

// Where it listens: what was said, or its address in --cluster, or what is usual.
Result<void> take_address(const Flags& flags, bool listen_given, node::Config& config) {
  const node::Member* self = named_in(config);
  if (!config.cluster.empty() && config.id && !self)
    return impossible(
        fmt::format("--cluster does not name this node: add {}=HOST:PORT or say another --id", config.id.value));
  if (self && !listen_given) {
    config.listen = self->address;
    return {};
  }
  auto address = env::parse_address(flags.listen);
  if (!address) return impossible(fmt::format("--listen: {}", address.error().message));
  config.listen = std::move(*address);
  return {};
}

// What was not said and the data directory knows after the first start: who the node is, and its address. Suspends.
// Errors in the directory are left to the node.
Result<void> complete(const Flags& flags, bool listen_given, Env& env, node::Config& config) {
  const auto identity = node::load_identity(env.disk);
  if (!identity) return {};
  if (!config.id) config.id = identity->node;
  TRY(take_address(flags, listen_given, config));
  node::MapCache map(env);
  if (listen_given || !config.cluster.empty() || !map.load()) return {};
  if (const shard::Node* own = map.map().node(identity->node))
    if (auto address = env::parse_address(own->peer_address)) config.listen = std::move(*address);
  return {};
}

int run_node(const Flags& flags, bool listen_given) {
  auto made = make_config(flags);
  if (!made) return complain(kUsage, made.error().message);
  node::Config config = std::move(*made);
  if (auto taken = take_address(flags, listen_given, config); !taken) return complain(kUsage, taken.error().message);
  if (!config.id && !config.cluster.empty() && !std::filesystem::exists(flags.data + "/identity"))
    return complain(kUsage, "--id is needed at the first start: which of the nodes in --cluster is this one?");

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
    if (auto completed = complete(flags, listen_given, env, config); !completed) {
      exit = complain(kUsage, completed.error().message);
      return;
    }
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
              const std::string name = config.id             ? fmt::format("node {}", config.id.value)
                                       : config.join.empty() ? std::string("node 1")
                                                             : std::string("a new node");
              fmt::print(stderr, "{} listens on {}, data in {}; try: redis-cli -p {}\n", name, env::to_string(address),
                         flags.data, address.port);
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
    else if (auto truth = value.value_exact<bool>())
      option->add_result(*truth ? "true" : "false");
    else
      refuse(value.source(), fmt::format("'{}' is a string, a whole number, true or false", name));
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
  node->add_option("--id", flags->id, "this node's id in --cluster; the data directory knows it after the first start")
      ->check(CLI::Range(1, 1'000'000))
      ->envname("MNEME_ID");
  auto* listen = node->add_option("--listen", flags->listen,
                                  "HOST:PORT for clients and nodes; by default the address that the cluster knows")
                     ->envname("MNEME_LISTEN")
                     ->capture_default_str();
  node->add_option("--data", flags->data, "data directory, made when missing")
      ->envname("MNEME_DATA")
      ->capture_default_str();
  node->add_option("--cluster", flags->cluster,
                   "1=HOST:PORT,2=HOST:PORT,...: found a cluster of these nodes, the same list on every one")
      ->envname("MNEME_CLUSTER");
  node->add_option("--join", flags->join,
                   "HOST:PORT,...: join the cluster of these nodes, of which any lets this one in")
      ->delimiter(',')
      ->envname("MNEME_JOIN");
  node->add_option("--shards", flags->shards, "that the cluster is founded with; default: 16 with --cluster, else 1")
      ->check(CLI::Range(uint32_t{1}, uint32_t{kSlots}))
      ->envname("MNEME_SHARDS");
  node->add_option("--copies", flags->copies, "of each shard, when the cluster is founded; default: 3, or all nodes")
      ->check(CLI::Range(size_t{1}, limits::kMaxReplicas - 1))
      ->envname("MNEME_COPIES");
  node->add_option("--rack", flags->rack, "where a node that joins stands: nodes of one rack fail together")
      ->envname("MNEME_RACK");
  node->add_flag("--no-balance", flags->no_balance, "repair, split and balance nothing without being told to")
      ->envname("MNEME_NO_BALANCE");
  node->add_option("--lost-after", flags->lost_after, "a node that is silent for so long is replaced")
      ->envname("MNEME_LOST_AFTER")
      ->capture_default_str();
  node->add_option("--split-bytes", flags->split_bytes, "a shard that is larger is split")
      ->check(CLI::Range(uint64_t{limits::kMiB}, uint64_t{1} << 50))
      ->envname("MNEME_SPLIT_BYTES")
      ->capture_default_str();
  node->add_option("--split-writes", flags->split_writes, "a shard with more writes a second is split")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1'000'000'000}))
      ->envname("MNEME_SPLIT_WRITES")
      ->capture_default_str();
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
  node->add_option(
          "--lease", flags->lease_ms,
          "milliseconds, at most --election-timeout, for which a leader answers reads without asking the others "
          "again; 0: it always asks. The same on all nodes, as is --election-timeout; changed only while all "
          "are stopped")
      ->check(CLI::Range(0, 60'000))
      ->envname("MNEME_LEASE")
      ->capture_default_str();
  node->add_option("--max-drift", flags->max_drift_ppm,
                   fmt::format("parts per million by which one node's clock may run faster than another's; beyond it, "
                               "reads under a lease can be stale; default: {}",
                               node::Config().drift_ppm))
      ->check(CLI::Range(1, 900'000))
      ->envname("MNEME_MAX_DRIFT");
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
      "1=127.0.0.1:7001,2=127.0.0.1:7002,3=127.0.0.1:7003\n"
      "  mneme node --listen 127.0.0.1:7004 --data n4 --join 127.0.0.1:7001");
  node->callback([flags, listen, config, node, &run] {
    if (config->count() > 0) read_config(*node, config->as<std::string>());
    run = [flags, given = listen->count() > 0] { return run_node(*flags, given); };
  });
}

}  // namespace mneme::cmd
