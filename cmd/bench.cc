// mneme bench: puts load on a node or a cluster, on any server of Redis's protocol, and shows throughput and latency.
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "cmd/common.h"
#include "cmd/load.h"
#include "core/protocol/request.h"

namespace mneme::cmd {

namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kStackBytes = 64 * 1024;  // there may be thousands of fibers, and none goes deep
constexpr size_t kBarWidth = 56;           // so that a line fits 100 columns
constexpr int kRowsPerDoubling = 2;
constexpr std::pair<std::string_view, uint64_t> kQuantiles[] = {
    {"p50", 500'000}, {"p90", 900'000}, {"p99", 990'000}, {"p99.9", 999'000}};

struct Flags {
  std::string host = "127.0.0.1";
  uint16_t port = 6399;
  std::vector<std::string> nodes;
  std::string time = "10s";
  std::string mix = "set";
  bool json = false;
  LoadPlan plan;
};

// "set", "get", "set:get=1:9".
Result<std::pair<uint32_t, uint32_t>> parse_mix(std::string_view text) {
  if (text == "set") return std::pair(1u, 0u);
  if (text == "get") return std::pair(0u, 1u);
  constexpr std::string_view kBoth = "set:get=";
  const size_t colon = text.rfind(':');
  if (text.starts_with(kBoth) && colon > kBoth.size()) {
    auto sets = protocol::parse_integer(text.substr(kBoth.size(), colon - kBoth.size()));
    auto gets = protocol::parse_integer(text.substr(colon + 1));
    if (sets && gets && *sets >= 0 && *gets >= 0 && *sets <= 1000 && *gets <= 1000 && *sets + *gets > 0)
      return std::pair(static_cast<uint32_t>(*sets), static_cast<uint32_t>(*gets));
  }
  return fail(ErrorCode::kInvalid, fmt::format("'{}' is not a mix; write set, get, or set:get=1:9", text));
}

Result<void> complete(Flags& flags, bool requests_given) {
  LoadPlan& plan = flags.plan;
  auto mix = parse_mix(flags.mix);
  if (!mix) return fail(ErrorCode::kInvalid, "--mix: " + mix.error().message);
  std::tie(plan.sets, plan.gets) = *mix;
  if (!requests_given) {
    auto time = parse_duration(flags.time);
    if (!time) return fail(ErrorCode::kInvalid, "--for: " + time.error().message);
    plan.time = Duration(*time);
  }
  if (flags.nodes.empty()) plan.nodes.push_back({flags.host, flags.port});
  for (const std::string& node : flags.nodes) {
    auto address = env::parse_address(node);
    if (!address) return fail(ErrorCode::kInvalid, "--nodes: " + address.error().message);
    plan.nodes.push_back(std::move(*address));
  }
  if (plan.pipeline * plan.value_bytes > limits::kMaxCommandBytes * 4)
    return fail(ErrorCode::kInvalid, fmt::format("--pipeline times --size is more than {} MiB at a time",
                                                 limits::kMaxCommandBytes * 4 / limits::kMiB));
  return {};
}

int64_t cpu_ns() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  auto ns = [](const timeval& time) { return int64_t{time.tv_sec} * 1'000'000'000 + int64_t{time.tv_usec} * 1000; };
  return ns(usage.ru_utime) + ns(usage.ru_stime);
}

// Whole per second; 0 for nothing in no time.
uint64_t per_second(uint64_t count, Duration took) {
  if (took <= Duration(0)) return 0;
  return static_cast<uint64_t>(static_cast<unsigned __int128>(count) * 1'000'000'000 /
                               static_cast<uint64_t>(took.count()));
}

// Of a unit that is a thousand of `thousandths`.
std::string with_three_decimals(int64_t thousandths) {
  return fmt::format("{}.{:03}", thousandths / 1000, thousandths % 1000);
}

std::string as_ms(Duration duration) { return with_three_decimals((duration.count() + 500) / 1000); }

// --- What is shown

Json to_json(const Flags& flags, const LoadReport& report, int64_t cpu_permille) {
  const LoadPlan& plan = flags.plan;
  Json nodes = Json::array();
  for (const env::Address& node : plan.nodes) nodes.push_back(env::to_string(node));
  Json latency{{"mean", report.latency.mean().count()}};
  for (auto& [name, millionths] : kQuantiles) latency[std::string(name)] = report.latency.quantile(millionths).count();
  latency["max"] = report.latency.max().count();
  Json buckets = Json::array();
  for (int64_t from = 0, to = 1024; from < report.latency.max().count() + 1; from = std::exchange(to, to * 2))
    if (uint64_t count = report.latency.count_between(Duration(from), Duration(to)))
      buckets.push_back({from, to, count});
  return {{"nodes", nodes},
          {"cluster", plan.cluster},
          {"clients", plan.connections},
          {"pipeline", plan.pipeline},
          {"size", plan.value_bytes},
          {"keys", plan.keys},
          {"mix", flags.mix},
          {"seconds", static_cast<double>(report.took.count()) / 1e9},
          {"replies", report.replies},
          {"per_second", per_second(report.replies - report.error_replies(), report.took)},
          {"errors", report.errors},
          {"lost_connections", report.lost_connections},
          {"generator_cpu", static_cast<double>(cpu_permille) / 1000},
          {"latency_ns", latency},
          {"histogram_ns", buckets}};
}

// The border after `ns`, kRowsPerDoubling of them to a power of two.
int64_t next_border(int64_t ns) {
  int64_t power = 1;
  while (power * 2 <= ns) power *= 2;
  return ns < power * 3 / 2 ? power * 3 / 2 : power * 2;
}
static_assert(kRowsPerDoubling == 2);

void print_bars(const Histogram& latency) {
  struct Row {
    int64_t from, to;
    uint64_t count;
  };
  std::vector<Row> rows;
  uint64_t most = 1;
  for (int64_t from = 0, to = 1024; from <= latency.max().count(); from = std::exchange(to, next_border(to))) {
    const uint64_t count = latency.count_between(Duration(from), Duration(to));
    if (count == 0 && rows.empty()) continue;
    rows.push_back({from, to, count});
    most = std::max(most, count);
  }
  fmt::print("\n  from ms     to ms\n");
  for (const Row& row : rows) {
    const uint64_t tenths = (row.count * 1000 + latency.count() / 2) / latency.count();
    const size_t width = static_cast<size_t>((row.count * kBarWidth + most - 1) / most);
    fmt::print("{:>9} {:>9}  {:>3}.{} %  {}\n", as_ms(Duration(row.from)), as_ms(Duration(row.to)), tenths / 10,
               tenths % 10, std::string(width, '#'));
  }
}

void print(const Flags& flags, const LoadReport& report, int64_t cpu_permille) {
  const LoadPlan& plan = flags.plan;
  std::string nodes;
  for (const env::Address& node : plan.nodes) nodes += (nodes.empty() ? "" : ",") + env::to_string(node);
  fmt::print("{} connections to {}{}, pipeline {}, {}, values of {} bytes, {} keys\n\n", plan.connections,
             plan.cluster ? "the cluster of " : "", nodes, plan.pipeline, flags.mix, plan.value_bytes,
             grouped(plan.keys));
  fmt::print("  {} replies in {} s: {} a second\n", grouped(report.replies), with_three_decimals(report.took / 1ms),
             grouped(per_second(report.replies - report.error_replies(), report.took)));
  for (auto& [word, count] : report.errors) fmt::print("  {} of them {}, not counted\n", grouped(count), word);
  if (report.lost_connections > 0)
    fmt::print("  {} connections lost: {}\n", grouped(report.lost_connections), report.why_lost);
  fmt::print("  the load generator took {}.{} % of a core\n", cpu_permille / 10, cpu_permille % 10);
  if (report.latency.count() == 0) return;
  fmt::print("\n  latency in ms ");
  for (auto& [name, millionths] : kQuantiles) fmt::print("  {} {}", name, as_ms(report.latency.quantile(millionths)));
  fmt::print("  max {}\n", as_ms(report.latency.max()));
  print_bars(report.latency);
}

// Until it is cancelled; leaves the line empty.
void show_progress(fiber::Scheduler& scheduler, net::EventLoop& loop, const Load& load) {
  struct Line {
    ~Line() { fmt::print(stderr, "\r{:60}\r", ""); }
  } line;
  uint64_t before = 0;
  for (;;) {
    loop.sleep_for(scheduler, 1s);
    const uint64_t replies = load.report().replies;
    fmt::print(stderr, "\r{:60}\r{} s  {} a second", "", load.elapsed() / 1s, grouped(replies - before));
    std::fflush(stderr);
    before = replies;
  }
}

int run_bench(const Flags& flags) {
  int exit = kOk;
  fiber::Scheduler scheduler(kStackBytes);
  net::EventLoop loop(scheduler);
  scheduler.run(loop, nullptr, [&] {
    Load load(loop, flags.plan);
    bool interrupted = false;
    const int64_t cpu_before = cpu_ns();
    auto ended = fiber::with_scope(scheduler, [&](fiber::Scope& scope) {
      loop.on_signals({SIGINT, SIGTERM}, [&](int) {
        if (interrupted) scope.cancel();  // the second one does not wait for replies
        interrupted = true;
        load.stop();
      });
      if (::isatty(STDERR_FILENO)) scope.spawn_daemon("progress", [&] { show_progress(scheduler, loop, load); });
      return load.run();
    });
    if (!ended) {
      exit = complain(kUnavailable, ended.error().message);
      return;
    }
    const LoadReport& report = load.report();
    const int64_t took = std::max<int64_t>(report.took.count(), 1);
    const int64_t cpu_permille = (cpu_ns() - cpu_before) * 1000 / took;
    if (flags.json)
      fmt::print("{}\n", to_json(flags, report, cpu_permille).dump());
    else
      print(flags, report, cpu_permille);
    if (report.lost_connections == flags.plan.connections)
      exit = complain(kUnavailable, fmt::format("all connections were lost: {}", report.why_lost));
    else if (interrupted)
      exit = kInterrupted;
  });
  return exit;
}

}  // namespace

