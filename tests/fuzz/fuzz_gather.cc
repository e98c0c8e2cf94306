// Replies of the parts of a command: whatever they are, what is made of them is one well-formed reply, or an error.
#include <array>

#include "core/node/gather.h"
#include "core/node/scan.h"
#include "core/protocol/reply_reader.h"
#include "tests/fuzz/target.h"

using namespace mneme;
using namespace mneme::node;
using fuzz::require;

namespace {

template <class Fn>
void gather(Fn fn) {
  std::string out;
  if (!fn(out)) return;
  auto length = protocol::reply_length(out);
  require(length && *length == out.size(), "one well-formed reply is made");
}

void scan(std::string_view reply, const shard::Map& map) {
  kv::ScanCursors cursors(1);
  const std::array<std::string_view, 2> args{"SCAN", "0"};
  Scan scan = *Scan::open(args, cursors);
  (void)scan.next(map);
  if (reply.starts_with('-') || !scan.take(reply) || !scan.enough()) return;
  gather([&](std::string& out) {
    scan.answer(cursors, out);
    return true;
  });
}

shard::Map one_shard() {
  shard::FoundCluster found;
  found.cluster = ClusterId(1);
  found.copies = 1;
  found.shards = 1;
  found.nodes.push_back({NodeId(1), Incarnation(1), "p:1", "c:1", ""});
  shard::Map map;
  require(map.apply(found).has_value(), "a cluster is founded");
  return map;
}

}  // namespace

// The first byte says where the first of two replies ends.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes = as_text({data + 1, size - 1});
  const size_t middle = std::min<size_t>(data[0], bytes.size());
  const std::array<std::string_view, 2> replies{bytes.substr(0, middle), bytes.substr(middle)};
  const std::array<uint32_t, 3> order{1, 0, 1};
  gather([&](std::string& out) { return gather_sum(replies, out).has_value(); });
  gather([&](std::string& out) { return gather_oks(replies, out).has_value(); });
  gather([&](std::string& out) { return gather_pick(replies, data[0], out).has_value(); });
  gather([&](std::string& out) { return gather_concatenated(replies, out).has_value(); });
  gather([&](std::string& out) { return gather_in_order(replies, order, out).has_value(); });
  gather([&](std::string& out) { return gather_by_key(replies, data[0] % 4, out).has_value(); });
  static const shard::Map map = one_shard();
  scan(bytes, map);
  return 0;
}

std::vector<std::string> fuzz::corpus() {
  auto two = [](std::string first, const std::string& second) {
    return static_cast<char>(first.size()) + std::move(first) + second;
  };
  return {two(":1\r\n", ":22\r\n"),
          two("+OK\r\n", "+OK\r\n"),
          two("$1\r\na\r\n", "_\r\n"),
          two("*1\r\n$1\r\na\r\n", "*2\r\n_\r\n$3\r\nabc\r\n"),
          two("*2\r\n$1\r\na\r\n$1\r\n1\r\n", "*4\r\n$1\r\nb\r\n$1\r\n2\r\n$1\r\nc\r\n_\r\n"),
          two("*0\r\n", "*0\r\n"),
          two("", "*2\r\n$1\r\nk\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
          two("", "*2\r\n_\r\n*0\r\n")};
}
