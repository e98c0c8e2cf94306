// Servers that say what a test tells them to, and a client's process, in the simulated world.
//
// Machines are called s1, s2, ... and c; servers listen on port 1. A server's handler gets one command after the other
// of each connection, in a fiber of the connection's, and answers by writing bytes. Handlers and the client's program
// must not use REQUIRE.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <string>
#include <vector>

#include "core/client/client.h"
#include "core/protocol/request.h"
#include "sim/machine.h"
#include "sim/network.h"
#include "sim/world.h"

namespace mneme::client::testing {

constexpr sim::WorldTime kMs = 1'000'000;
using Words = std::vector<std::string>;

// One connection as its server sees it.
struct Peer {
  Env& env;
  env::Stream& stream;
  uint64_t nth;  // of this server's connections, from 1
  uint64_t commands = 0;
  std::string session, number;  // of what was said last

  void say(std::string_view reply) { (void)stream.write(as_bytes(reply)); }
  void sleep(Duration duration) { env.clock.sleep_for(env.scheduler, duration); }
};

struct Heard {
  uint64_t connection;
  Words words;
  std::string session, number, ack;  // that it was numbered with
};

class Servers {
 public:
  using Handler = std::function<void(Peer&, const Words&)>;

  explicit Servers(size_t count, uint64_t seed = 1, const sim::WorldOptions& options = calm())
      : world(seed, options, nullptr), client(world.add_machine("c", {})), handlers(count + 1), heard(count + 1) {
    for (size_t n = 1; n <= count; ++n) machines.push_back(&world.add_machine(fmt::format("s{}", n), {}));
  }

  static sim::WorldOptions calm() {
    sim::WorldOptions options;
    options.latency_base_ns = kMs;
    options.latency_tail_ppm = 0;
    options.split_ppm = 0;
    return options;
  }
  static env::Address address(size_t n) { return {fmt::format("s{}", n), 1}; }
  Options options() const {
    Options options;
    for (size_t n = 1; n <= machines.size(); ++n) options.seeds.push_back(address(n));
    return options;
  }

  // What CLUSTER SLOTS answers: each server in turn the next of these ranges. Empty: cluster mode is off.
  std::string slots;
  static std::string range(int from, int to, size_t server) {
    return fmt::format("*3\r\n:{}\r\n:{}\r\n*3\r\n$2\r\ns{}\r\n:1\r\n$1\r\nx\r\n", from, to, server);
  }
  // All slots, in two halves.
  void halve() { slots = "*2\r\n" + range(0, 8191, 1) + range(8192, 16383, 2); }

  void start(size_t n) {
    machines[n - 1]->boot(
        *scope, [this, n](Env& env) { return serve(env, n); }, [](Result<void>) {});
  }
  void crash(size_t n) { machines[n - 1]->crash(sim::CrashKind::kKill); }

  // Runs the client's program to its end, with `meanwhile`, a fiber of the world's, beside it. The virtual time that it
  // took; 0: it did not end.
  template <class F>
  sim::WorldTime run(
      F&& program, const std::function<void()>& meanwhile = [] {}) {
    sim::WorldTime ended = 0;
    world.run([&] {
      auto done = fiber::with_scope(world.scheduler(), [&](fiber::Scope& s) {
        scope = &s;
        for (size_t n = 1; n <= machines.size(); ++n)
          if (handlers[n]) start(n);
        world.sleep_for(kMs);
        const sim::WorldTime begun = world.now();
        client.boot(
            s,
            [&](Env& env) -> Result<void> {
              program(env);
              return {};
            },
            [&](Result<void>) { ended = world.now() - begun; });
        meanwhile();
        for (int step = 0; step < 100'000 && ended == 0; ++step) world.sleep_for(kMs);
        client.crash(sim::CrashKind::kKill);
        for (sim::Machine* machine : machines) machine->crash(sim::CrashKind::kKill);
        world.sleep_for(30'000 * kMs);
      });
      CHECK(done.has_value());
    });
    return ended;
  }

  sim::World world;
  sim::Machine& client;
  std::vector<sim::Machine*> machines;
  std::vector<Handler> handlers;          // by server, from 1; without one it does not listen
  std::vector<std::vector<Heard>> heard;  // by server, from 1; without SESSION and CLUSTER SLOTS
  uint64_t slots_asked = 0;
  uint64_t sessions_opened = 0;
  uint64_t resumed = 0;
  bool refuse_numbers = false;  // what a node does that knows no SESSION SEQ
  bool no_sessions = false;     // nor any of them
  fiber::Scope* scope = nullptr;

 private:
  Result<void> serve(Env& env, size_t n) {
    auto listener = TRY(env.network.listen(address(n)));
    return fiber::with_scope(env.scheduler, [&](fiber::Scope& inner) -> Result<void> {
      for (uint64_t nth = 1;; ++nth) {
        auto stream = TRY(listener->accept());
        inner.spawn("connection", [this, &env, n, nth, stream = std::move(stream)] { converse(env, n, nth, *stream); });
      }
    });
  }

  void converse(Env& env, size_t n, uint64_t nth, env::Stream& stream) {
    Peer peer{env, stream, nth};
    protocol::RequestParser parser;
    std::string buffer, ack;
    for (;;) {
      auto step = parser.next(buffer);
      Words words(step.args.begin(), step.args.end());
      buffer.erase(0, step.consumed);
      if (step.progress == protocol::Progress::kError) return;
      if (step.progress == protocol::Progress::kDone) {
        ++peer.commands;
        if (words[0] == "CLUSTER") {
          ++slots_asked;
          peer.say(slots.empty() ? "-ERR This instance has cluster support disabled\r\n" : slots);
        } else if (words[0] == "SESSION") {
          session(peer, words, ack);
        } else {
          heard[n].push_back({nth, words, peer.number.empty() ? "" : peer.session, peer.number, ack});
          handlers[n](peer, words);
          peer.number.clear();
        }
        continue;
      }
      uint8_t chunk[4096];
      auto got = stream.read(chunk);
      if (!got || *got == 0) return;
      buffer.append(reinterpret_cast<char*>(chunk), *got);
    }
  }

  void session(Peer& peer, const Words& words, std::string& ack) {
    if (no_sessions) return peer.say("-ERR unknown command 'SESSION'\r\n");
    if (words[1] == "OPEN") return peer.say(fmt::format(":{}\r\n", 70 + ++sessions_opened));
    if (words[1] == "RESUME") {
      ++resumed;
      peer.session = words[2];
      peer.number.clear();
    } else if (refuse_numbers) {
      return peer.say("-ERR unknown subcommand 'SEQ'\r\n");
    } else {
      peer.number = words[2];
      ack = words.size() > 4 ? words[4] : "";
    }
    peer.say("+OK\r\n");
  }
};

}  // namespace mneme::client::testing
