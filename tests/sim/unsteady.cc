// Linked into a mneme of its own, in place of run_kv(): a run that is not the same in every process, as any of ours
// must be. What differs is only the trace hash, from one known event on, and only in the processes that --verify
// executes afresh. UNSTEADY says how: "changes", "ends" (that event is the last), "once" (only the first time, in a
// lane), "branches" (only runs that branch change).
#include <cstdlib>
#include <string_view>

#include "sim/scenarios/run.h"

using namespace mneme;
using namespace mneme::sim;

// The linker's names for the function that is replaced (--wrap).
Result<RunResult> steady_run(const Recipe& recipe,
                             const RunHooks& hooks) asm("__real__ZN5mneme3sim6run_kvERKNS0_6RecipeERKNS0_8RunHooksE");
Result<RunResult> unsteady_run(const Recipe& recipe,
                               const RunHooks& hooks) asm("__wrap__ZN5mneme3sim6run_kvERKNS0_6RecipeERKNS0_8RunHooksE");

Result<RunResult> unsteady_run(const Recipe& recipe, const RunHooks& hooks) {
  constexpr uint64_t kEvent = 1000;
  const char* set = std::getenv("UNSTEADY");
  const std::string_view how = set ? set : "";
  // Only what looks for the first event that differs listens to events.
  const bool looking = hooks.after_event != nullptr;
  if (how.empty() || !std::getenv("MNEME_DISPLACEMENT") || (how == "once" && looking) ||
      (how == "branches" && recipe.branches.empty()))
    return steady_run(recipe, hooks);
  RunHooks changed = hooks;
  if (looking)
    changed.after_event = [&](uint64_t number, uint64_t hash) {
      if (number < kEvent) return hooks.after_event(number, hash);
      if (how != "ends") hooks.after_event(number, hash + 1);
    };
  auto result = steady_run(recipe, changed);
  if (result) ++result->trace_hash;
  return result;
}
