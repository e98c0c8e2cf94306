#include "cmd/case_file.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <charconv>
#include <filesystem>
#include <fstream>

namespace mneme::cmd {

namespace {

std::string option_line(const sim::OptionSpec& spec, int64_t value) {
  const std::string text = spec.text(value);
  return spec.named() ? fmt::format("{} = \"{}\"\n", spec.name, text) : fmt::format("{} = {}\n", spec.name, text);
}

}  // namespace

std::string to_text(const Case& c) {
  std::string out = "# mneme case\nformat = 1\n";
  out += fmt::format("build = \"{}\"\nscenario = \"{}\"\nseed = {}\nproperty = \"{}\"\ntrace_hash = \"{:016x}\"\n",
                     c.build, c.recipe.scenario, c.recipe.seed, c.property, c.trace_hash);
  if (!c.recipe.branches.empty()) {
    out += "branches = [";
    for (const sim::Branch& branch : c.recipe.branches) out += fmt::format("\"{}\", ", sim::to_text({branch}));
    out += "]\n";
  }
  if (c.black_box_only) out += "judge = \"black box\"\n";
  out += "\n[options]\n";
  for (size_t i = 0; i < sim::kOptionCount; ++i)
    if (auto option = static_cast<sim::Option>(i); c.recipe.options.given(option))
      out += option_line(sim::kOptionSpecs[i], c.recipe.options[option]);
  if (!c.recipe.removals.empty()) {
    out += "\n[remove]\nfaults = [";
    for (uint64_t item : c.recipe.removals.faults) out += fmt::format("{}, ", item);
    out += "]\noperations = [";
    for (auto& [client, nth] : c.recipe.removals.operations) out += fmt::format("\"{}.{}\", ", client + 1, nth);
    out += "]\n";
  }
  return out;
}

Result<void> save_case(const std::string& path, const Case& c) {
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  std::ofstream file(path, std::ios::trunc);
  file << to_text(c);
  file.close();
  if (!file) return fail(ErrorCode::kIo, fmt::format("cannot write {}", path));
  return {};
}

Result<Case> load_case(const std::string& path) {
  if (!std::filesystem::is_regular_file(path))
    return fail(ErrorCode::kNotFound, fmt::format("there is no case file {}", path));
  toml::table table;
  try {
    table = toml::parse_file(path);
  } catch (const toml::parse_error& error) {
    return fail(ErrorCode::kInvalid, fmt::format("{}:{}: {}", path, error.source().begin.line, error.description()));
  }
  auto where = [&](const toml::node& node, std::string_view what) {
    return fail(ErrorCode::kInvalid, fmt::format("{}:{}: {}", path, node.source().begin.line, what));
  };
  Case c;
  bool format_seen = false;
  bool seed_seen = false;
  for (auto& [key, node] : table) {
    if (key == "format") {
      if (node.value<int64_t>() != 1) return where(node, "this build reads cases of format 1");
      format_seen = true;
    } else if (key == "build" || key == "scenario" || key == "property") {
      auto text = node.value_exact<std::string>();
      if (!text) return where(node, fmt::format("{} is text in quotes", key.str()));
      (key == "build" ? c.build : key == "scenario" ? c.recipe.scenario : c.property) = *text;
    } else if (key == "seed") {
      auto seed = node.value_exact<int64_t>();
      if (!seed || *seed < 0) return where(node, "seed is a whole number");
      c.recipe.seed = static_cast<uint64_t>(*seed);
      seed_seen = true;
    } else if (key == "trace_hash") {
      auto text = node.value_exact<std::string>();
      if (!text || text->size() != 16 ||
          std::from_chars(text->data(), text->data() + 16, c.trace_hash, 16).ptr != text->data() + 16)
        return where(node, "trace_hash is 16 hex digits in quotes");
    } else if (key == "branches") {
      auto* array = node.as_array();
      if (!array) return where(node, "branches is a list of \"event.nth\"");
      for (auto& item : *array) {
        auto text = item.value_exact<std::string>();
        if (!text) return where(item, "branches is a list of \"event.nth\"");
        if (auto added = sim::add_branch(c.recipe.branches, *text); !added) return where(item, added.error().message);
      }
    } else if (key == "judge") {
      if (node.value_exact<std::string>() != "black box") return where(node, "judge is \"black box\" or left out");
      c.black_box_only = true;
    } else if (key == "options") {
      auto* options = node.as_table();
      if (!options) return where(node, "options is a table: write [options]");
      for (auto& [name, value] : *options) {
        auto number = value.value_exact<int64_t>();
        auto text = value.value_exact<std::string>();
        if (!number && !text) return where(value, fmt::format("{} is a whole number, or text in quotes", name.str()));
        auto set = c.recipe.options.set(name.str(), text ? *text : std::to_string(*number));
        if (!set) return where(value, set.error().message);
      }
    } else if (key == "remove") {
      auto* remove = node.as_table();
      if (!remove) return where(node, "remove is a table: write [remove]");
      for (auto& [name, value] : *remove) {
        auto* array = value.as_array();
        if (!array || (name != "faults" && name != "operations"))
          return where(value, "under [remove] stand the lists faults and operations");
        for (auto& item : *array) {
          if (name == "faults") {
            auto number = item.value_exact<int64_t>();
            if (!number || *number < 0) return where(item, "faults are named by their whole numbers");
            c.recipe.removals.faults.insert(static_cast<uint64_t>(*number));
            continue;
          }
          auto text = item.value_exact<std::string>();
          uint32_t client = 0;
          uint32_t nth = 0;
          if (!text || std::sscanf(text->c_str(), "%u.%u", &client, &nth) != 2 || client == 0)
            return where(item, "operations are named \"client.nth\"");
          c.recipe.removals.operations.insert({client - 1, nth});
        }
      }
    } else {
      return where(node, fmt::format("unknown key '{}'", key.str()));
    }
  }
  if (!format_seen || !seed_seen)
    return fail(ErrorCode::kInvalid,
                fmt::format("{} is not a case: it has no {}", path, format_seen ? "seed" : "format"));
  return c;
}

}  // namespace mneme::cmd
