// A small cluster in a simulated world, and a client of it whose fiber is the body of a test.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/node/node.h"
#include "core/protocol/reply_reader.h"
#include "core/protocol/request.h"
#include "sim/machine.h"
#include "sim/network.h"
#include "sim/world.h"
#include "tests/test.h"

namespace mneme::node {

using Json = nlohmann::json;
using protocol::Reply;

// What the node answers to a request on a connection of its own.
inline Result<Reply> ask(Env& env, uint64_t node, const std::vector<std::string_view>& words) {
  auto stream = TRY(env.network.connect({fmt::format("n{}", node), 6399}));
  std::string request;
  protocol::put_command(request, words);
  TRY(stream->write(as_bytes(request)));
  protocol::ReplyParser parser;
  std::string buffer;
  for (;;) {
    auto step = parser.next(buffer);
    if (step.progress == protocol::Progress::kDone) return protocol::parse_reply(buffer);
    if (step.progress == protocol::Progress::kError) return std::unexpected(std::move(step.error));
    uint8_t bytes[4096];
    const size_t got = TRY(stream->read(bytes));
    if (got == 0) return fail(ErrorCode::kClosed, "closed");
    buffer.append(reinterpret_cast<const char*>(bytes), got);
  }
}

// Changes a byte of each entry of the node's log that has that text. kNotFound: none has.
inline Result<void> damage_log(Env& env, std::string_view text) {
  size_t damaged = 0;
  for (const std::string& name : TRY(env.disk.list("wal"))) {
    const std::string path = "wal/" + name;
    const Bytes bytes = TRY(env::read_file(env.disk, path, 64 * limits::kMiB));
    const auto file = TRY(env.disk.open(path, env::OpenMode::kReadWrite));
    const std::string_view log = as_text(ByteView(bytes));
    for (size_t at = log.find(text); at != log.npos; at = log.find(text, at + 1)) {
      TRY(file->write_and_sync(at, as_bytes("?")));
      ++damaged;
    }
  }
  if (damaged == 0) return fail(ErrorCode::kNotFound, fmt::format("no {} in the log", text));
  return {};
}

// Four nodes, of which the first three found a cluster of four shards and the last one joins it; nothing is done
// without an operator. A node that ends by itself before the test does fails it.
class Cluster {
 public:
  static constexpr uint32_t kNodes = 4;

  Cluster() : Cluster([](Config&) {}) {}
  // With other options, of each node and of the machines.
  explicit Cluster(const std::function<void(Config&)>& adjust, const sim::MachineOptions& machines = {})
      : machines_(machines) {
    for (uint32_t n = 1; n <= kNodes; ++n) {
      Config config{.id = NodeId(n < kNodes ? n : 0), .listen = {fmt::format("n{}", n), 6399}};
      for (uint32_t m = 1; m < kNodes && n < kNodes; ++m)
        config.cluster.push_back({NodeId(m), {fmt::format("n{}", m), 6399}});
      if (n == kNodes) config.join = {{"n1", 6399}};
      config.shards = 4;
      config.balance = false;
      adjust(config);
      configs_.push_back(std::move(config));
    }
  }

  template <class F>
  void run(F&& body) {
    std::exception_ptr thrown;
    world_.run([&] {
      auto done = fiber::with_scope(world_.scheduler(), [&](fiber::Scope& scope) {
        scope_ = &scope;
        for (uint32_t n = 1; n <= kNodes; ++n) world_.add_machine(fmt::format("n{}", n), machines_);
        sim::Machine& client = world_.add_machine("c", {});
        for (uint32_t n = 1; n <= kNodes; ++n) boot(n);
        client.boot(
            scope,
            [&](Env& env) -> Result<void> {
              env_ = &env;
              try {
                body();
              } catch (const fiber::Cancelled&) {
                throw;
              } catch (...) {
                thrown = std::current_exception();  // a failed REQUIRE: only the test's own stack may see it
              }
              ended_ = true;
              return {};
            },
            [](Result<void>) {});
        constexpr sim::WorldTime kStep = 5'000'000;
        for (int step = 0; step < 60'000 && !ended_; ++step) {
          if (auto action = std::exchange(action_, nullptr)) action();
          world_.sleep_for(kStep);
        }
        CHECK(ended_);
        world_.network().heal();
        for (uint32_t n = 1; n <= kNodes; ++n) {
          world_.machine(n).disk().cancel_failures();
          world_.machine(n).crash(sim::CrashKind::kKill);
        }
      });
      CHECK(done.has_value());
    });
    if (thrown) std::rethrow_exception(thrown);
  }

  // --- From the body