void add_bench(CLI::App& app, Run& run) {
  auto flags = std::make_shared<Flags>();
  CLI::App* bench = app.add_subcommand("bench", "Put load on a node, a cluster or a Redis server, and measure it");
  bench->set_help_flag("--help", "print this help");
  auto* host = bench->add_option("-h,--host", flags->host, "node's host")->capture_default_str();
  auto* port =
      bench->add_option("-p,--port", flags->port, "node's port")->check(CLI::Range(1, 65535))->capture_default_str();
  bench->add_option("--nodes", flags->nodes, "HOST:PORT,...: several; connections are spread over them")
      ->delimiter(',')
      ->excludes(host)
      ->excludes(port);
  bench->add_flag("--cluster", flags->plan.cluster, "ask for CLUSTER SLOTS and send each key to its owner");
  bench->add_option("--clients", flags->plan.connections, "connections")
      ->check(CLI::Range(size_t{1}, limits::kMaxClients))
      ->capture_default_str();
  auto* requests = bench->add_option("--requests", flags->plan.requests, "how many in all, instead of --for")
                       ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 50));
  bench->add_option("--for", flags->time, "how long: 500ms, 10s, 5m")->excludes(requests)->capture_default_str();
  bench->add_option("--pipeline", flags->plan.pipeline, "requests that a connection has out at once")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  bench->add_option("--size", flags->plan.value_bytes, "bytes of a value")
      ->check(CLI::Range(size_t{0}, limits::kMaxValueBytes))
      ->capture_default_str();
  bench->add_option("--keys", flags->plan.keys, "different keys, drawn evenly")
      ->check(CLI::Range(1, 100'000'000))
      ->capture_default_str();
  bench->add_option("--mix", flags->mix, "set, get, or both in a proportion: set:get=1:9")->capture_default_str();
  bench->add_flag("--json", flags->json, "one JSON object on stdout; durations in nanoseconds");
  for (CLI::Option* option : bench->get_options()) {
    std::string name = option->get_name(false, false);
    name = name.substr(name.find_first_not_of('-'));
    if (name == "help") continue;
    for (char& c : name) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c == '-' ? '_' : c);
    option->envname("MNEME_BENCH_" + name);
  }
  bench->footer(
      "Examples:\n  mneme bench --clients 50 --for 5s --mix set:get=1:9\n"
      "  mneme bench -p 7001 --requests 100000 --pipeline 16 --json");
  bench->callback([flags, requests, &run] {
    run = [flags, given = requests->count() > 0]() -> int {
      if (auto complete_ = complete(*flags, given); !complete_) return complain(kUsage, complete_.error().message);
      return run_bench(*flags);
    };
  });
}

}  // namespace mneme::cmd
