// The checkpoint loader: no bytes harm it, and what it accepts is a state that can be written and loaded again.
//
// Checksums would end nearly every input at its first block, so the input is read as blocks without them: a 4-byte
// length, a type, and the payload. The header's digest is not mended: inputs that change the contents are refused in
// the end, after all of them were decoded.
#include <algorithm>

#include "core/kv/checkpoint.h"
#include "core/kv/checkpoint_format.h"
#include "tests/fuzz/target.h"

using namespace mneme;
using namespace mneme::kv;
using fuzz::require;

namespace {

constexpr size_t kPlainHeadBytes = 5;

std::string sealed(std::string_view plain) {
  std::string stream;
  uint64_t identity = 0;
  for (uint64_t block = 0; plain.size() >= kPlainHeadBytes; ++block) {
    Reader head(plain);
    const size_t size = std::min<size_t>(head.u32(), plain.size() - kPlainHeadBytes);
    const uint8_t type = head.u8();
    const std::string_view payload = plain.substr(kPlainHeadBytes, size);
    const size_t at = stream.size();
    Writer out(stream);
    out.u32(static_cast<uint32_t>(size));
    out.u32(type);
    out.u64(block_checksum(identity, block, std::string_view(stream).substr(at, 8), payload));
    out.raw(payload);
    if (block == 0) identity = xxh3(payload);
    plain.remove_prefix(kPlainHeadBytes + size);
  }
  return stream;
}

std::string plain(std::string_view stream) {
  std::string plain;
  while (!stream.empty()) {
    Reader head(stream);
    const uint32_t size = head.u32();
    Writer out(plain);
    out.u32(size);
    out.u8(head.u8());
    out.raw(stream.substr(kBlockHeadBytes, size));
    stream.remove_prefix(kBlockHeadBytes + size);
  }
  return plain;
}

Result<std::unique_ptr<StateMachine>> load(std::string_view stream, size_t chunk_bytes) {
  CheckpointLoader loader;
  for (; !stream.empty(); stream.remove_prefix(std::min(chunk_bytes, stream.size())))
    TRY(loader.feed(stream.substr(0, chunk_bytes)));
  return std::move(loader).finish();
}

std::string written(StateMachine& machine) {
  CheckpointWriter writer(machine, Term(3));
  std::string stream;
  while (!writer.done()) stream += writer.next_chunk(1 << 16);
  return stream;
}

struct Ignore final : ReplySink {
  void reply(size_t, Outcome, std::string_view) override {}
};

void run(StateMachine& machine, const std::vector<std::string>& words, const CommandMeta& meta = {}) {
  BatchBuilder batch(BatchHeader{.epoch = machine.shard().epoch, .log_time_ms = 1'000'000});
  batch.add(meta, std::vector<std::string_view>(words.begin(), words.end()));
  Ignore sink;
  require(machine.apply(machine.applied().next(), std::move(batch).finish(), sink).has_value(), "a batch is applied");
}

void found_cluster(StateMachine& machine) {
  shard::FoundCluster found{.cluster = ClusterId(77), .copies = 1, .shards = 2};
  found.nodes.push_back({NodeId(1), Incarnation(100), "n1:1", "n1:2", "rack"});
  run(machine, map_command(found));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::vector<char> block(data, data + size);
  const std::string_view bytes(block.data(), block.size());
  (void)load(bytes, 7);  // as it is, too
  const std::string stream = sealed(bytes);
  auto loaded = load(stream, 1 + size % 100);
  require(loaded.has_value() == load(stream, SIZE_MAX).has_value(), "chunks do not matter");
  if (!loaded) return 0;
  auto again = load(written(**loaded), SIZE_MAX);
  require(again && (*again)->digest() == (*loaded)->digest(), "what was loaded can be written and loaded");
  return 0;
}

std::vector<std::string> fuzz::corpus() {
  StateMachine meta;
  found_cluster(meta);
  run(meta, {"SESSION", "OPEN"});
  StateMachine data(nullptr, ShardState{Epoch(4), Epoch(3), shard::SlotSet({3000, 13000})});
  data.configure(LogIndex(1), "a configuration");
  run(data, {"SET", "foo", "1", "PX", "500"});
  run(data, {"MNEME.SETNUM", "n", "7"});
  run(data, {"INCR", "n"}, {.session = SessionId(700), .sequence = 4, .ack = 2});
  run(data, {"INCR", "bar"}, {.session = SessionId(800), .sequence = 1});
  run(data, {"SESSION", "CLOSE", "700"});
  StateMachine empty;
  return {plain(written(meta)), plain(written(data)), plain(written(empty))};
}
