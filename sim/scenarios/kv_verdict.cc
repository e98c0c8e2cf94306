#include "sim/scenarios/kv_verdict.h"

#include <fmt/format.h>

#include "core/base/limits.h"
#include "sim/check/checker.h"

namespace mneme::sim {

namespace {

std::string seconds(int64_t ns) { return fmt::format("{}.{:03} s", ns / 1'000'000'000, ns / 1'000'000 % 1000); }

// The operations that are impossible together, with their times.
std::string describe(const check::Violation& violation, const check::History& history) {
  std::string out;
  for (const check::Operation& op : violation.core.operations) {
    const std::string who = op.client == check::kNoClient ? "--" : fmt::format("c{}", op.client);
    const std::string when = op.ret == check::kForever
                                 ? fmt::format("{} ..", seconds(op.call_ns))
                                 : fmt::format("{} .. {}", seconds(op.call_ns), seconds(op.return_ns));
    out += fmt::format("{:<4} {:<50} {:<24} {}\n", who, check::describe_call(op, history.values), when,
                       check::describe_reply(op, history.values));
  }
  return out;
}

std::string describe(const std::vector<OpRecord>& records) {
  std::string out;
  for (const OpRecord& record : records) {
    const std::string when = record.returned < record.called
                                 ? fmt::format("{} ..", seconds(record.called))
                                 : fmt::format("{} .. {}", seconds(record.called), seconds(record.returned));
    std::string reply;
    for (char c : record.reply)
      if (c != '\r') reply += c == '\n' ? ' ' : c;
    out += fmt::format("{:<40} {:<24} {}\n", record.text(), when, reply.substr(0, 40));
  }
  return out;
}

}  // namespace

void judge(const KvLog& log, KvOracle& oracle, std::optional<Finding> finding, const RunHooks& hooks,
           RunResult& result) {
  if (!finding && hooks.white_box) finding = oracle.judge(log.records);
  if (finding && hooks.white_box) {
    result.verdict = RunVerdict::kFailed;
    result.property = finding->property;
    result.summary = finding->summary;
    result.details = finding->operations.empty() ? finding->account : describe(finding->operations);
    return;
  }
  if (finding && finding->property != "liveness" && finding->property != "node ended" && finding->property != "leak" &&
      finding->property != "conservation")
    return;
  if (!hooks.black_box) return;
  std::vector<check::OpId> ids;
  check::History history = to_history(log.records, &ids);
  check::CheckOptions how;
  if (hooks.white_box) {
    // The replicas' own order of commands is a witness that is there already, where a search might take minutes. It
    // says nothing of keys whose values expired; they are easy, or the verdict is inconclusive.
    how.budget = {.steps = 16'000'000, .memory_bytes = 96 * limits::kMiB};
    uint64_t revision = 0;
    for (size_t record : oracle.order())
      if (ids[record] != kNoOperation) history.operations[ids[record]].revision = ++revision;
  }
  check::Verdict verdict = check::check(history, how);
  if (verdict.answer == check::Answer::kLinearizable) {
    if (!finding) return;
    result.verdict = RunVerdict::kFailed;
    result.property = finding->property;
    result.summary = finding->summary;
    result.details = finding->account;
    return;
  }
  result.property = "linearizable";
  if (verdict.answer == check::Answer::kInconclusive) {
    result.verdict = RunVerdict::kInconclusive;
    result.summary =
        fmt::format("the checker ran out of its budget on key \"{}\"", history.keys.text(verdict.inconclusive));
    return;
  }
  result.verdict = RunVerdict::kFailed;
  const check::Operation& failing = history.operations[verdict.violation.failing];
  result.summary = fmt::format(
      "key \"{}\": no order of the operations explains c{} {} {}", history.keys.text(verdict.violation.key),
      failing.client, check::describe_call(failing, history.values), check::describe_reply(failing, history.values));
  result.details = describe(verdict.violation, history);
}

}  // namespace mneme::sim
