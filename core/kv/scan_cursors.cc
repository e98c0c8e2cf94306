#include "core/kv/scan_cursors.h"

#include <charconv>

#include "core/base/hash.h"

namespace mneme::kv {

std::optional<uint64_t> parse_cursor(std::string_view text) {
  text = text.substr(0, text.find('\0'));
  if (text.empty()) return 0;
  bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  uint64_t cursor = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), cursor);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return negative ? -cursor : cursor;
}

std::string_view ScanCursors::position(uint64_t cursor) {
  auto found = cursors_.find(cursor);
  if (found == cursors_.end()) return {};
  ages_.splice(ages_.end(), ages_, found->second.age);
  return found->second.key;
}

uint64_t ScanCursors::advance(uint64_t cursor, std::string key) {
  forget_before(cursor);
  uint64_t id = 0;
  // Some client libraries keep cursors in signed integers.
  while (id == 0 || cursors_.contains(id)) id = mix(key_ + ++made_) >> 1;
  bytes_ += key.size();
  ages_.push_back(id);
  cursors_.emplace(id, Cursor{std::move(key), cursor, std::prev(ages_.end())});
  while (ages_.size() > kMaxCursors || (bytes_ > kMaxPositionBytes && ages_.size() > 1)) forget(ages_.front());
  return id;
}

void ScanCursors::forget(uint64_t cursor) {
  auto found = cursors_.find(cursor);
  if (found == cursors_.end()) return;
  bytes_ -= found->second.key.size();
  ages_.erase(found->second.age);
  cursors_.erase(found);
}

void ScanCursors::forget_before(uint64_t cursor) {
  auto found = cursors_.find(cursor);
  if (found == cursors_.end()) return;
  uint64_t before = found->second.before;
  found->second.before = 0;
  forget(before);
}

}  // namespace mneme::kv
