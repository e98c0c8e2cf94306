// mneme cluster: looks at a running cluster and changes it, through any of its nodes.
//
// What changes something asks the node first whether it would be accepted, then has it begun, and then watches until it
// has ended. Nothing here decides anything: whoever asks for what another operator has overtaken is refused by the
// shard map. A change that was begun goes on when this program is interrupted.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "cmd/cluster_asker.h"
#include "cmd/common.h"
#include "core/fiber/scope.h"

namespace mneme::cmd {

namespace {

constexpr Duration kLook{100ms};        // how often progress is asked for
constexpr Duration kStuckAfter{20s};    // without anything that is being done or could be begun
constexpr Duration kRetryAfter{300ms};  // until what was planned and refused is planned again

struct Flags {
  std::string node = "127.0.0.1:6399";
  int64_t timeout_ms = 2'000;
  bool json = false;
  std::string wait = "10m";
  bool dry_run = false;
  bool no_wait = false;

  bool all = false;
  bool stop = false;
  std::string shard, from, to;
  int64_t at = -1;
  uint64_t copies = 0;
};

int exit_of(const Error& error) { return error.code == ErrorCode::kInvalid ? kUsage : kUnavailable; }

int complain_of(const Asker& asker, const Error& error) {
  const bool from_cluster = error.code == ErrorCode::kInvalid || error.code == ErrorCode::kRefused;
  if (from_cluster) return complain(exit_of(error), fmt::format("{}; nothing was changed", error.message));
  return complain(exit_of(error), fmt::format("{}: {}", asker.node(), error.message));
}

// A node or shard as people write it and as they are shown: "3", "n3".
std::string number_in(std::string_view text) {
  return std::string(!text.empty() && (text[0] == 'n' || text[0] == 'N') ? text.substr(1) : text);
}

// For people, as plans and `status` call it; by its number as an operator gives it.
std::string shard_named(const std::string& number) { return number == "1" ? "the shard map" : "shard " + number; }

// One line on a terminal that changes in place; nothing elsewhere.
class Progress {
 public:
  void show(std::string_view line) {
    if (!::isatty(STDERR_FILENO) || line == shown_) return;
    shown_ = line;
    fmt::print(stderr, "\r\033[K{}", line.substr(0, 99));
  }
  ~Progress() {
    if (!shown_.empty()) fmt::print(stderr, "\r\033[K");
  }

 private:
  std::string shown_;
};

struct Context {
  Asker& asker;
  const Flags& flags;
  Duration patience;

