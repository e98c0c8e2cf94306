// Pings, and how the shard map travels.
//
// A link remembers which version the peer has: what it said, or what it will have when what was sent has arrived. If
// that is lost the connection is, and with it what was remembered; then the peer's pings say.
#include "core/node/groups.h"
#include "core/node/peer_link.h"

namespace mneme::node {

using protocol::FrameType;

namespace {

// What was sent counts as lost when the peer does not say within that time that it has it.
constexpr Duration kMapPause = 1s;
// What changes in between travels together, to a thousand nodes perhaps.
constexpr Duration kNewsPause = 20ms;

}  // namespace

Result<void> Peers::keep_pinging() {
  Instant next = env_.clock.now();
  uint64_t spread = 0;
  for (;;) {
    const uint64_t version = map_.version();
    const bool due = env_.clock.now() >= next;
    if (due) next = env_.clock.now() + config_.heartbeat_interval;
    const bool news = spread != version && leads_meta_group();
    for (auto& link : links_) {
      if (!link->connected) continue;
      if (due) ping(*link);
      if (news && link->map_version != 0) send_map(*link);
    }
    spread = version;
    (void)fiber::with_deadline(env_.scheduler, env_.clock.timers(), next, [&]() -> Result<void> {
      if (news) env_.clock.sleep_for(env_.scheduler, kNewsPause);
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
  if (version > map_.version()) ping(link);  // which asks for it
  const bool on_its_way = version < link.map_version && env_.clock.now() < link.map_sent_at + kMapPause;
  if (on_its_way) return {};
  link.map_version = version;
  send_map(link);
  return {};
}

// What the peer's copy lacks.
void Peers::send_map(Link& link) {
  if (link.map_version >= map_.version() || link.outbox.size() > limits::kMaxPeerQueueBytes) return;
  const size_t frame = protocol::PeerFrameWriter::begin(link.outbox);
  const auto change = link.version >= 2 ? map_.change_since(link.map_version) : nullptr;
  if (change)
    link.outbox += *change;
  else
    map_.map().encode(link.outbox);
  link.writer.end(link.outbox, frame, change ? FrameType::kMapChange : FrameType::kMap);
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
