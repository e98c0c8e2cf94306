#include "core/node/map_cache.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/bytes.h"
#include "core/base/hash.h"
#include "core/base/limits.h"

namespace mneme::node {

namespace {

constexpr std::string_view kMagic = "MNEMEMAP";
constexpr uint32_t kVersion = 1;
constexpr char kFile[] = "map";
constexpr size_t kHeaderBytes = 16;
// What changes in between is saved together.
constexpr Duration kSavePause = 1s;
// A large map is saved less often: saving it costs no more than so much each second.
constexpr size_t kSavedBytesPerSecond = 64 * limits::kKiB;
// Versions that others may have yet: they say at each heartbeat which they have.
constexpr Duration kKeptFor = 1s;
constexpr size_t kMaxEarlier = 128;

std::unexpected<Error> damaged(std::string_view why) {
  return fail(ErrorCode::kCorrupt, fmt::format("file {}: {}", kFile, why));
}

}  // namespace

Result<void> MapCache::load() {
  const Bytes bytes = TRY(env::read_file(env_.disk, kFile, limits::kMaxMapBytes + kHeaderBytes + 8));
  if (bytes.size() < kHeaderBytes + 8) return damaged("it is too short");
  Reader whole{ByteView(bytes)};
  const ByteView body = whole.raw(bytes.size() - 8);
  if (whole.u64() != xxh3(body)) return damaged("its checksum does not match");
  Reader reader(body);
  if (as_text(reader.raw(8)) != kMagic) return damaged("it is not a shard map");
  if (const uint32_t version = reader.u32(); version != kVersion)
    return fail(ErrorCode::kUnsupported,
                fmt::format("file {} has format version {}, this build knows {}", kFile, version, kVersion));
  const uint32_t length = reader.u32();
  if (length != reader.remaining()) return damaged("its length does not match");
  map_ = std::make_shared<const shard::Map>(TRY(shard::Map::decode(as_text(reader.raw(length)))));
  saved_version_ = map_->version();
  return {};
}

Result<void> MapCache::save() {
  const auto map = map_;
  std::string content;
  content.reserve(saved_bytes_ + limits::kKiB);
  map->encode(content);
  Bytes bytes;
  Writer writer(bytes);
  writer.raw(kMagic);
  writer.u32(kVersion);
  writer.u32(static_cast<uint32_t>(content.size()));
  writer.raw(content);
  writer.u64(xxh3(ByteView(bytes)));
  TRY(env::replace_file(env_.disk, "", kFile, bytes));
  saved_bytes_ = bytes.size();
  saved_version_ = map->version();
  return {};
}

Result<void> MapCache::run() {
  for (;;) {
    unsaved_.wait_until([this] { return saved_version_ != map_->version(); });
    if (auto saved = save(); !saved) {
      if (saved.error().code != ErrorCode::kNoSpace) return saved;
      env_.trace.reached(Probe::disk_full_met);
    }
    env_.clock.sleep_for(env_.scheduler, kSavePause + 1s * (saved_bytes_ / kSavedBytesPerSecond));
  }
}

bool MapCache::offer(std::shared_ptr<const shard::Map> map) {
  if (map->version() <= map_->version()) return false;
  if (map_->cluster() && map->cluster() != map_->cluster()) return false;
  const Instant now = env_.clock.now();
  if (map_->cluster()) earlier_.push_back({map_, now});
  while (!earlier_.empty() && (earlier_.size() > kMaxEarlier || earlier_.front().until + kKeptFor < now))
    earlier_.pop_front();
  changes_.clear();
  map_ = std::move(map);
  changed_.notify_all();
  unsaved_.notify_all();
  return true;
}

void MapCache::offer_whole(shard::Map map) {
  if (offer(std::make_shared<const shard::Map>(std::move(map)))) earlier_.clear();
}

std::shared_ptr<const std::string> MapCache::change_since(uint64_t version) {
  std::shared_ptr<const std::string>& known = changes_[version];
  if (known) return known;
  const auto before = std::lower_bound(earlier_.begin(), earlier_.end(), version,
                                       [](const Earlier& one, uint64_t wanted) { return one.map->version() < wanted; });
  if (before == earlier_.end() || before->map->version() != version) {
    changes_.erase(version);
    return nullptr;
  }
  std::string change;
  map_->encode_change_since(*before->map, change);
  return known = std::make_shared<const std::string>(std::move(change));
}

Result<void> MapCache::take_change(std::string_view change) {
  auto changed = map_->with_change(change);
  if (changed) offer(std::make_shared<const shard::Map>(std::move(*changed)));
  if (changed || changed.error().code == ErrorCode::kRefused) return {};
  return std::unexpected(std::move(changed).error());
}

}  // namespace mneme::node
