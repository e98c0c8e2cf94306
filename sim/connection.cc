#include "sim/connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "sim/network.h"

namespace mneme::sim {

namespace {
constexpr size_t kSegmentBytes = 64 * 1024;
constexpr uint32_t kMostSingles = 64;
constexpr size_t kKeptBytes = 4096;  // of memory for what is under way, by a pipe that is empty
}  // namespace

// --- Connection

Connection::Connection(Network& network, World& world, uint64_t id, uint64_t cause, uint32_t client, uint32_t server,
                       Link& there, Link& back)
    : network_(network),
      world_(world),
      id_(id),
      cause_(cause),
      sides_{Side{client}, Side{server}},
      pipes_{Pipe(*this, 0, client, server, there), Pipe(*this, 1, server, client, back)} {}

size_t Connection::window(int from) const {
  size_t used = pipes_[from].bytes.size() - pipes_[from].begin;
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
  pipe.bytes.resize(pipe.begin + pipe.arrived);
  world_.events().cancel(pipe);
  world_.events().cancel(pipe.unanswered);
}

void Connection::note(int from, std::string_view what) {
  const uint32_t actor = sides_[1 - from].actor;
  world_.detail(actor, "net", "{} -> {} connection {}: {}", world_.machine(sides_[from].actor).name(),
                world_.machine(actor).name(), id_, what);
}

int64_t Connection::draw_latency(int from, uint64_t nth) {
  const WorldOptions& options = world_.options();
  int64_t latency = options.latency_base_ns +
                    static_cast<int64_t>(Fate::scale(world_.choose(Choice::kSegmentLatency, cause(from), nth),
                                                     static_cast<uint64_t>(options.latency_base_ns)));
  if (world_.chance(options.latency_tail_ppm, Choice::kSegmentTail, cause(from), nth))
    latency += static_cast<int64_t>(Fate::scale(world_.choose(Choice::kSegmentTail, cause(from), nth, 1),
                                                static_cast<uint64_t>(options.latency_tail_ns)));
  return pipes_[from].link.slowed(world_.now(), latency);
}

void Connection::push(int from, Segment segment) {
  Pipe& pipe = pipes_[from];
  const WorldOptions& options = world_.options();
  const uint64_t nth = ++pipe.nth;
  segment.latency = draw_latency(from, nth);
  segment.sent_at = world_.now();
  segment.at = pipe.link.transmit(world_.now(), segment.bytes, options.bandwidth) + segment.latency;
  if (world_.chance(options.crumble_ppm, Choice::kSegmentCrumble, cause(from), nth))
    segment.singles = 1 + static_cast<uint32_t>(
                              Fate::scale(world_.choose(Choice::kSegmentCrumble, cause(from), nth, 1), kMostSingles));
  if (!pipe.segments.empty()) {
    Segment& last = pipe.segments.back();
    segment.at = std::max(segment.at, last.at);
    const bool fits = segment.kind == Segment::Kind::kData && last.kind == Segment::Kind::kData &&
                      last.bytes + segment.bytes <= kSegmentBytes;
    if (fits && world_.chance(options.coalesce_ppm, Choice::kSegmentCoalesce, cause(from), nth)) {
      last.bytes += segment.bytes;
      last.at = segment.at;
      if (pipe.segments.size() == 1) schedule(pipe);
      return;
    }
  }
  pipe.segments.push_back(segment);
  if (pipe.segments.size() == 1) schedule(pipe);
}

void Connection::send(int from, ByteView data) {
  Pipe& pipe = pipes_[from];
  pipe.bytes.insert(pipe.bytes.end(), data.begin(), data.end());
  // What is written in the same instant leaves in the same segment.
  if (!pipe.segments.empty()) {
    Segment& last = pipe.segments.back();
    if (last.sent_at == world_.now() && last.kind == Segment::Kind::kData &&
        last.bytes + data.size() <= kSegmentBytes) {
      last.bytes += data.size();
      const WorldTime left = pipe.link.transmit(world_.now(), data.size(), world_.options().bandwidth);
      if (left + last.latency <= last.at) return;
      last.at = left + last.latency;
      if (pipe.segments.size() == 1) schedule(pipe);
      return;
    }
  }
  push(from, Segment{.bytes = data.size()});
}

size_t Connection::receive(int side, std::span<uint8_t> into) {
  Pipe& pipe = pipes_[1 - side];
  const size_t count = std::min(pipe.arrived, into.size());
  std::memcpy(into.data(), pipe.bytes.data() + pipe.begin, count);
  pipe.take(count);
  return count;
}

// The first bytes that have arrived are needed no longer.
void Connection::Pipe::take(size_t count) {
  arrived -= count;
  begin += count;
  if (begin == bytes.size()) {
    reuse(bytes, kKeptBytes);
    begin = 0;
    return;
  }
  if (begin < bytes.size() - begin) return;  // moving the rest now would cost more than it frees
  bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(begin));
  begin = 0;
}

