#include "core/protocol/sexp.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/base/check.h"
#include "core/protocol/sexp_reader.h"

namespace mneme::protocol {

namespace {

using Token = SexpReader::Token;

constexpr std::string_view kBadLength =
    "a frame begins with its length in 4 bytes, big-endian, below 16 MiB; this one is longer or no frame";
constexpr std::string_view kSaved = "(Save Committed)";
constexpr std::string_view kTooLargeError = "(Error \"the reply does not fit into the frame: ask for less at once\")";
constexpr std::string_view kTooLargeDone = "(Unknown \"it was done; the reply does not fit into the frame\")";
constexpr size_t kRoomPerReply = 80;  // for any of the three, with the space before it

static_assert(std::max({kSaved.size(), kTooLargeError.size(), kTooLargeDone.size()}) < kRoomPerReply);
static_assert(kMaxSexpCommands * kRoomPerReply + 2 < limits::kMaxSexpFrameBytes);

// Reads the grammar; the first error is kept and ends everything.
class Parser {
 public:
  explicit Parser(std::string_view body) : reader_(body) {}

  // A whole body: a list of what `read_one` reads after its opening parenthesis and up to its closing one.
  template <class T, class ReadOne>
  Result<std::vector<T>> list_of(std::string_view what, ReadOne read_one) {
    std::vector<T> items;
    if (advance(); token_ != Token::kOpen) return failure(fmt::format("a list of {} was expected", what));
    for (advance(); token_ == Token::kOpen; advance()) {
      if (items.size() == kMaxSexpCommands) {
        return fail(ErrorCode::kTooLarge, fmt::format("a frame holds at most {} {}", kMaxSexpCommands, what));
      }
      if (!read_one(*this, items.emplace_back())) return failure(message_);
    }
    if (token_ != Token::kClose) return failure(fmt::format("a list of {} was expected", what));
    if (advance(); token_ != Token::kEnd) return failure("something follows the list");
    return items;
  }

  // The name that begins a list, with its first letter made a capital.
  std::optional<std::string> name() {
    if (!atom("a name was expected")) return std::nullopt;
    std::string name(reader_.atom().substr(0, 64));
    if (!name.empty() && name[0] >= 'a' && name[0] <= 'z') name[0] = static_cast<char>(name[0] - 'a' + 'A');
    return name;
  }

  bool atom(std::string_view expectation) {
    advance();
    return token_ == Token::kAtom || expect(expectation);
  }

  bool value(SexpValue& value) {
    if (advance(); token_ != Token::kOpen) return expect("(String ...) or (Num ...) was expected");
    auto type = name();
    if (!type) return false;
    if (*type == "String") {
      if (!atom("the text of a String was expected")) return false;
      value.kind = SexpValue::Kind::kString;
      value.text = reader_.atom();
    } else if (*type == "Num") {
      if (!atom("the number of a Num was expected")) return false;
      value.kind = SexpValue::Kind::kNum;
      std::string_view digits = reader_.atom();
      auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value.num);
      if (error != std::errc() || end != digits.data() + digits.size()) {
        return expect(fmt::format("{} is no Num: a whole number from -2147483648 to 2147483647", shown()));
      }
    } else {
      return expect(fmt::format("{} is no type: String and Num are", shown()));
    }
    return close("a String or Num has one part");
  }

  bool close(std::string_view expectation) {
    advance();
    return token_ == Token::kClose || expect(expectation);
  }

  bool text(std::string& text) {
    if (!atom("a sentence was expected")) return false;
    text = reader_.atom();
    return true;
  }

  // Says what is wrong at the present token, unless the text itself is broken there.
  bool expect(std::string_view what) {
    message_ = what;
    return false;
  }

  // The last atom, for a sentence about it.
  std::string shown() const {
    std::string quoted;
    put_sexp_atom(quoted, reader_.atom().substr(0, 64));
    return reader_.atom().size() <= 64 ? quoted : quoted + "...";
  }

 private:
  void advance() { token_ = reader_.next(); }

