// The client library: sends commands to a cluster of Mneme nodes, finds the right one, and says truthfully what became
// of each command.
//
//   Result<void> main(Env& env) {
//     client::Options options{.seeds = {{"n1", 6399}, {"n2", 6399}}, .sessions = true};
//     return client::with_client(env, options, [&](client::Client& client) -> Result<void> {
//       client::Answer answer = client.call({"INCR", "visits"});
//       if (answer.outcome == client::Outcome::kDone) use(answer.reply());   // its own error replies are answers, too
//       else if (answer.outcome == client::Outcome::kNotDone) try_later(answer.why);
//       else find_out(answer.why);                                          // it may have been counted, or may be yet
//       return {};
//     });
//   }
//
// It is written against Env and so runs on real sockets and in the simulator alike, and with any server of Redis's
// protocol, except for sessions.
//
// Fibers and lifetime. Many fibers may call one client at once; they share one connection per node (core/client/link.h)
// and their commands travel together. All of a client belongs to one scheduler. Its own fibers live in the scope that
// it is started in, as daemons: with_client() makes one for it. Only call() suspends: until there is room among the
// requests under way (Options::max_requests, max_bytes: back-pressure), until the reply has come, during pauses. It is
// cancellable anywhere; the command of a cancelled call may or may not be executed, and its reply is skipped.
//
// Outcomes. What is known of a command is one of three (core/client/outcome.h). A call is over at its deadline at the
// latest, and never later than that by more than what ready fibers take.
//
// Sending again. An attempt that was certainly not executed (not connected, MOVED, ASK, TRYAGAIN, CLUSTERDOWN, LOADING)
// is made again until the deadline, MOVED and ASK at once a few times and everything else after pauses that grow. An
// attempt of unknown outcome (-UNCERTAIN, a connection lost after the command may have left, silence) is made again for
// commands that only read; for others only with Options::sessions, under the same number, so that it is executed once.
// What a node then says without looking whether it was (-OOM, -CROSSSLOT) is no answer, and it goes on being asked.
// Without a session such a call ends as kUnknown: the library never risks a second execution.
//
// Sessions. With Options::sessions the client opens one when the first command that writes is called, and numbers
// these. When the nodes have forgotten it (-EXPIRED) another is opened; a command of which no attempt can have been
// executed goes on there, others end as kUnknown. A session outlives connections and leader changes, not the client.
//
// Routing. CLUSTER SLOTS of any node says who serves what; MOVED corrects one slot at once, and the whole map is asked
// for again in the background then, and after failures, at a bounded rate. A command goes to the node that serves its
// first key; several keys are the server's business. Where cluster mode is off, everything goes to one node that
// answers, and to another when that fails.
//
// Not for a shared connection, and refused with kNotDone: commands that change what the connection is or means (MULTI,
// WATCH, SUBSCRIBE, SELECT, HELLO, CLIENT REPLY, SESSION, QUIT and their like).
#pragma once

#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/limits.h"
#include "core/client/link.h"
#include "core/client/outcome.h"
#include "core/client/session.h"
#include "core/client/topology.h"
#include "core/env/env.h"
#include "core/fiber/scope.h"
#include "core/fiber/sync.h"
#include "core/protocol/reply_reader.h"

namespace mneme::client {

struct Options {
  std::vector<env::Address> seeds;  // at least one; any nodes of the cluster
  bool sessions = false;            // exactly once for what writes

  Duration timeout{10s};         // of a call without a deadline of its own
  Duration connect_timeout{2s};  // per attempt
  // A connection that owes replies and brings nothing for so long is given up. Longer than what a node may take for an
  // honest answer (node::Config::request_timeout), or reads are repeated in vain.
  Duration silence{7s};

  // Per node, queued and in flight.
  size_t max_requests = 1024;
  size_t max_bytes = 16 * limits::kMiB;

  Observer* observer = nullptr;  // outlives the client
};

struct Answer {
  Outcome outcome = Outcome::kNotDone;
  std::string raw;  // kDone: the reply, as it came (RESP2)
  std::string why;  // otherwise: what happened last, a sentence

  // kDone. An error reply, -WRONGTYPE for instance.
  bool is_error() const { return raw.starts_with('-'); }
  // kDone: the reply as a tree. kTooLarge: it has more elements than a tree may.
  Result<protocol::Reply> reply() const { return protocol::parse_reply(raw); }
};

struct CallOptions {
  std::optional<Instant> deadline = {};  // by env.clock; without one, Options::timeout from now
  uint64_t tag = 0;                      // what the observer is told
};

struct Counters {
  uint64_t calls = 0;
  uint64_t attempts = 0;      // at calls
  uint64_t redirections = 0;  // MOVED and ASK
  uint64_t refreshes = 0;     // CLUSTER SLOTS asked for
  uint64_t sessions = 0;      // opened
};

// Why a client would not take such a command, whatever the cluster says; empty: it would.
[[nodiscard]] std::string why_refused(std::span<const std::string_view> args);

class Client {
 public:
  Client(Env& env, Options options);
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // To be called once and before call(). The client must outlive the scope, and calls end before it is left.
  void start(fiber::Scope& scope);

  // A command's name and arguments, which need not outlive the call. Suspends.
  Answer call(std::span<const std::string_view> args, const CallOptions& options = {});
  Answer call(std::initializer_list<std::string_view> args, const CallOptions& options = {}) {
    return call(std::span(args.begin(), args.size()), options);
  }

  const Counters& counters() const { return counters_; }
  const Topology& topology() const { return topology_; }

 private:
  struct Call;

  // call.cc: one call
  Answer perform(Call& call);
  Result<void> prepare(Call& call);
  Answer attempt(Call& call);
  Answer interpret(Call& call, const env::Address& from, std::string reply);
  Answer redirect(Call& call, const env::Address& from, const std::string& reply, bool asking);
  Answer expired(Call& call, const std::string& reply);
  bool pause(Call& call);
  Link* choose(Call& call);
  env::Address any_node(const Call& call) const;
  Result<void> enter_session(Call& call);
  Result<void> open_session(Instant deadline);

  // client.cc: what calls share
  void keep_topology();
  bool refresh();
  bool refresh_from(const env::Address& node);
  void refresh_soon();
  void failed(const env::Address& node);
  std::vector<env::Address> known_nodes() const;
  bool is_known(const env::Address& node) const;
  bool failing(const env::Address& node) const;
  Link* link_to(const env::Address& node);
  // Until the request is settled or the deadline has passed; its state tells.
  void exchange(Link& link, Request& request, Instant deadline);
  void drop_unused_links();

  Env& env_;
  const Options options_;
  const LinkOptions link_options_;
  fiber::Scope* scope_ = nullptr;
  std::map<env::Address, std::unique_ptr<Link>> links_;
  Counters counters_;

  Topology topology_;
  std::optional<env::Address> home_;  // for what any node may do: the one that did it last
  bool stale_ = true;
  bool asked_once_ = false;
  uint64_t refresh_rounds_ = 0;
  fiber::Condition stale_set_;
  fiber::Condition asked_;

  std::shared_ptr<Session> session_;  // null: to be opened
  bool opening_ = false;
  fiber::Condition opened_;
};

// Calls fn(Client&), which returns void or Result<void>, with a client that has started, and returns when all of the
// client is gone. The first error wins, as with_scope() has it; the client's own fibers give none. Suspends.
template <class F>
Result<void> with_client(Env& env, Options options, F&& fn) {
  Client client(env, std::move(options));
  return fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
    client.start(scope);
    return fn(client);
  });
}

}  // namespace mneme::client
