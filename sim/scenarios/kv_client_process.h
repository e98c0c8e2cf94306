// A client of a kv run, whose process may be killed and started again.
#pragma once

#include "core/env/env.h"

namespace mneme::sim {

class KvClientProcess {
 public:
  virtual ~KvClientProcess() = default;
  // The process: operations from the first that no process before it began. Returns when all are done.
  virtual Result<void> run(Env& env) = 0;
  virtual bool finished() const = 0;
};

}  // namespace mneme::sim
