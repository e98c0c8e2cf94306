// Reading, piece by piece and without copies, the canonical replies that shards give to parts of a command: arrays of
// bulk strings and nulls, lines. Nothing is trusted: kCorrupt wherever a reply is not of the form asked for, or cut
// off.
//
// Each take_* takes what it reads off the front of `rest`; after an error `rest` means nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/base/error.h"

namespace mneme::node {

struct Element {
  std::string_view whole;                // as it stands in the reply
  std::optional<std::string_view> text;  // of a string; a null has none
};

// The line of an integer, or an aggregate's header.
Result<int64_t> take_number(std::string_view& rest, char type);
// A bulk string or a null.
Result<Element> take_element(std::string_view& rest);
Result<void> nothing_left(std::string_view rest);

// The elements of an array that is all of a reply, one after the other.
class Elements {
 public:
  static Result<Elements> open(std::string_view reply);

  size_t left() const { return left_; }
  Result<Element> next();

 private:
  std::string_view rest_;
  size_t left_ = 0;
};

}  // namespace mneme::node
