// Sending and receiving snapshots, on a bulk connection of their own so that they never delay a heartbeat.
//
// The sender says what comes (kSnapshotBegin: group u64, file size u64, then the raft message that the snapshot
// belongs to), and waits for kSnapshotAck (status u8: 0 go on; offset u64 to begin at). Then chunks (kSnapshotChunk:
// offset u64, bytes), kSnapshotEnd (XXH3 of the whole file u64), and a last kSnapshotAck when the receiver has the file
// durably under its name and has loaded it. Status 1 is a refusal; 2 says that what came cannot be loaded.
#include <fmt/format.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/node/groups.h"
#include "core/node/peer_link.h"
#include "core/raft/codec.h"

namespace mneme::node {

using protocol::FrameType;
using protocol::Progress;

namespace {

constexpr Duration kStallTimeout = 10s;
enum class AckStatus : uint8_t { kGoOn = 0, kRefused = 1, kDamaged = 2 };

struct StreamHash {
  StreamHash() : state(XXH3_createState()) { XXH3_64bits_reset(state); }
  ~StreamHash() { XXH3_freeState(state); }
  StreamHash(const StreamHash&) = delete;
  StreamHash& operator=(const StreamHash&) = delete;
  void add(std::string_view bytes) { XXH3_64bits_update(state, bytes.data(), bytes.size()); }
  uint64_t digest() const { return XXH3_64bits_digest(state); }
  XXH3_state_t* state;
};

// One side of a bulk connection: frames out, frames in.
struct BulkStream {
  env::Stream& stream;
  std::string buffer;
  protocol::PeerFrameWriter writer;
  protocol::PeerFrameParser parser;
  size_t used = 0;

