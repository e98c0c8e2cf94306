#include "core/wal/log.h"

#include <fmt/format.h>

#include "core/fiber/scope.h"
#include "tests/test.h"
#include "tests/unit/wal/world.h"

using namespace mneme;
using namespace mneme::wal;
using namespace mneme::wal::test;

namespace {

constexpr GroupId kOne(1);
constexpr GroupId kTwo(2);

void put(Log& log, Batch& batch) { REQUIRE(log.append(batch).has_value()); }

}  // namespace

TEST_CASE("what was appended is recovered, group by group", "[wal]") {
  World w;
  w.run([&] {
    {
      auto log = w.opened();
      CHECK(log->take_recovered().empty());
      Batch batch;
      CHECK(batch.empty());
      put(*log, batch);
      CHECK(log->durable_sequence() == 1);
      std::vector<raft::Entry> entries = {entry(1, 3, "a"), entry(2, 3, ""), {Term(3), LogIndex(3)}};
      batch.hard_state(kOne, {Term(3), ReplicaId(2)});
      batch.entries(kOne, 0, entries);
      batch.hard_state(kTwo, {Term(1), ReplicaId(0)});
      batch.suspect(kTwo, true);
      CHECK_FALSE(batch.empty());
      put(*log, batch);
      CHECK(log->durable_sequence() == 2);
      for (uint64_t i = 4; i <= 6; ++i) append_entry(*log, batch, kOne, entry(i, 3, fmt::format("value {}", i)));
      append_entry(*log, batch, kOne, entry(5, 4, "replaces 5 and 6"));
      batch.clear();
      batch.checkpoint(kOne, {LogIndex(2), Term(3)}, 77);
      batch.hard_state(GroupId(3), {Term(9), ReplicaId(1)});
      batch.remove_replica(GroupId(3), 0);
      put(*log, batch);
    }
    auto log = w.opened();
    auto groups = log->take_recovered();
    REQUIRE(groups.size() == 2);
    CHECK(groups[0].group == kOne);
    CHECK(groups[0].hard_state == raft::HardState{Term(3), ReplicaId(2)});
    CHECK(groups[0].checkpoint == raft::LogPosition{LogIndex(2), Term(3)});
    CHECK(groups[0].checkpoint_id == 77);
    CHECK_FALSE(groups[0].suspect);
    REQUIRE(groups[0].entries.size() == 3);
    CHECK(same(groups[0].entries[0], {Term(3), LogIndex(3)}));
    CHECK(same(groups[0].entries[1], entry(4, 3, "value 4")));
    CHECK(same(groups[0].entries[2], entry(5, 4, "replaces 5 and 6")));
    CHECK(groups[1].group == kTwo);
    CHECK(groups[1].suspect);
    CHECK(groups[1].entries.empty());
    CHECK_FALSE(log->unknown_groups_suspect());
    CHECK(w.trace.times(Probe::unsynced_tail_rewritten) == 1);
  });
}

TEST_CASE("a batch for several groups costs one sync", "[wal]") {
  World w;
  w.run([&] {
    auto log = w.opened();
    Batch batch;
    for (uint64_t g = 1; g <= 5; ++g) {
      auto e = entry(1, 1, "x");
      batch.entries(GroupId(g), 0, std::span(&e, 1));
    }
    const uint64_t before = w.disk.syncs;
    put(*log, batch);
    CHECK(w.disk.syncs == before + 1);
  });
}

