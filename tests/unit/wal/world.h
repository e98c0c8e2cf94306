// An Env around a MemoryDisk, and what the tests of the log share.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/env/env.h"
#include "core/wal/log.h"
#include "tests/unit/wal/memory_disk.h"

namespace mneme::wal::test {

struct NoClock : env::Clock {
  Instant now() const override { return {}; }
  WallTime wall() const override { return {}; }
  fiber::TimerQueue& timers() override { return queue; }
  fiber::TimerQueue queue;
};

struct NoNetwork : env::Network {
  Result<std::unique_ptr<env::Listener>> listen(const env::Address&) override {
    return fail(ErrorCode::kUnsupported, "no network");
  }
  Result<std::unique_ptr<env::Stream>> connect(const env::Address&) override {
    return fail(ErrorCode::kUnsupported, "no network");
  }
};

struct SeededRandom : env::Random {
  explicit SeededRandom(uint64_t seed) : random{seed} {}
  uint64_t draw(Site, uint64_t, uint64_t) override { return random.next(); }
  bool rarely(Site, uint64_t) override { return random.chance(rare_percent); }
  SplitMix random;
  uint64_t rare_percent = 0;
};

struct CountingTrace : env::Trace {
  bool wants(env::Level) const override { return true; }
  void line(env::Level, std::string_view, std::string_view text) override { lines.emplace_back(text); }
  void reached(Probe probe) override { ++count[static_cast<size_t>(probe)]; }
  uint64_t times(Probe probe) const { return count[static_cast<size_t>(probe)]; }
  std::array<uint64_t, kProbeCount> count{};
  std::vector<std::string> lines;
};

struct World {
  explicit World(uint64_t seed = 1) : disk(wakeups, seed), random(seed + 1) {}

  fiber::Scheduler scheduler;
  Wakeups wakeups{scheduler};
  MemoryDisk disk;
  NoClock clock;
  NoNetwork network;
  SeededRandom random;
  CountingTrace trace;
  Identity identity{ClusterId(7), NodeId(1), Incarnation(9)};
  Options options{.directory = "wal", .segment_bytes = 8192};

  Env env() { return {scheduler, clock, network, disk, random, trace}; }
  // As the first fiber of the scheduler.
  template <class F>
  void run(F&& fn) {
    scheduler.run(wakeups, nullptr, std::forward<F>(fn));
  }
  Result<std::unique_ptr<Log>> open() { return Log::open(env(), identity, options); }
  // Must succeed.
  std::unique_ptr<Log> opened() {
    auto log = open();
    if (!log) throw std::runtime_error(log.error().message);
    return std::move(*log);
  }
};

inline raft::Entry entry(uint64_t index, uint64_t term, std::string payload) {
  return {Term(term), LogIndex(index), raft::EntryKind::kData, std::make_shared<const std::string>(std::move(payload))};
}

inline bool same(const raft::Entry& a, const raft::Entry& b) {
  return a.term == b.term && a.index == b.index && a.kind == b.kind && !a.payload == !b.payload &&
         (!a.payload || *a.payload == *b.payload);
}

inline void append_entry(Log& log, Batch& batch, GroupId group, raft::Entry e) {
  batch.clear();
  batch.entries(group, 0, std::span(&e, 1));
  auto done = log.append(batch);
  if (!done) throw std::runtime_error(done.error().message);
}

inline std::string path_of(uint64_t segment) { return fmt::format("wal/wal-{:016x}", segment); }

}  // namespace mneme::wal::test
