#include "core/kv/refusals.h"

#include <algorithm>
#include <initializer_list>

#include "core/kv/text.h"

namespace mneme::kv {

namespace {

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::any_of(names.begin(), names.end(),
                     [&](std::string_view known) { return equals_ignoring_case(name, known); });
}

}  // namespace

std::string_view refusal_of(std::string_view name) {
  if (is_one_of(name, {"cluster|addslots", "cluster|addslotsrange", "cluster|bumpepoch", "cluster|delslots",
                       "cluster|delslotsrange", "cluster|failover", "cluster|flushslots", "cluster|forget",
                       "cluster|meet", "cluster|replicate", "cluster|reset", "cluster|saveconfig",
                       "cluster|set-config-epoch", "cluster|setslot", "failover", "migrate", "replicaof", "slaveof"}))
    return "ERR topology is managed by consensus; use `mneme cluster ...`";
  if (is_one_of(name, {"wait", "waitaof"}))
    return "ERR replicas are not waited for one by one: every acknowledged write is durable on a majority already";
  if (is_one_of(name, {"eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro", "script", "function|delete",
                       "function|dump", "function|kill", "function|list", "function|load", "function|restore",
                       "function|stats"}))
    return "ERR there are no scripts; use MULTI and EXEC, which are atomic within a slot, or CAS";
  if (is_one_of(name, {"subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe",
                       "publish", "spublish", "pubsub"}))
    return "ERR there are no channels; store messages under keys and read them with RANGE";
  if (is_one_of(name, {"blpop", "brpop", "brpoplpush", "blmove", "blmpop", "bzpopmin", "bzpopmax", "bzmpop"}))
    return "ERR there are no lists to wait for; find keys with RANGE and take them with GETDEL";
  if (equals_ignoring_case(name, "debug"))
    return "ERR there is no DEBUG; INFO and MNEME.STATUS show a node's state, and `mneme sim` injects faults";
  return {};
}

}  // namespace mneme::kv