void Connection::arrive(int from) {
  Pipe& pipe = pipes_[from];
  Side& sender = sides_[from];
  Side& receiver = sides_[1 - from];
  const WorldTime now = world_.now();

  if (swallowed_) return vanish(from);
  if (now < closed_until(from) || !world_.machine(receiver.actor).powered()) return retransmit(from);
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
  if (receiver.gone || receiver.reset) {
    // Nobody has this connection here: the operating system answers with a reset, once.
    const bool tell = !sender.gone;
    note(from, "nobody there");
    clear(pipe);
    if (tell) push(1 - from, Segment{.kind = Segment::Kind::kReset});
    return forget_if_finished();
  }
  deliver(from);
}

WorldTime Connection::patience(int from) const {
  return static_cast<WorldTime>(world_.fate().between(2'000, 15'000, Choice::kGiveUpAfter, cause(from))) * kMillisecond;
}

// The first segment does not get through now.
void Connection::retransmit(int from) {
  Pipe& pipe = pipes_[from];
  Segment& segment = pipe.segments.front();
  const uint64_t retry = ++pipe.retries;
  const WorldTime delay =
      static_cast<WorldTime>(world_.fate().between(20, 400, Choice::kRetransmitDelay, cause(from), retry)) *
      kMillisecond;
  segment.at = std::max(closed_until(from), world_.now()) + delay;
  if (segment.at - segment.sent_at > patience(from)) return give_up(from);
  note(from, "does not get through");
  schedule(pipe);
}

// The first segment gets nowhere, now or ever.
void Connection::vanish(int from) {
  Pipe& pipe = pipes_[from];
  Segment& segment = pipe.segments.front();
  const WorldTime end = segment.sent_at + patience(from);
  if (world_.now() >= end) return give_up(from);
  note(from, "swallowed");
  segment.at = end;
  schedule(pipe);
}

void Connection::give_up(int from) {
  note(from, "given up, the sender's end breaks");
  clear(pipes_[from]);
  break_side(from);
  forget_if_finished();
}

void Connection::lose_patience(int from) {
  if (world_.now() < closed_until(1 - from)) give_up(from);
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
    pipe.segments.erase(pipe.segments.begin());
  } else {
    const WorldTime answer = closed_until(1 - from);
    if (now < answer && answer > segment.sent_at + patience(from) && !pipe.unanswered.scheduled())
      world_.events().schedule(pipe.unanswered, std::max(now, segment.sent_at + patience(from)));
    size_t count = segment.bytes;
    WorldTime rest_after = 0;
    if (count > 1 && segment.singles > 0) {
      --segment.singles;
      count = 1;
      rest_after = world_.options().latency_base_ns / kMostSingles;
    } else if (count > 1 &&
               world_.chance(world_.options().split_ppm, Choice::kSegmentSplit, cause(from), pipe.nth, count)) {
      count = 1 + Fate::scale(world_.choose(Choice::kSegmentSplitAt, cause(from), pipe.nth, count), count - 1);
      rest_after = world_.options().latency_base_ns / 4;
    }
    pipe.arrived += count;
    if (world_.recording()) note(from, fmt::format("{} bytes, sent {} us ago", count, (now - segment.sent_at) / 1000));
    if (count < segment.bytes) {
      segment.bytes -= count;
      segment.at = now + rest_after;
    } else {
      pipe.segments.erase(pipe.segments.begin());
    }
  }
  if (!pipe.segments.empty()) pipe.segments.front().at = std::max(pipe.segments.front().at, now);
  schedule(pipe);
  wake(1 - from);
}

void Connection::stall(int from, WorldTime until) {
  pipes_[from].stalled_until = std::max(pipes_[from].stalled_until, until);
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
  pipes_[1 - side].take(pipes_[1 - side].arrived);
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
    if (connection_->unread(side_) > 0) {
      const size_t count = connection_->receive(side_, into);
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
