#include "core/kv/table.h"

#include <new>

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/base/limits.h"

namespace mneme::kv {

namespace {

constexpr size_t kFirstLevel = 64;  // buckets of an empty table; a power of two
// Seeds of the digest's hashes: part of the checkpoint format.
constexpr uint64_t kKeySeed = 0x6d6e656d652e6b31;
constexpr uint64_t kContentSeed = 0x6d6e656d652e7631;
constexpr uint64_t kRecordSeed = 0x6d6e656d652e7231;
// Bucket, places in the indexes, and what an allocator adds to a record and its value: measured, rounded.
constexpr size_t kRecordOverhead = 58;

uint64_t hash_content(Kind kind, std::string_view value) {
  return xxh3(value, kContentSeed + static_cast<uint64_t>(kind));
}

uint64_t hash_record(uint64_t key_hash, const Record& record) {
  uint64_t words[3] = {key_hash, record.content_hash, static_cast<uint64_t>(record.expire_at_ms)};
  return xxh3(ByteView(reinterpret_cast<const uint8_t*>(words), sizeof words), kRecordSeed);
}

Record* new_record(std::string_view key) {
  void* memory = ::operator new(sizeof(Record) + key.size());
  auto* record = new (memory) Record;
  record->key_size = static_cast<uint16_t>(key.size());
  record->slot = slot_of(key);
  key.copy(reinterpret_cast<char*>(record + 1), key.size());
  return record;
}

void delete_record(Record* record) {
  record->~Record();
  ::operator delete(record);
}

// A short value must not keep the memory of a long one before it.
void assign(std::string& to, std::string_view value) {
  if (to.capacity() > 2 * value.size() + 64) {
    to = std::string(value);
  } else {
    to.assign(value);
  }
}

}  // namespace

Table::Table() : buckets_(kFirstLevel, nullptr), level_(kFirstLevel) {}

Table::~Table() {
  for (Record* record : buckets_) {
    while (record != nullptr) {
      Record* next = record->next_in_bucket;
      delete_record(record);
      record = next;
    }
  }
}

uint64_t Table::hash_key(std::string_view key) { return xxh3(key, kKeySeed); }

size_t Table::bytes_of(size_t key_bytes, size_t value_bytes) {
  return sizeof(Record) + kRecordOverhead + key_bytes + value_bytes;
}

size_t Table::bucket_of(uint64_t key_hash) const {
  size_t at = key_hash & (2 * level_ - 1);
  return at < buckets_.size() ? at : at - level_;
}

Record* Table::find_record(std::string_view key, uint64_t key_hash) const {
  Record* record = buckets_[bucket_of(key_hash)];
  while (record != nullptr && record->key() != key) record = record->next_in_bucket;
  return record;
}

uint64_t Table::expect(std::string_view key) const {
  const uint64_t key_hash = hash_key(key);
  __builtin_prefetch(&buckets_[bucket_of(key_hash)]);
  return key_hash;
}

void Table::expect_record(uint64_t key_hash) const {
  const Record* record = buckets_[bucket_of(key_hash)];
  if (record == nullptr) return;
  __builtin_prefetch(record);
  __builtin_prefetch(record + 1);  // its key
}

Table::Share Table::share_of(const Record& record, uint64_t key_hash) {
  return {hash_record(key_hash, record), bytes_of(record.key_size, record.value.size())};
}

void Table::account(const Record& record, uint64_t key_hash, bool added) {
  const Share share = share_of(record, key_hash);
  digest_ += added ? share.digest : -share.digest;
  bytes_used_ += added ? share.bytes : -share.bytes;
}

std::optional<Value> Table::find(std::string_view key) const {
  const Record* record = find_record(key, hash_key(key));
  if (record == nullptr || expired(*record)) return std::nullopt;
  return record->view();
}

void Table::put(std::string_view key, const Value& value) {
  CHECK(key.size() <= limits::kMaxKeyBytes);
  CHECK(value.expire_at_ms >= 0);
  uint64_t key_hash = hash_key(key);
  Record* record = find_record(key, key_hash);
  if (observer_ != nullptr) observer_->before_change(key, record);
  if (record == nullptr) return add(key, key_hash, value);
  account(*record, key_hash, false);
  bool moved = record->expire_at_ms != value.expire_at_ms;
  if (moved && record->expire_at_ms != 0) by_expiry_.erase(record);
  record->kind = value.kind;
  assign(record->value, value.bytes);
  record->content_hash = hash_content(record->kind, record->value);
  record->expire_at_ms = value.expire_at_ms;
  if (moved && record->expire_at_ms != 0) by_expiry_.insert(record);
  account(*record, key_hash, true);
}

void Table::add(std::string_view key, uint64_t key_hash, const Value& value) {
  Record* record = new_record(key);
  record->kind = value.kind;
  record->value = value.bytes;
  record->content_hash = hash_content(value.kind, value.bytes);
  record->expire_at_ms = value.expire_at_ms;
  Record*& bucket = buckets_[bucket_of(key_hash)];
  record->next_in_bucket = bucket;
  bucket = record;
  by_key_.insert(record);
  if (record->expire_at_ms != 0) by_expiry_.insert(record);
  account(*record, key_hash, true);
  ++count_;
  count_in_slot(*record, true);
  while (2 * count_ > buckets_.size()) grow();
}

// Splits the next bucket of this level into itself and a new last one.
void Table::grow() {
  size_t from = buckets_.size() - level_;
  Record* chain = buckets_[from];
  buckets_[from] = nullptr;
  buckets_.push_back(nullptr);
  while (chain != nullptr) {
    Record* next = chain->next_in_bucket;
    Record*& bucket = buckets_[bucket_of(hash_key(chain->key()))];
    chain->next_in_bucket = bucket;
    bucket = chain;
    chain = next;
  }
  if (buckets_.size() == 2 * level_) level_ *= 2;
}

void Table::set_expiry(std::string_view key, int64_t expire_at_ms) {
  CHECK(expire_at_ms >= 0);
  uint64_t key_hash = hash_key(key);
  Record* record = find_record(key, key_hash);
  CHECK(record != nullptr);
  if (record->expire_at_ms == expire_at_ms) return;
  if (observer_ != nullptr) observer_->before_change(key, record);
  account(*record, key_hash, false);
  if (record->expire_at_ms != 0) by_expiry_.erase(record);
  record->expire_at_ms = expire_at_ms;
  if (record->expire_at_ms != 0) by_expiry_.insert(record);
  account(*record, key_hash, true);
}

void Table::remove(Record* record, uint64_t key_hash) {
  if (observer_ != nullptr) observer_->before_change(record->key(), record);
  account(*record, key_hash, false);
  by_key_.erase(record);
  if (record->expire_at_ms != 0) by_expiry_.erase(record);
  Record** link = &buckets_[bucket_of(key_hash)];
  while (*link != record) link = &(*link)->next_in_bucket;
  *link = record->next_in_bucket;
  count_in_slot(*record, false);
  delete_record(record);
  --count_;
}

bool Table::erase(std::string_view key) {
  uint64_t key_hash = hash_key(key);
  Record* record = find_record(key, key_hash);
  if (record == nullptr || expired(*record)) return false;
  remove(record, key_hash);
  return true;
}

void Table::clear() {
  auto place = by_key_.begin();
  while (Record* record = by_key_.next(place)) {
    if (observer_ != nullptr) observer_->before_change(record->key(), record);
    delete_record(record);
  }
  by_key_.clear();
  by_expiry_.clear();
  buckets_.assign(kFirstLevel, nullptr);
  buckets_.shrink_to_fit();
  level_ = kFirstLevel;
  slot_counts_ = {};
  count_ = 0;
  digest_ = 0;
  bytes_used_ = 0;
}

void Table::visit(std::string_view from, const Visitor& visitor) const {
  for_each_record(from, [&](const Record& r) { return expired(r) || visitor(r.key(), r.view()); });
}

std::optional<std::string> Table::some_key(uint64_t pick) const {
  if (count_ == 0) return std::nullopt;
  auto place = by_key_.nth(pick % count_);
  for (size_t i = 0; i < count_; ++i) {
    const Record* record = by_key_.next(place);
    if (record == nullptr) {
      place = by_key_.begin();
      record = by_key_.next(place);
    }
    if (!expired(*record)) return std::string(record->key());
  }
  return std::nullopt;
}

size_t Table::expired_records(std::optional<uint16_t> slot) const {
  size_t records = 0;
  auto place = by_expiry_.begin();
  for (const Record* r = by_expiry_.next(place); r != nullptr && expired(*r); r = by_expiry_.next(place)) {
    records += !slot || r->slot == *slot;
  }
  return records;
}

size_t Table::size() const { return count_ - expired_records(std::nullopt); }

int64_t Table::next_expiry_ms() const {
  auto place = by_expiry_.begin();
  const Record* record = by_expiry_.next(place);
  while (record != nullptr && expired(*record)) record = by_expiry_.next(place);
  return record != nullptr ? record->expire_at_ms : INT64_MAX;
}

int64_t Table::first_expiry_ms() const { return by_expiry_.empty() ? INT64_MAX : by_expiry_.first()->expire_at_ms; }

size_t Table::advance(int64_t ms, size_t max_removed) {
  if (ms > log_time_ms_) log_time_ms_ = ms;
  size_t removed = 0;
  while (removed < max_removed && !by_expiry_.empty() && expired(*by_expiry_.first())) {
    Record* record = by_expiry_.first();
    remove(record, hash_key(record->key()));
    ++removed;
  }
  return removed;
}

}  // namespace mneme::kv
