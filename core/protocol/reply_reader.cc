#include "core/protocol/reply_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/protocol/request.h"

namespace mneme::protocol {

namespace {

constexpr size_t kMinReplyBytes = 3;  // "_\r\n"

ReplyParser::Step done() { return {.progress = Progress::kDone}; }
ReplyParser::Step more(size_t need) { return {.progress = Progress::kMore, .need = need}; }
ReplyParser::Step bad(std::string sentence) {
  return {.progress = Progress::kError, .error = {ErrorCode::kInvalid, "malformed reply: " + std::move(sentence)}};
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_big_number(std::string_view text) {
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  return !text.empty() && std::all_of(text.begin(), text.end(), is_digit);
}

bool is_double(std::string_view text) {
  if (text == "inf" || text == "-inf" || text == "nan" || text == "-nan") return true;
  auto allowed = [](char c) { return is_digit(c) || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E'; };
  return std::any_of(text.begin(), text.end(), is_digit) && std::all_of(text.begin(), text.end(), allowed);
}

std::string shown(char c) {
  auto byte = static_cast<uint8_t>(c);
  return byte > ' ' && byte < 0x7f ? fmt::format("'{}'", c) : fmt::format("byte 0x{:02x}", byte);
}

}  // namespace

// The line that begins at at_, without CR LF; at_ stays.
ReplyParser::Step ReplyParser::read_line(std::string_view bytes, std::string_view& line) {
  size_t from = std::max(at_, scanned_);
  size_t to = std::min(bytes.size(), at_ + limits::kMaxInlineBytes + 1);
  const void* hit = from < to ? std::memchr(bytes.data() + from, '\r', to - from) : nullptr;
  if (hit == nullptr) {
    scanned_ = to;
    if (bytes.size() - at_ > limits::kMaxInlineBytes) {
      return bad(fmt::format("a line is longer than {} bytes", limits::kMaxInlineBytes));
    }
    return more(bytes.size() == at_ ? kMinReplyBytes : 1);
  }
  auto end = static_cast<size_t>(static_cast<const char*>(hit) - bytes.data());
  scanned_ = end;
  if (end + 1 == bytes.size()) return more(1);
  line = bytes.substr(at_, end - at_);
  if (bytes[end + 1] != '\n' || line.find('\n') != std::string_view::npos) return bad("a line does not end in CR LF");
  return done();
}

// An aggregate begins: its elements come next.
ReplyParser::Step ReplyParser::enter(std::string_view type, int64_t elements) {
  if (elements < 0 || elements > static_cast<int64_t>(limits::kMaxReplyBytes / kMinReplyBytes)) {
    return bad(fmt::format("'{}' is no length of an aggregate", type));
  }
  if (depth_ == kMaxReplyDepth) return bad(fmt::format("nested deeper than {}", kMaxReplyDepth));
  missing_[++depth_] = static_cast<uint64_t>(elements);
  return done();
}

// The bytes of a blob and their CR LF; at_ is on the first.
ReplyParser::Step ReplyParser::read_blob(std::string_view bytes) {
  if (bytes.size() < blob_) return more(blob_ - bytes.size());
  if (bytes[blob_ - 2] != '\r' || bytes[blob_ - 1] != '\n') return bad("a bulk string does not end in CR LF");
  at_ = blob_;
  blob_ = 0;
  --missing_[depth_];
  return done();
}

// The header or scalar at at_. What it is part of then misses one element less.
ReplyParser::Step ReplyParser::read_piece(std::string_view bytes) {
  std::string_view line;
  if (Step step = read_line(bytes, line); step.progress != Progress::kDone) return step;
  if (line.empty()) return bad("an empty line instead of a reply");
  size_t after = at_ + line.size() + 2;
  char type = line[0];
  std::string_view text = line.substr(1);
  auto number = parse_integer(text);
  bool good = false;
  switch (type) {
    case '+':
    case '-': good = true; break;
    case ':': good = number.has_value(); break;
    case '_': good = text.empty(); break;
    case '#': good = text == "t" || text == "f"; break;
    case ',': good = is_double(text); break;
    case '(': good = is_big_number(text); break;
    case '$':
    case '=':
    case '!': {
      good = type == '$' && number == -1 && dialect_ == Dialect::kAny;
      if (good) break;
      if (!number || *number < 0 || after > limits::kMaxReplyBytes ||
          static_cast<size_t>(*number) > limits::kMaxReplyBytes - after) {
        break;
      }
      if (type == '=') {
        // The format is part of the length, so that what is shown cannot be shorter.
        if (*number < 4) break;
        if (bytes.size() < after + 4) return more(after + 4 - bytes.size());
        if (bytes[after + 3] != ':') return bad("a verbatim string without its format");
      }
      at_ = after;
      scanned_ = 0;
      blob_ = after + static_cast<size_t>(*number) + 2;
      return read_blob(bytes);
    }
    case '*':
    case '%':
    case '~':
    case '>': {
      good = type == '*' && number == -1;
      if (good || !number) break;
      int64_t elements = type == '%' && *number < INT64_MAX / 2 ? *number * 2 : *number;
      --missing_[depth_];
      at_ = after;
      scanned_ = 0;
      return enter(line, elements);
    }
    default: return bad(fmt::format("no reply begins with {}", shown(type)));
  }
  if (!good) return bad(fmt::format("{} followed by what it cannot be", shown(type)));
  --missing_[depth_];
  at_ = after;
  scanned_ = 0;
  return done();
}

ReplyParser::Step ReplyParser::next(std::string_view bytes) {
  CHECK(bytes.size() >= at_);
  if (at_ == 0) {
    depth_ = 0;
    missing_[0] = 1;
  }
  while (true) {
    if (at_ > limits::kMaxReplyBytes) return bad(fmt::format("longer than {} bytes", limits::kMaxReplyBytes));
    Step step = blob_ != 0 ? read_blob(bytes) : read_piece(bytes);
    if (step.progress != Progress::kDone) return step;
    while (depth_ != 0 && missing_[depth_] == 0) --depth_;
    if (missing_[depth_] == 0) {
      size_t length = std::exchange(at_, 0);
      return {.progress = Progress::kDone, .length = length};
    }
  }
}

Result<size_t> reply_length(std::string_view bytes) {
  ReplyParser parser(ReplyParser::Dialect::kCanonical);
  ReplyParser::Step step = parser.next(bytes);
  switch (step.progress) {
    case Progress::kDone: return step.length;
    case Progress::kMore: return fail(ErrorCode::kInvalid, "malformed reply: it ends too early");
    case Progress::kError: return std::unexpected(std::move(step.error));
  }
  return fail(ErrorCode::kInvalid, "malformed reply");
}

namespace {

// Builds the tree of a reply that ReplyParser has accepted; only the count of its elements is still to be bounded.
class TreeBuilder {
 public:
  explicit TreeBuilder(std::string_view bytes) : rest_(bytes) {}

  Result<Reply> build() {
    Reply reply;
    if (auto built = fill(reply); !built) return std::unexpected(std::move(built).error());
    return reply;
  }

 private:
  using Kind = Reply::Kind;

  std::string_view take(size_t size) {
    std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size + 2);
    return taken;
  }

  // Recursion is bounded by kMaxReplyDepth.
  Result<void> fill(Reply& reply) {
    std::string_view line = take(rest_.find('\r'));
    std::string_view text = line.substr(1);
    switch (line[0]) {
      case '+': return scalar(reply, Kind::kSimple, text);
      case '-': return scalar(reply, Kind::kError, text);
      case ',': return scalar(reply, Kind::kDouble, text);
      case '(': return scalar(reply, Kind::kBigNumber, text);
      case '_': return {};
      case '#': return integer(reply, Kind::kBoolean, text == "t");
      default: break;
    }
    int64_t number = *parse_integer(text);
    if (number < 0 && line[0] != ':') return {};
    auto size = static_cast<size_t>(number);
    switch (line[0]) {
      case ':': return integer(reply, Kind::kInteger, number);
      case '$': return scalar(reply, Kind::kBulk, take(size));
      case '!': return scalar(reply, Kind::kError, take(size));
      case '=': return scalar(reply, Kind::kVerbatim, take(size).substr(4));
      case '*': return aggregate(reply, Kind::kArray, size);
      case '%': return aggregate(reply, Kind::kMap, size * 2);
      case '~': return aggregate(reply, Kind::kSet, size);
      default: return aggregate(reply, Kind::kPush, size);
    }
  }

  static Result<void> scalar(Reply& reply, Kind kind, std::string_view text) {
    reply.kind = kind;
    reply.text = text;
    return {};
  }
  static Result<void> integer(Reply& reply, Kind kind, int64_t value) {
    reply.kind = kind;
    reply.integer = value;
    return {};
  }
  Result<void> aggregate(Reply& reply, Kind kind, size_t size) {
    reply.kind = kind;
    if (size > kMaxReplyElements - count_) {
      return fail(ErrorCode::kTooLarge, fmt::format("a reply of more than {} elements", kMaxReplyElements));
    }
    count_ += size;
    reply.elements.reserve(size);
    for (size_t i = 0; i < size; ++i) {
      if (auto built = fill(reply.elements.emplace_back()); !built) return built;
    }
    return {};
  }

  std::string_view rest_;
  size_t count_ = 0;
};

}  // namespace

Result<Reply> parse_reply(std::string_view bytes) {
  ReplyParser parser;
  ReplyParser::Step step = parser.next(bytes);
  if (step.progress == Progress::kMore) return fail(ErrorCode::kInvalid, "malformed reply: it ends too early");
  if (step.progress == Progress::kError) return std::unexpected(std::move(step.error));
  if (step.length != bytes.size()) return fail(ErrorCode::kInvalid, "malformed reply: more bytes follow it");
  return TreeBuilder(bytes).build();
}

}  // namespace mneme::protocol
