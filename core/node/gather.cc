#include "core/node/gather.h"

#include <algorithm>
#include <vector>

#include "core/node/elements.h"
#include "core/protocol/reply.h"

namespace mneme::node {

namespace {

Result<std::vector<Elements>> open_all(Replies replies) {
  std::vector<Elements> arrays;
  arrays.reserve(replies.size());
  for (std::string_view reply : replies) arrays.push_back(TRY(Elements::open(reply)));
  return arrays;
}

}  // namespace

Result<void> gather_sum(Replies replies, std::string& out) {
  int64_t sum = 0;
  for (std::string_view reply : replies) {
    // Each counts keys or is a mistake: far from overflowing.
    const int64_t number = TRY(take_number(reply, ':'));
    TRY(nothing_left(reply));
    if (number < 0 || number > INT64_MAX - sum) return fail(ErrorCode::kCorrupt, "a count is out of range");
    sum += number;
  }
  protocol::put_integer(out, sum);
  return {};
}

Result<void> gather_oks(Replies replies, std::string& out) {
  for (std::string_view reply : replies)
    if (reply != "+OK\r\n") return fail(ErrorCode::kCorrupt, "it is not OK");
  protocol::put_ok(out);
  return {};
}

Result<void> gather_pick(Replies replies, uint64_t pick, std::string& out) {
  std::vector<std::string_view> strings;
  for (std::string_view reply : replies) {
    const Element element = TRY(take_element(reply));
    TRY(nothing_left(reply));
    if (element.text) strings.push_back(element.whole);
  }
  if (strings.empty())
    protocol::put_null(out);
  else
    out += strings[pick % strings.size()];
  return {};
}

Result<void> gather_concatenated(Replies replies, std::string& out) {
  std::vector<Elements> arrays = TRY(open_all(replies));
  size_t count = 0;
  for (const Elements& array : arrays) count += array.left();
  protocol::put_array(out, count);
  for (Elements& array : arrays)
    while (array.left() > 0) out += TRY(array.next()).whole;
  return {};
}

Result<void> gather_in_order(Replies replies, std::span<const uint32_t> part_of_element, std::string& out) {
  std::vector<Elements> arrays = TRY(open_all(replies));
  protocol::put_array(out, part_of_element.size());
  for (uint32_t part : part_of_element) out += TRY(arrays[part].next()).whole;
  for (const Elements& array : arrays)
    if (array.left() > 0) return fail(ErrorCode::kCorrupt, "an array has too many elements");
  return {};
}

Result<void> gather_by_key(Replies replies, uint64_t limit, std::string& out) {
  struct Head {
    std::string_view key;
    std::string_view whole;
    size_t part;
  };
  std::vector<Elements> arrays = TRY(open_all(replies));
  std::vector<Head> heads;
  auto later = [](const Head& a, const Head& b) { return a.key != b.key ? a.key > b.key : a.part > b.part; };
  auto push = [&](size_t part) -> Result<void> {
    if (arrays[part].left() == 0) return {};
    const Element key = TRY(arrays[part].next());
    if (!key.text) return fail(ErrorCode::kCorrupt, "a key is null");
    heads.push_back({*key.text, key.whole, part});
    std::push_heap(heads.begin(), heads.end(), later);
    return {};
  };
  for (size_t part = 0; part < arrays.size(); ++part) TRY(push(part));
  std::string pairs;
  size_t count = 0;
  for (; !heads.empty() && count < limit; ++count) {
    std::pop_heap(heads.begin(), heads.end(), later);
    const Head head = heads.back();
    heads.pop_back();
    pairs += head.whole;
    pairs += TRY(arrays[head.part].next()).whole;
    TRY(push(head.part));
  }
  protocol::put_array(out, count * 2);
  out += pairs;
  return {};
}

}  // namespace mneme::node
