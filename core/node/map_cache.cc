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
constexpr size_t kSavedBytesPerSecond = 16 * limits::kKiB;
constexpr int64_t kSaveTurns = 16;
// Versions that others may have yet: they say at each heartbeat which they have. A version costs as much as has changed
// in it, which is what one entry of the meta group's log can change.
constexpr Duration kKeptFor = 5s;
constexpr size_t kMaxEarlier = 1024;
constexpr size_t kMaxTakenBytes = 64 * limits::kKiB;
constexpr Duration kSettling = 1s;

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
  saved_bytes_ = bytes.size();
  return {};
}

Result<void> MapCache::save() {
  const uint64_t version = map_->version();
  std::string bytes;
  bytes.reserve(saved_bytes_ + saved_bytes_ / 4 + limits::kKiB);
  Writer writer(bytes);
  writer.raw(kMagic);
  writer.u32(kVersion);
  writer.u32(0);
  map_->encode(bytes);
  store_le(reinterpret_cast<uint8_t*>(bytes.data()) + kHeaderBytes - 4,
           static_cast<uint32_t>(bytes.size() - kHeaderBytes));
  writer.u64(xxh3(bytes));
  TRY(env::replace_file(env_.disk, "", kFile, as_bytes(bytes)));
  saved_bytes_ = bytes.size();
  saved_version_ = version;
  return {};
}

Result<void> MapCache::run(NodeId node) {
  auto turn = static_cast<int64_t>(node.value % kSaveTurns);
  for (;;) {
    unsaved_.wait_until([this] { return saved_version_ != map_->version(); });
    const Duration pause = 1s * (saved_bytes_ / kSavedBytesPerSecond);
    if (turn > 0) env_.clock.sleep_for(env_.scheduler, pause * std::exchange(turn, 0) / kSaveTurns);
    if (auto saved = save(); !saved) {
      if (saved.error().code != ErrorCode::kNoSpace) return saved;
      env_.trace.reached(Probe::disk_full_met);
    }
    env_.clock.sleep_for(env_.scheduler, kSavePause + pause);
  }
}

bool MapCache::is_news(const shard::Map& map) const {
  return map.version() > map_->version() && (!map_->cluster() || map.cluster() == map_->cluster());
}

void MapCache::adopt(std::shared_ptr<const shard::Map> map) {
  map_ = std::move(map);
  changes_.clear();
  (void)settled_version();
  changed_.notify_all();
  unsaved_.notify_all();
}

uint64_t MapCache::settled_version() {
  const Instant now = env_.clock.now();
  if (now >= noted_at_ + kSettling) {
    settled_version_ = std::exchange(noted_version_, map_->version());
    noted_at_ = now;
  }
  return settled_version_;
}

bool MapCache::offer(std::shared_ptr<const shard::Map> map) {
  if (!is_news(*map)) return false;
  forget_old();
  if (map_->cluster()) earlier_.push_back({map_, env_.clock.now()});
  taken_.clear();
  taken_bytes_ = 0;
  adopt(std::move(map));
  return true;
}

void MapCache::forget_old() {
  const Instant now = env_.clock.now();
  while (!earlier_.empty() && (earlier_.size() >= kMaxEarlier || earlier_.front().until + kKeptFor < now))
    earlier_.pop_front();
}

void MapCache::offer_whole(shard::Map map) {
  if (!is_news(map)) return;
  earlier_.clear();
  taken_.clear();
  taken_bytes_ = 0;
  adopt(std::make_shared<const shard::Map>(std::move(map)));
}

MapCache::Changes MapCache::changes_since(uint64_t version) {
  if (const auto known = changes_.find(version); known != changes_.end()) return {known->second};
  const auto before = std::lower_bound(earlier_.begin(), earlier_.end(), version,
                                       [](const Earlier& one, uint64_t wanted) { return one.map->version() < wanted; });
  if (before != earlier_.end() && before->map->version() == version) {
    std::string change;
    map_->encode_change_since(*before->map, change);
    return {changes_[version] = std::make_shared<const std::string>(std::move(change))};
  }
  Changes changes;
  auto taken = std::lower_bound(taken_.begin(), taken_.end(), version,
                                [](const Taken& one, uint64_t wanted) { return one.from < wanted; });
  for (; taken != taken_.end() && (!changes.empty() || taken->from == version); ++taken)
    changes.push_back(taken->change);
  return changes;
}

Result<void> MapCache::take_change(std::string_view change) {
  const uint64_t from = map_->version();
  auto changed = map_->with_change(change);
  if (!changed && changed.error().code == ErrorCode::kRefused) return {};
  if (!changed) return std::unexpected(std::move(changed).error());
  // Where maps are offered, a change may come before them.
  const bool is_offered_maps = !earlier_.empty();
  forget_old();
  if (is_offered_maps) earlier_.push_back({map_, env_.clock.now()});
  taken_.push_back({from, std::make_shared<const std::string>(change)});
  taken_bytes_ += change.size();
  while (taken_bytes_ > kMaxTakenBytes) {
    taken_bytes_ -= taken_.front().change->size();
    taken_.pop_front();
  }
  adopt(std::make_shared<const shard::Map>(std::move(*changed)));
  return {};
}

}  // namespace mneme::node
