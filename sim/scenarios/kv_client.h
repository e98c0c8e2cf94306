// A client process of the kv scenario: speaks RESP to the nodes over the simulated network, and writes down what it did
// and was told. Three styles:
//   plain     one attempt; a lost answer is an unknown outcome
//   retrying  as redis-py does: after a lost connection, a timeout or CLUSTERDOWN the same bytes again, up to three
//             times, each attempt an operation of its own
//   session   exactly-once: the same number again until there is an answer
// Plain and session clients may pipeline: send several commands at once; their answers come in order.
// A client process may be killed; its successor goes on with the next operation.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/env/env.h"
#include "sim/scenarios/kv_client_process.h"
#include "sim/scenarios/kv_scribe.h"
#include "sim/scenarios/plan.h"

namespace mneme::sim {

class World;

class KvClient final : public KvClientProcess {
 public:
  // `number` is 1-based. Nodes are the machines 1 to nodes, listening where `address` says.
  using AddressOf = std::function<env::Address(uint32_t)>;
  KvClient(World& world, KvLog& log, const PlannedClient& plan, uint32_t number, uint32_t nodes, AddressOf address,
           Duration timeout)
      : world_(world),
        scribe_(world, log, number),
        plan_(plan),
        number_(number),
        nodes_(nodes),
        address_(std::move(address)),
        timeout_(timeout) {}

  Result<void> run(Env& env) override;
  bool finished() const override { return next_ == plan_.operations.size(); }

  // The auditor's process: a GET of each key, tried until it is answered or `deadline` has passed (kTimeout).
  Result<void> read_all(Env& env, int64_t keys, WorldTime deadline);

 private:
  struct Connection;
  enum class Attempt : uint8_t { kAnswered, kNotSent, kLost };

  Result<void> read_surely(Env& env, const std::string& key, WorldTime deadline);
  void perform(Env& env, const PlannedOp& op);
  void perform_together(Env& env, size_t first, size_t count);
  struct Numbered {
    size_t record;
    uint64_t sequence;
    bool may_have_happened = false;
    std::string refusal = {};  // if the session is said to have expired
  };
  void perform_in_session(Env& env, size_t first, size_t count);
  bool ask_in_session(Env& env, std::vector<Numbered>& open);
  ClientOutcome judge(std::string_view reply) const;
  Attempt attempt(Env& env, size_t record, const std::vector<std::string>& command, std::string& reply);
  Result<void> connect(Env& env);
  Result<std::string> read_reply(Env& env, Instant deadline);
  bool open_session(Env& env);
  void drop() { stream_.reset(); }

  World& world_;
  KvScribe scribe_;
  const PlannedClient& plan_;
  uint32_t number_;
  uint32_t nodes_;
  AddressOf address_;
  Duration timeout_;
  size_t next_ = 0;
  uint64_t connections_ = 0;
  bool all_in_turn_ = false;  // connect to one node after the other, so that none is missed

  std::unique_ptr<env::Stream> stream_;
  std::string buffer_;
  uint64_t sent_on_stream_ = 0;
  uint64_t session_ = 0;
  uint64_t sequence_ = 0;
  bool session_bound_ = false;  // on this connection
};

}  // namespace mneme::sim
