// Format version 1 stays readable, and stays what is written: tests/golden/wal has segments, and what they say. The
// first is of before replicas had generations, the third has groups that were split off others.
//
// MNEME_UPDATE_GOLDEN=1 writes the others anew; a difference is a change of the format and needs a new version.
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "core/wal/inspect.h"
#include "tests/test.h"
#include "tests/unit/wal/world.h"

using namespace mneme;
using namespace mneme::wal;
using namespace mneme::wal::test;

namespace {

const std::string kFirst = MNEME_SOURCE_DIR "/tests/golden/wal/v1-segment";
const std::string kGolden = MNEME_SOURCE_DIR "/tests/golden/wal/v1-replicas";
const std::string kSplits = MNEME_SOURCE_DIR "/tests/golden/wal/v1-splits";

std::string read_golden(const std::string& name) {
  std::ifstream in(name, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_golden(const std::string& name, std::string_view content) {
  std::ofstream(name, std::ios::binary) << content;
}

// Every type of record, a sector of zeros in a value, and a torn frame at the end.
void write_sample(World& w) {
  auto log = w.opened();
  Batch batch;
  const std::vector<raft::Entry> entries = {
      {Term(2), LogIndex(1)}, entry(2, 2, "a value"), entry(3, 2, std::string(1100, '\0')), entry(4, 3, "")};
  batch.hard_state(GroupId(1), {Term(3), ReplicaId(2)});
  batch.entries(GroupId(1), 0, entries);
  REQUIRE(log->append(batch).has_value());
  batch.clear();
  batch.checkpoint(GroupId(1), {LogIndex(1), Term(2)}, 11);
  batch.restart(GroupId(2), {LogIndex(40), Term(9)}, 12);
  batch.suspect(GroupId(2), true);
  batch.suspect(GroupId(), true);
  batch.hard_state(GroupId(3), {Term(1), ReplicaId(1)});
  batch.remove_replica(GroupId(3), 0);
  batch.begin_replica(GroupId(3), 5);
  batch.hard_state(GroupId(3), {Term(4), ReplicaId(NodeId(1), 5)});
  const raft::Entry first = entry(1, 4, "of generation 5");
  batch.entries(GroupId(3), 5, std::span(&first, 1));
  REQUIRE(log->append(batch).has_value());
  append_entry(*log, batch, GroupId(2), entry(41, 9, "after the snapshot"));
  const uint64_t torn = log->append_offset() + 512;
  append_entry(*log, batch, GroupId(2), entry(42, 9, std::string(900, 't')));
  Bytes& bytes = w.disk.inode(path_of(1)).cache;
  std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(torn), 512, uint8_t{0});
}

// Two children, of which one has a checkpoint. The segment's summary is of when neither had one.
void write_splits(World& w) {
  {
    auto log = w.opened();
    Batch batch;
    for (const uint64_t child : {4, 5}) {
      batch.begin_replica(GroupId(child), 2);
      batch.hard_state(GroupId(child), {Term(1), ReplicaId()});
      batch.split_off(GroupId(child), {LogIndex(1), Term(1)}, {GroupId(child - 2), {LogIndex(70 + child), Term(6)}});
      const raft::Entry e = entry(2, 1, "of the child");
      batch.entries(GroupId(child), 2, std::span(&e, 1));
    }
    REQUIRE(log->append(batch).has_value());
    for (uint64_t i = 3; log->segments().size() == 1; ++i) {
      batch.clear();
      const raft::Entry e = entry(i, 1, std::string(900, 'v'));
      batch.entries(GroupId(5), 2, std::span(&e, 1));
      REQUIRE(log->append(batch).has_value());
    }
    batch.clear();
    batch.checkpoint(GroupId(5), {LogIndex(2), Term(1)}, 1);
    REQUIRE(log->append(batch).has_value());
  }
}

std::string inspected(World& w, uint64_t segment = 1) {
  std::string text;
  REQUIRE(
      inspect(w.disk, path_of(segment), [&](std::string_view line) { text.append(line).append("\n"); }).has_value());
  return text;
}

// Puts the golden segment into an empty log, and gives what is read from it.
std::vector<GroupState> read_segment(World& w, const std::string& name) {
  const std::string golden = read_golden(name + ".bin");
  REQUIRE(golden.size() == 8192);
  { auto log = w.opened(); }
  w.disk.inode(path_of(1)).cache.assign(golden.begin(), golden.end());
  const auto before = w.disk.inode(path_of(1)).cache;
  CHECK(inspected(w) == read_golden(name + ".txt"));
  CHECK(w.disk.inode(path_of(1)).cache == before);
  auto log = w.opened();
  CHECK(log->unknown_groups_suspect());
  auto groups = log->take_recovered();
  REQUIRE(groups.size() >= 2);
  CHECK(groups[0].hard_state == raft::HardState{Term(3), ReplicaId(2)});
  CHECK(groups[0].checkpoint == raft::LogPosition{LogIndex(1), Term(2)});
  CHECK(groups[0].checkpoint_id == 11);
  CHECK_FALSE(groups[0].suspect);
  REQUIRE(groups[0].entries.size() == 3);
  CHECK(same(groups[0].entries[0], entry(2, 2, "a value")));
  CHECK(same(groups[0].entries[1], entry(3, 2, std::string(1100, '\0'))));
  CHECK(same(groups[0].entries[2], entry(4, 3, "")));
  CHECK(groups[1].checkpoint == raft::LogPosition{LogIndex(40), Term(9)});
  CHECK(groups[1].suspect);
  REQUIRE(groups[1].entries.size() == 1);
  CHECK(same(groups[1].entries[0], entry(41, 9, "after the snapshot")));
  return groups;
}

}  // namespace

TEST_CASE("a segment of format version 1 is read and told as ever", "[wal]") {
  World w;
  w.run([&] { CHECK(read_segment(w, kFirst).size() == 2); });
}

TEST_CASE("a segment with replicas that came and went is written, read and told as ever", "[wal]") {
  World writer;
  writer.run([&] { write_sample(writer); });
  if (std::getenv("MNEME_UPDATE_GOLDEN")) {
    write_golden(kGolden + ".bin", as_text(writer.disk.inode(path_of(1)).cache));
    writer.run([&] { write_golden(kGolden + ".txt", inspected(writer)); });
  }
  CHECK(as_text(writer.disk.inode(path_of(1)).cache) == read_golden(kGolden + ".bin"));
  World w;
  w.run([&] {
    auto groups = read_segment(w, kGolden);
    REQUIRE(groups.size() == 3);
    CHECK(groups[2].generation == 5);
    CHECK(groups[2].hard_state == raft::HardState{Term(4), ReplicaId(NodeId(1), 5)});
    REQUIRE(groups[2].entries.size() == 1);
    CHECK(w.opened()->removed_generation(GroupId(3)) == 0u);
  });
}

TEST_CASE("segments with groups that were split off are written, read and told as ever", "[wal]") {
  World writer;
  writer.run([&] { write_splits(writer); });
  for (const uint64_t segment : {1, 2}) {
    const std::string name = fmt::format("{}-{}", kSplits, segment);
    const std::string written(as_text(writer.disk.inode(path_of(segment)).cache));
    if (std::getenv("MNEME_UPDATE_GOLDEN")) {
      write_golden(name + ".bin", written);
      writer.run([&] { write_golden(name + ".txt", inspected(writer, segment)); });
    }
    CHECK(written == read_golden(name + ".bin"));
    writer.run([&] { CHECK(inspected(writer, segment) == read_golden(name + ".txt")); });
  }
  writer.run([&] {
    auto log = writer.opened();
    auto groups = log->take_recovered();
    REQUIRE(groups.size() == 2);
    CHECK(groups[0].checkpoint == raft::LogPosition{LogIndex(1), Term(1)});
    CHECK(groups[0].checkpoint_id == 0);
    CHECK(groups[0].origin == Origin{GroupId(2), {LogIndex(74), Term(6)}});
    REQUIRE(groups[0].entries.size() == 1);
    CHECK(same(groups[0].entries[0], entry(2, 1, "of the child")));
    CHECK(groups[1].checkpoint_id == 1);
    CHECK_FALSE(groups[1].origin);
  });
}

TEST_CASE("inspecting says where a damaged segment stops and why, and what is behind", "[wal]") {
  World w;
  w.run([&] {
    write_sample(w);
    w.disk.flip(path_of(1), 1536 + 200, 1);
    const std::string text = inspected(w);
    CHECK(text.find("stops at byte 1536: frame 2 is damaged: its records do not check; it was durable") !=
          std::string::npos);
    CHECK(text.find("a damaged frame, its state records are known") != std::string::npos);
    CHECK(text.find("term 3, vote 2") != std::string::npos);
    CHECK(text.find("a torn frame") != std::string::npos);
  });
}

TEST_CASE("inspecting any bytes ends, and never with more than a sentence", "[wal]") {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    World w(seed);
    SplitMix random{seed};
    w.run([&] {
      write_sample(w);
      Bytes& bytes = w.disk.inode(path_of(1)).cache;
      for (uint64_t n = 1 + random.below(200); n > 0; --n)
        bytes[random.below(bytes.size())] = static_cast<uint8_t>(random.next());
      if (random.chance(30)) bytes.resize(random.below(bytes.size()));
      CHECK_FALSE(inspected(w).empty());
      static_cast<void>(w.open());
    });
  }
}
