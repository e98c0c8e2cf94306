// What `mneme check HISTORY --model M --format F [--html FILE]` does, but for the files and flags.
#pragma once

#include <string>
#include <string_view>

#include "core/base/error.h"
#include "sim/check/checker.h"

namespace mneme::check {

enum class Model : uint8_t { kRegister, kKv };
enum class Format : uint8_t { kJepsen, kKv, kJsonl };

// The words after --model and --format; an error names those that are allowed.
Result<Model> model_named(std::string_view name);
Result<Format> format_named(std::string_view name);

struct CheckRequest {
  std::string_view text;  // the file's contents
  std::string_view name;  // of the file, for messages
  Model model = Model::kKv;
  Format format = Format::kJsonl;
  bool html = false;
  CheckOptions options = {};
};

struct CheckReport {
  Answer answer = Answer::kInconclusive;
  int exit_code =
      0;  // 0 linearizable, 1 violation, 4 inconclusive; 70: a proof that does not hold, a bug in the checker
  std::string text;  // for stdout
  std::string json;  // the same as one JSON object
  std::string html;  // empty unless asked for
};

// An error, for a file that cannot be read or does not go with the model, is one sentence with the line; exit code 2.
Result<CheckReport> run_check(const CheckRequest& request);

}  // namespace mneme::check
