// What each data command does to a store and what it answers, in canonical form: Redis 7.0's semantics and words.
//
// Pure functions of store, arguments and the time given. Used alike by apply, where time is log time, and by reads
// outside the log. The arguments passed check() (command.h); syntax and numbers are examined here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/kv/command.h"
#include "core/kv/store.h"

namespace mneme::kv {

struct Reading {
  const Store& store;
  // From when TTL counts. A key that exists by log time but whose expiry is not after this sets expiry_due.
  int64_t now_ms = 0;
  uint64_t pick = 0;  // what RANDOMKEY picks by
  bool expiry_due = false;

  std::optional<Value> find(std::string_view key);
};

// The reply of a command flagged kRead.
void execute_read(CommandId id, Args args, Reading& reading, std::string& out);

// The reply of a command flagged kWrite, but for those on sessions. Deadlines count from the store's log time.
void execute_write(CommandId id, Args args, Store& store, std::string& out);

}  // namespace mneme::kv
