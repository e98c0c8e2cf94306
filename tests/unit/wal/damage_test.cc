// What recovery makes of damage: torn writes, flipped bits, unreadable sectors, in the last frame and before it.
#include <fmt/format.h>

#include <algorithm>

#include "core/wal/replay.h"
#include "core/wal/segment_file.h"
#include "tests/test.h"
#include "tests/unit/wal/world.h"

using namespace mneme;
using namespace mneme::wal;
using namespace mneme::wal::test;

namespace {

constexpr GroupId kOne(1);
constexpr GroupId kTwo(2);

// A log of one segment: frame 1 is the summary, frames 2 to 6 as below; and what the log held after each of them.
struct Sample {
  MemoryDisk::State disk;
  std::vector<std::vector<GroupState>> after;  // by sequence
  std::vector<uint64_t> end;                   // byte where the frame ends, by sequence
};

Sample make_sample() {
  World w;
  Sample sample;
  sample.after.resize(2);
  sample.end = {0, 1024 + 512};
  w.run([&] {
    auto log = w.opened();
    sample.end[1] = log->append_offset();
    Batch batch;
    auto step = [&] {
      if (!log->append(batch)) throw std::runtime_error("append");
      batch.clear();
      sample.end.push_back(log->append_offset());
    };
    auto e1 = entry(1, 1, "one");
    auto e2 = entry(2, 1, std::string(700, '2'));
    auto e3 = entry(3, 2, std::string(600, '\0'));
    auto f1 = entry(1, 5, "other");
    batch.hard_state(kOne, {Term(1), ReplicaId(1)});
    batch.entries(kOne, 0, std::span(&e1, 1));
    step();
    batch.entries(kOne, 0, std::span(&e2, 1));
    step();
    batch.hard_state(kOne, {Term(2), ReplicaId(3)});
    batch.hard_state(kTwo, {Term(5), ReplicaId(2)});
    batch.entries(kTwo, 0, std::span(&f1, 1));
    step();
    batch.entries(kOne, 0, std::span(&e3, 1));
    step();
    auto e4 = entry(4, 2, "last");
    batch.entries(kOne, 0, std::span(&e4, 1));
    step();
    GroupState one{.group = kOne, .hard_state = {Term(1), ReplicaId(1)}, .entries = {e1}};
    sample.after.push_back({one});
    one.entries.push_back(e2);
    sample.after.push_back({one});
    one.hard_state = {Term(2), ReplicaId(3)};
    GroupState two{.group = kTwo, .hard_state = {Term(5), ReplicaId(2)}, .entries = {f1}};
    sample.after.push_back({one, two});
    one.entries.push_back(e3);
    sample.after.push_back({one, two});
    one.entries.push_back(e4);
    sample.after.push_back({one, two});
  });
  sample.disk = w.disk.state;
  return sample;
}

bool same_entries(const std::vector<raft::Entry>& a, const std::vector<raft::Entry>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), same);
}

bool same_groups(const std::vector<GroupState>& a, const std::vector<GroupState>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const GroupState& x, const GroupState& y) {
    return x.group == y.group && x.hard_state == y.hard_state && same_entries(x.entries, y.entries);
  });
}

bool any_suspect(const std::vector<GroupState>& groups) {
  return std::any_of(groups.begin(), groups.end(), [](const GroupState& g) { return g.suspect; });
}

// Entries are a prefix of each group's final ones, the hard states the final ones, everybody suspect.
bool sound_repair(const std::vector<GroupState>& groups, const std::vector<GroupState>& final_groups) {
  if (groups.size() > final_groups.size()) return false;
  for (const GroupState& wanted : final_groups) {
    auto it = std::find_if(groups.begin(), groups.end(), [&](const GroupState& g) { return g.group == wanted.group; });
    if (it == groups.end()) return false;
    if (!it->suspect || it->hard_state != wanted.hard_state || it->entries.size() > wanted.entries.size()) return false;
    if (!std::equal(it->entries.begin(), it->entries.end(), wanted.entries.begin(), same)) return false;
  }
  return true;
}

