// History files: two that others write, and our own.
//
// **jepsen**: the log of a Jepsen register test, one event a line, `INFO  jepsen.util - PROCESS :TYPE :F VALUE`. TYPE
// is invoke, ok, fail or info; F is read, write or cas; VALUE is nil, a word, or `[expected new]`. Line order is
// real-time order. `:fail :cas [1 4]` says that the value was not 1; any other :fail that it did not happen; :info that
// nobody knows. The register is absent (nil) at first. Log lines that are no events of a process are skipped.
//
// **kv**: one event a line, an EDN map `{:process 0, :type :invoke, :f :put, :key "4", :value "x"}`; F is get, put or
// append. Each key holds "" at first.
//
// **jsonl**: ours, one JSON object per line. The first line may be `{"mneme_history": 1, "initial": TEXT}`; without
// it keys are absent at first. Every other line is one operation, in any order:
//
//     "client"   number; left out for what the store does by itself (expire)
//     "key"      TEXT
//     "op"       get, set, delete, cas, incr, append, setnx, getset, expire
//     "value"    TEXT: written, appended; for expire: what must be there, left out for anything
//     "expected" TEXT or null: of cas        "by"  number: of incr
//     "call", "return"  places in the one order of all events: distinct numbers; no return: outcome unknown
//     "call_ns", "return_ns"  times, for display
//     "revision" number from 1: the version of the key or of the store that the operation made or saw, as etcd's
//                mod_revision; makes checking fast and has no say in the verdict
//     "failed"   true: it did not happen
//     "result"   TEXT or null (a value), number (sum or length), true or false (deleted, swapped, written), or
//                {"error": "not_an_integer" | "overflow"}; left out when the reply says no more than that it is done
//
// TEXT is a string, or {"hex": "00ff"} for bytes that are not UTF-8; null is absent.
//
// All parsers say what is wrong, and in which line, and use memory in proportion to the input.
#pragma once

#include <string>
#include <string_view>

#include "core/base/error.h"
#include "sim/check/history.h"

namespace mneme::check {

Result<History> parse_jepsen(std::string_view text);
Result<History> parse_kv(std::string_view text);
Result<History> parse_jsonl(std::string_view text);

std::string write_jsonl(const History& history);

}  // namespace mneme::check