TEST_CASE("values of zeros, whole sectors of them, come back as they were", "[wal]") {
  World w;
  w.options.segment_bytes = 64 * 1024;
  for (size_t size : {300u, 384u, 385u, 896u, 1024u, 5000u, 20000u}) {
    World each;
    each.options.segment_bytes = 64 * 1024;
    each.run([&] {
      Batch batch;
      std::string value(size, '\0');
      value += size % 2 ? "end" : "";
      {
        auto log = each.opened();
        append_entry(*log, batch, kOne, entry(1, 1, value));
        append_entry(*log, batch, kOne, entry(2, 1, "after"));
      }
      const Bytes& bytes = each.disk.inode(path_of(1)).cache;
      bool zeros = false;
      for (size_t at = 0; at < bytes.size(); at += 512) {
        const bool zero = is_zero(ByteView(bytes).subspan(at, 512));
        CHECK_FALSE((zeros && !zero));
        zeros = zero;
      }
      auto groups = each.opened()->take_recovered();
      REQUIRE(groups.size() == 1);
      REQUIRE(groups[0].entries.size() == 2);
      CHECK(*groups[0].entries[0].payload == value);
    });
  }
}

TEST_CASE("segments follow one another, and are freed once checkpoints cover them", "[wal]") {
  World w;
  w.run([&] {
    Batch batch;
    {
      auto log = w.opened();
      batch.hard_state(kTwo, {Term(8), ReplicaId(3)});
      put(*log, batch);
      for (uint64_t i = 1; i <= 100; ++i) {
        if (i % 7 == 0) REQUIRE(log->prepare_next().has_value());
        append_entry(*log, batch, kOne, entry(i, 1, std::string(300, static_cast<char>('a' + i % 26))));
      }
      CHECK(log->segments().size() > 5);
      CHECK(log->segments().size() == w.trace.times(Probe::segment_rotated) + 1);
      REQUIRE(log->free_segments().has_value());
      CHECK(log->segments().front().number == 1);
      batch.clear();
      batch.checkpoint(kOne, {LogIndex(60), Term(1)}, 5);
      put(*log, batch);
      REQUIRE(log->free_segments().has_value());
      CHECK(log->segments().front().number == 1);  // nobody said that they are not needed
      log->covered(kOne, LogIndex(60));
      REQUIRE(log->free_segments().has_value());
      CHECK(log->segments().front().number > 2);
      CHECK(w.trace.times(Probe::segments_freed) == log->segments().front().number - 1);
      CHECK(log->bytes() == log->segments().size() * 8192 + (log->next_prepared() ? 8192 : 0));
    }
    auto log = w.opened();
    auto groups = log->take_recovered();
    REQUIRE(groups.size() == 2);
    REQUIRE(groups[0].entries.size() == 40);
    CHECK(groups[0].entries.front().index == LogIndex(61));
    CHECK(groups[1].hard_state == raft::HardState{Term(8), ReplicaId(3)});
    batch.clear();
    batch.restart(kOne, {LogIndex(500), Term(2)}, 6);
    batch.remove_replica(kTwo, 0);
    put(*log, batch);
    for (uint64_t i = 501; i <= 530; ++i) append_entry(*log, batch, kOne, entry(i, 2, std::string(200, 'z')));
    log->covered(kOne, LogIndex(500));
    REQUIRE(log->free_segments().has_value());
    log.reset();
    groups = w.opened()->take_recovered();
    REQUIRE(groups.size() == 1);
    CHECK(groups[0].entries.size() == 30);
    CHECK(groups[0].checkpoint_id == 6);
  });
}

namespace {

constexpr uint64_t kFrame = 1024;  // counted for a frame

// Three entries of group two at the log's beginning, then many of group one, of which only the last is needed.
struct Lagging {
  World w;
  std::vector<raft::Entry> idle;
  Batch batch;
  static constexpr uint64_t kLast = 60;

