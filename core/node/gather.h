// Making one reply of those of a command's parts: what each kind of command needs (core/node/scatter.h says which).
//
// All take canonical replies without errors among them and append one; what it adds up to is not bounded here.
// kCorrupt: a reply is of another type than such commands answer, or is cut off; `out` then holds part of a reply.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/base/error.h"

namespace mneme::node {

using Replies = std::span<const std::string_view>;

// Of integers.
Result<void> gather_sum(Replies replies, std::string& out);
// Of +OK.
Result<void> gather_oks(Replies replies, std::string& out);
// Of bulk strings and nulls: one of the strings, null without any.
Result<void> gather_pick(Replies replies, uint64_t pick, std::string& out);
// Of arrays of bulk strings and nulls.
Result<void> gather_concatenated(Replies replies, std::string& out);
// Likewise: element i of the whole is the next one of the array part_of_element[i].
Result<void> gather_in_order(Replies replies, std::span<const uint32_t> part_of_element, std::string& out);
// Of arrays of pairs that ascend by their first strings: the first `limit` pairs of all.
Result<void> gather_by_key(Replies replies, uint64_t limit, std::string& out);

}  // namespace mneme::node
