// The keyed data of one tablet as commands see it. Implemented by an in-memory table (table.h), later by an LSM tree.
//
// Time is log time: milliseconds since the Unix epoch as the log's entries carry them. A key whose expire_at_ms is not
// above log time does not exist for anybody, whether or not it was removed yet.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace mneme::kv {

enum class Kind : uint8_t {  // part of the checkpoint format
  kString = 0,
  kNum = 1,  // a 32-bit integer set through the S-expression protocol; stored as its decimal text
};

struct Value {
  Kind kind = Kind::kString;
  std::string_view bytes;
  int64_t expire_at_ms = 0;  // log time; 0: never

  bool operator==(const Value&) const = default;
};

class Store {
 public:
  virtual ~Store() = default;

  // The view holds until the key itself changes.
  virtual std::optional<Value> find(std::string_view key) const = 0;

  // Sets value and expiry. The bytes may be those of another key of this store.
  virtual void put(std::string_view key, const Value& value) = 0;
  // The key exists.
  virtual void set_expiry(std::string_view key, int64_t expire_at_ms) = 0;
  // False when the key did not exist.
  virtual bool erase(std::string_view key) = 0;
  virtual void clear() = 0;

  // Existing keys from `from` on, in byte order, until the visitor answers false.
  using Visitor = std::function<bool(std::string_view key, const Value& value)>;
  virtual void visit(std::string_view from, const Visitor& visitor) const = 0;

  // An existing key, picked by the number; empty when there is none.
  virtual std::optional<std::string> some_key(uint64_t pick) const = 0;

  // Number of existing keys.
  virtual size_t size() const = 0;
  virtual size_t size_of_slot(uint16_t slot) const = 0;
  // Existing keys of a hash slot, in byte order, until the visitor answers false. May take as long as a visit to all.
  virtual void visit_slot(uint16_t slot, const Visitor& visitor) const = 0;
  // The earliest time at which an existing key will expire; INT64_MAX: none will.
  virtual int64_t next_expiry_ms() const = 0;

  int64_t log_time_ms() const { return log_time_ms_; }

 protected:
  int64_t log_time_ms_ = 0;
};

}  // namespace mneme::kv
