#include "core/protocol/request.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/check.h"
#include "core/protocol/reply.h"

namespace mneme::protocol {

namespace {

constexpr size_t kMinArgumentBytes = 6;    // "$0\r\n\r\n"
constexpr size_t kKeptArgs = 256;          // a parser keeps room for this many arguments between commands,
constexpr size_t kKeptInlineBytes = 1024;  // and for this many bytes of an inline line

constexpr std::string_view kBadCount = "ERR Protocol error: invalid multibulk length";
constexpr std::string_view kBadLength = "ERR Protocol error: invalid bulk length";
constexpr std::string_view kBigCount = "ERR Protocol error: too big mbulk count string";
constexpr std::string_view kBigLength = "ERR Protocol error: too big bulk count string";
constexpr std::string_view kBigInline = "ERR Protocol error: too big inline request";
constexpr std::string_view kUnbalanced = "ERR Protocol error: unbalanced quotes in request";
constexpr std::string_view kNoBulkEnd = "ERR Protocol error: expected CRLF after bulk string";

// The usual header, whole and with at most nine digits: its value, and where the line after it begins. Null: look
// closer.
inline const char* read_plain_length(const char* p, const char* end, uint32_t& value) {
  if (p == end) return nullptr;
  uint32_t digit = static_cast<uint8_t>(*p) - uint32_t{'0'};
  if (digit > 9) return nullptr;
  uint32_t number = digit;
  const char* first = p++;
  if (number != 0) {
    while (p != end && (digit = static_cast<uint8_t>(*p) - uint32_t{'0'}) <= 9) {
      if (p - first == 9) return nullptr;
      number = number * 10 + digit;
      ++p;
    }
  }
  if (end - p < 2 || p[0] != '\r' || p[1] != '\n') return nullptr;
  value = number;
  return p + 2;
}

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::optional<int64_t> parse_integer(std::string_view text) {
  bool negative = text.starts_with('-');
  std::string_view digits = text.substr(negative ? 1 : 0);
  if (text == "0") return 0;
  if (digits.empty() || digits.size() > 19 || digits[0] < '1') return std::nullopt;
  uint64_t magnitude = 0;  // 19 digits cannot overflow it
  for (char c : digits) {
    if (c < '0' || c > '9') return std::nullopt;
    magnitude = magnitude * 10 + static_cast<uint64_t>(c - '0');
  }
  if (magnitude > uint64_t{INT64_MAX} + (negative ? 1 : 0)) return std::nullopt;
  return static_cast<int64_t>(negative ? -magnitude : magnitude);
}

RequestParser::Line RequestParser::bad(std::string_view sentence) {
  error_ = sentence;
  return Line::kBad;
}

RequestParser::Step RequestParser::failed(size_t consumed) {
  return {.progress = Progress::kError, .consumed = consumed, .error = error_};
}

RequestParser::Step RequestParser::more(std::string_view bytes, size_t consumed) {
  size_t have = bytes.size() - at_;
  size_t want = remaining_ * kMinArgumentBytes;
  if (bulk_ >= 0) want += static_cast<size_t>(bulk_);
  at_ -= consumed;
  if (scanned_ != 0) scanned_ -= consumed;
  origin_ = reinterpret_cast<uintptr_t>(bytes.data() + consumed);
  // The header of the argument that is being received has been counted among the least bytes and is here already.
  if (bulk_ >= 0) want -= kMinArgumentBytes - 2;
  return {.progress = Progress::kMore, .consumed = consumed, .need = want > have ? want - have : 1};
}

// Arguments already decoded are views; the buffer that they point into has moved.
void RequestParser::rebase(std::string_view bytes) {
  for (std::string_view& arg : args_) {
    size_t offset = reinterpret_cast<uintptr_t>(arg.data()) - origin_;
    arg = {bytes.data() + offset, arg.size()};
  }
}

void RequestParser::begin_command() {
  total_ = 0;
  if (args_.capacity() > kKeptArgs) args_ = {};
  if (unquoted_.capacity() > kKeptInlineBytes) unquoted_ = {};
  args_.clear();
}

// The line that begins at at_ must end within kMaxInlineBytes; where it ends does not depend on how much has arrived.
RequestParser::Line RequestParser::find_line(std::string_view bytes, char terminator, std::string_view too_big,
                                             size_t& found) {
  size_t from = std::max(at_, scanned_);
  size_t to = std::min(bytes.size(), at_ + limits::kMaxInlineBytes + 1);
  const void* hit = from < to ? std::memchr(bytes.data() + from, terminator, to - from) : nullptr;
  if (hit == nullptr) {
    scanned_ = to;
    return bytes.size() - at_ > limits::kMaxInlineBytes ? bad(too_big) : Line::kPartial;
  }
  found = static_cast<size_t>(static_cast<const char*>(hit) - bytes.data());
  scanned_ = found;
  return Line::kRead;
}

// Any header line; at_ is on its type byte, and behind the line when it was read.
RequestParser::Line RequestParser::read_header(std::string_view bytes, std::string_view too_big,
                                               std::string_view invalid, int64_t& value) {
  size_t end = 0;
  if (Line line = find_line(bytes, '\r', too_big, end); line != Line::kRead) return line;
  if (end + 1 == bytes.size()) return Line::kPartial;
  if (remaining_ != 0 && bytes[at_] != '$') {
    char got = bytes[at_] == '\r' || bytes[at_] == '\n' ? ' ' : bytes[at_];  // an error is one line
    return bad(std::string("ERR Protocol error: expected '$', got '") + got + "'");
  }
  auto number = parse_integer(bytes.substr(at_ + 1, end - at_ - 1));
  if (!number || bytes[end + 1] != '\n') return bad(invalid);
  value = *number;
  at_ = end + 2;
  scanned_ = 0;
  return Line::kRead;
}

RequestParser::Line RequestParser::read_inline(std::string_view bytes) {
  size_t end = 0;
  if (Line line = find_line(bytes, '\n', kBigInline, end); line != Line::kRead) return line;
  std::string_view line = bytes.substr(at_, end - at_);
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (!split_inline(line)) return bad(kUnbalanced);
  at_ = end + 1;
  scanned_ = 0;
  return Line::kRead;
}

// The rules of Redis' sdssplitargs: arguments end at blanks; "..." knows escapes, '...' only \'; a closing quote must
// be followed by a blank or the end; a quote may open in the middle of an argument.
bool RequestParser::split_inline(std::string_view line) {
  unquoted_.clear();
  unquoted_.reserve(line.size());  // arguments are views into it, and none is longer than its source
  size_t i = 0;
  auto at = [&](size_t position) { return position < line.size() ? line[position] : '\0'; };
  while (true) {
    while (i < line.size() && is_space(line[i])) ++i;
    if (i == line.size()) return true;
    size_t begin = unquoted_.size();
    char quote = 0;
    for (; i < line.size(); ++i) {
      char c = line[i];
      if (quote == 0) {
        // Vertical tab and form feed separate arguments, but do not end one. This is how Redis has it.
        if (c == ' ' || c == '\n' || c == '\r' || c == '\t') break;
        if (c == '"' || c == '\'') {
          quote = c;
        } else {
          unquoted_ += c;
        }
      } else if (c == quote) {
        if (i + 1 < line.size() && !is_space(line[i + 1])) return false;
        quote = 0;
        ++i;
        break;
      } else if (quote == '\'') {
        if (c == '\\' && at(i + 1) == '\'') c = line[++i];
        unquoted_ += c;
      } else if (c == '\\' && i + 1 < line.size()) {
        c = line[++i];
        if (c == 'x' && hex_value(at(i + 1)) >= 0 && hex_value(at(i + 2)) >= 0) {
          unquoted_ += static_cast<char>(hex_value(line[i + 1]) * 16 + hex_value(line[i + 2]));
          i += 2;
        } else {
          constexpr std::string_view kFrom = "nrtba", kTo = "\n\r\t\b\a";
          size_t known = kFrom.find(c);
          unquoted_ += known == std::string_view::npos ? c : kTo[known];
        }
      } else {
        unquoted_ += c;
      }
    }
    if (quote != 0) return false;
    args_.emplace_back(unquoted_.data() + begin, unquoted_.size() - begin);
  }
}

RequestParser::Step RequestParser::next(std::string_view bytes) {
  if (!error_.empty()) [[unlikely]]
    return failed(0);
  CHECK(bytes.size() >= at_);
  if (remaining_ != 0 && !args_.empty() && origin_ != reinterpret_cast<uintptr_t>(bytes.data())) rebase(bytes);

  size_t begin = 0;
  const char* const end = bytes.data() + bytes.size();
  if (remaining_ == 0) {
    begin_command();
    while (remaining_ == 0) {
      begin = at_;
      if (at_ == bytes.size()) return more(bytes, begin);
      if (bytes[at_] != '*') {
        Line line = read_inline(bytes);
        if (line == Line::kBad) return failed(begin);
        if (line == Line::kPartial) return more(bytes, begin);
        if (args_.empty()) continue;
        size_t consumed = std::exchange(at_, 0);
        return {.progress = Progress::kDone, .consumed = consumed, .args = args_};
      }
      uint32_t plain = 0;
      int64_t count = 0;
      if (const char* after = read_plain_length(bytes.data() + at_ + 1, end, plain)) {
        count = plain;
        at_ = static_cast<size_t>(after - bytes.data());
        scanned_ = 0;
      } else {
        Line line = read_header(bytes, kBigCount, kBadCount, count);
        if (line == Line::kBad) return failed(begin);
        if (line == Line::kPartial) return more(bytes, begin);
      }
      if (count > static_cast<int64_t>(limits::kMaxCommandArgs)) {
        bad(kBadCount);
        return failed(begin);
      }
      remaining_ = count > 0 ? static_cast<size_t>(count) : 0;  // an empty or null array is no command
    }
  }

  const char* p = bytes.data() + at_;
  while (remaining_ != 0) {
    if (bulk_ < 0) {
      uint32_t plain = 0;
      int64_t length = 0;
      const char* after = p != end && *p == '$' ? read_plain_length(p + 1, end, plain) : nullptr;
      if (after != nullptr) [[likely]] {
        length = plain;
        p = after;
        scanned_ = 0;
      } else {
        at_ = static_cast<size_t>(p - bytes.data());
        Line line = read_header(bytes, kBigLength, kBadLength, length);
        if (line == Line::kBad) return failed(begin);
        if (line == Line::kPartial) return more(bytes, begin);
        p = bytes.data() + at_;
      }
      if (length < 0 || length > static_cast<int64_t>(limits::kMaxCommandBytes - total_)) {
        bad(kBadLength);
        return failed(begin);
      }
      total_ += static_cast<size_t>(length);
      bulk_ = length;
    }
    if (end - p < bulk_ + 2) {
      at_ = static_cast<size_t>(p - bytes.data());
      return more(bytes, begin);
    }
    if (p[bulk_] != '\r' || p[bulk_ + 1] != '\n') [[unlikely]] {
      bad(kNoBulkEnd);
      return failed(begin);
    }
    args_.emplace_back(p, static_cast<size_t>(bulk_));
    p += bulk_ + 2;
    bulk_ = -1;
    --remaining_;
  }
  at_ = 0;
  return {.progress = Progress::kDone, .consumed = static_cast<size_t>(p - bytes.data()), .args = args_};
}

void put_command(std::string& out, std::span<const std::string_view> args) {
  put_array(out, args.size());
  for (std::string_view arg : args) put_bulk(out, arg);
}

}  // namespace mneme::protocol