const std::string kPath = path_of(1);

// Copies, whose loss loses nothing: frames 2 and 4 have a sector of state records and tail, 3 and 5 only a tail.
bool redundant(const Sample& sample, uint64_t at) {
  for (size_t frame : {size_t{2}, size_t{4}})
    if (at >= sample.end[frame] - 512 && at < sample.end[frame]) return true;
  for (size_t frame : {size_t{3}, size_t{5}})
    if (at >= sample.end[frame] - kFrameHeaderBytes && at < sample.end[frame]) return true;
  return at < kSegmentHeaderBytes;
}

}  // namespace

TEST_CASE("the last frame, torn in any way, is dropped, and everything before it is there", "[wal]") {
  const Sample sample = make_sample();
  for (bool peers : {false, true})
    for (size_t last = 2; last < sample.end.size(); ++last) {
      const uint64_t begin = sample.end[last - 1];
      const size_t sectors = (sample.end[last] - begin) / 512;
      for (uint64_t written = 0; written + 1 < (uint64_t{1} << sectors); ++written) {
        World w;
        w.disk.state = sample.disk;
        w.options.has_peers = peers;
        Bytes& bytes = w.disk.inode(kPath).cache;
        std::fill(bytes.begin() + static_cast<ptrdiff_t>(sample.end[last]), bytes.end(), uint8_t{0});
        for (size_t s = 0; s < sectors; ++s)
          if (!(written >> s & 1))
            std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(begin + s * 512), 512, uint8_t{0});
        w.run([&] {
          auto log = w.opened();
          auto groups = log->take_recovered();
          REQUIRE(same_groups(groups, sample.after[last - 1]));
          REQUIRE_FALSE(any_suspect(groups));
          REQUIRE(log->append_offset() == begin);
          REQUIRE(w.trace.times(Probe::torn_tail_dropped) == (written ? 1 : 0));
          // Nothing of it comes back, whatever is written over it.
          Batch batch;
          append_entry(*log, batch, GroupId(9), entry(1, 1, "new"));
          log.reset();
          groups = w.opened()->take_recovered();
          REQUIRE(groups.back().group == GroupId(9));
          groups.pop_back();
          REQUIRE(same_groups(groups, sample.after[last - 1]));
        });
      }
    }
}

TEST_CASE("what was dropped does not come back when the sync that dropped it failed unnoticed", "[wal]") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    World w(seed);
    w.options.has_peers = true;
    w.run([&] {
      Batch batch;
      uint64_t torn = 0;
      {
        auto log = w.opened();
        append_entry(*log, batch, kOne, entry(1, 1, "kept"));
        torn = log->append_offset();
        append_entry(*log, batch, kOne, entry(2, 1, std::string(3000, 't')));
      }
      MemoryDisk::Inode& node = w.disk.inode(kPath);
      for (Bytes* bytes : {&node.cache, &node.durable})
        std::fill_n(bytes->begin() + static_cast<ptrdiff_t>(torn + 1024), 512, uint8_t{0});
      w.disk.fail_sync_at(w.disk.syncs + 1);
      REQUIRE(w.open().error().code == ErrorCode::kIo);  // the page cache has zeros, and takes them for written
      {
        auto log = w.opened();
        append_entry(*log, batch, kOne, entry(2, 2, "new"));
      }
      w.disk.crash(MemoryDisk::Crash::kPowerLoss);
      w.disk.restart();
      auto groups = w.opened()->take_recovered();
      REQUIRE(groups.size() == 1);
      REQUIRE(groups[0].entries.size() == 2);
      REQUIRE_FALSE(groups[0].suspect);
    });
  }
}

