#include "core/shard/command.h"

#include <fmt/format.h>

#include <utility>

#include "core/shard/codec.h"

namespace mneme::shard {

namespace {

constexpr std::string_view kWhat = "a command for the shard map";

template <size_t... I>
Command empty_command(size_t index, std::index_sequence<I...>) {
  Command command;
  ((index == I ? static_cast<void>(command.emplace<I>()) : void()), ...);
  return command;
}

}  // namespace

void encode(const Command& command, std::string& out) {
  Writer w(out);
  w.u8(kCommandVersion);
  w.u8(static_cast<uint8_t>(command.index() + 1));
  Encoder encoder(out);
  std::visit([&](const auto& alternative) { fields(encoder, alternative); }, command);
}

Result<Command> decode_command(std::string_view bytes) {
  if (bytes.size() > limits::kMaxEntryBytes)
    return fail(ErrorCode::kTooLarge, fmt::format("{} has {} bytes", kWhat, bytes.size()));
  if (bytes.size() < 2) return fail(ErrorCode::kCorrupt, fmt::format("{} ends too early", kWhat));
  auto version = static_cast<uint8_t>(bytes[0]);
  auto kind = static_cast<uint8_t>(bytes[1]);
  constexpr size_t kKinds = std::variant_size_v<Command>;
  if (version != kCommandVersion)
    return fail(ErrorCode::kUnsupported,
                fmt::format("{} has version {}; this build reads version {}", kWhat, version, kCommandVersion));
  if (kind < 1 || kind > kKinds)
    return fail(ErrorCode::kUnsupported, fmt::format("{} is of unknown kind {}", kWhat, kind));
  Command command = empty_command(kind - 1u, std::make_index_sequence<kKinds>());
  Decoder decoder(bytes.substr(2));
  std::visit([&](auto& alternative) { fields(decoder, alternative); }, command);
  TRY(decoder.finish(kWhat));
  return command;
}

}  // namespace mneme::shard