  Lagging() {
    w.options.max_frame_bytes = 1024;
    for (uint64_t i = 1; i <= 3; ++i) idle.push_back(entry(i, 4, std::string(600, static_cast<char>('0' + i))));
  }
  void begin(Log& log) {
    batch.clear();
    batch.hard_state(kTwo, {Term(4), ReplicaId(2)});
    batch.entries(kTwo, 0, idle);
    put(log, batch);
  }
  void write(Log& log) {
    for (uint64_t i = 1; i <= kLast; ++i) append_entry(log, batch, kOne, entry(i, 1, std::string(500, 'w')));
    batch.clear();
    batch.checkpoint(kOne, {LogIndex(kLast - 1), Term(1)}, 1);
    put(log, batch);
    log.covered(kOne, LogIndex(kLast - 1));
  }
  void append_again(Log& log) {
    batch.clear();
    batch.keep_whole();
    batch.entries(kTwo, 0, idle);
    const auto done = log.append(batch);  // may be cancelled by a crash, which no macro may see
    REQUIRE(done.has_value());
  }
};

bool all_there(const std::vector<GroupState>& groups, const std::vector<raft::Entry>& idle) {
  return groups.size() == 2 && groups[1].hard_state == raft::HardState{Term(4), ReplicaId(2)} &&
         groups[1].checkpoint.index == LogIndex(0) &&
         std::equal(groups[1].entries.begin(), groups[1].entries.end(), idle.begin(), idle.end(), same);
}

}  // namespace

TEST_CASE("a group whose entries are appended again holds up no segment from before", "[wal]") {
  Lagging l;
  l.w.run([&] {
    {
      auto log = l.w.opened();
      l.begin(*log);
      CHECK(log->laggards().empty());  // there is one segment only
      CHECK(log->needed_bytes() == 3 * 640 + kFrame);
      l.write(*log);
      REQUIRE(log->free_segments().has_value());
      CHECK(log->segments().front().number == 1);
      auto laggards = log->laggards();
      REQUIRE(laggards.size() == 1);
      CHECK(laggards[0].group == kTwo);
      CHECK(laggards[0].bytes == 3 * 640);
      CHECK(log->needed_bytes() == 3 * 640 + 540 + 2 * kFrame);
      const uint64_t frames = log->durable_sequence();
      const uint64_t segment = log->segments().back().number;
      l.append_again(*log);
      CHECK(log->durable_sequence() - frames == 1 + log->segments().back().number - segment);  // and summaries
      CHECK(log->laggards().empty());
      CHECK(log->needed_bytes() == 3 * 640 + 540 + 2 * kFrame);
      REQUIRE(log->free_segments().has_value());
      CHECK(log->segments().size() <= 2);
    }
    CHECK(all_there(l.w.opened()->take_recovered(), l.idle));
  });
}

TEST_CASE("what is needed of a segment that a checkpoint or a replacement cuts counts in proportion", "[wal]") {
  World w;
  w.options.segment_bytes = 64 * 1024;
  w.run([&] {
    auto log = w.opened();
    Batch batch;
    for (uint64_t i = 1; i <= 10; ++i) append_entry(*log, batch, kOne, entry(i, 1, std::string(60, 'x')));
    CHECK(log->needed_bytes() == 1000 + kFrame);
    batch.clear();
    batch.checkpoint(kOne, {LogIndex(4), Term(1)}, 1);
    put(*log, batch);
    log->covered(kOne, LogIndex(4));
    CHECK(log->needed_bytes() == 600 + kFrame);
    append_entry(*log, batch, kOne, entry(6, 2, std::string(160, 'y')));
    CHECK(log->needed_bytes() == 700 * 2 / 6 + kFrame);  // 5 entries of 100 bytes and one of 200, the last 2 of these 6
    batch.clear();
    batch.restart(kOne, {LogIndex(50), Term(2)}, 2);
    put(*log, batch);
    CHECK(log->needed_bytes() == 0);
  });
}

TEST_CASE("a crash anywhere in appending again and freeing what that spares loses nothing", "[wal]") {
  for (const auto kind : {MemoryDisk::Crash::kKill, MemoryDisk::Crash::kPowerLoss}) {
    bool crashed = true;
    for (uint64_t at = 1; crashed; ++at) {
      Lagging l;
      l.w.run([&] {
        {
          auto log = l.w.opened();
          l.begin(*log);
          l.write(*log);
          l.w.disk.crash_at(l.w.disk.operations + at, kind);
          try {
            l.append_again(*log);
            const auto freed = log->free_segments();
            REQUIRE(freed.has_value());
            REQUIRE(log->segments().size() <= 2);
            append_entry(*log, l.batch, kOne, entry(Lagging::kLast + 1, 1, "after"));
            crashed = false;
          } catch (const fiber::Cancelled&) {
          }
        }
        l.w.disk.restart();
        CAPTURE(at);
        const auto groups = l.w.opened()->take_recovered();
        REQUIRE(all_there(groups, l.idle));
        CHECK(groups[0].entries.size() >= 1);
      });
    }
  }
}