  Reply ask(uint64_t node, std::vector<std::string_view> words) {
    auto reply = try_to_ask(node, words);
    INFO(words[0] << ": " << (reply ? reply->text : reply.error().message));
    REQUIRE(reply);
    return *reply;
  }
  Result<Reply> try_to_ask(uint64_t node, const std::vector<std::string_view>& words) {
    return node::ask(*env_, node, words);
  }
  Json map(uint64_t node) { return Json::parse(ask(node, {"MNEME.MAP"}).text); }
  Json status(uint64_t node) { return Json::parse(ask(node, {"MNEME.STATUS"}).text); }
  Json shard(uint64_t node, uint64_t group) { return with_group(map(node)["shards"], group); }
  // What the node says of its replica; null when it has none, or does not answer.
  Json replica(uint64_t node, uint64_t group) {
    const auto reply = try_to_ask(node, {"MNEME.STATUS"});
    if (!reply || reply->kind != Reply::Kind::kBulk) return {};
    return with_group(Json::parse(reply->text).value("groups", Json::array()), group);
  }
  std::vector<uint64_t> holders(uint64_t node, uint64_t group) {
    std::vector<uint64_t> ids;
    const Json shard = this->shard(node, group);
    for (const Json& replica : shard["replicas"]) ids.push_back(replica["node"]);
    return ids;
  }
  template <class Condition>
  bool within(int seconds, Condition condition) {
    for (int i = 0; i < seconds * 10; ++i) {
      if (condition()) return true;
      sleep(100ms);
    }
    return false;
  }
  // Until the map shows all shards led and node 4 up, as each node knows it.
  bool serves() {
    return within(30, [&] {
      for (uint64_t node = 1; node <= kNodes; ++node) {
        auto reply = try_to_ask(node, {"MNEME.MAP"});
        if (!reply || reply->kind != Reply::Kind::kBulk) return false;
        const Json map = Json::parse(reply->text);
        if (map["nodes"].size() != kNodes || map["nodes"][kNodes - 1]["state"] != "up") return false;
        for (const Json& shard : map["shards"])
          if (shard["leader"] == 0) return false;
      }
      return true;
    });
  }
  // What MNEME.OPERATION says, once it is not pending.
  std::string outcome(uint64_t node, int64_t operation) {
    std::string outcome;
    within(60, [&] {
      const Reply reply = ask(node, {"MNEME.OPERATION", std::to_string(operation)});
      REQUIRE(reply.elements.size() == 12);
      CHECK(reply.elements[1].text == "");
      CHECK(reply.elements[1].integer == operation);
      outcome = reply.elements[9].text;
      return outcome != "pending";
    });
    return outcome;
  }
  int64_t begin(uint64_t node, std::vector<std::string_view> words) {
    const Reply reply = ask(node, words);
    INFO(reply.text);
    REQUIRE(reply.kind == Reply::Kind::kInteger);
    return reply.integer;
  }
  void sleep(Duration duration) { env_->clock.sleep_for(env_->scheduler, duration); }

  // Has that done by the world, outside of any machine: to strike machines, and to start them.
  void in_world(std::function<void()> action) {
    bool done = false;
    action_ = [&] {
      action();
      done = true;
    };
    while (!done) sleep(1ms);
  }
  // For in_world().
  sim::World& world() { return world_; }
  Config& config(uint64_t node) { return configs_[node - 1]; }  // of its next start
  sim::Machine& machine(uint64_t node) { return world_.machine(static_cast<uint32_t>(node)); }
  void boot(uint64_t node) {
    machine(node).boot(
        *scope_, [this, node](Env& env) { return run_node(env, configs_[node - 1]); },
        [this, node](Result<void> result) {
          INFO("node " << node << ": " << (result ? "" : result.error().message));
          CHECK(ended_);  // else it should go on
        });
  }
  // Another program than the node, on its machine.
  void run_on(uint64_t node, sim::Machine::Program program) {
    machine(node).boot(*scope_, std::move(program), [](Result<void> result) {
      INFO((result ? "" : result.error().message));
      CHECK(result.has_value());
    });
  }
  // Nothing reaches either from the other, until healed.
  void cut(uint64_t a, uint64_t b) {
    constexpr sim::WorldTime kForever = 1'000'000'000'000'000;
    world_.network().block(static_cast<uint32_t>(a), static_cast<uint32_t>(b), kForever);
    world_.network().block(static_cast<uint32_t>(b), static_cast<uint32_t>(a), kForever);
  }

 private:
  static Json with_group(const Json& list, uint64_t group) {
    for (const Json& one : list)
      if (one["group"] == group) return one;
    return {};
  }

  sim::World world_{1, {}, nullptr};
  sim::MachineOptions machines_;
  std::vector<Config> configs_;
  fiber::Scope* scope_ = nullptr;
  Env* env_ = nullptr;
  bool ended_ = false;
  std::function<void()> action_;
};

}  // namespace mneme::node
