// What the tests of core/kv share: a machine driven by words, and seeded chance.
#pragma once

#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/hash.h"
#include "core/kv/checkpoint.h"
#include "core/kv/state_machine.h"

namespace mneme::kv::testing {

using Words = std::vector<std::string>;

inline std::vector<std::string_view> views(const Words& words) { return {words.begin(), words.end()}; }

class SplitMix {
 public:
  explicit SplitMix(uint64_t seed) : state_(seed) {}
  uint64_t next() { return mix(state_ += 0x9e3779b97f4a7c15u); }
  uint64_t below(uint64_t bound) { return next() % bound; }
  bool one_in(uint64_t n) { return below(n) == 0; }

 private:
  uint64_t state_;
};

struct Collected final : ReplySink {
  void reply(size_t, Outcome outcome, std::string_view reply) override {
    outcomes.push_back(outcome);
    replies.emplace_back(reply);
  }
  void stale(const BatchHeader&, size_t commands) override { stale_commands += commands; }
  void split(const SplitRequest& request, std::unique_ptr<StateMachine> child) override {
    splits.emplace_back(request, std::move(child));
  }
  size_t stale_commands = 0;
  std::vector<std::pair<SplitRequest, std::unique_ptr<StateMachine>>> splits;
  std::vector<Outcome> outcomes;
  std::vector<std::string> replies;
};

// A batch under construction.
struct Batch {
  explicit Batch(int64_t log_time_ms = 0, Epoch epoch = Epoch(1))
      : builder(BatchHeader{.epoch = epoch, .log_time_ms = log_time_ms}) {}
  Batch& add(const Words& words, CommandMeta meta = {}) {
    builder.add(meta, views(words));
    return *this;
  }
  Batch& transaction(const std::vector<Words>& commands, CommandMeta meta = {}) {
    for (size_t i = 0; i < commands.size(); ++i) {
      meta.flags = kInTransaction;
      if (i == 0) meta.flags |= kFirstOfTransaction;
      if (i + 1 == commands.size()) meta.flags |= kLastOfTransaction;
      add(commands[i], meta);
    }
    return *this;
  }
  std::string finish() { return std::move(builder).finish(); }
  BatchBuilder builder;
};

// Applies batches and commands one after the other, at a log time that the test moves.
class Driver {
 public:
  // Of a shard that has all slots.
  Driver() : machine_(std::make_unique<StateMachine>(nullptr, ShardState::whole())) {}
  explicit Driver(std::unique_ptr<StateMachine> machine) : machine_(std::move(machine)) {
    now = machine_->log_time_ms();
  }

  // Routed at the newest epoch.
  Batch batch() const { return Batch(now, machine_->shard().epoch); }
  Collected apply(std::string payload) {
    Collected collected;
    auto result = machine_->apply(machine_->applied().next(), payload, collected);
    if (!result) collected.replies.push_back("apply failed: " + result.error().message);
    return collected;
  }
  // One command as an entry of its own.
  std::string run(const Words& words, CommandMeta meta = {}) {
    return apply(batch().add(words, meta).finish()).replies.at(0);
  }
  std::string in_session(uint64_t session, uint64_t sequence, const Words& words, uint64_t ack = 0) {
    return run(words, {.session = SessionId(session), .sequence = sequence, .ack = ack});
  }
  uint64_t open_session() {
    std::string reply = run({"SESSION", "OPEN"});
    return std::stoull(reply.substr(1));
  }
  // From here on sessions up to this id, if they are not there, may have been forgotten.
  uint64_t forget_session() {
    uint64_t id = open_session();
    run({"SESSION", "CLOSE", std::to_string(id)});
    return id;
  }
  // A read outside the log. Write commands give their check's error or "not a read".
  std::string read(const Words& words, int64_t now_ms = 0) {
    std::string out;
    auto args = views(words);
    const CommandSpec* spec = check(args, out);
    if (spec == nullptr) return out;
    if (!spec->is(kRead)) return "not a read";
    due = machine_->read(*spec, args, {.now_ms = now_ms}, out);
    return out;
  }
  StateMachine& machine() { return *machine_; }

  int64_t now = 1'000'000'000'000;
  bool due = false;  // by the last read

 private:
  std::unique_ptr<StateMachine> machine_;
};

inline std::string write_all(CheckpointWriter& writer, size_t chunk_bytes = 1 << 16) {
  std::string stream;
  while (!writer.done()) stream += writer.next_chunk(chunk_bytes);
  return stream;
}

inline std::string checkpoint_of(StateMachine& machine) {
  CheckpointWriter writer(machine, Term(3));
  return write_all(writer);
}

inline Result<std::unique_ptr<StateMachine>> load(std::string_view stream) {
  CheckpointLoader loader;
  TRY(loader.feed(stream));
  return std::move(loader).finish();
}

inline std::string bulk(std::string_view text) {
  return "$" + std::to_string(text.size()) + "\r\n" + std::string(text) + "\r\n";
}
inline std::string integer(int64_t n) { return ":" + std::to_string(n) + "\r\n"; }
inline std::string error(std::string_view text) { return "-" + std::string(text) + "\r\n"; }
inline const std::string kOk = "+OK\r\n";
inline const std::string kNull = "_\r\n";

}  // namespace mneme::kv::testing
