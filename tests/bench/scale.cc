// A large cluster in one simulated world: what it takes to grow, and to lose a rack, under load.
//
// usage: bench_scale NODES SHARDS [NAME=VALUE...]    progress on stderr, one JSON line on stdout
//
//   racks=10 copies=3 seed=1 clients=2
//   pace_ms=1000       a caller's pause between two operations in the background; there is one caller per node
//   burst_ms=100       the same, in the window in which the cost of an operation is measured
//   burst_s=10         how long that window is, and that of the idle cluster before it
//   lost_s=30          a node that is silent for so long is replaced
//   limit_s=900        of virtual time, for each phase
//   stop=all           or grown, load, start: the last phase
//
// The nodes' directories are written as founding leaves them: founding is for a handful of nodes, racks come by
// joining, and growing from a handful to all is a tenth at a time what is measured here. Everything after that is the
// ordinary program on every machine. Phases, each until the map has been still for a while:
//   start    all groups elect leaders, and the planner evens them out
//   idle, load   windows of equal length without and with many operations; the difference is the operations'
//   grow     a tenth more nodes join, through node 1, and get their share
//   lose     a rack with a replica of the meta group loses power for good; its copies are made anew elsewhere
// Callers SET keys of their own to growing numbers and GET them: what was acknowledged must be there.
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "core/base/check.h"
#include "core/client/client.h"
#include "core/fiber/scope.h"
#include "core/node/identity.h"
#include "core/node/map_cache.h"
#include "core/node/node.h"
#include "core/shard/map.h"
#include "core/wal/log.h"
#include "sim/machine.h"
#include "sim/network.h"
#include "sim/world.h"

using namespace mneme;

namespace {

constexpr uint16_t kPort = 6399;
constexpr sim::WorldTime kSecond = 1'000'000'000;
constexpr size_t kKeysEach = 64;   // of a caller
constexpr int64_t kLookEvery = 2;  // virtual seconds
constexpr int64_t kStill = 6;      // the planner looks every second, and a node's reports may wait for five

struct Settings {
  int64_t nodes = 100, shards = 1000;
  int64_t racks = 10, copies = 3, seed = 1, clients = 2;
  int64_t pace_ms = 1000, burst_ms = 100, burst_s = 10, lost_s = 30, limit_s = 900;
  std::string stop = "all";