TEST_CASE("one flipped bit anywhere never changes what the log says", "[wal]") {
  const Sample sample = make_sample();
  const auto& all = sample.after.back();
  for (bool peers : {false, true}) {
    size_t harmless = 0, last_dropped = 0, suspect = 0, refused = 0;
    for (uint64_t at = 0; at < 8192; ++at) {
      World w;
      w.disk.state = sample.disk;
      w.options.has_peers = peers;
      w.disk.flip(kPath, at, static_cast<unsigned>(mix(at) % 8));
      w.run([&] {
        auto log = w.open();
        if (!log) {
          REQUIRE(log.error().code == ErrorCode::kCorrupt);
          REQUIRE(log.error().message.find(kPath) == 0);
          ++refused;
          REQUIRE_FALSE(peers);  // the damage of one sector is never too much for a replica with peers
          // In the middle only: the last frame counts as torn.
          REQUIRE(at >= 1024);
          REQUIRE(at < sample.end[sample.end.size() - 2]);
          return;
        }
        auto groups = (*log)->take_recovered();
        if (any_suspect(groups)) {
          REQUIRE(peers);
          REQUIRE(sound_repair(groups, all));
          ++suspect;
        } else if (same_groups(groups, all)) {
          ++harmless;
          REQUIRE((redundant(sample, at) || at >= sample.end.back()));
        } else {
          REQUIRE_FALSE(peers);
          REQUIRE(at >= sample.end[sample.end.size() - 2]);
          REQUIRE(same_groups(groups, sample.after[sample.after.size() - 2]));
          ++last_dropped;
        }
        // And it stays so.
        log->reset();
        auto again = w.opened()->take_recovered();
        REQUIRE(same_groups(again, groups));
        REQUIRE(any_suspect(again) == any_suspect(groups));
      });
    }
    CAPTURE(harmless, last_dropped, suspect, refused);
    CHECK(harmless > 0);
    CHECK((last_dropped > 0) == !peers);
    CHECK((suspect > 0) == peers);
    CHECK((refused > 0) == !peers);
  }
}

TEST_CASE("one unreadable sector is damage, and never the log's end", "[wal]") {
  const Sample sample = make_sample();
  for (uint64_t at = 0; at < 8192; at += 512) {
    World w;
    w.disk.state = sample.disk;
    w.options.has_peers = true;
    w.disk.make_unreadable(kPath, at);
    w.run([&] {
      auto log = w.opened();
      auto groups = log->take_recovered();
      CAPTURE(at);
      if (!any_suspect(groups)) {
        CHECK(same_groups(groups, sample.after.back()));
        CHECK((redundant(sample, at) || at > sample.end.back()));
      } else {
        CHECK(sound_repair(groups, sample.after.back()));
      }
    });
  }
}

TEST_CASE("when a vote may be lost with a frame, the replica is refused", "[wal]") {
  const Sample sample = make_sample();
  // Frame 4 holds hard states: its first sector has them, and its last the copies.
  for (size_t last : {size_t{4}, size_t{6}}) {
    World w;
    w.disk.state = sample.disk;
    w.options.has_peers = true;
    Bytes& bytes = w.disk.inode(kPath).cache;
    std::fill(bytes.begin() + static_cast<ptrdiff_t>(sample.end[last]), bytes.end(), uint8_t{0});
    w.disk.flip(kPath, sample.end[3] + 8, 0);
    w.disk.flip(kPath, sample.end[4] - 8, 0);
    w.run([&] {
      auto log = w.open();
      REQUIRE_FALSE(log.has_value());
      CHECK(log.error().code == ErrorCode::kCorrupt);
      CHECK(log.error().message.find("must not vote again") != std::string::npos);
    });
  }
}

