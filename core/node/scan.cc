#include "core/node/scan.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/node/elements.h"
#include "core/protocol/reply.h"

namespace mneme::node {

using shard::SlotRange;

namespace {

// How many slots from the first on its owner has in a row, as far as the segment goes.
SlotRange run_of(const ScanSegment& segment, const shard::Map& map) {
  const shard::Shard* owner = map.shard(map.owner_of(segment.slots.begin));
  CHECK(owner != nullptr);
  for (SlotRange range : owner->slots.ranges())
    if (range.begin <= segment.slots.begin && segment.slots.begin < range.end)
      return {segment.slots.begin, std::min(segment.slots.end, range.end)};
  CHECK(!"a slot's owner has it");
  return {};
}

}  // namespace

std::string encode(const ScanPosition& position) {
  std::string bytes;
  Writer w(bytes);
  for (const ScanSegment& segment : position) {
    w.u16(segment.slots.begin);
    w.u16(segment.slots.end);
    w.blob(segment.from);
  }
  return bytes;
}

ScanPosition decode_scan_position(std::string_view bytes) {
  ScanPosition position;
  Reader in(bytes);
  while (!in.at_end()) {
    ScanSegment& segment = position.emplace_back();
    segment.slots.begin = in.u16();
    segment.slots.end = in.u16();
    segment.from = in.blob();
    CHECK(in.ok());
  }
  return position;
}

void advance(ScanPosition& position, SlotRange range, const std::string_view* next) {
  CHECK(!position.empty());
  ScanSegment& first = position.front();
  CHECK(range.begin == first.slots.begin);
  CHECK(range.begin < range.end);
  CHECK(range.end <= first.slots.end);
  ScanSegment begun{range, next != nullptr ? std::string(*next) : std::string()};
  first.slots.begin = range.end;
  if (first.slots.size() == 0) position.erase(position.begin());
  if (next != nullptr) position.insert(position.begin(), std::move(begun));
  while (position.size() > kMaxScanSegments) {
    ScanSegment last = std::move(position.back());
    position.pop_back();
    position.back().slots.end = last.slots.end;
    position.back().from = std::min(position.back().from, last.from);
  }
}

Result<Scan> Scan::open(kv::Args args, kv::ScanCursors& cursors) {
  auto cursor = kv::parse_cursor(args[1]);
  if (!cursor) return fail(ErrorCode::kInvalid, "ERR invalid cursor");
  Scan scan;
  scan.cursor_ = *cursor;
  scan.options_ = args.subspan(2);
  scan.position_ = decode_scan_position(cursors.position(*cursor));
  if (scan.position_.empty()) scan.position_.push_back({{0, kSlots}, {}});
  return scan;
}

Scan::Ask Scan::next(const shard::Map& map) {
  CHECK(!enough_);
  asked_ = run_of(position_.front(), map);
  begin_ = std::to_string(asked_.begin);
  end_ = std::to_string(asked_.end);
  const kv::CommandSpec* spec = kv::find_command("mneme.scan");
  CHECK(spec != nullptr);
  words_ = {spec->name, position_.front().from, begin_, end_};
  words_.insert(words_.end(), options_.begin(), options_.end());
  return {spec, asked_.begin, words_};
}

Result<void> Scan::take(std::string_view reply) {
  if (reply.starts_with('-')) {
    error_ = reply;
    enough_ = true;
    return {};
  }
  const size_t keys_before = keys_.size();
  const size_t count_before = count_;
  auto taken = [&]() -> Result<std::optional<std::string_view>> {
    if (TRY(take_number(reply, '*')) != 2) return fail(ErrorCode::kCorrupt, "it is not a pair");
    const Element next = TRY(take_element(reply));
    Elements keys = TRY(Elements::open(reply));
    while (keys.left() > 0) {
      keys_ += TRY(keys.next()).whole;
      ++count_;
    }
    return next.text;
  }();
  if (!taken) {
    keys_.resize(keys_before);
    count_ = count_before;
    return fail(ErrorCode::kCorrupt, fmt::format("a shard's reply to a scan is malformed: {}", taken.error().message));
  }
  advance(position_, asked_, *taken ? &**taken : nullptr);
  // A shard that has more has looked at as many keys as the client wants looked at.
  enough_ = *taken || position_.empty() || ++asks_ == kMaxScanAsks;
  return {};
}

void Scan::answer(kv::ScanCursors& cursors, std::string& out) const {
  CHECK(enough_);
  if (!error_.empty()) {
    out += error_;
    return;
  }
  uint64_t next = 0;
  if (position_.empty())
    cursors.finish(cursor_);
  else
    next = cursors.advance(cursor_, encode(position_));
  protocol::put_array(out, 2);
  protocol::put_bulk(out, std::to_string(next));
  protocol::put_array(out, count_);
  out += keys_;
}

}  // namespace mneme::node
