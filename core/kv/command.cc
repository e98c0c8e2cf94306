#include "core/kv/command.h"

#include "core/base/hash.h"
#include "core/kv/command_table.h"
#include "core/kv/errors.h"
#include "core/kv/refusals.h"

namespace mneme::kv {

namespace {

static_assert([] {
  for (size_t i = 1; i < kCommands.size(); ++i) {
    if (!(kCommands[i - 1].name < kCommands[i].name)) return false;
  }
  return true;
}());

// Open addressing over the table's rows; row numbers are stored plus one, so that 0 is an empty place.
constexpr size_t kPlaces = 512;
static_assert(kCommands.size() * 4 < kPlaces && kCommands.size() < 255);
constexpr size_t kMaxNameBytes = 32;

constexpr uint32_t name_hash(std::string_view name) {
  uint32_t hash = static_cast<uint32_t>(name.size());
  for (char c : name) hash = hash * 0x01000193u + static_cast<unsigned char>(to_lower(c));
  return hash ^ (hash >> 15);
}

constexpr auto kPlaceOfName = [] {
  std::array<uint8_t, kPlaces> places{};
  for (size_t row = 0; row < kCommands.size(); ++row) {
    size_t at = name_hash(kCommands[row].name) % kPlaces;
    while (places[at] != 0) at = (at + 1) % kPlaces;
    places[at] = static_cast<uint8_t>(row + 1);
  }
  return places;
}();

// As printf's %.128s shows a client's word: up to its first NUL, at most `limit` bytes, no line ends.
void append_shown(std::string& out, std::string_view word, size_t limit) {
  for (char c : word.substr(0, limit)) {
    if (c == '\0') return;
    out += c == '\r' || c == '\n' ? ' ' : c;
  }
}

constexpr size_t kShownBytes = 128;

void put_unknown_command(Args args, std::string& out) {
  out += "-ERR unknown command '";
  append_shown(out, args[0], kShownBytes);
  out += "', with args beginning with: ";
  size_t from = out.size();
  for (size_t i = 1; i < args.size() && out.size() - from < kShownBytes; ++i) {
    size_t left = kShownBytes - (out.size() - from);
    out += '\'';
    append_shown(out, args[i], left);
    out += "' ";
  }
  out += "\r\n";
}

void put_unknown_subcommand(const CommandSpec& container, std::string_view word, std::string& out) {
  out += "-ERR unknown subcommand '";
  append_shown(out, word, kShownBytes);
  out += "'. Try ";
  for (char c : container.name) out += static_cast<char>(c >= 'a' && c <= 'z' ? c - ('a' - 'A') : c);
  out += " HELP.\r\n";
}

// "client|id", cut off where it is longer than any name.
struct SubcommandName {
  SubcommandName(std::string_view container, std::string_view word) {
    for (std::string_view part : {container, std::string_view("|"), word}) {
      part = part.substr(0, sizeof bytes - size);
      part.copy(bytes + size, part.size());
      size += part.size();
    }
  }
  std::string_view view() const { return {bytes, size}; }

  char bytes[kMaxNameBytes + 1];
  size_t size = 0;
};

bool right_arity(const CommandSpec& spec, Args args) {
  auto count = static_cast<int64_t>(args.size());
  return spec.arity >= 0 ? count == spec.arity : count >= -spec.arity;
}

}  // namespace

std::span<const CommandSpec> all_commands() { return kCommands; }

const CommandSpec* find_command(std::string_view name) {
  if (name.size() > kMaxNameBytes) return nullptr;
  for (size_t at = name_hash(name) % kPlaces; kPlaceOfName[at] != 0; at = (at + 1) % kPlaces) {
    const CommandSpec& spec = kCommands[kPlaceOfName[at] - 1];
    if (equals_ignoring_case(name, spec.name)) return &spec;
  }
  return nullptr;
}

const CommandSpec* check(Args args, std::string& error, Sender sender) {
  if (args.empty() || args.size() > limits::kMaxCommandArgs) {
    protocol::put_error(error, args.empty() ? "ERR empty command" : kCommandTooLong);
    return nullptr;
  }
  const CommandSpec* spec = find_command(args[0]);
  const bool hidden = spec != nullptr && spec->is(kInternal) && sender == Sender::kClient;
  const bool compound = args[0].find('|') != std::string_view::npos;
  if (spec == nullptr || hidden || compound) {
    const std::string_view refusal = compound ? std::string_view() : refusal_of(args[0]);
    refusal.empty() ? put_unknown_command(args, error) : protocol::put_error(error, refusal);
    return nullptr;
  }
  // COMMAND is the one container that also works alone.
  if (args.size() > 1 && (spec->is(kContainer) || spec->id == CommandId::kCommand)) {
    const CommandSpec* container = spec;
    const SubcommandName name(container->name, args[1]);
    spec = find_command(name.view());
    if (spec == nullptr) {
      const std::string_view refusal = refusal_of(name.view());
      refusal.empty() ? put_unknown_subcommand(*container, args[1], error) : protocol::put_error(error, refusal);
      return nullptr;
    }
  }
  if (spec->is(kContainer) || !right_arity(*spec, args)) {
    put_arity_error(error, spec->name);
    return nullptr;
  }
  size_t total = 0;
  for (std::string_view arg : args) {
    if (arg.size() > limits::kMaxValueBytes) {
      protocol::put_error(error, kStringTooLong);
      return nullptr;
    }
    total += arg.size();
  }
  if (total > limits::kMaxCommandBytes) {
    protocol::put_error(error, kCommandTooLong);
    return nullptr;
  }
  if (total > limits::kMaxKeyBytes) {
    bool too_long = false;
    for_each_key(*spec, args, [&](std::string_view key) { too_long |= key.size() > limits::kMaxKeyBytes; });
    if (too_long) {
      protocol::put_error(error, kKeyTooLong);
      return nullptr;
    }
  }
  return spec;
}

uint16_t slot_of_command(const CommandSpec& spec, Args args) {
  return spec.first_key != 0 && spec.first_key < static_cast<int>(args.size()) ? slot_of(args[spec.first_key])
                                                                               : kNoSlot;
}

}  // namespace mneme::kv