  int64_t newcomers() const { return std::max<int64_t>(nodes / 10, 1); }
  int64_t machines() const { return nodes + newcomers(); }
};

bool read_settings(int argc, char** argv, Settings& s) {
  if (argc < 3) return false;
  s.nodes = std::atoll(argv[1]);
  s.shards = std::atoll(argv[2]);
  const std::map<std::string, int64_t*> numbers{
      {"racks", &s.racks},     {"copies", &s.copies},   {"seed", &s.seed},
      {"clients", &s.clients}, {"pace_ms", &s.pace_ms}, {"burst_ms", &s.burst_ms},
      {"burst_s", &s.burst_s}, {"lost_s", &s.lost_s},   {"limit_s", &s.limit_s}};
  for (int i = 3; i < argc; ++i) {
    const std::string word = argv[i];
    const size_t equals = word.find('=');
    if (equals == std::string::npos) return false;
    const std::string name = word.substr(0, equals), value = word.substr(equals + 1);
    if (name == "stop" && (value == "all" || value == "grown" || value == "load" || value == "start")) {
      s.stop = value;
    } else {
      auto found = numbers.find(name);
      if (found == numbers.end()) return false;
      *found->second = std::atoll(value.c_str());
      if (*found->second < 1) return false;
    }
  }
  return s.copies <= s.racks && s.racks <= s.nodes && s.shards >= 1 && s.shards <= kSlots &&
         s.nodes >= s.copies + s.nodes / s.racks + 1;
}

double cpu_seconds() {
  rusage usage;
  ::getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double peak_mib() {
  rusage usage;
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

std::string host(int64_t node) { return fmt::format("n{}", node); }

struct Tally {
  uint64_t done = 0, not_done = 0, unknown = 0, checked = 0, wrong = 0;
};

// What the cluster's map says, as any node shows it.
struct Look {
  uint64_t version = 0;
  size_t pending = 0;
  size_t misplaced = 0;  // shards without all copies on living nodes
  size_t up = 0;
  int64_t least_replicas = 0, most_replicas = 0, least_leads = 0, most_leads = 0;
  size_t crowded = 0;  // shards with two copies in one rack
};

class Trial {
 public:
  explicit Trial(const Settings& settings) : s_(settings), world_(static_cast<uint64_t>(settings.seed), {}, nullptr) {}

  int run() {
    world_.run([&] {
      for (int64_t n = 1; n <= s_.machines(); ++n) world_.add_machine(host(n), {});
      for (int64_t c = 1; c <= s_.clients; ++c) world_.add_machine(fmt::format("c{}", c), {});
      watcher_ = &world_.add_machine("w", {});
      found();
      auto ended = fiber::with_scope(world_.scheduler(), [&](fiber::Scope& scope) {
        scope_ = &scope;
        phases();
        over_ = true;
        for (uint32_t m = 1; m <= world_.machine_count(); ++m)
          if (world_.machine(m).running()) world_.machine(m).crash(sim::CrashKind::kKill);
      });
      CHECK(ended.has_value());
    });
    report();
    return failed_ || tally_.wrong ? 1 : 0;
  }

 private:
  uint32_t rack_of(int64_t node) const { return static_cast<uint32_t>(node % s_.racks); }
  std::string rack_name(int64_t node) const { return fmt::format("r{}", rack_of(node)); }

  void phases() {
    for (int64_t n = 1; n <= s_.nodes; ++n) boot(n);
    for (int64_t c = 1; c <= s_.clients; ++c) start_client(c);
    start_watcher();
    phase("start", [] {});
    if (s_.stop == "start" || failed_) return;
    window("idle", 0);
    const Tally before = tally_;
    window("load", s_.burst_ms);
    burst_ = tally_.done - before.done;
    pause_ms_ = s_.pace_ms;
    if (s_.stop == "load") return;
    phase("grow", [&] {
      for (int64_t n = s_.nodes + 1; n <= s_.machines(); ++n) boot(n);
      expected_up_ = static_cast<size_t>(s_.machines());
    });
    if (s_.stop == "grown" || failed_) return;
    phase("lose", [&] {
      for (int64_t n = 1; n <= s_.machines(); ++n) {
        if (rack_of(n) != rack_of(1)) continue;
        world_.machine(static_cast<uint32_t>(n)).crash(sim::CrashKind::kPowerLoss);
        dead_.insert(n);
      }
    });
  }

  // --- Machines

  node::Config config_of(int64_t n) const {
    node::Config config;
    config.listen = {host(n), kPort};
    config.rack = rack_name(n);
    config.copies = static_cast<uint32_t>(s_.copies);
    config.lost_after = std::chrono::seconds(s_.lost_s);
    config.segment_bytes = limits::kMiB;
    if (n > s_.nodes) {
      for (int64_t m = 1; m <= 3; ++m) config.join.push_back({host(m), kPort});
    } else {
      config.id = NodeId(static_cast<uint64_t>(n));
    }
    return config;
  }

  void boot(int64_t n) {
    configs_[n] = config_of(n);
    world_.machine(static_cast<uint32_t>(n))
        .boot(
            *scope_, [&config = configs_[n]](Env& env) { return node::run_node(env, config); },
            [n](Result<void> result) {
              if (!result) fmt::print(stderr, "node {} has ended: {}\n", n, result.error().message);
              CHECK(result.has_value());
            });
  }

  // As founding leaves a member's directory: who it is, a log without entries, and the map.
  void found() {
    shard::FoundCluster command{.cluster = ClusterId(77),
                                .cluster_version = 1,
                                .copies = static_cast<uint32_t>(s_.copies),
                                .shards = static_cast<uint32_t>(s_.shards)};
    for (int64_t n = 1; n <= s_.nodes; ++n) {
      const std::string address = env::to_string(env::Address{host(n), kPort});
      const auto id = static_cast<uint64_t>(n);
      command.nodes.push_back({NodeId(id), Incarnation(1000 + id), address, address, rack_name(n)});
    }
    shard::Map map;
    CHECK(map.apply(command).has_value());
    auto shared = std::make_shared<const shard::Map>(std::move(map));
    auto ended = fiber::with_scope(world_.scheduler(), [&](fiber::Scope& scope) {
      for (const shard::Founder& founder : command.nodes)
        world_.machine(static_cast<uint32_t>(founder.id.value))
            .boot(
                scope, [&](Env& env) { return write_directory(env, founder, command.cluster, shared); },
                [](Result<void> result) { CHECK(result.has_value()); });
    });
    CHECK(ended.has_value());
    world_.sleep_for(kSecond);
    expected_up_ = static_cast<size_t>(s_.nodes);
  }

  static Result<void> write_directory(Env& env, const shard::Founder& founder, ClusterId cluster,
                                      std::shared_ptr<const shard::Map> map) {
    const node::Identity identity{.node = founder.id, .incarnation = founder.incarnation, .cluster = cluster};
    TRY(node::save_identity(env.disk, identity));
    node::MapCache cache(env);
    cache.offer(std::move(map));
    TRY(cache.save());
    TRY(wal::Log::open(
        env, {identity.cluster, identity.node, identity.incarnation},
        {.directory = "wal", .segment_bytes = limits::kMiB, .max_frame_bytes = limits::kMiB / 2, .has_peers = true}));
    return {};
  }

  // --- Load

  client::Options client_options() const {
    client::Options options{.sessions = true, .timeout = 60s};
    for (int64_t n = 1; n <= std::min<int64_t>(s_.nodes, 20); ++n) options.seeds.push_back({host(n), kPort});
    return options;
  }

  void start_client(int64_t c) {
    world_.machine(static_cast<uint32_t>(s_.machines() + c))
        .boot(
            *scope_,
            [this, c](Env& env) {
              return client::with_client(env, client_options(), [&](client::Client& client) {
                return fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
                  for (int64_t caller = c; caller <= s_.nodes; caller += s_.clients)
                    scope.spawn("caller", [this, &env, &client, caller] { call(env, client, caller); });
                });
              });
            },
            [](Result<void>) {});
  }

  void call(Env& env, client::Client& client, int64_t caller) {
    uint64_t written = 0;
    std::array<std::set<uint64_t>, kKeysEach> possible;  // values that each key may have
    for (uint64_t turn = 0; !over_;) {
      const int64_t pause = pause_ms_;
      if (pause == 0) {
        env.clock.sleep_for(env.scheduler, 100ms);
        continue;
      }
      // Not all at once.
      env.clock.sleep_for(env.scheduler, std::chrono::milliseconds(turn == 0 ? caller % pause : pause));
      const uint64_t which = turn / 2 % kKeysEach;
      const std::string key = fmt::format("key-{}-{}", caller, which);
      std::set<uint64_t>& values = possible[which];
      if (turn++ % 2 == 0) {
        const uint64_t value = ++written;
        const auto answer = client.call({"SET", key, fmt::format("{}", value)});
        note(answer);
        if (answer.outcome == client::Outcome::kDone && !answer.is_error()) values.clear();
        if (answer.outcome != client::Outcome::kNotDone) values.insert(value);
      } else {
        const auto answer = client.call({"GET", key});
        note(answer);
        if (answer.outcome != client::Outcome::kDone || values.empty()) continue;
        ++tally_.checked;
        const auto reply = answer.reply();
        if (!reply || reply->kind != protocol::Reply::Kind::kBulk ||
            !values.contains(std::strtoull(reply->text.c_str(), nullptr, 10))) {
          ++tally_.wrong;
          fmt::print(stderr, "caller {} reads a wrong value of {}: {}\n", caller, key, answer.raw);
        }
      }
    }
  }

  void note(const client::Answer& answer) {
    switch (answer.outcome) {
      case client::Outcome::kDone: ++(answer.is_error() ? tally_.not_done : tally_.done); break;
      case client::Outcome::kNotDone: ++tally_.not_done; break;
      case client::Outcome::kUnknown: ++tally_.unknown; break;
    }
  }

  // --- Watching

  void start_watcher() {
    watcher_->boot(
        *scope_,
        [this](Env& env) {
          client::Options options = client_options();
          options.sessions = false;
          options.timeout = 5s;
          return client::with_client(env, options, [&](client::Client& client) {
            while (!over_) {
              env.clock.sleep_for(env.scheduler, std::chrono::seconds(kLookEvery));
              if (!watching_) continue;
              const auto answer = client.call({"MNEME.MAP"});
              if (answer.outcome != client::Outcome::kDone || answer.is_error()) continue;
              if (const auto reply = answer.reply()) look_at(reply->text);
            }
          });
        },
        [](Result<void>) {});
  }

  void look_at(const std::string& text) {
    const auto json = nlohmann::json::parse(text);
    Look look{.version = json["version"].get<uint64_t>()};
    std::map<int64_t, int64_t> replicas, leads;
    for (const auto& node : json["nodes"]) {
      const auto id = node["id"].get<int64_t>();
      if (node["state"] != "up" || dead_.contains(number_of(node["address"]))) continue;
      ++look.up;
      replicas[id] = leads[id] = 0;
      racks_[id] = node["rack"];
    }
    for (const auto& shard : json["shards"]) {
      if (shard.contains("operation") && shard["operation"]["outcome"] == "pending") ++look.pending;
      int64_t alive = 0;
      std::set<std::string> racks;
      for (const auto& replica : shard["replicas"]) {
        const auto id = replica["node"].get<int64_t>();
        if (!replicas.contains(id) || replica["role"] != "voter") continue;
        ++alive;
        ++replicas[id];
        racks.insert(racks_[id]);
      }
      if (alive != s_.copies || shard["replicas"].size() != static_cast<size_t>(s_.copies)) ++look.misplaced;
      if (racks.size() != static_cast<size_t>(alive)) ++look.crowded;
      if (auto leader = leads.find(shard["leader"].get<int64_t>()); leader != leads.end())
        ++leader->second;
      else
        ++look.misplaced;
    }
    auto range = [](const std::map<int64_t, int64_t>& counts, int64_t& least, int64_t& most) {
      for (const auto& [id, count] : counts) {
        least = id == counts.begin()->first ? count : std::min(least, count);
        most = std::max(most, count);
      }
    };
    range(replicas, look.least_replicas, look.most_replicas);
    range(leads, look.least_leads, look.most_leads);
    if (look.version != look_.version || look.pending > 0 || look.misplaced > 0) changed_at_ = world_.now();
    look_ = look;
    ++looks_;
  }

  static int64_t number_of(const std::string& address) { return std::atoll(address.c_str() + 1); }

  // --- Phases

  struct Figures {
    std::string name;
    double virtual_s = 0, cpu_s = 0;
    uint64_t done = 0, versions = 0, events = 0;
    Look look;
  };

  template <class F>
  void phase(std::string name, F begin) {
    Figures figures{.name = std::move(name)};
    const Tally tally = tally_;
    const uint64_t version = look_.version, events = world_.event_count();
    const double cpu = cpu_seconds();
    const sim::WorldTime since = world_.now();
    begin();
    changed_at_ = world_.now();
    looks_ = 0;
    watching_ = true;
    for (;;) {
      world_.sleep_for(kLookEvery * kSecond);
      const int64_t seconds = (world_.now() - since) / kSecond;
      if (seconds % 10 == 0) progress(figures.name, seconds, cpu_seconds() - cpu);
      const size_t up = expected_up_ - dead_.size();
      const bool heard = looks_ > 2 && look_.up == up;
      if (heard && look_.pending + look_.misplaced == 0 && changed_at_ + kStill * kSecond <= world_.now()) break;
      if (seconds < s_.limit_s) continue;
      fmt::print(stderr, "{}: not over after {} s\n", figures.name, seconds);
      failed_ = true;
      break;
    }
    watching_ = false;
    figures.virtual_s = static_cast<double>(changed_at_ - since) / 1e9;
    finish(figures, tally, version, events, cpu);
  }

  void window(std::string name, int64_t pause_ms) {
    Figures figures{.name = std::move(name)};
    const Tally tally = tally_;
    const uint64_t events = world_.event_count();
    pause_ms_ = pause_ms;
    world_.sleep_for(kSecond);
    const double cpu = cpu_seconds();
    world_.sleep_for(s_.burst_s * kSecond);
    figures.virtual_s = static_cast<double>(s_.burst_s);
    finish(figures, tally, look_.version, events, cpu);
    pause_ms_ = 0;
    world_.sleep_for(kSecond);
  }

  void finish(Figures& figures, const Tally& tally, uint64_t version, uint64_t events, double cpu) {
    figures.cpu_s = cpu_seconds() - cpu;
    figures.done = tally_.done - tally.done;
    figures.versions = look_.version - version;
    figures.events = world_.event_count() - events;
    figures.look = look_;
    progress(figures.name, static_cast<int64_t>(figures.virtual_s), figures.cpu_s);
    figures_.push_back(std::move(figures));
  }

  void progress(const std::string& name, int64_t seconds, double cpu) const {
    fmt::print(stderr,
               "{:<6} {:>4} s virtual, {:>6.1f} s CPU, {:>5.0f} MiB: map {}, {} nodes up, {} operations pending, {} "
               "shards lack copies, {} crowd a rack, replicas {}..{}, leads {}..{}; {} done, {} refused, {} unknown\n",
               name, seconds, cpu, peak_mib(), look_.version, look_.up, look_.pending, look_.misplaced, look_.crowded,
               look_.least_replicas, look_.most_replicas, look_.least_leads, look_.most_leads, tally_.done,
               tally_.not_done, tally_.unknown);
  }

  void report() const {
    nlohmann::json out{{"nodes", s_.nodes},
                       {"shards", s_.shards},
                       {"racks", s_.racks},
                       {"seed", s_.seed},
                       {"converged", !failed_},
                       {"operations", tally_.done},
                       {"refused", tally_.not_done},
                       {"unknown", tally_.unknown},
                       {"checked", tally_.checked},
                       {"wrong", tally_.wrong},
                       {"cpu_s", cpu_seconds()},
                       {"peak_mib", peak_mib()},
                       {"trace", fmt::format("{:016x}", world_.trace_hash())}};
    double idle = 0, load = 0;
    for (const Figures& f : figures_) {
      if (f.name == "idle") idle = f.cpu_s;
      if (f.name == "load") load = f.cpu_s;
      out["phases"].push_back({{"name", f.name},
                               {"virtual_s", f.virtual_s},
                               {"cpu_s", f.cpu_s},
                               {"operations", f.done},
                               {"map_versions", f.versions},
                               {"events", f.events},
                               {"replicas", {f.look.least_replicas, f.look.most_replicas}},
                               {"leads", {f.look.least_leads, f.look.most_leads}}});
    }
    if (burst_ > 0) out["cpu_ms_per_operation"] = (load - idle) * 1000 / static_cast<double>(burst_);
    fmt::print("{}\n", out.dump());
  }

  const Settings s_;
  sim::World world_;
  sim::Machine* watcher_ = nullptr;
  fiber::Scope* scope_ = nullptr;
  std::map<int64_t, node::Config> configs_;
  std::set<int64_t> dead_;
  size_t expected_up_ = 0;
  bool over_ = false, watching_ = false, failed_ = false;
  int64_t pause_ms_ = 0;
  Tally tally_;
  uint64_t burst_ = 0;
  std::map<int64_t, std::string> racks_;
  Look look_;
  size_t looks_ = 0;
  sim::WorldTime changed_at_ = 0;
  std::vector<Figures> figures_;
};

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  if (!read_settings(argc, argv, settings)) {
    fmt::print(stderr, "bench_scale: usage: bench_scale NODES SHARDS [NAME=VALUE...], see tests/bench/scale.cc\n");
    return 64;
  }
  return Trial(settings).run();
}
