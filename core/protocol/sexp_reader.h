// The lexical form of S-expressions, as OCaml's sexplib reads and prints them.
//
// Blanks are space, tab, form feed, LF and CR (sexplib wants an LF after each CR; a CR alone is accepted here).
//
// An atom without quotes is a run of bytes other than blanks ( ) " ; and means itself, a backslash included; it may not
// contain #| or |#. An atom in quotes may contain anything; in it a backslash begins an escape:
//   \n \t \b \r       LF, tab, backspace, CR
//   \\ \" \' \<space> the second byte
//   \ddd              the byte with that decimal value, exactly three digits, at most 255
//   \xHH              the byte with that hexadecimal value, exactly two digits
//   \<LF> \<CR LF>    nothing, and the blanks (space, tab) that follow are skipped: the line goes on
//   \<other>          the backslash and that byte, as sexplib has it
// Comments, all three kinds of sexplib: `;` to the end of the line; `#|` to the matching `|#`, nested, quoted atoms
// inside them read as such; `#;` leaves out the next S-expression, and `#; #;` the next two.
//
// Printing quotes an atom when it is empty, when it contains a blank, a control byte, ( ) " ; \, a byte of 0x7f or
// above, or when it contains #| or |#. Escapes are then \" \\ \n \t \r \b, and \ddd for other bytes outside space to ~.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/error.h"
#include "core/base/limits.h"

namespace mneme::protocol {

void put_sexp_atom(std::string& out, std::string_view text);
[[nodiscard]] size_t sexp_atom_size(std::string_view text);  // what put_sexp_atom appends

// A pull reader over one whole text that must outlive it. Recursion-free: nesting is bounded by limits::kMaxSexpDepth,
// comments are skipped in place. After an error it stays at that error.
class SexpReader {
 public:
  enum class Token : uint8_t { kOpen, kClose, kAtom, kEnd, kError };

  explicit SexpReader(std::string_view text) : text_(text) {}

  [[nodiscard]] Token next();

  // Of the last kAtom; valid until the next call.
  [[nodiscard]] std::string_view atom() const { return atom_; }
  // Where the last token began, counted from 0.
  [[nodiscard]] size_t position() const { return begin_; }
  [[nodiscard]] size_t depth() const { return depth_; }
  // After kError: kInvalid, with the position.
  [[nodiscard]] const Error& error() const { return error_; }

 private:
  enum class Skip : uint8_t { kToken, kFailed };

  Skip skip_blanks();
  bool skip_block_comment();
  bool read_quoted();
  bool read_unquoted();
  bool read_escape();
  bool counts();
  char at(size_t i) const { return i < text_.size() ? text_[i] : '\0'; }
  Token failed(size_t position, std::string_view what);

  std::string_view text_;
  size_t at_ = 0;
  size_t begin_ = 0;
  size_t depth_ = 0;
  std::array<uint64_t, limits::kMaxSexpDepth + 1> left_out_{};  // S-expressions that `#;` still leaves out, by depth
  uint64_t leaving_out_ = 0;                                    // their sum
  std::string_view atom_;
  std::string unescaped_;
  Error error_{ErrorCode::kInvalid, {}};
};

}  // namespace mneme::protocol
