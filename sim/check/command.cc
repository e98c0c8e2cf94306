#include "sim/check/command.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "sim/check/formats.h"
#include "sim/check/report.h"

namespace mneme::check {

Result<Model> model_named(std::string_view name) {
  if (name == "register") return Model::kRegister;
  if (name == "kv") return Model::kKv;
  if (name == "txn") return fail(ErrorCode::kUnsupported, "model 'txn' is not here yet; use register or kv");
  return fail(ErrorCode::kInvalid, fmt::format("model '{}' is not known; use register or kv", name));
}

Result<Format> format_named(std::string_view name) {
  if (name == "jepsen") return Format::kJepsen;
  if (name == "kv") return Format::kKv;
  if (name == "jsonl") return Format::kJsonl;
  return fail(ErrorCode::kInvalid, fmt::format("format '{}' is not known; use jepsen, kv or jsonl", name));
}

namespace {

Result<History> parse(const CheckRequest& request) {
  switch (request.format) {
    case Format::kJepsen: return parse_jepsen(request.text);
    case Format::kKv: return parse_kv(request.text);
    case Format::kJsonl: break;
  }
  return parse_jsonl(request.text);
}

std::string json_of(const History& history, const Verdict& verdict) {
  nlohmann::ordered_json out;
  out["verdict"] = verdict.answer == Answer::kLinearizable ? "linearizable"
                   : verdict.answer == Answer::kViolation  ? "violation"
                                                           : "inconclusive";
  out["operations"] = history.operations.size();
  out["keys"] = verdict.keys;
  out["steps"] = verdict.steps;
  if (verdict.answer == Answer::kInconclusive) out["key"] = describe_value(verdict.inconclusive, history.keys);
  if (verdict.answer == Answer::kViolation) {
    out["key"] = describe_value(verdict.violation.key, history.keys);
    out["operation"] = verdict.violation.failing;
    out["core"] = verdict.violation.core.ids;
    out["confirmed"] = verdict.violation.core.confirmed;
  }
  return out.dump() + "\n";
}

}  // namespace

Result<CheckReport> run_check(const CheckRequest& request) {
  if (request.format == Format::kJepsen && request.model != Model::kRegister) {
    return fail(ErrorCode::kInvalid, "format jepsen records one register; use --model register");
  }
  if (request.format == Format::kKv && request.model != Model::kKv) {
    return fail(ErrorCode::kInvalid, "format kv records a map of keys; use --model kv");
  }
  Result<History> history = parse(request);
  if (!history) return fail(history.error().code, fmt::format("{}: {}", request.name, history.error().message));
  if (request.model == Model::kRegister && history->keys.size() > 2) {
    return fail(ErrorCode::kInvalid, fmt::format("{}: has more than one key; use --model kv", request.name));
  }
  Verdict verdict = check(*history, request.options);
  CheckReport report{.answer = verdict.answer};
  report.text = account(*history, verdict);
  report.json = json_of(*history, verdict);
  if (request.html) report.html = html_page(*history, verdict, request.name);
  if (verdict.answer == Answer::kViolation) report.exit_code = 1;
  if (verdict.answer == Answer::kInconclusive) report.exit_code = 4;
  if (verdict.answer == Answer::kLinearizable && !replay(*history, verdict.order)) {
    report.exit_code = 70;
    report.text = "the order found does not prove the history linearizable: this is a bug in the checker\n";
  }
  return report;
}

}  // namespace mneme::check
