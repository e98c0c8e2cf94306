#include "core/node/gather.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "core/protocol/reply.h"
#include "core/protocol/request.h"

namespace mneme::node {

namespace {

// A line of a reply without its type and line end, taken off the front.
Result<std::string_view> take_line(std::string_view& rest, char type) {
  const size_t end = rest.find("\r\n");
  if (rest.empty() || rest[0] != type || end == std::string_view::npos)
    return fail(ErrorCode::kCorrupt, fmt::format("'{}' is missing", type));
  std::string_view line = rest.substr(1, end - 1);
  rest.remove_prefix(end + 2);
  return line;
}

Result<int64_t> take_number(std::string_view& rest, char type) {
  const std::string_view line = TRY(take_line(rest, type));
  auto number = protocol::parse_integer(line);
  if (!number) return fail(ErrorCode::kCorrupt, fmt::format("'{}' is followed by no number", type));
  return *number;
}

struct Element {
  std::string_view whole;                // as it stands in the reply
  std::optional<std::string_view> text;  // of a string; a null has none
};

Result<Element> take_element(std::string_view& rest) {
  const std::string_view before = rest;
  if (rest.starts_with('_')) {
    if (!TRY(take_line(rest, '_')).empty()) return fail(ErrorCode::kCorrupt, "a null has content");
    return Element{before.substr(0, before.size() - rest.size()), {}};
  }
  const int64_t length = TRY(take_number(rest, '$'));
  if (length < 0 || rest.size() < 2 || static_cast<uint64_t>(length) > rest.size() - 2)
    return fail(ErrorCode::kCorrupt, "a string is cut off");
  const std::string_view text = rest.substr(0, static_cast<size_t>(length));
  rest.remove_prefix(text.size() + 2);
  return Element{before.substr(0, before.size() - rest.size()), text};
}

// The elements of an array, one after the other.
class Elements {
 public:
  static Result<Elements> open(std::string_view reply) {
    Elements elements;
    elements.rest_ = reply;
    const int64_t count = TRY(take_number(elements.rest_, '*'));
    // An element has three bytes or more.
    if (count < 0 || static_cast<uint64_t>(count) > elements.rest_.size() / 3)
      return fail(ErrorCode::kCorrupt, "an array has fewer elements than it says");
    elements.left_ = static_cast<size_t>(count);
    return elements;
  }
  size_t left() const { return left_; }
  std::string_view rest() const { return rest_; }
  Result<Element> next() {
    if (left_ == 0) return fail(ErrorCode::kCorrupt, "an array has too few elements");
    --left_;
    return take_element(rest_);
  }

 private:
  std::string_view rest_;
  size_t left_ = 0;
};

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
    if (number < 0 || number > INT64_MAX - sum) return fail(ErrorCode::kCorrupt, "a count is out of range");
    sum += number;
  }
  protocol::put_integer(out, sum);
  return {};
}

Result<void> gather_oks(Replies replies, std::string& out) {
  for (std::string_view reply : replies)
    if (TRY(take_line(reply, '+')) != "OK") return fail(ErrorCode::kCorrupt, "it is not OK");
  protocol::put_ok(out);
  return {};
}

Result<void> gather_pick(Replies replies, uint64_t pick, std::string& out) {
  std::vector<std::string_view> strings;
  for (std::string_view reply : replies) {
    const Element element = TRY(take_element(reply));
    if (element.text) strings.push_back(element.whole);
  }
  if (strings.empty())
    protocol::put_null(out);
  else
    out += strings[pick % strings.size()];
  return {};
}

Result<void> gather_concatenated(Replies replies, std::string& out) {
  const std::vector<Elements> arrays = TRY(open_all(replies));
  size_t count = 0;
  for (const Elements& array : arrays) count += array.left();
  protocol::put_array(out, count);
  for (const Elements& array : arrays) out += array.rest();
  return {};
}

Result<void> gather_in_order(Replies replies, std::span<const uint32_t> part_of_element, std::string& out) {
  std::vector<Elements> arrays = TRY(open_all(replies));
  protocol::put_array(out, part_of_element.size());
  for (uint32_t part : part_of_element) out += TRY(arrays[part].next()).whole;
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