  // A text that is truncated, unbalanced or nested too deep is called that, even when it violates the grammar before.
  std::unexpected<Error> failure(std::string_view what) {
    size_t position = reader_.position();
    while (token_ != Token::kError && token_ != Token::kEnd) advance();
    if (token_ == Token::kError) return std::unexpected(reader_.error());
    return fail(ErrorCode::kInvalid, fmt::format("S-expression, byte {}: {}", position, what));
  }

  SexpReader reader_;
  Token token_ = Token::kEnd;
  std::string message_;
};

bool read_command(Parser& in, SexpCommand& command) {
  auto name = in.name();
  if (!name) return false;
  if (*name == "Set") {
    command.kind = SexpCommand::Kind::kSet;
    return in.value(command.key) && in.value(command.value) && in.close("Set has a key and a value");
  }
  if (*name == "Get") {
    command.kind = SexpCommand::Kind::kGet;
    return in.value(command.key) && in.close("Get has a key");
  }
  if (*name == "Delete") {
    command.kind = SexpCommand::Kind::kDelete;
    return in.value(command.key) && in.close("Delete has a key");
  }
  return in.expect(fmt::format("{} is no command: Set, Get and Delete are", in.shown()));
}

bool read_reply(Parser& in, SexpReply& reply) {
  using Kind = SexpReply::Kind;
  auto name = in.name();
  if (!name) return false;
  if (*name == "Save") {
    reply.kind = Kind::kSaved;
    auto outcome = in.name();
    if (outcome && *outcome != "Committed") return in.expect("(Save Committed) was expected");
    return outcome && in.close("Save has one part");
  }
  if (*name == "Got") {
    reply.kind = Kind::kGot;
    return in.value(reply.key) && in.value(reply.value) && in.close("Got has a key and a value");
  }
  if (*name == "Deleted" || *name == "Missing") {
    reply.kind = *name == "Deleted" ? Kind::kDeleted : Kind::kMissing;
    return in.value(reply.key) && in.close("Deleted and Missing have a key");
  }
  if (*name == "Error" || *name == "Unknown") {
    reply.kind = *name == "Error" ? Kind::kError : Kind::kUnknown;
    return in.text(reply.text) && in.close("Error and Unknown have a sentence");
  }
  return in.expect(fmt::format("{} is no reply", in.shown()));
}

void put_value(std::string& out, const SexpValue& value) {
  if (value.kind == SexpValue::Kind::kNum) {
    fmt::format_to(std::back_inserter(out), "(Num {})", value.num);
    return;
  }
  out += "(String ";
  put_sexp_atom(out, value.text);
  out += ')';
}

size_t value_size(const SexpValue& value) {
  if (value.kind == SexpValue::Kind::kNum) return fmt::formatted_size("(Num {})", value.num);
  return sexp_atom_size(value.text) + 9;  // "(String " and ")"
}

void store_length(std::string& out, size_t frame) {
  size_t length = out.size() - frame - kSexpLengthBytes;
  CHECK(length <= limits::kMaxSexpFrameBytes);
  for (size_t i = 0; i < kSexpLengthBytes; ++i) out[frame + i] = static_cast<char>(length >> (8 * (3 - i)));
}

std::string_view name_of(SexpCommand::Kind kind) {
  switch (kind) {
    case SexpCommand::Kind::kSet: return "Set";
    case SexpCommand::Kind::kGet: return "Get";
    case SexpCommand::Kind::kDelete: return "Delete";
  }
  return "";
}

}  // namespace

SexpFrame next_sexp_frame(std::string_view bytes) {
  if (bytes.empty()) return {.progress = Progress::kMore, .need = kSexpLengthBytes};
  if (bytes[0] != 0) return {.progress = Progress::kError, .error = kBadLength};
  if (bytes.size() < kSexpLengthBytes) return {.progress = Progress::kMore, .need = kSexpLengthBytes - bytes.size()};
  size_t length = 0;
  for (size_t i = 0; i < kSexpLengthBytes; ++i) length = length << 8 | static_cast<uint8_t>(bytes[i]);
  size_t size = kSexpLengthBytes + length;
  if (bytes.size() < size) return {.progress = Progress::kMore, .need = size - bytes.size()};
  return {.progress = Progress::kDone, .body = bytes.substr(kSexpLengthBytes, length), .consumed = size};
}

