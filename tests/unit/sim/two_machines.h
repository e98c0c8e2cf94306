// Two machines on a network whose latency hardly varies, for tests of one fault at a time: `client` connects, `server`
// listens on port 1 and writes down what arrives when. Their processes run until they are told to end.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "core/fiber/scope.h"
#include "sim/machine.h"
#include "sim/network.h"
#include "sim/world.h"

namespace mneme::sim::testing {

constexpr WorldTime kMs = 1'000'000;
constexpr WorldTime kSecond = 1'000'000'000;

// What one end of a connection has seen.
struct End {
  env::Stream* stream = nullptr;
  Bytes bytes;                 // read so far
  std::vector<size_t> pieces;  // the sizes of the reads
  std::vector<WorldTime> at;   // their times
  WorldTime broken_at = 0;     // a read failed
  bool ended = false;          // the other side's end of stream was read
  bool open() const { return broken_at == 0 && !ended; }
  std::string text() const { return std::string(as_text(bytes)); }
};

class TwoMachines {
 public:
  explicit TwoMachines(const WorldOptions& options = calm(), uint64_t seed = 1)
      : world(seed, options, nullptr),
        client(world.add_machine("client", {})),
        server(world.add_machine("server", {})) {}

  // Latency of 1 ms to 1 ms and 1 us.
  static WorldOptions calm() {
    WorldOptions options;
    options.latency_base_ns = kLatency;
    options.latency_tail_ppm = 0;
    options.split_ppm = 0;
    return options;
  }
  static constexpr int64_t kLatency = kMs;

  // Runs `story`, a fiber of the world's.
  void run(const std::function<void()>& story) {
    world.run([&] {
      auto done = fiber::with_scope(world.scheduler(), [&](fiber::Scope& scope) {
        server.boot(
            scope, [this](Env& env) { return serve(env); }, [](Result<void>) {});
        world.sleep_for(kMs);
        client.boot(
            scope, [this](Env& env) { return use(env); }, [](Result<void>) {});
        world.sleep_for(kMs);
        story();
        client.crash(CrashKind::kKill);
        server.crash(CrashKind::kKill);
        world.sleep_for(20 * kSecond);
      });
      CHECK(done.has_value());
    });
  }

  // Makes a connection and waits until both ends have it; its number, from 0.
  size_t connect() {
    const size_t number = near.size();
    at_client([this](Env& env) {
      if (auto stream = env.network.connect({"server", 1})) keep(env, *client_scope_, near, std::move(*stream));
    });
    while (near.size() <= number || far.size() <= number) world.sleep_for(kMs / 10);
    return number;
  }
  // Runs `job` in a fiber of the client's.
  void at_client(std::function<void(Env&)> job) {
    jobs_.push_back(std::move(job));
    called_->notify_one();
  }
  // By a fiber of the world's, at once.
  void write(const std::deque<End>& ends, size_t number, Bytes bytes) {
    fiber::Scope& scope = &ends == &near ? *client_scope_ : *server_scope_;
    scope.spawn("write", [&ends, number, bytes = std::move(bytes)] { (void)ends[number].stream->write(bytes); });
  }
  void write(const std::deque<End>& ends, size_t number, std::string_view text) {
    write(ends, number, Bytes(text.begin(), text.end()));
  }

  World world;
  Machine& client;
  Machine& server;
  std::deque<End> near;  // the client's ends, by number
  std::deque<End> far;   // the server's

 private:
  static void read(World& world, End& end) {
    for (;;) {
      Bytes buffer(64 * 1024);
      auto got = end.stream->read(buffer);
      if (!got) end.broken_at = world.now();
      if (got && *got == 0) end.ended = true;
      if (!end.open()) return;
      end.bytes.insert(end.bytes.end(), buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(*got));
      end.pieces.push_back(*got);
      end.at.push_back(world.now());
    }
  }
  void keep(Env& env, fiber::Scope& scope, std::deque<End>& ends, std::unique_ptr<env::Stream> stream) {
    End& end = ends.emplace_back();
    end.stream = stream.get();
    scope.spawn("read", [this, &env, &end, stream = std::move(stream)] {
      read(world, end);
      env.clock.sleep_until(env.scheduler, kNever);  // does not close it
    });
  }
  Result<void> serve(Env& env) {
    auto listener = TRY(env.network.listen({"server", 1}));
    return fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) -> Result<void> {
      server_scope_ = &scope;
      for (;;) keep(env, scope, far, TRY(listener->accept()));
    });
  }
  Result<void> use(Env& env) {
    fiber::Condition called(env.scheduler);
    called_ = &called;
    return fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) -> Result<void> {
      client_scope_ = &scope;
      for (;;) {
        called.wait_until([this] { return !jobs_.empty(); });
        scope.spawn("job", [&env, job = std::move(jobs_.front())] { job(env); });
        jobs_.pop_front();
      }
    });
  }

  std::deque<std::function<void(Env&)>> jobs_;
  fiber::Condition* called_ = nullptr;
  fiber::Scope* client_scope_ = nullptr;
  fiber::Scope* server_scope_ = nullptr;
};

}  // namespace mneme::sim::testing
