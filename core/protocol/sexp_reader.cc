#include "core/protocol/sexp_reader.h"

#include <fmt/format.h>

#include <algorithm>

namespace mneme::protocol {

namespace {

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f'; }
bool ends_atom(char c) { return is_blank(c) || c == '(' || c == ')' || c == '"' || c == ';'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The letter of a two-byte escape, or 0.
char escape_letter(char c) {
  switch (c) {
    case '"':
    case '\\': return c;
    case '\n': return 'n';
    case '\t': return 't';
    case '\r': return 'r';
    case '\b': return 'b';
    default: return 0;
  }
}

bool is_printable(char c) { return c >= ' ' && c <= '~'; }

size_t find_quote_or_backslash(std::string_view text, size_t from) {
  while (from < text.size() && text[from] != '"' && text[from] != '\\') ++from;
  return from < text.size() ? from : std::string_view::npos;
}

bool needs_quotes(std::string_view text) {
  if (text.empty()) return true;
  char previous = 0;
  for (char c : text) {
    if (c <= ' ' || c > '~' || c == '"' || c == '(' || c == ')' || c == ';' || c == '\\') return true;
    if ((c == '|' && previous == '#') || (c == '#' && previous == '|')) return true;
    previous = c;
  }
  return false;
}

}  // namespace

void put_sexp_atom(std::string& out, std::string_view text) {
  if (!needs_quotes(text)) {
    out += text;
    return;
  }
  out += '"';
  for (char c : text) {
    if (char letter = escape_letter(c)) {
      (out += '\\') += letter;
    } else if (is_printable(c)) {
      out += c;
    } else {
      auto byte = static_cast<unsigned>(static_cast<uint8_t>(c));
      out += '\\';
      out += static_cast<char>('0' + byte / 100);
      out += static_cast<char>('0' + byte / 10 % 10);
      out += static_cast<char>('0' + byte % 10);
    }
  }
  out += '"';
}

size_t sexp_atom_size(std::string_view text) {
  if (!needs_quotes(text)) return text.size();
  size_t size = 2;
  for (char c : text) size += escape_letter(c) != 0 ? 2 : is_printable(c) ? 1 : 4;
  return size;
}

SexpReader::Token SexpReader::failed(size_t position, std::string_view what) {
  error_.message = fmt::format("S-expression, byte {}: {}", position, what);
  return Token::kError;
}

bool SexpReader::skip_block_comment() {
  size_t begin = at_;
  size_t open = 0;
  do {
    if (at_ == text_.size()) {
      failed(begin, "a comment #| without its |#");
      return false;
    }
    char c = text_[at_];
    if (c == '"') {
      if (!read_quoted()) return false;
    } else if (c == '#' && at(at_ + 1) == '|') {
      ++open;
      at_ += 2;
    } else if (c == '|' && at(at_ + 1) == '#') {
      --open;
      at_ += 2;
    } else {
      ++at_;
    }
  } while (open != 0);
  return true;
}

// Blanks and comments up to the next token or the end.
SexpReader::Skip SexpReader::skip_blanks() {
  while (at_ < text_.size()) {
    char c = text_[at_];
    if (is_blank(c)) {
      ++at_;
    } else if (c == ';') {
      at_ = std::min(text_.find('\n', at_), text_.size());
    } else if (c == '#' && at(at_ + 1) == ';') {
      ++left_out_[depth_];
      ++leaving_out_;
      at_ += 2;
    } else if (c == '#' && at(at_ + 1) == '|') {
      if (!skip_block_comment()) return Skip::kFailed;
    } else {
      break;
    }
  }
  return Skip::kToken;
}

// Behind the backslash of a quoted atom. Appends to unescaped_.
bool SexpReader::read_escape() {
  char c = at(at_);
  constexpr std::string_view kFrom = "ntbr\\\"' ", kTo = "\n\t\b\r\\\"' ";
  if (at_ == text_.size()) return true;  // the caller finds the atom unterminated
  if (size_t known = kFrom.find(c); known != std::string_view::npos) {
    unescaped_ += kTo[known];
    ++at_;
  } else if (is_digit(c)) {
    if (!is_digit(at(at_ + 1)) || !is_digit(at(at_ + 2))) {
      failed(at_ - 1, "an escape \\ddd needs three decimal digits");
      return false;
    }
    int value = (c - '0') * 100 + (text_[at_ + 1] - '0') * 10 + (text_[at_ + 2] - '0');
    if (value > 255) {
      failed(at_ - 1, "an escape \\ddd above 255");
      return false;
    }
    unescaped_ += static_cast<char>(value);
    at_ += 3;
  } else if (c == 'x') {
    int high = hex_value(at(at_ + 1));
    int low = hex_value(at(at_ + 2));
    if (high < 0 || low < 0) {
      failed(at_ - 1, "an escape \\xHH needs two hexadecimal digits");
      return false;
    }
    unescaped_ += static_cast<char>(high * 16 + low);
    at_ += 3;
  } else if (c == '\n' || (c == '\r' && at(at_ + 1) == '\n')) {
    at_ += c == '\r' ? 2 : 1;
    while (at(at_) == ' ' || at(at_) == '\t') ++at_;
  } else {
    (unescaped_ += '\\') += c;
    ++at_;
  }
  return true;
}

// at_ is on the opening quote. Without escapes the atom is a view into the text.
bool SexpReader::read_quoted() {
  size_t begin = at_++;
  size_t stop = find_quote_or_backslash(text_, at_);
  if (stop != std::string_view::npos && text_[stop] == '"') {
    atom_ = text_.substr(at_, stop - at_);
    at_ = stop + 1;
    return true;
  }
  unescaped_.clear();
  while (stop != std::string_view::npos) {
    unescaped_ += text_.substr(at_, stop - at_);
    at_ = stop + 1;
    if (text_[stop] == '"') {
      atom_ = unescaped_;
      return true;
    }
    if (!read_escape()) return false;
    stop = find_quote_or_backslash(text_, at_);
  }
  failed(begin, "a quoted atom without its closing quote");
  return false;
}

bool SexpReader::read_unquoted() {
  size_t begin = at_;
  while (at_ < text_.size() && !ends_atom(text_[at_])) {
    char c = text_[at_];
    char following = at(at_ + 1);
    if ((c == '#' && following == '|') || (c == '|' && following == '#')) {
      failed(at_, at_ == begin ? "the end of a comment, |#, without its beginning"
                               : "#| or |# inside an atom without quotes");
      return false;
    }
    ++at_;
  }
  atom_ = text_.substr(begin, at_ - begin);
  return true;
}

// An S-expression at the present depth is complete: false when `#;` leaves it out.
bool SexpReader::counts() {
  if (left_out_[depth_] > 0) {
    --left_out_[depth_];
    --leaving_out_;
    return false;
  }
  return leaving_out_ == 0;
}

SexpReader::Token SexpReader::next() {
  while (true) {
    if (!error_.message.empty() || skip_blanks() == Skip::kFailed) return Token::kError;
    begin_ = at_;
    if (at_ == text_.size()) {
      if (depth_ != 0) return failed(at_, fmt::format("it ends with {} list(s) still open", depth_));
      if (leaving_out_ != 0) return failed(at_, "#; without an S-expression that it leaves out");
      return Token::kEnd;
    }
    switch (text_[at_]) {
      case '(':
        if (depth_ == limits::kMaxSexpDepth) {
          return failed(at_, fmt::format("lists nested deeper than {}", limits::kMaxSexpDepth));
        }
        ++at_;
        ++depth_;  // where left_out_ is 0: no list closes before it is
        if (leaving_out_ == 0) return Token::kOpen;
        break;
      case ')':
        if (depth_ == 0) return failed(at_, "a closing parenthesis too many");
        if (left_out_[depth_] != 0) return failed(at_, "#; without an S-expression that it leaves out");
        ++at_;
        --depth_;
        if (counts()) return Token::kClose;
        break;
      case '"':
        if (!read_quoted()) return Token::kError;
        if (counts()) return Token::kAtom;
        break;
      default:
        if (!read_unquoted()) return Token::kError;
        if (counts()) return Token::kAtom;
        break;
    }
  }
}

}  // namespace mneme::protocol