TEST_CASE("a repair is durable before the evidence goes, at every operation and both ways of dying", "[wal]") {
  const Sample sample = make_sample();
  for (auto kind : {MemoryDisk::Crash::kKill, MemoryDisk::Crash::kPowerLoss})
    for (uint64_t where : {sample.end[2] + 9, sample.end[3] + 9, sample.end[5] + 9, sample.end[4] + 200})
      for (uint64_t operation = 1;; ++operation) {
        World w(operation);
        w.disk.state = sample.disk;
        w.options.has_peers = true;
        w.disk.flip(kPath, where, 3);
        bool crashed = false;
        w.run([&] {
          w.disk.crash_at(operation, kind);
          try {
            static_cast<void>(w.open());
          } catch (const fiber::Cancelled&) {
            crashed = true;
          }
          w.disk.restart();
          for (int life = 0; life < 2; ++life) {
            auto log = w.opened();
            auto groups = log->take_recovered();
            CAPTURE(where, operation, life);
            REQUIRE(sound_repair(groups, sample.after.back()));
            REQUIRE(log->unknown_groups_suspect());
            log.reset();
            w.disk.crash(MemoryDisk::Crash::kPowerLoss);
            w.disk.restart();
          }
        });
        if (!crashed) break;
      }
}

TEST_CASE("a repair that was torn and then rotted does not hide what it would have repaired", "[wal]") {
  const Sample sample = make_sample();
  World w;
  w.disk.state = sample.disk;
  w.options.has_peers = true;
  w.disk.flip(kPath, sample.end[2] + 9, 1);
  w.run([&] {
    { auto log = w.opened(); }
    Bytes& bytes = w.disk.inode(path_of(2)).cache;
    std::fill(bytes.begin() + 1024 + 512, bytes.end(), uint8_t{0});
    w.disk.flip(path_of(2), 1024 + 9, 1);
    CHECK(sound_repair(w.opened()->take_recovered(), sample.after.back()));
    // One that is there in full counts, by the copy of its records.
    w.disk.flip(path_of(2), 1024 + 9, 1);
    CHECK(sound_repair(w.opened()->take_recovered(), sample.after.back()));
    CHECK(w.disk.files().back() == path_of(3));
  });
}

TEST_CASE("a repaired log goes on, is repaired again, and forgets its suspicion only when told", "[wal]") {
  const Sample sample = make_sample();
  World w;
  w.disk.state = sample.disk;
  w.options.has_peers = true;
  w.run([&] {
    Batch batch;
    w.disk.flip(kPath, sample.end[4] + 9, 1);
    {
      auto log = w.opened();
      CHECK(w.trace.times(Probe::damaged_middle_found) == 1);
      CHECK(log->take_recovered().at(0).entries.size() == 2);
      for (uint64_t i = 3; i <= 12; ++i) append_entry(*log, batch, kOne, entry(i, 7, std::string(400, 'r')));
      append_entry(*log, batch, GroupId(4), entry(1, 1, "a group that may have been there before"));
      CHECK(log->segments().size() == 3);
    }
    w.disk.flip(path_of(2), 2048 + 700, 1);
    {
      auto log = w.opened();
      CHECK_FALSE(w.disk.state.names.contains(path_of(3)));
      CHECK(log->segments().back().number == 4);
      auto groups = log->take_recovered();
      CHECK(groups.at(0).entries.size() >= 2);
      CHECK(groups.at(0).entries.size() < 12);
      CHECK(groups.at(0).suspect);
      CHECK(groups.at(0).hard_state == raft::HardState{Term(2), ReplicaId(3)});
      batch.clear();
      batch.suspect(kOne, false);
      batch.suspect(GroupId(), false);
      REQUIRE(log->append(batch).has_value());
    }
    auto log = w.opened();
    auto groups = log->take_recovered();
    CHECK_FALSE(groups.at(0).suspect);
    CHECK(groups.at(1).suspect);
    CHECK_FALSE(log->unknown_groups_suspect());
  });
}