TEST_CASE("entries appended again behind damage are given up with the rest, not refused", "[wal]") {
  Lagging l;
  l.w.options.has_peers = true;
  l.w.run([&] {
    uint64_t damaged = 0;
    {
      auto log = l.w.opened();
      l.begin(*log);
      l.write(*log);
      damaged = log->append_offset();
      append_entry(*log, l.batch, kOne, entry(Lagging::kLast + 1, 1, "damaged later"));
      REQUIRE(log->append_offset() > damaged);
      l.append_again(*log);
      append_entry(*log, l.batch, kOne, entry(Lagging::kLast + 2, 1, "shows that all was synced"));
      REQUIRE(log->free_segments().has_value());
    }
    const auto files = l.w.disk.files();
    l.w.disk.flip(files.front(), damaged + 200, 1);
    for (int life = 0; life < 2; ++life) {
      auto log = l.w.open();
      INFO((log ? "" : log.error().message));
      REQUIRE(log.has_value());
      const auto groups = (*log)->take_recovered();
      REQUIRE(groups.size() == 2);
      CHECK(groups[1].suspect);
      CHECK(groups[1].hard_state == raft::HardState{Term(4), ReplicaId(2)});
      CHECK(groups[1].entries.empty());
      CHECK(groups[0].checkpoint.index == LogIndex(Lagging::kLast - 1));
    }
  });
}

TEST_CASE("a frame larger than a segment gets a segment of its size, and a larger batch several frames", "[wal]") {
  for (size_t max_frame : {size_t{4096}, limits::kMaxFrameBytes}) {
    World w;
    w.options.max_frame_bytes = max_frame;
    w.run([&] {
      Batch batch;
      std::vector<raft::Entry> entries;
      for (uint64_t i = 1; i <= 40; ++i) entries.push_back(entry(i, 1, std::string(500 + i, static_cast<char>(i))));
      {
        auto log = w.opened();
        batch.hard_state(kOne, {Term(1), ReplicaId(1)});
        batch.entries(kOne, 0, entries);
        put(*log, batch);
        CHECK((log->durable_sequence() > 5) == (max_frame == 4096));
        append_entry(*log, batch, kOne, entry(41, 1, std::string(30000, 'x')));
      }
      auto groups = w.opened()->take_recovered();
      REQUIRE(groups.size() == 1);
      REQUIRE(groups[0].entries.size() == 41);
      for (size_t i = 0; i < 40; ++i) CHECK(same(groups[0].entries[i], entries[i]));
    });
  }
}

TEST_CASE("a segment is begun early when the simulator asks for it", "[wal]") {
  World w;
  w.random.rare_percent = 100;
  w.run([&] {
    auto log = w.opened();
    Batch batch;
    REQUIRE(log->prepare_next().has_value());
    append_entry(*log, batch, kOne, entry(1, 1, "x"));
    CHECK(log->segments().size() == 2);
    append_entry(*log, batch, kOne, entry(2, 1, "x"));  // nothing is prepared: not now
    CHECK(log->segments().size() == 2);
  });
}