Result<std::vector<SexpCommand>> parse_commands(std::string_view body) {
  return Parser(body).list_of<SexpCommand>("commands", read_command);
}

Result<std::vector<SexpReply>> parse_sexp_replies(std::string_view body) {
  return Parser(body).list_of<SexpReply>("replies", read_reply);
}

Result<void> put_sexp_commands(std::string& out, std::span<const SexpCommand> commands) {
  size_t size = 2;
  for (const SexpCommand& command : commands) {
    size += name_of(command.kind).size() + 4 + value_size(command.key);
    if (command.kind == SexpCommand::Kind::kSet) size += 1 + value_size(command.value);
  }
  if (size > limits::kMaxSexpFrameBytes || commands.size() > kMaxSexpCommands) {
    return fail(ErrorCode::kTooLarge, "these commands do not fit into one frame: send fewer or smaller ones at once");
  }
  size_t frame = out.size();
  out.append(kSexpLengthBytes, '\0');
  out += '(';
  for (size_t i = 0; i < commands.size(); ++i) {
    const SexpCommand& command = commands[i];
    ((out += i == 0 ? "(" : " (") += name_of(command.kind)) += ' ';
    put_value(out, command.key);
    if (command.kind == SexpCommand::Kind::kSet) put_value(out += ' ', command.value);
    out += ')';
  }
  out += ')';
  store_length(out, frame);
  return {};
}

SexpReplyWriter::SexpReplyWriter(std::string& out, size_t commands)
    : out_(out), begin_(out.size()), remaining_(commands) {
  CHECK(commands <= kMaxSexpCommands);
  out_.append(kSexpLengthBytes, '\0');
  out_ += '(';
}

// True when a reply of that size leaves room for a short one to each command after it.
bool SexpReplyWriter::begin_reply(size_t size) {
  CHECK(remaining_ > 0);
  --remaining_;
  if (out_.size() > begin_ + kSexpLengthBytes + 1) out_ += ' ';
  size_t used = out_.size() - begin_ - kSexpLengthBytes;
  return used + size + remaining_ * kRoomPerReply + 1 <= limits::kMaxSexpFrameBytes;
}

void SexpReplyWriter::put(std::string_view name, const SexpValue& key, const SexpValue* value,
                          std::string_view otherwise) {
  size_t size = name.size() + 3 + value_size(key) + (value != nullptr ? 1 + value_size(*value) : 0);
  if (!begin_reply(size)) {
    out_ += otherwise;
    return;
  }
  ((out_ += '(') += name) += ' ';
  put_value(out_, key);
  if (value != nullptr) put_value(out_ += ' ', *value);
  out_ += ')';
}

void SexpReplyWriter::put(std::string_view name, std::string_view sentence, std::string_view otherwise) {
  if (!begin_reply(name.size() + 3 + sexp_atom_size(sentence))) {
    out_ += otherwise;
    return;
  }
  ((out_ += '(') += name) += ' ';
  put_sexp_atom(out_, sentence);
  out_ += ')';
}

void SexpReplyWriter::saved() {
  bool fits = begin_reply(kSaved.size());
  CHECK(fits);
  out_ += kSaved;
}
void SexpReplyWriter::got(const SexpValue& key, const SexpValue& value) { put("Got", key, &value, kTooLargeError); }
void SexpReplyWriter::deleted(const SexpValue& key) { put("Deleted", key, nullptr, kTooLargeDone); }
void SexpReplyWriter::missing(const SexpValue& key) { put("Missing", key, nullptr, kTooLargeError); }
void SexpReplyWriter::error(std::string_view sentence) { put("Error", sentence, kTooLargeError); }
void SexpReplyWriter::unknown(std::string_view sentence) { put("Unknown", sentence, "(Unknown \"\")"); }

void SexpReplyWriter::finish() {
  CHECK(remaining_ == 0);
  out_ += ')';
  store_length(out_, begin_);
}

void put_sexp_error_frame(std::string& out, std::string_view sentence) {
  SexpReplyWriter writer(out, 1);
  writer.error(sentence);
  writer.finish();
}

}  // namespace mneme::protocol