  Result<void> put(FrameType type, std::string_view body) {
    std::string out;
    writer.put(out, type, body);
    return stream.write(as_bytes(out));
  }
  // The body is a view into the buffer, until the next call.
  Result<std::pair<FrameType, std::string_view>> get() {
    for (;;) {
      auto step = parser.next(std::string_view(buffer).substr(used));
      if (step.progress == Progress::kError) return std::unexpected(step.error);
      if (step.progress == Progress::kDone) {
        used += step.consumed;
        return std::pair(step.type, step.body);
      }
      buffer.erase(0, used);
      used = 0;
      if (TRY(read_more(stream, buffer, step.need)) == 0)
        return fail(ErrorCode::kClosed, "the other side closed the connection");
    }
  }
};

std::string ack(AckStatus status, uint64_t offset) {
  std::string body;
  Writer writer(body);
  writer.u8(static_cast<uint8_t>(status));
  writer.u64(offset);
  return body;
}

}  // namespace

void Peers::send_snapshot(GroupId group, const raft::Message& message, uint64_t checkpoint_id) {
  Link* link = use(message.to.node());
  if (!link || !scope_) return;  // raft asks again when nothing came of it
  std::vector<GroupId>& sending = link->sending_snapshots;
  if (std::find(sending.begin(), sending.end(), group) != sending.end()) return;
  sending.push_back(group);
  scope_->spawn("snapshot", [this, group, message, checkpoint_id, &sending] {
    struct Done {
      std::vector<GroupId>& sending;
      GroupId group;
      ~Done() { std::erase(sending, group); }
    } done{sending, group};
    env_.trace.reached(Probe::snapshot_sent);
    bool damaged = false;
    auto sent = transfer(group, message, checkpoint_id, damaged);
    if (sent) return;
    env::log(env_.trace, env::Level::kInfo, "peers", "snapshot of group {} to n{} failed: {}", group.value,
             message.to.node().value, sent.error().message);
    if (replica::Replica* replica = groups_->find(group); replica && damaged) replica->renew_checkpoint(checkpoint_id);
    // A moment, so that a peer that refuses is not asked again at once.
    env_.clock.sleep_for(env_.scheduler, 100ms);
    if (replica::Replica* replica = groups_->find(group)) replica->snapshot_failed(message.to);
  });
}

// `damaged`: the file cannot be read here or loaded there.
Result<void> Peers::transfer(GroupId group, const raft::Message& message, uint64_t checkpoint_id, bool& damaged) {
  Link* link = find(message.to.node());
  replica::Replica* replica = groups_->find(group);
  if (!replica) return fail(ErrorCode::kNotFound, "the replica was removed");
  const auto keep = replica->checkpoints().keep(checkpoint_id);
  auto file = TRY(env_.disk.open(replica->checkpoints().path(checkpoint_id), env::OpenMode::kRead));
  const uint64_t size = TRY(file->size());
  auto stream = TRY(connect(*link, protocol::Purpose::kBulk));
  BulkStream bulk{*stream};
  auto in_time = [&](auto&& fn) {
    return fiber::with_deadline(env_.scheduler, env_.clock.timers(), env_.clock.now() + kStallTimeout, fn);
  };
  auto expect_ack = [&]() -> Result<uint64_t> {
    auto [type, body] = TRY(bulk.get());
    Reader reader(body);
    const auto status = static_cast<AckStatus>(reader.u8());
    const uint64_t offset = reader.u64();
    if (type != FrameType::kSnapshotAck || !reader.ok())
      return fail(ErrorCode::kCorrupt, "an acknowledgement was expected");
    if (status == AckStatus::kDamaged) {
      damaged = true;
      return fail(ErrorCode::kRefused, "what came could not be loaded there");
    }
    if (status != AckStatus::kGoOn) return fail(ErrorCode::kRefused, "it was refused");
    return offset;
  };

  std::string begin;
  Writer writer(begin);
  writer.id(group);
  writer.u64(size);
  raft::encode(message, begin);
  TRY(in_time([&] { return bulk.put(FrameType::kSnapshotBegin, begin); }));
  const uint64_t from = TRY(in_time(expect_ack));
  if (from > size) return fail(ErrorCode::kCorrupt, "it wants more than there is");

  StreamHash hash;
  Bytes chunk(config_.snapshot_chunk_bytes);
  std::string body;
  for (uint64_t offset = 0; offset < size;) {
    auto read = env::read_up_to(*file, offset, chunk);
    damaged = !read || *read == 0;
    const size_t got = TRY(std::move(read));
    if (got == 0) return fail(ErrorCode::kCorrupt, "the checkpoint's file is shorter than it was");
    hash.add(as_text(ByteView(chunk).first(got)));
    if (offset + got > from) {
      const size_t skip = offset < from ? from - offset : 0;
      body.clear();
      Writer chunk_writer(body);
      chunk_writer.u64(offset + skip);
      chunk_writer.raw(ByteView(chunk).subspan(skip, got - skip));
      TRY(in_time([&] { return bulk.put(FrameType::kSnapshotChunk, body); }));
    }
    offset += got;
  }
  body.clear();
  Writer(body).u64(hash.digest());
  TRY(in_time([&] { return bulk.put(FrameType::kSnapshotEnd, body); }));
  TRY(in_time(expect_ack));
  return {};
}

Result<void> Peers::serve_bulk(env::Stream& stream, NodeId from, std::string& buffer) {
  if (!groups_) return {};
  BulkStream bulk{stream, std::move(buffer)};
  auto in_time = [&](auto&& fn) {
    return fiber::with_deadline(env_.scheduler, env_.clock.timers(), env_.clock.now() + kStallTimeout, fn);
  };
  auto get = [&] { return in_time([&] { return bulk.get(); }); };

  auto [type, body] = TRY(get());
  if (type != FrameType::kSnapshotBegin) return fail(ErrorCode::kCorrupt, "a snapshot must begin");
  Reader reader(body);
  const GroupId group = reader.id<GroupId>();
  const uint64_t size = reader.u64();
  if (!reader.ok()) return fail(ErrorCode::kCorrupt, "a snapshot's beginning is malformed");
  raft::Message message = TRY(raft::decode(as_text(reader.raw(reader.remaining()))));
  if (message.type != raft::MessageType::kSnapshot || message.from.node() != from || message.entries.size() != 1)
    return fail(ErrorCode::kCorrupt, "a snapshot's message is of another kind");
  // One at a time of a group, and none that is older than what is here. Held, because it may be removed meanwhile.
  const std::shared_ptr<replica::Replica> replica = groups_->hold(group);
  if (!replica || replica->id() != message.to || replica->receiving_snapshot || replica->is_held() ||
      message.log.index <= replica->machine().applied())
    return bulk.put(FrameType::kSnapshotAck, ack(AckStatus::kRefused, 0));
  struct Receiving {
    bool& flag;
    explicit Receiving(bool& f) : flag(f) { flag = true; }
    ~Receiving() { flag = false; }
  } receiving(replica->receiving_snapshot);

  auto& store = replica->checkpoints();
  TRY(store.remove_others());  // what came of earlier attempts
  const auto checkpoint = store.keep_next();
  const uint64_t id = checkpoint->id();
  auto part = TRY(store.create(id));
  TRY(bulk.put(FrameType::kSnapshotAck, ack(AckStatus::kGoOn, 0)));
  StreamHash hash;
  for (;;) {
    auto [next, bytes] = TRY(get());
    Reader chunk(bytes);
    const uint64_t word = chunk.u64();
    if (!chunk.ok()) return fail(ErrorCode::kCorrupt, "a snapshot's chunk is malformed");
    if (next == FrameType::kSnapshotEnd) {
      if (part->bytes() != size || word != hash.digest())
        return fail(ErrorCode::kCorrupt, "a snapshot's end does not match what came before");
      break;
    }
    if (next != FrameType::kSnapshotChunk || word != part->bytes() || part->bytes() + chunk.remaining() > size)
      return fail(ErrorCode::kCorrupt, "a snapshot's chunk is out of place");
    std::string_view content = as_text(chunk.raw(chunk.remaining()));
    hash.add(content);
    TRY(part->write(content));
  }
  TRY(part->finish());
  auto loaded = store.load(id, message.log);
  if (!loaded && loaded.error().code == ErrorCode::kCorrupt)
    TRY(bulk.put(FrameType::kSnapshotAck, ack(AckStatus::kDamaged, 0)));
  std::shared_ptr<kv::StateMachine> machine = TRY(std::move(loaded));
  const auto& configuration = message.entries.front().payload;
  if (!configuration || machine->configuration() != *configuration)
    return fail(ErrorCode::kCorrupt, "a snapshot and its message have different configurations");
  if (replica->is_held()) return bulk.put(FrameType::kSnapshotAck, ack(AckStatus::kRefused, 0));
  replica->snapshot_received(std::move(message), checkpoint, std::move(machine));
  return bulk.put(FrameType::kSnapshotAck, ack(AckStatus::kGoOn, size));
}

}  // namespace mneme::node
