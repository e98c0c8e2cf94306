// Pings, and how the shard map travels.
//
// News come from the leader of the meta group. Others help out where they do not arrive, and only after a while: in a
// large cluster everybody would tell all its neighbours what these are about to hear.
//
// A link remembers which version the peer has: what it said, or what it will have when what was sent has arrived. If
// that is lost the connection is, and with it what was remembered; then the peer's pings say.
#include <algorithm>

#include "core/node/groups.h"
#include "core/node/peer_link.h"

namespace mneme::node {

using protocol::FrameType;

namespace {

// What was sent counts as lost when the peer does not say within that time that it has it.
constexpr Duration kMapPause = 1s;
// What changes in between travels together: for so long, and longer where so many nodes are to be told that it would be
// more than so many messages a second, each of which costs its receiver a version of the map.
constexpr Duration kNewsPause = 20ms;
constexpr int64_t kNewsPerSecond = 5000;

}  // namespace

Result<void> Peers::keep_pinging() {
  Instant next_ping = env_.clock.now();
  Instant next_news = next_ping;
  for (;;) {
    const Instant now = env_.clock.now();
    const uint64_t version = map_.version();
    const bool due = now >= next_ping;
    const bool leads = leads_meta_group();
    const bool news = leads && spread_version_ != version && now >= next_news;
    for (auto& link : links_) {
      if (!link->connected) continue;
      if (due) ping(*link);
      if (news && link->map_version != 0) send_map(*link);
    }
    if (due) next_ping = now + config_.heartbeat_interval;
    if (news) next_news = now + std::max(kNewsPause, Duration(1s) * std::ssize(links_) / kNewsPerSecond);
    if (news || !leads) spread_version_ = version;
    if (spread_version_ != version) {
      env_.clock.sleep_for(env_.scheduler, std::min(next_ping, next_news) - now);
      continue;
    }
    (void)fiber::with_deadline(env_.scheduler, env_.clock.timers(), next_ping, [&]() -> Result<void> {
      map_.wait_for_change(version);
      return {};
    });
  }
}

bool Peers::leads_meta_group() const {
  const replica::Replica* meta = groups_ ? groups_->find(shard::kMetaGroup) : nullptr;
  return meta && meta->raft().role() == raft::Role::kLeader;
}

void Peers::ping(Link& link) {
  const size_t frame = protocol::PeerFrameWriter::begin(link.outbox);
  Writer writer(link.outbox);
  writer.u64(life_);
  writer.u64(wants_whole_map_ ? 0 : map_.version());
  link.writer.end(link.outbox, frame, FrameType::kPing);
  link.filled.notify_one();
}

Result<void> Peers::take_ping(NodeId from, std::string_view body) {
  Reader reader(body);
  const uint64_t life = reader.u64();
  const uint64_t version = reader.u64();
  if (!reader.ok() || !reader.at_end()) return fail(ErrorCode::kCorrupt, "a ping is malformed");
  Link& link = *find(from);
  if (link.life != life) {
    if (std::exchange(link.life, life) != 0) groups_->ended(from);
    groups_->restarted(from);
  }
  if (!link.connected) return {};
  const bool on_its_way = version < link.map_version && env_.clock.now() < link.map_sent_at + kMapPause;
  if (on_its_way) return {};
  link.map_version = version;
  // What is newer is on its way to everybody.
  if (version < (leads_meta_group() ? spread_version_ : map_.settled_version())) send_map(link);
  return {};
}

// What the peer's copy lacks.
void Peers::send_map(Link& link) {
  if (link.map_version >= map_.version() || link.outbox.size() > limits::kMaxPeerQueueBytes) return;
  auto put = [&](FrameType type, auto body) {
    const size_t frame = protocol::PeerFrameWriter::begin(link.outbox);
    body();
    link.writer.end(link.outbox, frame, type);
  };
  MapCache::Changes changes;
  if (link.version >= 2) changes = map_.changes_since(link.map_version);
  for (const auto& change : changes) put(FrameType::kMapChange, [&] { link.outbox += *change; });
  if (changes.empty()) put(FrameType::kMap, [&] { map_.map().encode(link.outbox); });
  link.filled.notify_one();
  link.map_version = map_.version();
  link.map_sent_at = env_.clock.now();
}

Result<void> Peers::take_map(std::string_view body) {
  map_.offer_whole(TRY(shard::Map::decode(body)));
  wants_whole_map_ = false;
  return {};
}

Result<void> Peers::take_map_change(std::string_view body) {
  auto taken = map_.take_change(body);
  if (!taken) wants_whole_map_ = true;
  return taken;
}

}  // namespace mneme::node
