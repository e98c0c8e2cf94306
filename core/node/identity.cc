#include "core/node/identity.h"

#include <fmt/format.h>

#include "core/base/hash.h"
#include "core/base/limits.h"

namespace mneme::node {

namespace {

constexpr std::string_view kMagic{"MNEMEID\0", 8};
constexpr uint32_t kVersion = 1;
constexpr char kFile[] = "identity";

std::unexpected<Error> damaged(std::string_view why) {
  return fail(ErrorCode::kCorrupt,
              fmt::format("file {}: {}; restore it from a backup, or replace this node", kFile, why));
}

}  // namespace

Incarnation Identity::incarnation_of(NodeId id) const {
  for (auto& [member, incarnation] : members)
    if (member == id) return incarnation;
  return Incarnation();
}

ClusterId cluster_id_of(const std::vector<std::pair<NodeId, Incarnation>>& members, uint32_t shards, uint32_t copies) {
  Bytes bytes;
  Writer writer(bytes);
  writer.u32(shards);
  writer.u32(copies);
  for (auto& [node, incarnation] : members) {
    writer.id(node);
    writer.id(incarnation);
  }
  uint64_t hash = xxh3(ByteView(bytes));
  return ClusterId(hash == 0 ? 1 : hash);
}

Bytes encode(const Identity& identity) {
  Bytes bytes;
  Writer writer(bytes);
  writer.raw(kMagic);
  writer.u32(kVersion);
  writer.u32(identity.founded() ? 1 : 0);
  writer.id(identity.node);
  writer.id(identity.incarnation);
  writer.id(identity.cluster);
  writer.u32(static_cast<uint32_t>(identity.members.size()));
  writer.u32(0);
  for (auto& [node, incarnation] : identity.members) {
    writer.id(node);
    writer.id(incarnation);
  }
  writer.u64(xxh3(ByteView(bytes)));
  return bytes;
}

Result<Identity> decode_identity(ByteView bytes) {
  if (bytes.size() < 56) return damaged("it is too short");
  Reader whole(bytes);
  ByteView body = whole.raw(bytes.size() - 8);
  if (whole.u64() != xxh3(body)) return damaged("its checksum does not match");
  Reader reader(body);
  if (as_text(reader.raw(8)) != kMagic) return damaged("it is not an identity");
  if (uint32_t version = reader.u32(); version != kVersion)
    return fail(
        ErrorCode::kUnsupported,
        fmt::format("file {} has format version {}, this build knows {}: use a newer one", kFile, version, kVersion));
  Identity identity;
  const uint32_t state = reader.u32();
  identity.node = reader.id<NodeId>();
  identity.incarnation = reader.id<Incarnation>();
  identity.cluster = reader.id<ClusterId>();
  const uint32_t count = reader.u32();
  reader.u32();
  if (count > limits::kMaxNodes) return damaged("it names too many members");
  for (uint32_t i = 0; i < count; ++i) {
    NodeId node = reader.id<NodeId>();
    identity.members.emplace_back(node, reader.id<Incarnation>());
  }
  if (!reader.ok() || !reader.at_end()) return damaged("its length does not match");
  if ((state == 1) != identity.founded()) return damaged("it contradicts itself");
  return identity;
}

Result<Identity> load_identity(env::Disk& disk) {
  auto bytes = env::read_file(disk, kFile, 64 * limits::kKiB);
  if (bytes) {
    // Whoever wrote it may have been killed before its name was durable, and others are about to be told of it.
    TRY(disk.sync_dir(""));
    return decode_identity(*bytes);
  }
  switch (bytes.error().code) {
    // Without it nothing else of the data can be used, and another attempt would find the same: damage, not a hiccup.
    case ErrorCode::kIo:
    case ErrorCode::kTooLarge:
    case ErrorCode::kCorrupt: return damaged(bytes.error().message);
    default: return std::unexpected(std::move(bytes).error());
  }
}

Result<void> save_identity(env::Disk& disk, const Identity& identity) {
  Bytes bytes = encode(identity);
  return env::replace_file(disk, "", kFile, bytes);
}

}  // namespace mneme::node
