#include "core/protocol/resp.h"

#include <algorithm>
#include <cstring>

#include "core/base/check.h"

namespace mneme::protocol {

namespace {

// One header or scalar of a reply: aggregates are headers, their elements come after them.
struct Piece {
  int64_t number = 0;     // of $ = ! * % ~ >
  std::string_view text;  // a line behind its type, or the bytes of a blob
  const char* after = nullptr;
};

Piece read_piece(const char* p, const char* end) {
  auto size = static_cast<size_t>(end - p);
  const auto* line_end = static_cast<const char*>(std::memchr(p, '\n', size));
  CHECK(line_end != nullptr);
  CHECK(line_end - p >= 2);
  Piece piece{.text = {p + 1, line_end - 1}, .after = line_end + 1};
  switch (*p) {
    case '$':
    case '=':
    case '!': {
      auto length = parse_integer(piece.text);
      CHECK(length.has_value());
      CHECK(*length >= 0);
      CHECK(*length <= end - piece.after - 2);
      piece.number = *length;
      piece.text = {piece.after, static_cast<size_t>(*length)};
      piece.after += *length + 2;
      return piece;
    }
    case '*':
    case '%':
    case '~':
    case '>': {
      auto count = parse_integer(piece.text);
      CHECK(count.has_value());
      piece.number = *count;
      return piece;
    }
    default: return piece;
  }
}

void put_error_line(std::string& out, std::string_view text) {
  size_t at = out.size();
  put_error(out, text);
  auto from = out.begin() + static_cast<ptrdiff_t>(at);
  std::replace_if(
      from, out.end() - 2, [](char c) { return c == '\r' || c == '\n'; }, ' ');
}

}  // namespace

void downgrade(std::string_view canonical, std::string& out) {
  const char* p = canonical.data();
  const char* const end = p + canonical.size();
  const char* copied = p;
  while (p != end) {
    char type = *p;
    Piece piece = read_piece(p, end);
    if (type == '$' || type == '+' || type == '-' || type == ':' || type == '*') {
      p = piece.after;
      continue;
    }
    out.append(copied, p);
    copied = p = piece.after;
    switch (type) {
      case '_': out += "$-1\r\n"; break;
      case '#': out += piece.text == "t" ? ":1\r\n" : ":0\r\n"; break;
      case ',':
      case '(': put_bulk(out, piece.text); break;
      case '%': put_header(out, '*', piece.number * 2); break;
      case '~':
      case '>': put_header(out, '*', piece.number); break;
      case '=': put_bulk(out, piece.text.substr(std::min<size_t>(4, piece.text.size()))); break;
      case '!': put_error_line(out, piece.text); break;
      default: CHECK(false && "a type that no canonical reply has");
    }
  }
  out.append(copied, end);
}

void to_resp3(std::string_view canonical, std::string& out) {
  // Bulk strings may hold the same bytes; only then is the walk needed.
  if (canonical.find("*-1\r\n") == std::string_view::npos) {
    out += canonical;
    return;
  }
  const char* p = canonical.data();
  const char* const end = p + canonical.size();
  const char* copied = p;
  while (p != end) {
    char type = *p;
    Piece piece = read_piece(p, end);
    if (type == '*' && piece.number < 0) {
      out.append(copied, p);
      out += "_\r\n";
      copied = piece.after;
    }
    p = piece.after;
  }
  out.append(copied, end);
}

}  // namespace mneme::protocol
