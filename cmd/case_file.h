// A case: the recipe of one failing run as a small text file, enough to replay it anywhere with the same build.
//
//   # mneme case
//   format = 1
//   build = "..."
//   scenario = "kv"
//   seed = 1187
//   property = "linearizable"     what failed, to tell whether it is reproduced; "" when nothing did
//   trace_hash = "16 hex digits"
//   branches = ["81234.2"]        event.nth; left out: none
//   judge = "black box"           the clients' history alone; left out: all judges
//   [options]                     every option, expanded
//   nodes = 3
//   [remove]                      items left out of the plan
//   faults = [1003]
//   operations = ["3.17"]         client.nth
#pragma once

#include <string>

#include "sim/scenarios/run.h"

namespace mneme::cmd {

struct Case {
  sim::Recipe recipe;  // with all options given
  std::string build;
  std::string property;
  uint64_t trace_hash = 0;
  bool black_box_only = false;
};

std::string to_text(const Case& c);
// kInvalid with line and key; kNotFound.
Result<Case> load_case(const std::string& path);
Result<void> save_case(const std::string& path, const Case& c);

}  // namespace mneme::cmd
