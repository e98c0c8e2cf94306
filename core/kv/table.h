// The in-memory table: a hash table of records for point operations, and two ordered indexes that only insertion,
// deletion and changes of expiry touch: by key, for RANGE, SCAN and checkpoints, and by (expiry, key), for sweeping.
//
// Everything replicas must agree on is a function of the sequence of calls: which records are there (expired ones that
// are not swept yet included), and from them digest() and bytes_used(). The hash table is never iterated.
//
// Expiry. advance() moves log time, never back, and removes a bounded number of expired records, earliest first, ties
// by key. Until its turn comes an expired record is invisible to find(), visit() and the rest of Store, but is part of
// the digest and of checkpoints, so that a replica restored from one sweeps in step with the others.
//
// Growth is by linear hashing, two buckets per insertion: there is no pause in which everything is moved. Two buckets a
// record cost 8 bytes more than one and save a cache miss on every fourth lookup.
#pragma once

#include <memory>
#include <vector>

#include "core/kv/ordered_index.h"
#include "core/kv/store.h"

namespace mneme::kv {

// Allocated with its key behind it.
struct Record {
  Record* next_in_bucket = nullptr;
  int64_t expire_at_ms = 0;
  uint64_t content_hash = 0;  // of kind and value, so that a change of expiry need not read the value again
  std::string value;
  uint16_t key_size = 0;
  uint16_t slot = 0;  // of the key
  Kind kind = Kind::kString;

  std::string_view key() const { return {reinterpret_cast<const char*>(this + 1), key_size}; }
  Value view() const { return {kind, value, expire_at_ms}; }
};

// Told of every change to a record before it happens, with the record as it is, or null when it is about to be added.
class TableObserver {
 public:
  virtual ~TableObserver() = default;
  virtual void before_change(std::string_view key, const Record* record) = 0;
};

class Table final : public Store {
 public:
  Table();
  ~Table() override;
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  std::optional<Value> find(std::string_view key) const override;
  void put(std::string_view key, const Value& value) override;
  void set_expiry(std::string_view key, int64_t expire_at_ms) override;
  bool erase(std::string_view key) override;
  void clear() override;
  void visit(std::string_view from, const Visitor& visitor) const override;
  std::optional<std::string> some_key(uint64_t pick) const override;
  size_t size() const override;
  size_t size_of_slot(uint16_t slot) const override;
  void visit_slot(uint16_t slot, const Visitor& visitor) const override;
  int64_t next_expiry_ms() const override;

  // Moves the records of slots from `at` on to `to`, which is empty and gets the same log time. Linear, 60 to 110 ns
  // a record, because none is copied. An observer is told of all that move, and what it does with each comes on top.
  void split(uint16_t at, Table& to);

  // Moves log time to `ms` unless it is there already, then removes up to `max_removed` expired records. Returns how
  // many it removed.
  size_t advance(int64_t ms, size_t max_removed);
  // The earliest expiry of any record, swept or not; INT64_MAX: none.
  int64_t first_expiry_ms() const;

  // All records in key order from `from` on, the expired ones that are still here included; fn answers whether to go
  // on.
  template <class Fn>
  void for_each_record(std::string_view from, Fn fn) const {
    auto place = by_key_.lower_bound(from);
    while (const Record* record = by_key_.next(place)) {
      if (!fn(*record)) return;
    }
  }

  size_t record_count() const { return count_; }
  // The bytes_used() of each slot's records. Looks at all of them.
  std::vector<size_t> bytes_by_slot() const;
  // Sum of a 64-bit hash of each record, modulo 2^64: equal for equal contents, whatever the order of changes was.
  uint64_t digest() const { return digest_; }
  // What the records take, by a fixed formula (not the allocator's word, which differs between replicas).
  size_t bytes_used() const { return bytes_used_; }
  static size_t bytes_of(size_t key_bytes, size_t value_bytes);

  // Hints that a key is about to be looked up, in two steps with other work between them: a lookup is a chain of cache
  // misses, and those of many keys can be on their way at once. Neither changes anything.
  uint64_t expect(std::string_view key) const;
  void expect_record(uint64_t key_hash) const;

  // One at a time; null takes it away. Outlives its use here.
  void observe(TableObserver* observer) { observer_ = observer; }

 private:
  class Move;
  struct ByKey {
    static std::string_view key(const Record* r) { return r->key(); }
    static std::string_view key(std::string_view k) { return k; }
    template <class A, class B>
    static bool less(const A& a, const B& b) {
      return key(a) < key(b);
    }
  };
  struct ByExpiry {
    template <class A, class B>
    static bool less(const A& a, const B& b) {
      return a->expire_at_ms != b->expire_at_ms ? a->expire_at_ms < b->expire_at_ms : a->key() < b->key();
    }
  };

  static uint64_t hash_key(std::string_view key);
  bool expired(const Record& record) const { return record.expire_at_ms != 0 && record.expire_at_ms <= log_time_ms_; }
  size_t bucket_of(uint64_t key_hash) const;
  Record* find_record(std::string_view key, uint64_t key_hash) const;
  void add(std::string_view key, uint64_t key_hash, const Value& value);
  void remove(Record* record, uint64_t key_hash);
  // What a record adds to the sums.
  struct Share {
    uint64_t digest;
    size_t bytes;
  };
  static Share share_of(const Record& record, uint64_t key_hash);
  void account(const Record& record, uint64_t key_hash, bool added);
  void grow();
  void make_buckets(size_t count);
  void count_in_slot(const Record& record, bool added);
  size_t records_of(uint16_t slot) const;
  size_t records_from(uint16_t slot) const;  // of it and those above
  size_t expired_records(std::optional<uint16_t> slot) const;

  std::vector<Record*> buckets_;
  size_t level_ = 0;  // buckets_.size() is level_ plus how many of the first level_ buckets were split
  size_t count_ = 0;
  uint64_t digest_ = 0;
  size_t bytes_used_ = 0;
  std::vector<uint32_t> slot_counts_;  // records by slot; empty: not kept (table_slots.cc)
  OrderedIndex<Record, ByKey> by_key_;
  OrderedIndex<Record, ByExpiry> by_expiry_;  // records with an expiry only
  TableObserver* observer_ = nullptr;
};

}  // namespace mneme::kv
