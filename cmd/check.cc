// mneme check: is a recorded history linearizable?
#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "cmd/common.h"
#include "sim/check/command.h"

namespace mneme::cmd {

namespace {

struct Flags {
  std::string history;
  std::string model = "kv";
  std::string format = "jsonl";
  std::string html;
  uint64_t steps = check::Budget{}.steps;
  bool json = false;
};

int run_check(const Flags& flags) {
  auto model = check::model_named(flags.model);
  if (!model) return complain(kUsage, model.error().message);
  auto format = check::format_named(flags.format);
  if (!format) return complain(kUsage, format.error().message);
  if (!std::filesystem::is_regular_file(flags.history))
    return complain(kUsage, fmt::format("there is no file {}", flags.history));
  std::ifstream file(flags.history, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) return complain(kIo, fmt::format("cannot read {}", flags.history));
  const std::string content = text.str();
  auto report = check::run_check({.text = content,
                                  .name = flags.history,
                                  .model = *model,
                                  .format = *format,
                                  .html = !flags.html.empty(),
                                  .options = {.budget = {.steps = flags.steps}}});
  if (!report) return complain(kUsage, report.error().message);
  fmt::print("{}", flags.json ? report->json : report->text);
  if (!flags.html.empty()) {
    std::ofstream out(flags.html, std::ios::trunc);
    out << report->html;
    out.close();
    if (!out) return complain(kIo, fmt::format("cannot write {}", flags.html));
  }
  return report->exit_code;
}

}  // namespace

void add_check(CLI::App& app, Run& run) {
  auto flags = std::make_shared<Flags>();
  CLI::App* check = app.add_subcommand("check", "Check whether a recorded history is linearizable");
  check->add_option("HISTORY", flags->history, "the file")->required();
  check->add_option("--model", flags->model, "register or kv")->capture_default_str();
  check->add_option("--format", flags->format, "jepsen, kv or jsonl")->capture_default_str();
  check->add_option("--html", flags->html, "write a timeline to this file");
  check->add_option("--steps", flags->steps, "most steps of a search on one key; then the verdict is inconclusive")
      ->check(CLI::Range(uint64_t{1}, UINT64_MAX))
      ->capture_default_str();
  check->add_flag("--json", flags->json, "print one JSON object on stdout and nothing else");
  check->footer(
      "Examples:\n  mneme check tests/golden/histories/etcd_002.log --model register --format jepsen\n"
      "  mneme check tests/golden/histories/c10-bad.txt --model kv --format kv --html c10.html");
  check->callback([flags, &run] { run = [flags] { return run_check(*flags); }; });
}

}  // namespace mneme::cmd
