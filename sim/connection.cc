#include "sim/connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "sim/network.h"

namespace mneme::sim {

namespace {
constexpr WorldTime kMillisecond = 1'000'000;
constexpr size_t kSegmentBytes = 64 * 1024;
}  // namespace

// --- Connection

Connection::Connection(Network& network, World& world, uint64_t id, uint64_t cause, uint32_t client, uint32_t server,
                       Link& there, Link& back)
    : network_(network),
      world_(world),
      id_(id),
      cause_(cause),
      sides_{Side{client}, Side{server}},
      pipes_{Pipe(*this, 0, server, there), Pipe(*this, 1, client, back)} {}

size_t Connection::window(int from) const {
  size_t used = pipes_[from].bytes + sides_[1 - from].unread_bytes();
  size_t limit = world_.options().window_bytes;
  return used < limit ? limit - used : 0;
}

void Connection::wake(int side) {
  if (sides_[side].stream) sides_[side].stream->wake();
}

void Connection::schedule(Pipe& pipe) {
  if (!pipe.segments.empty()) world_.events().schedule(pipe, pipe.segments.front().at);
}

void Connection::clear(Pipe& pipe) {
  pipe.segments.clear();
  pipe.bytes = 0;
  world_.events().cancel(pipe);
}

void Connection::note(int from, std::string_view what) {
  const uint32_t actor = sides_[1 - from].actor;
  world_.detail(actor, "net", "{} -> {} connection {}: {}", world_.machine(sides_[from].actor).name(),
                world_.machine(actor).name(), id_, what);
}

void Connection::push(int from, Segment segment) {
  Pipe& pipe = pipes_[from];
  const WorldOptions& options = world_.options();
  const uint64_t nth = ++pipe.nth;
  int64_t latency = options.latency_base_ns +
                    static_cast<int64_t>(Fate::scale(world_.choose(Choice::kSegmentLatency, cause(from), nth),
                                                     static_cast<uint64_t>(options.latency_base_ns)));
  if (world_.chance(options.latency_tail_ppm, Choice::kSegmentTail, cause(from), nth))
    latency += static_cast<int64_t>(Fate::scale(world_.choose(Choice::kSegmentTail, cause(from), nth, 1),
                                                static_cast<uint64_t>(options.latency_tail_ns)));
  segment.sent_at = world_.now();
  segment.at = world_.now() + latency;
  if (!pipe.segments.empty()) segment.at = std::max(segment.at, pipe.segments.back().at);
  pipe.segments.push_back(std::move(segment));
  if (pipe.segments.size() == 1) schedule(pipe);
}

void Connection::send(int from, ByteView data) {
  Pipe& pipe = pipes_[from];
  pipe.bytes += data.size();
  // What is written in the same instant leaves in the same segment.
  if (!pipe.segments.empty()) {
    Segment& last = pipe.segments.back();
    if (last.sent_at == world_.now() && last.kind == Segment::Kind::kData &&
        last.data.size() + data.size() <= kSegmentBytes) {
      last.data.insert(last.data.end(), data.begin(), data.end());
      return;
    }
  }
  push(from, Segment{Bytes(data.begin(), data.end())});
}

void Connection::arrive(int from) {
  Pipe& pipe = pipes_[from];
  Side& sender = sides_[from];
  Side& receiver = sides_[1 - from];
  const WorldTime now = world_.now();

  if (now < pipe.link.blocked_until || !world_.machine(receiver.actor).powered()) return retransmit(from);
  Segment& segment = pipe.segments.front();
  if (now < pipe.link.clogged_until) {
    segment.at = pipe.link.clogged_until;
    schedule(pipe);
    return;
  }
  if (segment.kind == Segment::Kind::kReset) {
    note(from, "reset");
    clear(pipe);
    break_side(1 - from);
    return forget_if_finished();
  }
  if (receiver.gone) {
    // Nobody has this connection here: the operating system answers with a reset, once.
    const bool tell = !sender.gone;
    note(from, "nobody there");
    clear(pipe);
    if (tell) push(1 - from, Segment{.kind = Segment::Kind::kReset});
    return forget_if_finished();
  }
  deliver(from);
}

// The first segment does not get through now.
void Connection::retransmit(int from) {
  Pipe& pipe = pipes_[from];
  Segment& segment = pipe.segments.front();
  const uint64_t retry = ++pipe.retries;
  const WorldTime delay =
      static_cast<WorldTime>(world_.fate().between(20, 400, Choice::kRetransmitDelay, cause(from), retry)) *
      kMillisecond;
  const WorldTime patience =
      static_cast<WorldTime>(world_.fate().between(2'000, 15'000, Choice::kGiveUpAfter, cause(from))) * kMillisecond;
  segment.at = std::max(pipe.link.blocked_until, world_.now()) + delay;
  if (segment.at - segment.sent_at > patience) {
    note(from, "given up, the sender's end breaks");
    clear(pipe);
    break_side(from);
    return forget_if_finished();
  }
  note(from, "does not get through");
  schedule(pipe);
}

// The first segment, or a part of it, reaches the receiver.
void Connection::deliver(int from) {
  Pipe& pipe = pipes_[from];
  Side& receiver = sides_[1 - from];
  Segment& segment = pipe.segments.front();
  const WorldTime now = world_.now();
  if (segment.kind == Segment::Kind::kFin) {
    receiver.ended = true;
    note(from, "end of stream");
    pipe.segments.pop_front();
  } else {
    size_t count = segment.data.size();
    const bool split =
        count > 1 && world_.chance(world_.options().split_ppm, Choice::kSegmentSplit, cause(from), pipe.nth, count);
    if (split) count = 1 + Fate::scale(world_.choose(Choice::kSegmentSplitAt, cause(from), pipe.nth, count), count - 1);
    receiver.unread.insert(receiver.unread.end(), segment.data.begin(),
                           segment.data.begin() + static_cast<std::ptrdiff_t>(count));
    pipe.bytes -= count;
    if (world_.recording()) note(from, fmt::format("{} bytes, sent {} us ago", count, (now - segment.sent_at) / 1000));
    if (split) {
      segment.data.erase(segment.data.begin(), segment.data.begin() + static_cast<std::ptrdiff_t>(count));
      segment.at = now + world_.options().latency_base_ns / 4;
    } else {
      pipe.segments.pop_front();
    }
  }
  if (!pipe.segments.empty()) pipe.segments.front().at = std::max(pipe.segments.front().at, now);
  schedule(pipe);
  wake(1 - from);
}

void Connection::break_side(int side) {
  sides_[side].reset = true;
  wake(side);
}

void Connection::reset_both() {
  for (int side : {0, 1}) {
    clear(pipes_[side]);
    break_side(side);
  }
  forget_if_finished();
}

void Connection::leave(int side, bool silently) {
  Side& own = sides_[side];
  if (own.gone) return;
  own.gone = true;
  own.stream = nullptr;
  own.unread.clear();
  own.unread_from = 0;
  // A reset end has nothing more to say; and there is nobody to say it to when the other end knows.
  if (!silently && !own.reset) push(side, Segment{.kind = Segment::Kind::kFin});
  forget_if_finished();
}

void Connection::forget_if_finished() {
  if (sides_[0].gone && sides_[1].gone && pipes_[0].segments.empty() && pipes_[1].segments.empty())
    network_.forget(*this);
}

// --- MachineStream

MachineStream::MachineStream(Machine::Life& life, Connection& connection, int side, env::Address peer)
    : life_(life),
      connection_(&connection),
      side_(side),
      id_(connection.id() * 2 + static_cast<uint64_t>(side)),
      peer_(std::move(peer)),
      readable_(life.machine.world().scheduler()),
      writable_(life.machine.world().scheduler()) {
  connection.side(side).stream = this;
}

Result<size_t> MachineStream::read(std::span<uint8_t> into) {
  CHECK(!into.empty());
  life_.check_alive();
  life_.machine.world().scheduler().throw_if_cancelled();
  for (;;) {
    if (!connection_) return closed();
    Connection::Side& side = connection_->side(side_);
    if (side.reset) return broken();
    if (size_t there = side.unread_bytes(); there > 0) {
      size_t count = std::min(there, into.size());
      std::memcpy(into.data(), side.unread.data() + side.unread_from, count);
      side.unread_from += count;
      if (count == there) {
        side.unread.clear();
        side.unread_from = 0;
      }
      if (MachineStream* other = connection_->side(1 - side_).stream) other->writable_.notify_all();
      return count;
    }
    if (side.ended) return size_t{0};
    readable_.wait();
  }
}

Result<void> MachineStream::write(ByteView data) {
  World& world = life_.machine.world();
  life_.check_alive();
  world.scheduler().throw_if_cancelled();
  while (!data.empty()) {
    if (!connection_) return closed();
    if (connection_->side(side_).reset) return broken();
    size_t room = std::min(connection_->window(side_), kSegmentBytes);
    if (room == 0) {
      writable_.wait();
      continue;
    }
    size_t count = std::min(room, data.size());
    world.fold_bytes(EventKind::kOutput, life_.machine.actor(), data.first(count));
    connection_->send(side_, data.first(count));
    data = data.subspan(count);
  }
  return {};
}

void MachineStream::close() {
  if (Connection* connection = std::exchange(connection_, nullptr)) {
    connection->side(side_).stream = nullptr;
    connection->leave(side_, false);
  }
  wake();
}

void MachineStream::wake() {
  readable_.notify_all();
  writable_.notify_all();
}

std::unexpected<Error> MachineStream::broken() const {
  return fail(ErrorCode::kClosed, fmt::format("connection with {} reset", env::to_string(peer_)));
}

}  // namespace mneme::sim
