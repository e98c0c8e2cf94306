// Writes down what one client of a kv run asks and is told: a planned operation becomes a command and a record of the
// history, an answer completes the record. Shared by all ways of speaking to the nodes (kv_client.h,
// kv_library_client.h).
#pragma once

#include <string>
#include <vector>

#include "sim/scenarios/kv_history.h"
#include "sim/scenarios/plan.h"

namespace mneme::sim {

class World;

// Shared by all clients of a run; outlives their processes.
struct KvLog {
  std::vector<OpRecord> records;
  uint64_t events = 0;
};

class KvScribe {
 public:
  // Both outlive it. `client` is 1-based.
  KvScribe(World& world, KvLog& log, uint32_t client) : world_(world), log_(log), client_(client) {}

  // Calls. Gives the record's place in the log, which stays when others are added.
  size_t begin(const PlannedOp& op);
  // A GET that no plan has.
  size_t begin_read(const std::string& key);
  // It leaves, as the nth command of the client's end of a stream.
  void sent(size_t record, uint64_t stream, uint64_t nth);
  // Returns. `reply` is what the outcome rests on, if there is any.
  void finish(size_t record, ClientOutcome outcome, std::string reply);

  OpRecord& record(size_t at) { return log_.records[at]; }

 private:
  OpRecord& call();
  std::vector<std::string> arguments(const PlannedOp& op) const;

  World& world_;
  KvLog& log_;
  uint32_t client_;
  std::vector<std::string> last_seen_;  // values read, to compare with in CAS
};

}  // namespace mneme::sim
