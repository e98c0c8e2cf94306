// What the table knows of hash slots: how many records each has, and how it is split between two of them.
#include <algorithm>
#include <array>
#include <bit>
#include <numeric>
#include <span>

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/kv/table.h"

namespace mneme::kv {

namespace {

// From this many records on their number in each slot is kept, in 64 KiB, which is little against the records. Fewer
// are counted when somebody asks.
constexpr size_t kCountedFrom = 4096;

}  // namespace

void Table::count_in_slot(const Record& record, bool added) {
  if (!slot_counts_.empty()) {
    slot_counts_[record.slot] += added ? 1 : -1;
  } else if (added && count_ >= kCountedFrom) {
    slot_counts_.resize(kSlots);
    by_key_.for_each([this](const Record* each) { ++slot_counts_[each->slot]; });
  }
}

size_t Table::records_of(uint16_t slot) const {
  if (!slot_counts_.empty()) return slot_counts_[slot];
  size_t records = 0;
  by_key_.for_each([&](const Record* record) { records += record->slot == slot; });
  return records;
}

size_t Table::size_of_slot(uint16_t slot) const { return records_of(slot) - expired_records(slot); }

// There is no index by slot: it would cost every record 8 bytes and every insertion a search, for a command that only
// people and their tools send. What there is ends the walk with the slot's last record.
void Table::visit_slot(uint16_t slot, const Visitor& visitor) const {
  size_t left = records_of(slot);
  if (left == 0) return;
  by_key_.for_each_until([&](const Record* record) {
    if (record->slot != slot) return false;
    --left;
    if (!expired(*record) && !visitor(record->key(), record->view())) return true;
    return left == 0;
  });
}

std::vector<size_t> Table::bytes_by_slot() const {
  std::vector<size_t> bytes(kSlots);
  by_key_.for_each(
      [&](const Record* record) { bytes[record->slot] += bytes_of(record->key_size, record->value.size()); });
  return bytes;
}

size_t Table::records_from(uint16_t slot) const {
  if (!slot_counts_.empty()) return std::accumulate(slot_counts_.begin() + slot, slot_counts_.end(), size_t{0});
  size_t records = 0;
  by_key_.for_each([&](const Record* record) { records += record->slot >= slot; });
  return records;
}

// Records on their way from one table's buckets to another's, some at once: each is a chain of cache misses.
class Table::Move {
 public:
  Move(Table& from, Table& to) : from_(from), to_(to) {}

  // The record was looked at just now. It may be on its way until finish().
  void add(Record* record) {
    const uint64_t key_hash = hash_key(record->key());
    __builtin_prefetch(&from_.buckets_[from_.bucket_of(key_hash)]);
    __builtin_prefetch(&to_.buckets_[to_.bucket_of(key_hash)]);
    moving_[count_++] = {record, key_hash};
    if (count_ == moving_.size()) finish();
  }

  void finish() {
    const std::span moving(moving_.data(), count_);
    for (const Moving& m : moving) __builtin_prefetch(from_.buckets_[from_.bucket_of(m.key_hash)]);
    for (const Moving& m : moving) {
      Record** link = &from_.buckets_[from_.bucket_of(m.key_hash)];
      while (*link != m.record) link = &(*link)->next_in_bucket;
      *link = m.record->next_in_bucket;
      Record*& bucket = to_.buckets_[to_.bucket_of(m.key_hash)];
      m.record->next_in_bucket = bucket;
      bucket = m.record;
      const Share share = share_of(*m.record, m.key_hash);
      digest_ += share.digest;
      bytes_ += share.bytes;
    }
    count_ = 0;
  }

  // Of all that were moved.
  uint64_t digest() const { return digest_; }
  size_t bytes() const { return bytes_; }

 private:
  struct Moving {
    Record* record;
    uint64_t key_hash;
  };
  Table& from_;
  Table& to_;
  std::array<Moving, 32> moving_;
  size_t count_ = 0;
  uint64_t digest_ = 0;
  size_t bytes_ = 0;
};

void Table::split(uint16_t at, Table& to) {
  CHECK(to.count_ == 0);
  if (observer_ != nullptr) {
    by_key_.for_each([&](const Record* record) {
      if (record->slot >= at) observer_->before_change(record->key(), record);
    });
  }
  to.log_time_ms_ = log_time_ms_;
  to.count_ = records_from(at);
  to.make_buckets(2 * to.count_);
  Move move(*this, to);
  by_key_.split(to.by_key_, [&](Record* record) {
    const bool moves = record->slot >= at;
    if (moves) move.add(record);
    return moves;
  });
  move.finish();
  by_expiry_.split(to.by_expiry_, [at](const Record* record) { return record->slot >= at; });
  count_ -= to.count_;
  digest_ -= to.digest_ = move.digest();
  bytes_used_ -= to.bytes_used_ = move.bytes();
  if (slot_counts_.empty()) return;
  to.slot_counts_ = slot_counts_;
  std::fill(slot_counts_.begin() + at, slot_counts_.end(), 0);
  std::fill(to.slot_counts_.begin(), to.slot_counts_.begin() + at, 0);
}

// As growing would have left them.
void Table::make_buckets(size_t count) {
  buckets_.assign(std::max(count, buckets_.size()), nullptr);
  level_ = std::bit_floor(buckets_.size());
}

}  // namespace mneme::kv
