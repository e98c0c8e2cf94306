// Hidden: unit_kv "[.bench]". What an operation costs on its way through check, batch and apply.
#include <malloc.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "tests/test.h"
#include "tests/unit/kv/support.h"

using namespace mneme;
using namespace mneme::kv;
using namespace mneme::kv::testing;

namespace {

struct Discard final : ReplySink {
  void reply(size_t, Outcome, std::string_view reply) override { bytes += reply.size(); }
  size_t bytes = 0;
};

double now_ns() {
  return static_cast<double>(std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
}

template <class Fn>
void measure(const char* what, size_t operations, Fn fn) {
  double best = 1e18;
  for (int turn = 0; turn < 5; ++turn) {
    double start = now_ns();
    fn();
    best = std::min(best, (now_ns() - start) / static_cast<double>(operations));
  }
  std::printf("%-64s %8.1f ns/op\n", what, best);
}

std::string key_of(size_t i) { return "key:" + std::to_string(1'000'000'000 + i); }

class Bench {
 public:
  explicit Bench(size_t keys) : keys_(keys) {
    for (size_t i = 0; i < keys; ++i) names_.push_back(key_of(i));
    for (size_t i = 0; i < keys; ++i) write({"SET", names_[i], value_}, {});
  }
  const std::string& random_key() { return names_[random_.below(keys_)]; }

  // One command: checked, encoded as an entry of its own, applied.
  void write(std::initializer_list<std::string_view> words, const CommandMeta& meta) {
    batch(1, [&](BatchBuilder& builder) {
      Args args(words.begin(), words.size());
      if (check(args, error_) == nullptr) std::abort();
      builder.add(meta, args);
    });
  }
  template <class Fn>
  void batch(size_t commands, Fn add) {
    BatchBuilder builder(BatchHeader{.epoch = Epoch(1), .log_time_ms = 1'000'000});
    for (size_t i = 0; i < commands; ++i) add(builder);
    std::string payload = std::move(builder).finish();
    if (!machine_.apply(machine_.applied().next(), payload, sink_)) std::abort();
  }
  void read(std::initializer_list<std::string_view> words) {
    Args args(words.begin(), words.size());
    const CommandSpec* spec = check(args, error_);
    reply_.clear();
    machine_.read(*spec, args, {.now_ms = 1'000'000}, reply_);
  }
  StateMachine& machine() { return machine_; }
  std::string value_ = std::string(100, 'v');

 private:
  size_t keys_;
  std::vector<std::string> names_;
  SplitMix random_{1};
  StateMachine machine_{nullptr, ShardState::whole()};
  Discard sink_;
  std::string error_;
  std::string reply_;
};

}  // namespace

TEST_CASE("cost of an operation on 100,000 keys", "[.bench]") {
  Bench bench(100'000);
  constexpr size_t kOps = 200'000;
  auto each = [&](const char* what, auto fn) {
    measure(what, kOps, [&] {
      for (size_t i = 0; i < kOps; ++i) fn(i);
    });
  };
  each("GET, check + read", [&](size_t) { bench.read({"GET", bench.random_key()}); });
  each("GET missing, check + read", [&](size_t) { bench.read({"GET", "no such key here"}); });
  each("SET 100 B, check + encode + apply, an entry each", [&](size_t) {
    bench.write({"SET", bench.random_key(), bench.value_}, {});
  });
  measure("SET 100 B, check + encode + apply, 64 to an entry", kOps, [&] {
    std::string error;
    for (size_t i = 0; i < kOps / 64; ++i) {
      bench.batch(64, [&](BatchBuilder& builder) {
        std::string_view words[] = {"SET", bench.random_key(), bench.value_};
        if (check(words, error) == nullptr) std::abort();
        builder.add({}, words);
      });
    }
  });
  each("SET 100 B EX 100, an entry each", [&](size_t) {
    bench.write({"SET", bench.random_key(), bench.value_, "EX", "100"}, {});
  });
  each("SET 100 B without expiry again, an entry each", [&](size_t) {
    bench.write({"SET", bench.random_key(), bench.value_}, {});
  });
  each("INCR, an entry each", [&](size_t) { bench.write({"INCR", "counter"}, {}); });
  each("SET new key + DEL, two entries", [&](size_t i) {
    std::string key = key_of(1'000'000 + i * 7919 % 500'000);
    bench.write({"SET", key, bench.value_}, {});
    bench.write({"DEL", key}, {});
  });
  bench.write({"SESSION", "OPEN"}, {});
  SessionId session(bench.machine().applied().value << 20);
  uint64_t sequence = 0;
  each("SET 100 B in a session, an entry each", [&](size_t) {
    ++sequence;
    bench.write({"SET", bench.random_key(), bench.value_},
                {.session = session, .sequence = sequence, .ack = sequence - 1});
  });
  each("digest()", [&](size_t) {
    if (bench.machine().digest() == 1) std::abort();
  });
}

TEST_CASE("cost of a checkpoint, and of SETs while it is written", "[.bench]") {
  Bench bench(100'000);
  std::string stream;
  measure("checkpoint, a record, 100 B", 100'000, [&] { stream = checkpoint_of(bench.machine()); });
  measure("loading it, a record", 100'000, [&] {
    if (!load(stream)) std::abort();
  });
  measure("SET 100 B while a checkpoint holds copies, an entry each", 50'000, [&] {
    CheckpointWriter writer(bench.machine(), Term(1));
    for (size_t i = 0; i < 50'000; ++i) bench.write({"SET", bench.random_key(), bench.value_}, {});
  });
}

TEST_CASE("memory of a million 100-byte values", "[.bench]") {
  size_t before = mallinfo2().uordblks;
  StateMachine machine(nullptr, ShardState::whole());
  Discard sink;
  std::string value(100, 'v');
  SplitMix random(1);
  double start = now_ns();
  for (size_t i = 0; i < 1'000'000; ++i) {
    std::string key = key_of(random.next() % 1'000'000'000);
    std::string_view words[] = {"SET", key, value};
    BatchBuilder builder(BatchHeader{.epoch = Epoch(1)});
    builder.add({}, words);
    (void)machine.apply(machine.applied().next(), std::move(builder).finish(), sink);
  }
  double ns = (now_ns() - start) / 1e6;
  auto keys = static_cast<double>(machine.table().record_count());
  std::printf("a million insertions in random order: %.1f ns each; allocated %.1f, accounted %.1f bytes a key\n", ns,
              static_cast<double>(mallinfo2().uordblks - before) / keys,
              static_cast<double>(machine.bytes_used()) / keys);
}

TEST_CASE("cost of splitting a million 100-byte values", "[.bench]") {
  StateMachine machine(nullptr, ShardState::whole());
  SplitMix random(1);
  std::string value(100, 'v');
  for (size_t i = 0; i < 1'000'000; ++i) {
    std::string key = key_of(random.next() % 1'000'000'000);
    std::string_view words[] = {"SET", key, value};
    BatchBuilder builder(BatchHeader{.epoch = Epoch(1)});
    builder.add({}, words);
    Discard sink;
    (void)machine.apply(machine.applied().next(), std::move(builder).finish(), sink);
  }
  std::vector<Collected> sinks(3);  // what becomes of the children afterwards does not count
  size_t turn = 0;
  for (uint16_t at : {8192, 4096, 2048}) {
    const size_t records = machine.table().record_count();
    BatchBuilder builder(BatchHeader{.epoch = machine.shard().epoch});
    std::string request = SplitRequest{machine.shard().epoch, at, GroupId(5), shard::OperationId(1), ""}.encode();
    std::string_view words[] = {"mneme.divide", request};
    builder.add({}, words);
    std::string payload = std::move(builder).finish();
    Collected& sink = sinks[turn++];
    double start = now_ns();
    (void)machine.apply(machine.applied().next(), payload, sink);
    double ms = (now_ns() - start) / 1e6;
    if (sink.splits.empty()) std::abort();
    std::printf("split of %zu records: %.1f ms\n", records, ms);
  }
}
