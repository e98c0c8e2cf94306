#include "core/node/elements.h"

#include <fmt/format.h>

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

}  // namespace

Result<int64_t> take_number(std::string_view& rest, char type) {
  const std::string_view line = TRY(take_line(rest, type));
  auto number = protocol::parse_integer(line);
  if (!number) return fail(ErrorCode::kCorrupt, fmt::format("'{}' is followed by no number", type));
  return *number;
}

Result<void> nothing_left(std::string_view rest) {
  if (!rest.empty()) return fail(ErrorCode::kCorrupt, "more bytes follow it");
  return {};
}

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
  rest.remove_prefix(text.size());
  if (!rest.starts_with("\r\n")) return fail(ErrorCode::kCorrupt, "a string does not end where it says");
  rest.remove_prefix(2);
  return Element{before.substr(0, before.size() - rest.size()), text};
}

Result<Elements> Elements::open(std::string_view reply) {
  Elements elements;
  elements.rest_ = reply;
  const int64_t count = TRY(take_number(elements.rest_, '*'));
  // An element has three bytes or more.
  if (count < 0 || static_cast<uint64_t>(count) > elements.rest_.size() / 3)
    return fail(ErrorCode::kCorrupt, "an array has fewer elements than it says");
  elements.left_ = static_cast<size_t>(count);
  if (count == 0) TRY(nothing_left(elements.rest_));
  return elements;
}

Result<Element> Elements::next() {
  if (left_ == 0) return fail(ErrorCode::kCorrupt, "an array has too few elements");
  --left_;
  const Element element = TRY(take_element(rest_));
  if (left_ == 0) TRY(nothing_left(rest_));
  return element;
}

}  // namespace mneme::node
