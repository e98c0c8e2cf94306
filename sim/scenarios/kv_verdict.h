// The verdict on a kv run: what the oracles found while it ran and at its end, and what the clients' history says.
#pragma once

#include <optional>

#include "sim/scenarios/kv_client.h"
#include "sim/scenarios/kv_oracle.h"
#include "sim/scenarios/run.h"

namespace mneme::sim {

// Fills in verdict, property, summary and details. `finding` is what was found while it ran; with the white box it
// decides, without it only if it was seen from outside and the history is linearizable.
void judge(const KvLog& log, KvOracle& oracle, std::optional<Finding> finding, const RunHooks& hooks,
           RunResult& result);

}  // namespace mneme::sim
