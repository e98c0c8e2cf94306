// What Redis means by an argument list, by an integer in text, by equal words and by a glob pattern.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace mneme::kv {

// A command as a client sent it: its name, then its arguments. The views are the caller's.
using Args = std::span<const std::string_view>;

// Exactly the decimal form that printing the number would give: no plus sign, no leading zero, no space, no "-0".
// (Redis's string2ll; what INCR accepts as a number depends on it.)
[[nodiscard]] std::optional<int64_t> parse_integer(std::string_view text);

[[nodiscard]] constexpr char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

// `lower` is written in lower case.
[[nodiscard]] constexpr bool equals_ignoring_case(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (to_lower(text[i]) != lower[i]) return false;
  }
  return true;
}

// Redis's glob: * ? [abc] [^abc] [a-c] and \ before a character meant as itself. Linear in text times the number of
// stars: it backtracks to the last star only, which is enough for patterns of this kind.
[[nodiscard]] bool glob_matches(std::string_view pattern, std::string_view text);

}  // namespace mneme::kv
