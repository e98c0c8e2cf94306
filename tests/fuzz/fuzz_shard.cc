// The shard map: no bytes harm the decoders, what they accept has one encoding, and no command harms a map.
#include <algorithm>

#include "core/shard/map.h"
#include "tests/fuzz/target.h"

using namespace mneme;
using namespace mneme::shard;
using fuzz::require;

namespace {

template <class T>
std::string encoded(const T& value) {
  std::string bytes;
  if constexpr (std::is_same_v<T, Map>)
    value.encode(bytes);
  else
    encode(value, bytes);
  return bytes;
}

Map small_map() {
  FoundCluster found;
  found.cluster = ClusterId(1);
  found.copies = 2;
  found.shards = 2;
  for (uint64_t n = 1; n <= 4; ++n)
    found.nodes.push_back({NodeId(n), Incarnation(n), std::string(n, 'p'), std::string(n, 'c'), ""});
  Map map;
  require(map.apply(found).has_value(), "a cluster is founded");
  return map;
}

// Commands one after the other, each behind its length in two bytes.
void script(std::string_view bytes) {
  static const Map begin = small_map();
  Map map = begin;
  while (bytes.size() >= 2) {
    size_t size = load_le<uint16_t>(as_bytes(bytes).data());
    auto command = decode_command(bytes.substr(2, size));
    bytes.remove_prefix(std::min(bytes.size(), size + 2));
    if (!command) continue;
    const Map before = map;
    auto answer = map.apply(*command);
    require(!map.check(), "a map stays sound");
    if (!answer) {
      require(map == before, "what is refused changes nothing");
      continue;
    }
    const Map after = map;
    if (after.version() > before.version()) {
      std::string change;
      after.encode_change_since(before, change);
      auto followed = before.with_change(change);
      require(followed && *followed == after, "a change leads from one version to the other");
    }
    auto again = map.apply(*command);
    require(again && *again == *answer, "a repeated command answers the same");
    require(map == after, "a repeated command changes nothing");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<char> block(data, data + size);
  std::string_view bytes(block.data(), block.size());
  if (auto command = decode_command(bytes)) require(encoded(*command) == bytes, "a command has one encoding");
  if (auto map = Map::decode(bytes)) require(encoded(*map) == bytes, "a map has one encoding");
  static const Map begin = small_map();
  // What it can see of a change is sound; of the rest it is enough that nothing comes to harm.
  if (auto changed = begin.with_change(bytes)) (void)changed->check();
  script(bytes);
  return 0;
}

std::vector<std::string> fuzz::corpus() {
  Map map = small_map();
  std::vector<std::string> inputs{encoded(map)};
  std::string script;
  auto add = [&](const Command& command) {
    require(map.apply(command).has_value(), "the corpus is of good commands");
    std::string change;
    map.encode_change_since(small_map(), change);
    inputs.push_back(std::move(change));
    inputs.push_back(encoded(command));
    Writer(script).u16(static_cast<uint16_t>(inputs.back().size()));
    script += inputs.back();
  };
  auto report = [&](GroupId group, auto change) {
    Report report = map.shard(group)->last;
    report.slots = map.shard(group)->slots;
    report.epoch = report.epoch.next();
    report.term = Term(1);
    change(report);
    return report;
  };
  const GroupId group{2};
  add(AddNode{Incarnation(5), "ppppp", "ccccc", "rack"});
  add(NodeUp{NodeId(5), Incarnation(5)});
  add(BeginOperation{group, Epoch(1), {}, {ActionKind::kSplit, {}, {}, 100}});
  add(AdvanceOperation{OperationId(1), Step::kSplit, report(group, [](Report& r) { r.slots.split_at(100); })});
  const NodeId source = map.shard(group)->configuration()[0].replica.node;
  add(BeginOperation{group, Epoch(2), OperationId(1), {ActionKind::kMove, source, NodeId(5)}});
  add(AdvanceOperation{OperationId(2), Step::kAddLearner, report(group, [](Report& r) {
                         r.configuration.push_back({{NodeId(5), 2}, Role::kLearner});
                         r.next_generation = 3;
                       })});
  add(AbandonOperation{OperationId(2), Step::kSwap, report(group, [](Report&) {})});
  add(DrainNode{NodeId(3), 0, true});
  add(AddNode{Incarnation(6), "pppppp", "cccccc", ""});
  add(RemoveNode{NodeId(6)});
  add(SetCopies{2, 1});
  add(RaiseClusterVersion{3});
  inputs.push_back(script);
  inputs.push_back(encoded(map));
  return inputs;
}
