// What the clients of a kv run did and were told, and how it becomes a history for the linearizability checker.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "sim/check/history.h"
#include "sim/event.h"
#include "sim/scenarios/plan.h"

namespace mneme::sim {

enum class ClientOutcome : uint8_t { kOpen, kOk, kFailed, kUnknown };

// One operation of one client. A retry without a session is an operation of its own; one with a session is the same,
// and so is one by the client library.
struct OpRecord {
  uint32_t client = 0;  // 1-based; the last one is the auditor, who reads every key at the end
  uint32_t nth = 0;     // in the plan
  OpKind kind = OpKind::kGet;
  std::vector<std::string> args;
  int64_t ttl_ms = 0;
  WorldTime called = 0;
  WorldTime returned = -1;
  uint64_t call_order = 0;  // of all events of all clients
  uint64_t return_order = 0;
  uint64_t sent_order = 0;  // of the first attempt; 0: there was none
  ClientOutcome outcome = ClientOutcome::kOpen;
  bool repeats = false;  // a read that may be sent, and executed, several times
  std::string reply;     // RESP2, of kOk; otherwise an error that the outcome rests on, or nothing
  // Where it was sent: stream at the server and number of the command on it.
  std::vector<std::pair<uint64_t, uint64_t>> attempts;

  std::string text() const;  // "c3 SET k1 c3.17"
};

// Expiry in the checker's model: a value written with a time to live of d may disappear, once, at any time later than
// 3/4 d after the write was called (see core/replica/log_clock.h; drifts stay below 5 percent), or never.
// `ids`, if given, gets the operation of each record; kNoOperation where it has none.
inline constexpr check::OpId kNoOperation = UINT32_MAX;
check::History to_history(const std::vector<OpRecord>& records, std::vector<check::OpId>* ids = nullptr);

}  // namespace mneme::sim
