// How this folder writes JSON: by hand, for it only ever writes numbers, and texts through quoted().
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace mneme::node {

// What is not printable ASCII is escaped byte by byte: whatever somebody called a rack, the result is JSON.
[[nodiscard]] inline std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      out += {'\\', c};
    else if (byte < 0x20 || byte > 0x7e)
      out += fmt::format("\\u{:04x}", byte);
    else
      out += c;
  }
  return out + '"';
}

}  // namespace mneme::node