TEST_CASE("segments are prepared and freed while another fiber appends", "[wal]") {
  World w;
  w.run([&] {
    auto log = w.opened();
    bool done = false;
    auto served = fiber::with_scope(w.scheduler, [&](fiber::Scope& scope) {
      scope.spawn("prepare", [&]() -> Result<void> {
        while (!done) {
          TRY(log->prepare_next());
          w.wakeups.pause();
        }
        return {};
      });
      scope.spawn("free", [&]() -> Result<void> {
        while (!done) {
          TRY(log->free_segments());
          w.wakeups.pause();
        }
        return {};
      });
      scope.spawn("append", [&]() -> Result<void> {
        Batch batch;
        for (uint64_t i = 1; i <= 200; ++i) {
          auto e = entry(i, 1, std::string(400, 'p'));
          batch.clear();
          batch.entries(kOne, 0, std::span(&e, 1));
          if (i % 10 == 0) batch.checkpoint(kOne, {LogIndex(i), Term(1)}, i);
          TRY(log->append(batch));
          if (i % 10 == 0) log->covered(kOne, LogIndex(i));
        }
        done = true;
        return {};
      });
    });
    REQUIRE(served.has_value());
    REQUIRE(log->free_segments().has_value());
    CHECK(log->segments().size() <= 2);
    log.reset();
    auto groups = w.opened()->take_recovered();
    REQUIRE(groups.size() == 1);
    CHECK(groups[0].checkpoint_id == 200);
    CHECK(groups[0].entries.empty());
  });
}

TEST_CASE("after a failed sync the log refuses everything, and the next life has what was acknowledged", "[wal]") {
  World w;
  w.run([&] {
    {
      auto log = w.opened();
      Batch batch;
      append_entry(*log, batch, kOne, entry(1, 1, "first"));
      w.disk.fail_sync_at(w.disk.syncs + 1);
      batch.clear();
      auto e = entry(2, 1, std::string(3000, 'q'));
      batch.entries(kOne, 0, std::span(&e, 1));
      auto failed = log->append(batch);
      REQUIRE_FALSE(failed.has_value());
      CHECK(failed.error().code == ErrorCode::kIo);
      CHECK(log->failed());
      CHECK(log->durable_sequence() == 2);
      CHECK(log->append(batch).error().code == ErrorCode::kIo);
      CHECK(log->prepare_next().error().code == ErrorCode::kIo);
      CHECK(log->free_segments().error().code == ErrorCode::kIo);
    }
    // The page cache has the frame and believes it clean. What is recovered must survive a power loss nevertheless.
    auto groups = w.opened()->take_recovered();
    REQUIRE(groups.size() == 1);
    CHECK(groups[0].entries.size() == 2);
    w.disk.crash(MemoryDisk::Crash::kPowerLoss);
    w.disk.restart();
    groups = w.opened()->take_recovered();
    CHECK(groups[0].entries.size() == 2);
    CHECK(w.trace.times(Probe::torn_tail_dropped) == 0);
  });
}

TEST_CASE("a full disk refuses a new segment and the log goes on when there is room again", "[wal]") {
  World w;
  w.disk.capacity_bytes = 12 * 1024;
  w.run([&] {
    auto log = w.opened();
    CHECK(log->prepare_next().error().code == ErrorCode::kNoSpace);
    CHECK(w.trace.times(Probe::disk_full_met) == 1);
    Batch batch;
    uint64_t next = 1;
    Result<void> result;
    while (result) {
      batch.clear();
      auto e = entry(next, 1, std::string(700, 'f'));
      batch.entries(kOne, 0, std::span(&e, 1));
      result = log->append(batch);
      if (result) ++next;
    }
    CHECK(result.error().code == ErrorCode::kNoSpace);
    CHECK_FALSE(log->failed());
    CHECK(w.disk.files().size() == 1);
    w.disk.capacity_bytes.reset();
    put(*log, batch);
    append_entry(*log, batch, kOne, entry(next + 1, 1, "more"));
    log.reset();
    CHECK(w.opened()->take_recovered().at(0).entries.size() == next + 1);
  });
}

