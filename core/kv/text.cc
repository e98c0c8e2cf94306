#include "core/kv/text.h"

#include <charconv>
#include <utility>

namespace mneme::kv {

std::optional<int64_t> parse_integer(std::string_view text) {
  if (text.empty() || text.size() > 20) return std::nullopt;
  size_t first_digit = text[0] == '-' ? 1 : 0;
  if (text.size() == first_digit) return std::nullopt;
  if (text[first_digit] == '0' && text.size() > 1) return std::nullopt;
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

namespace {

// Whether `c` is in the class that begins after '['; moves `at` to the class's last character, or to the pattern's end
// when the class is not closed, which Redis treats as closed there.
bool class_matches(std::string_view pattern, size_t& at, char c) {
  auto code = [](char x) { return static_cast<unsigned char>(x); };
  bool negated = at < pattern.size() && pattern[at] == '^';
  if (negated) ++at;
  bool found = false;
  for (;; ++at) {
    if (at >= pattern.size()) {
      --at;
      break;
    }
    if (pattern[at] == '\\' && at + 1 < pattern.size()) {
      ++at;
      found |= pattern[at] == c;
    } else if (pattern[at] == ']') {
      break;
    } else if (at + 2 < pattern.size() && pattern[at + 1] == '-') {
      unsigned char low = code(pattern[at]);
      unsigned char high = code(pattern[at + 2]);
      if (low > high) std::swap(low, high);
      at += 2;
      found |= code(c) >= low && code(c) <= high;
    } else {
      found |= pattern[at] == c;
    }
  }
  return found != negated;
}

}  // namespace

bool glob_matches(std::string_view pattern, std::string_view text) {
  if (text.empty()) return pattern.empty() || pattern == "*";  // a quirk of Redis: "**" does not match nothing
  size_t p = 0;
  size_t t = 0;
  size_t after_star = std::string_view::npos;  // where the pattern goes on after the last star met
  size_t star_text = 0;                        // what that star has swallowed so far ends here
  for (;;) {
    if (p < pattern.size() && pattern[p] == '*') {
      after_star = ++p;
      star_text = t;
      continue;
    }
    if (t == text.size()) {
      if (p == pattern.size()) return true;
    } else if (p < pattern.size()) {
      size_t next = p;
      bool same = true;
      if (pattern[p] == '[') {
        ++next;
        same = class_matches(pattern, next, text[t]);
      } else if (pattern[p] != '?') {
        if (pattern[p] == '\\' && p + 1 < pattern.size()) ++next;
        same = pattern[next] == text[t];
      }
      if (same) {
        p = next + 1;
        ++t;
        continue;
      }
    }
    if (after_star == std::string_view::npos || star_text == text.size()) return false;
    p = after_star;
    t = ++star_text;
  }
}

}  // namespace mneme::kv