TEST_CASE("a damaged last frame is ambiguous: torn for a sole voter, suspicion for a replica with peers", "[wal]") {
  const Sample sample = make_sample();
  for (bool peers : {false, true}) {
    World w;
    w.disk.state = sample.disk;
    w.options.has_peers = peers;
    w.disk.flip(kPath, sample.end[5] + 300, 1);
    w.run([&] {
      auto log = w.opened();
      auto groups = log->take_recovered();
      CHECK(any_suspect(groups) == peers);
      CHECK(same_entries(groups.at(0).entries, sample.after[5].at(0).entries));
      CHECK(w.trace.times(Probe::damaged_tail_found) == 1);
      CHECK(log->segments().size() == (peers ? 2 : 1));
    });
  }
}

TEST_CASE("frames that nothing declares synced are leftovers behind a torn one, and evidence when one does", "[wal]") {
  // Written by hand: three frames, of which the third says up to where the log was synced when it was written.
  for (uint64_t synced : {1u, 2u, 3u}) {
    World w;
    w.options.has_peers = true;
    w.run([&] {
      { auto log = w.opened(); }
      Bytes& bytes = w.disk.inode(path_of(1)).cache;
      Image image{.segment = 1, .log_id = decode_segment_header(ByteView(bytes).first(1024), 1).header->log_id};
      uint64_t offset = 1536;
      uint64_t hash = decode_frame_header(bytes.data() + 1024, HeaderPlace::kFront, 1, image.log_id)->hash;
      uint64_t second = 0;
      for (uint64_t sequence = 2; sequence <= 4; ++sequence) {
        Bytes frame(kFrameHeaderBytes);
        encode_entry(frame, kOne, 0, entry(sequence - 1, 1, std::string(900, 'h')));
        FrameHeader h{.sequence = sequence,
                      .segment = 1,
                      .offset = offset,
                      .previous_hash = hash,
                      .synced_sequence = sequence == 4 ? synced : 1,
                      .records = 1,
                      .log_id = image.log_id};
        seal_frame(frame, h, {}, {});
        std::copy(frame.begin(), frame.end(), bytes.begin() + static_cast<ptrdiff_t>(offset));
        if (sequence == 3) second = offset;
        offset += frame.size();
        hash = h.hash;
      }
      std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(second + 512), 512, uint8_t{0});  // frame 3 lacks a sector
      auto log = w.opened();
      auto groups = log->take_recovered();
      REQUIRE(groups.size() == 1);
      CHECK(groups[0].entries.size() == 1);
      CHECK(groups[0].suspect == (synced == 3));
      CHECK(w.trace.times(Probe::damaged_middle_found) == (synced == 3 ? 1 : 0));
      CHECK(w.trace.times(Probe::torn_tail_dropped) == (synced == 3 ? 0 : 1));
    });
  }
}

TEST_CASE("both copies of a segment's header damaged is an error, one is mended", "[wal]") {
  const Sample sample = make_sample();
  World w;
  w.disk.state = sample.disk;
  w.run([&] {
    w.disk.flip(kPath, 100, 1);
    CHECK(same_groups(w.opened()->take_recovered(), sample.after.back()));
    w.disk.flip(kPath, 600, 1);
    CHECK(same_groups(w.opened()->take_recovered(), sample.after.back()));
    w.disk.flip(kPath, 600, 1);
    w.disk.flip(kPath, 100, 1);
    auto lost = w.open();
    REQUIRE_FALSE(lost.has_value());
    CHECK(lost.error().message.find("both copies of the segment's header") != std::string::npos);
  });
}

TEST_CASE("a frame cannot pass in another place", "[wal]") {
  const Sample sample = make_sample();
  World w;
  w.disk.state = sample.disk;
  w.run([&] {
    Bytes& bytes = w.disk.inode(kPath).cache;
    std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(sample.end[5]), 512,
                bytes.begin() + static_cast<ptrdiff_t>(sample.end[6]));
    auto log = w.opened();
    CHECK(same_groups(log->take_recovered(), sample.after.back()));
    CHECK(w.trace.times(Probe::damaged_tail_found) == 1);
  });
}