  int64_t ms_since(Instant begun) const { return (asker.now() - begun) / 1ms; }
};

// --- Looking

int show_status(Context& context) {
  auto all = survey(context.asker);
  if (!all) return complain_of(context.asker, all.error());
  if (context.flags.json)
    fmt::print("{}\n", to_json(*all).dump());
  else
    print(*all, context.flags.all);
  if (all->map.is_null()) return kUnavailable;
  const Json& shards = all->map["shards"];
  const bool served =
      std::all_of(shards.begin(), shards.end(), [&](const Json& s) { return all->leader_of(s["group"]); });
  return served ? kOk : kUnavailable;
}

int wait_for_founding(Context& context) {
  const Instant begun = context.asker.now();
  Progress progress;
  for (;;) {
    auto all = survey(context.asker);
    std::vector<std::string> missing;
    if (!all)
      missing.push_back(fmt::format("{}: {}", context.flags.node, all.error().message));
    else if (all->map.is_null())
      missing = troubles(*all);
    else
      for (const Json& shard : all->map["shards"])
        if (!all->leader_of(shard["group"]))
          missing.push_back(
              fmt::format("nobody leads {} yet", shard_named(std::to_string(shard["group"].get<uint64_t>()))));
    if (missing.empty()) {
      const size_t shards = all->map["shards"].size() - 1;
      const uint64_t copies = all->map["copies"];
      if (context.flags.json)
        fmt::print("{}\n", Json{{"cluster", all->map["cluster"]},
                                {"nodes", all->nodes.size()},
                                {"shards", shards},
                                {"copies", copies},
                                {"ms", context.ms_since(begun)}}
                               .dump());
      else
        fmt::print("cluster {} serves: {} nodes, {} shards, {} copies of each\n",
                   all->map["cluster"].get<std::string>(), all->nodes.size(), shards, copies);
      return kOk;
    }
    progress.show(missing.front());
    if (context.asker.now() - begun > context.patience)
      return complain(kUnavailable, fmt::format("the cluster does not serve after {}: {}", context.flags.wait,
                                                fmt::join(missing, "; ")));
    context.asker.sleep(kLook);
  }
}

// --- One operation on one shard

struct Ended {
  std::string outcome;  // done, abandoned, ended; pending when it was not waited for
  uint64_t child = 0;
};

Result<Ended> watch(Context& context, int64_t operation) {
  const Instant begun = context.asker.now();
  Progress progress;
  for (;;) {
    auto reply = context.asker.ask({"MNEME.OPERATION", std::to_string(operation)});
    // A node that cannot be asked for a moment is asked again.
    if (reply && reply->elements.size() == 12) {
      const auto& fields = reply->elements;
      const std::string& outcome = fields[9].text;
      if (outcome != "pending") return Ended{outcome, static_cast<uint64_t>(fields[11].integer)};
      progress.show(fmt::format("operation {}: {}, step: {}", operation, fields[5].text, fields[7].text));
    }
    if (context.asker.now() - begun > context.patience)
      return fail(ErrorCode::kUnavailable,
                  fmt::format("operation {} has not ended after {} and goes on; `mneme cluster status` shows it",
                              operation, context.flags.wait));
    context.asker.sleep(kLook);
  }
}

// `what`: "move shard 3 from n1 to n4".
int operate(Context& context, std::vector<std::string> command, const std::string& what) {
  if (context.flags.dry_run) {
    command.push_back("DRYRUN");
    if (auto reply = context.asker.change(command); !reply) return complain_of(context.asker, reply.error());
    if (context.flags.json)
      fmt::print("{}\n", Json{{"dry_run", true}, {"plan", Json::array({what})}}.dump());
    else
      fmt::print("would {}\n", what);
    return kOk;
  }
  const Instant begun = context.asker.now();
  auto reply = context.asker.change(command);
  if (!reply) return complain_of(context.asker, reply.error());
  const int64_t operation = reply->integer;
  Ended ended{"pending"};
  if (!context.flags.no_wait) {
    auto watched = watch(context, operation);
    if (!watched) return complain(kUnavailable, watched.error().message);
    ended = std::move(*watched);
  }
  const int64_t ms = context.ms_since(begun);
  if (context.flags.json) {
    Json out{{"operation", operation}, {"what", what}, {"outcome", ended.outcome}, {"ms", ms}};
    if (ended.child) out["child"] = ended.child;
    fmt::print("{}\n", out.dump());
  } else if (ended.outcome == "pending") {
    fmt::print("operation {} has begun: {}\n", operation, what);
  } else if (ended.outcome != "abandoned") {
    fmt::print("{}: {} in {} ms, operation {}{}\n", what, ended.outcome, ms, operation,
               ended.child ? fmt::format("; the new shard is {}", ended.child) : "");
  }
  if (ended.outcome != "abandoned") return kOk;
  return complain(kUnavailable, fmt::format("operation {} was abandoned ({}): the shard changed meanwhile, or a node "
                                            "that it needs is gone; look at `mneme cluster status` and plan again",
                                            operation, what));
}

int split(Context& context) {
  const std::string shard = number_in(context.flags.shard);
  std::vector<std::string> command = {"MNEME.SPLIT", shard};
  std::string where = "in the middle";
  if (context.flags.at >= 0) {
    command.insert(command.end(), {"AT", std::to_string(context.flags.at)});
    where = fmt::format("at slot {}", context.flags.at);
  }
  return operate(context, command, fmt::format("split {} {}", shard_named(shard), where));
}

int move(Context& context) {
  const std::string shard = number_in(context.flags.shard), from = number_in(context.flags.from),
                    to = number_in(context.flags.to);
  return operate(context, {"MNEME.MOVE", shard, "FROM", from, "TO", to},
                 fmt::format("move {} from n{} to n{}", shard_named(shard), from, to));
}

int transfer(Context& context) {
  const std::string shard = number_in(context.flags.shard), to = number_in(context.flags.to);
  return operate(context, {"MNEME.TRANSFER", shard, to}, fmt::format("hand {} to n{}", shard_named(shard), to));
}

int add(Context& context) {
  const std::string shard = number_in(context.flags.shard), to = number_in(context.flags.to);
  return operate(context, {"MNEME.ADD", shard, to}, fmt::format("add a replica of {} on n{}", shard_named(shard), to));
}

// --- The whole cluster

// Carries out what is planned, of all nodes or from one, until `ended` says so of the map, or nothing more can be done.
// Adds to `done` what was begun.
template <class EndedWhen>
Result<void> carry_out(Context& context, const std::vector<std::string>& rebalance, EndedWhen ended,
                       std::vector<std::string>& done) {
  const Instant begun = context.asker.now();
  Instant stirred = begun;
  Instant asked = begun - kRetryAfter;
  Progress progress;
  for (;; context.asker.sleep(kLook)) {
    if (context.asker.now() - begun > context.patience)
      return fail(ErrorCode::kUnavailable,
                  fmt::format("this is not done after {}; what was begun goes on", context.flags.wait));
    auto map = context.asker.map();
    if (!map) continue;
    size_t pending = 0;
    for (const Json& shard : (*map)["shards"])
      pending += shard.contains("operation") && shard["operation"]["outcome"] == "pending";
    if (ended(*map, pending)) return {};
    if (pending > 0) stirred = context.asker.now();
    progress.show(fmt::format("{} operations begun, {} under way", done.size(), pending));
    if (context.asker.now() - asked < kRetryAfter) continue;
    asked = context.asker.now();
    auto sentences = context.asker.sentences(rebalance);
    if (!sentences) continue;
    for (std::string& sentence : *sentences)
      if (sentence.starts_with("operation ")) {
        stirred = context.asker.now();
        done.push_back(std::move(sentence));
      }
    if (context.asker.now() - stirred < kStuckAfter) continue;
    std::string why = "nothing is planned";
    if (auto plan = context.asker.sentences({"MNEME.PLAN"}))
      for (const std::string& sentence : *plan)
        if (sentence.starts_with("obstacle: ")) {
          why = sentence.substr(sentence.find(' ') + 1);
          break;
        }
    return fail(ErrorCode::kUnavailable, fmt::format("it goes no further: {}", why));
  }
}

void print_list(const std::vector<std::string>& sentences, std::string_view none) {
  for (const std::string& sentence : sentences) fmt::print("{}\n", sentence);
  if (sentences.empty()) fmt::print("{}\n", none);
}

int show_plan(Context& context) {
  auto plan = context.asker.sentences({"MNEME.PLAN"});
  if (!plan) return complain_of(context.asker, plan.error());
  if (context.flags.json)
    fmt::print("{}\n", Json{{"dry_run", true}, {"plan", *plan}}.dump());
  else
    print_list(*plan, "nothing is worth changing");
  return kOk;
}

int rebalance(Context& context) {
  if (context.flags.dry_run) return show_plan(context);
  const Instant begun = context.asker.now();
  std::vector<std::string> done;
  if (context.flags.no_wait) {
    auto sentences = context.asker.sentences({"MNEME.REBALANCE"});
    if (!sentences) return complain_of(context.asker, sentences.error());
    done = std::move(*sentences);
  } else {
    auto planned = [&] {
      auto plan = context.asker.sentences({"MNEME.PLAN"});
      return !plan ||
             std::any_of(plan->begin(), plan->end(), [](const std::string& s) { return !s.starts_with("obstacle: "); });
    };
    // Looked at twice: a plan that is empty because a report is under way fills again.
    int calm = 0;
    auto ended = [&](const Json&, size_t pending) {
      calm = pending == 0 && !planned() ? calm + 1 : 0;
      return calm == 3;
    };
    if (auto carried = carry_out(context, {"MNEME.REBALANCE"}, ended, done); !carried)
      return complain(exit_of(carried.error()), carried.error().message);
  }
  if (context.flags.json)
    fmt::print("{}\n", Json{{"operations", done}, {"ms", context.ms_since(begun)}}.dump());
  else
    print_list(done, "nothing is worth changing");
  return kOk;
}

const Json* find_node(const Json& map, std::string_view id) {
  for (const Json& node : map["nodes"])
    if (std::to_string(node["id"].get<uint64_t>()) == id) return &node;
  return nullptr;
}

size_t held_by(const Json& map, std::string_view id) {
  size_t held = 0;
  for (const Json& shard : map["shards"])
    for (const Json& replica : shard["replicas"]) held += std::to_string(replica["node"].get<uint64_t>()) == id;
  return held;
}

// Whether an operation has still to do with the node; then it cannot be forgotten.
bool is_named(const Json& map, std::string_view id) {
  const std::string name = fmt::format("n{}", id);
  for (const Json& shard : map["shards"]) {
    if (!shard.contains("operation") || shard["operation"]["outcome"] != "pending") continue;
    const std::string action = shard["operation"]["action"];
    for (size_t at = action.find(name); at != std::string::npos; at = action.find(name, at + 1))
      if (at + name.size() == action.size() || action[at + name.size()] == ' ') return true;
  }
  return false;
}

struct Emptied {
  size_t held = 0;  // before
  std::vector<std::string> operations;
};

// Has the node lose its replicas, and waits for that.
Result<Emptied> empty_node(Context& context, const std::string& id) {
  Emptied emptied;
  const Json map = TRY(context.asker.map());
  emptied.held = held_by(map, id);
  TRY(context.asker.change({"MNEME.DRAIN", id}));
  if (context.flags.no_wait) return emptied;
  TRY(carry_out(
      context, {"MNEME.REBALANCE", "FROM", id},
      [&](const Json& now, size_t) { return held_by(now, id) == 0 && !is_named(now, id); }, emptied.operations));
  return emptied;
}

int drain(Context& context) {
  const std::string id = number_in(context.flags.to);
  if (context.flags.stop || context.flags.dry_run) {
    std::vector<std::string> command = {"MNEME.DRAIN", id};
    if (context.flags.stop) command.push_back("STOP");
    if (context.flags.dry_run) command.push_back("DRYRUN");
    if (auto reply = context.asker.change(command); !reply) return complain_of(context.asker, reply.error());
    const std::string what = context.flags.stop ? fmt::format("n{} may be given replicas again", id)
                                                : fmt::format("move all replicas of n{} away", id);
    if (context.flags.json)
      fmt::print("{}\n", Json{{"dry_run", context.flags.dry_run}, {"plan", Json::array({what})}}.dump());
    else
      fmt::print("{}{}\n", context.flags.dry_run ? "would: " : "", what);
    return kOk;
  }
  const Instant begun = context.asker.now();
  auto emptied = empty_node(context, id);
  if (!emptied) return complain_of(context.asker, emptied.error());
  const int64_t ms = context.ms_since(begun);
  if (context.flags.json)
    fmt::print("{}\n",
               Json{{"node", id}, {"replicas", emptied->held}, {"operations", emptied->operations}, {"ms", ms}}.dump());
  else if (context.flags.no_wait)
    fmt::print("n{} is draining: {} replicas\n", id, emptied->held);
  else
    fmt::print("n{} is drained: {} replicas moved in {} ms\n", id, emptied->held, ms);
  return kOk;
}

// With --shard, one replica; otherwise the node.
int remove(Context& context) {
  const std::string id = number_in(context.flags.to);
  if (!context.flags.shard.empty()) {
    const std::string shard = number_in(context.flags.shard);
    return operate(context, {"MNEME.REMOVE", shard, id},
                   fmt::format("remove the replica of {} on n{}", shard_named(shard), id));
  }
  const Instant begun = context.asker.now();
  auto map = context.asker.map();
  if (!map) return complain_of(context.asker, map.error());
  const Json* node = find_node(*map, id);
  if (!node)
    return complain(kUsage, fmt::format("n{} is not in this cluster; `mneme cluster status` lists its nodes", id));
  if ((*node)["state"] == "removed")
    return complain(kUnavailable, fmt::format("n{} was removed already; nothing was changed", id));
  const bool joining = (*node)["state"] == "joining";
  const size_t held = held_by(*map, id);
  if (context.flags.dry_run) {
    const std::vector<std::string> words = {joining ? "MNEME.FORGET" : "MNEME.DRAIN", id, "DRYRUN"};
    if (auto reply = context.asker.change(words); !reply) return complain_of(context.asker, reply.error());
    const Json plan = {fmt::format("move {} replicas of n{} to other nodes", held, id), fmt::format("forget n{}", id)};
    if (context.flags.json)
      fmt::print("{}\n", Json{{"dry_run", true}, {"plan", plan}}.dump());
    else
      for (const Json& step : plan) fmt::print("would {}\n", step.get<std::string>());
    return kOk;
  }
  if (!joining) {
    auto emptied = empty_node(context, id);
    if (!emptied) return complain_of(context.asker, emptied.error());
  }
  if (context.flags.no_wait && held > 0) {
    fmt::print(stderr, "n{} is draining; remove it again when it is empty\n", id);
    return kOk;
  }
  if (auto reply = context.asker.change({"MNEME.FORGET", id}); !reply)
    return complain(exit_of(reply.error()), reply.error().message);
  const int64_t ms = context.ms_since(begun);
  if (context.flags.json)
    fmt::print("{}\n", Json{{"node", id}, {"replicas", held}, {"ms", ms}}.dump());
  else
    fmt::print("n{} is removed, {} replicas moved away in {} ms; stop it if it runs\n", id, held, ms);
  return kOk;
}

int set_copies(Context& context) {
  std::vector<std::string> command = {"MNEME.COPIES", std::to_string(context.flags.copies)};
  if (context.flags.dry_run) command.push_back("DRYRUN");
  if (auto reply = context.asker.change(command); !reply) return complain_of(context.asker, reply.error());
  if (context.flags.json)
    fmt::print("{}\n", Json{{"dry_run", context.flags.dry_run}, {"copies", context.flags.copies}}.dump());
  else
    fmt::print("{}{} copies of each shard are wanted{}\n", context.flags.dry_run ? "would: " : "", context.flags.copies,
               context.flags.dry_run ? "" : "; `mneme cluster status` shows them come");
  return kOk;
}

int run_with(const Flags& flags, int (*what)(Context&)) {
  if (auto address = env::parse_address(flags.node); !address)
    return complain(kUsage, fmt::format("--node: {}", address.error().message));
  const auto patience = parse_duration(flags.wait);
  if (!patience) return complain(kUsage, fmt::format("--wait: {}", patience.error().message));
  int exit = kOk;
  fiber::Scheduler scheduler;
  net::EventLoop loop(scheduler);
  scheduler.run(loop, nullptr, [&] {
    Asker asker(scheduler, loop, flags.node, std::chrono::milliseconds(flags.timeout_ms));
    Context context{asker, flags, Duration(*patience)};
    exit = what(context);
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

void add_patience(CLI::App& app, Flags& flags) {
  app.add_option("--wait", flags.wait, "how long to wait for the end: 90s, 10m")->capture_default_str();
}

void add_change(CLI::App& app, Flags& flags) {
  add_common(app, flags);
  add_patience(app, flags);
  app.add_flag("--dry-run", flags.dry_run, "say what would be done, or why it is refused, and change nothing");
  app.add_flag("--no-wait", flags.no_wait, "return when it has begun");
}

CLI::App* add_command(CLI::App& cluster, Run& run, const std::shared_ptr<Flags>& flags, const char* name,
                      const char* description, const char* examples, int (*what)(Context&)) {
  CLI::App* app = cluster.add_subcommand(name, description);
  app->footer(examples);
  app->callback([flags, what, &run] { run = [flags, what] { return run_with(*flags, what); }; });
  return app;
}

}  // namespace

void add_cluster(CLI::App& app, Run& run) {
  CLI::App* cluster = app.add_subcommand("cluster", "Look at a running cluster, and change it");
  cluster->require_subcommand(1);
  cluster->footer("Examples:\n  mneme cluster status --node 127.0.0.1:7001\n  mneme cluster rebalance --dry-run");
  const auto flags = std::make_shared<Flags>();
  auto command = [&](const char* name, const char* description, const char* examples, int (*what)(Context&)) {
    return add_command(*cluster, run, flags, name, description, examples, what);
  };

  CLI::App* init =
      command("init", "Wait until a cluster that was started serves, and say what it is",
              "A cluster is founded by starting its nodes with the same --cluster.\n"
              "Examples:\n  mneme cluster init --node 127.0.0.1:7001\n  mneme cluster init --wait 30s --json",
              wait_for_founding);
  add_common(*init, *flags);
  add_patience(*init, *flags);

  CLI::App* status =
      command("status", "Who leads what, who lags, what is being moved, what is wrong",
              "Examples:\n  mneme cluster status\n  mneme cluster status --node 127.0.0.1:7001 --json", show_status);
  add_common(*status, *flags);
  status->add_flag("--all", flags->all, "list every shard, also when they are many");

  CLI::App* one = command("split", "Split a shard in two",
                          "Examples:\n  mneme cluster split 3\n  mneme cluster split 3 --at 8192 --dry-run", split);
  add_change(*one, *flags);
  one->add_option("SHARD", flags->shard, "number of the shard")->required();
  one->add_option("--at", flags->at, "the first slot of the new shard; by default the middle of the data")
      ->check(CLI::Range(0, 16383));

  one = command("move", "Move a replica of a shard to another node",
                "Examples:\n  mneme cluster move 3 n1 n4\n  mneme cluster move 3 1 4 --no-wait --json", move);
  add_change(*one, *flags);
  one->add_option("SHARD", flags->shard, "number of the shard")->required();
  one->add_option("FROM", flags->from, "the node that holds it")->required();
  one->add_option("TO", flags->to, "the node that is to hold it")->required();

  one = command("transfer", "Hand the leadership of a shard to another node",
                "Examples:\n  mneme cluster transfer 3 n2\n  mneme cluster transfer 3 2 --node 127.0.0.1:7001 --json",
                transfer);
  add_change(*one, *flags);
  one->add_option("SHARD", flags->shard, "number of the shard")->required();
  one->add_option("TO", flags->to, "the node that is to lead it")->required();

  one = command("add", "Give a shard one more replica, on a node that holds none",
                "A node is added by starting it: mneme node --join HOST:PORT.\n"
                "Examples:\n  mneme cluster add 3 n4\n  mneme cluster add 3 4 --dry-run",
                add);
  add_change(*one, *flags);
  one->add_option("SHARD", flags->shard, "number of the shard")->required();
  one->add_option("NODE", flags->to, "the node that is to hold it")->required();

  one = command("remove", "Remove a node for ever, dead or alive; its replicas are moved to others first",
                "Examples:\n  mneme cluster remove n2 --dry-run\n  mneme cluster remove n4 --shard 3", remove);
  add_change(*one, *flags);
  one->add_option("NODE", flags->to, "the node")->required();
  one->add_option("--shard", flags->shard, "remove its replica of this shard only");

  one = command("drain", "Move all replicas of a node to others; it gets no new ones",
                "Examples:\n  mneme cluster drain n2\n  mneme cluster drain n2 --stop", drain);
  add_change(*one, *flags);
  one->add_option("NODE", flags->to, "the node")->required();
  one->add_flag("--stop", flags->stop, "it may be given replicas again");

  one = command("rebalance", "Repair, spread, split and balance as far as it is worth it",
                "Examples:\n  mneme cluster rebalance --dry-run\n  mneme cluster rebalance --node 127.0.0.1:7001",
                rebalance);
  add_change(*one, *flags);

  one = command("copies", "Set how many copies each shard shall have",
                "Examples:\n  mneme cluster copies 5\n  mneme cluster copies 3 --dry-run", set_copies);
  add_common(*one, *flags);
  one->add_option("N", flags->copies, "copies")->required()->check(CLI::Range(1, 15));
  one->add_flag("--dry-run", flags->dry_run, "say whether it would be accepted, and change nothing");
}

}  // namespace mneme::cmd