TEST_CASE("a batch of which a part was written before the disk was full has what is left", "[wal]") {
  World w;
  w.disk.capacity_bytes = 12 * 1024;
  w.options.max_frame_bytes = 2048;
  w.run([&] {
    auto log = w.opened();
    Batch batch;
    batch.hard_state(kOne, {Term(1), ReplicaId(1)});
    put(*log, batch);
    batch.clear();
    batch.remove_replica(kOne, 0);
    batch.begin_replica(kOne, 1);
    for (uint64_t i = 1; i <= 12; ++i) {
      auto e = entry(i, 1, std::string(700, static_cast<char>('a' + i)));
      batch.entries(kOne, 1, std::span(&e, 1));
      batch.hard_state(kOne, {Term(i), ReplicaId(1)});
    }
    const size_t whole = batch.bytes();
    auto result = log->append(batch);
    REQUIRE_FALSE(result);
    CHECK(result.error().code == ErrorCode::kNoSpace);
    CHECK(batch.bytes() < whole);
    CHECK_FALSE(log->append(batch).has_value());
    w.disk.capacity_bytes.reset();
    put(*log, batch);
    log.reset();
    const auto groups = w.opened()->take_recovered();
    REQUIRE(groups.size() == 1);
    CHECK(groups[0].generation == 1);
    CHECK(groups[0].hard_state == raft::HardState{Term(12), ReplicaId(1)});
    REQUIRE(groups[0].entries.size() == 12);
    for (uint64_t i = 1; i <= 12; ++i)
      CHECK(same(groups[0].entries[i - 1], entry(i, 1, std::string(700, static_cast<char>('a' + i)))));
  });
}

TEST_CASE("a directory of somebody else, or of a newer version, is refused by name", "[wal]") {
  World w;
  w.run([&] {
    { auto log = w.opened(); }
    auto refused = [&](Identity identity) {
      auto other = Log::open(w.env(), identity, w.options);
      REQUIRE_FALSE(other.has_value());
      CHECK(other.error().code == ErrorCode::kInvalid);
      CHECK(other.error().message.find(path_of(1)) == 0);
    };
    refused({ClusterId(8), NodeId(1), Incarnation(9)});
    refused({ClusterId(7), NodeId(2), Incarnation(9)});
    refused({ClusterId(7), NodeId(1), Incarnation(10)});

    Bytes& bytes = w.disk.inode(path_of(1)).cache;
    for (uint64_t copy = 0; copy < 2; ++copy) {
      store_le(bytes.data() + copy * 512 + 4, uint16_t{2});
      store_le(bytes.data() + copy * 512 + 504, xxh3(ByteView(bytes).subspan(copy * 512, 504), mix(1) + copy * 512));
    }
    auto newer = w.open();
    REQUIRE_FALSE(newer.has_value());
    CHECK(newer.error().code == ErrorCode::kUnsupported);
    CHECK(newer.error().message.find(path_of(1)) == 0);
  });
}

TEST_CASE("a log that must be there and is not is an error", "[wal]") {
  World w;
  w.options.must_exist = true;
  w.run([&] {
    CHECK(w.open().error().code == ErrorCode::kCorrupt);
    w.options.must_exist = false;
    { auto log = w.opened(); }
    w.options.must_exist = true;
    { auto log = w.opened(); }
  });
}

TEST_CASE("missing segments are told apart from freed ones", "[wal]") {
  World w;
  w.run([&] {
    Batch batch;
    {
      auto log = w.opened();
      for (uint64_t i = 1; i <= 100; ++i) append_entry(*log, batch, kOne, entry(i, 1, std::string(300, 's')));
      REQUIRE(log->segments().size() >= 5);
    }
    const auto whole = w.disk.state;
    REQUIRE(w.disk.remove(path_of(3)).has_value());
    auto middle = w.open();
    REQUIRE_FALSE(middle.has_value());
    CHECK(middle.error().code == ErrorCode::kCorrupt);
    CHECK(middle.error().message.find(path_of(3) + " is missing") == 0);

    w.disk.state = whole;
    REQUIRE(w.disk.remove(path_of(1)).has_value());
    auto first = w.open();
    REQUIRE_FALSE(first.has_value());
    CHECK(first.error().code == ErrorCode::kCorrupt);
    CHECK(first.error().message.find("group 1 lacks its entries 1 to") != std::string::npos);
  });
}
