#include "cmd/scenario_file.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <filesystem>
#include <map>

namespace mneme::cmd {

namespace {

constexpr int kMostExtensions = 8;

bool is_section(std::string_view name) {
  return std::any_of(sim::kOptionSpecs.begin(), sim::kOptionSpecs.end(), [&](auto& s) { return s.section == name; });
}

std::string sections() {
  std::string out;
  std::string_view last;
  for (const sim::OptionSpec& spec : sim::kOptionSpecs)
    if (std::exchange(last, spec.section) != spec.section) out += fmt::format(", [{}]", spec.section);
  return out;
}

Result<Scenario> load_built_in(std::string_view name, int depth);

class Parser {
 public:
  Parser(std::string where, int depth) : where_(std::move(where)), depth_(depth) {}

  Result<Scenario> parse(const toml::table& table) {
    Scenario scenario;
    if (const toml::node* base = table.get("extends")) {
      auto name = base->value_exact<std::string>();
      if (!name) return wrong(*base, "extends is the name of a built-in scenario, in quotes");
      auto loaded = load_built_in(*name, depth_ + 1);
      if (!loaded) return wrong(*base, loaded.error().message);
      scenario.options = loaded->options;
    }
    for (auto& [key, node] : table) {
      if (key == "extends") continue;
      if (key == "what") {
        auto text = node.value_exact<std::string>();
        if (!text) return wrong(node, "what is text in quotes");
        scenario.what = *text;
      } else if (!is_section(key.str())) {
        return wrong(node, fmt::format("unknown key '{}'; known are: what, extends{}", key.str(), sections()));
      } else if (const toml::table* section = node.as_table()) {
        for (auto& [name, value] : *section) TRY(set(scenario.options, key.str(), name.str(), value));
      } else {
        return wrong(node, fmt::format("{0} is a section: write [{0}]", key.str()));
      }
    }
    // What contradicts in one seed does in all: only options that were given can.
    if (auto expanded = scenario.options.expand(sim::Fate(1)); !expanded)
      return fail(ErrorCode::kInvalid, place(expanded.error().message) + expanded.error().message);
    return scenario;
  }

 private:
  std::unexpected<Error> wrong(const toml::node& node, std::string_view what) const {
    return fail(ErrorCode::kInvalid, fmt::format("{}:{}: {}", where_, node.source().begin.line, what));
  }
  // Where the first option stands that a sentence names as "option = ".
  std::string place(std::string_view sentence) const {
    for (auto& [name, line] : lines_)
      if (sentence.find(name + " = ") != std::string_view::npos) return fmt::format("{}:{}: ", where_, line);
    return where_ + ": ";
  }

  Result<void> set(sim::Options& options, std::string_view section, std::string_view name, const toml::node& value) {
    for (const sim::OptionSpec& spec : sim::kOptionSpecs)
      if (spec.name == name && spec.section != section)
        return wrong(value, fmt::format("{} belongs under [{}]", name, spec.section));
    auto text = text_of(value);
    if (!text)
      return wrong(value,
                   fmt::format("{} is a whole number, text in quotes, or a range of two such: [from, to]", name));
    if (auto done = options.set(name, *text); !done) return wrong(value, done.error().message);
    lines_.emplace(name, value.source().begin.line);
    return {};
  }
  static std::optional<std::string> text_of(const toml::node& value) {
    if (auto number = value.value_exact<int64_t>()) return std::to_string(*number);
    if (auto text = value.value_exact<std::string>()) return *text;
    const toml::array* range = value.as_array();
    if (!range || range->size() != 2 || (*range)[0].is_array() || (*range)[1].is_array()) return std::nullopt;
    auto from = text_of((*range)[0]);
    auto to = text_of((*range)[1]);
    if (!from || !to) return std::nullopt;
    return *from + ".." + *to;
  }

  std::string where_;
  int depth_;
  std::map<std::string, toml::source_index> lines_;
};

template <class Parse>
Result<Scenario> load(const std::string& where, int depth, Parse&& parse) {
  toml::table table;
  try {
    table = parse();
  } catch (const toml::parse_error& error) {
    return fail(ErrorCode::kInvalid, fmt::format("{}:{}: {}", where, error.source().begin.line, error.description()));
  }
  return Parser(where, depth).parse(table);
}

Result<Scenario> load_built_in(std::string_view name, int depth) {
  const auto all = built_in_scenarios();
  auto found = std::find_if(all.begin(), all.end(), [&](const BuiltInScenario& s) { return s.name == name; });
  if (found == all.end())
    return fail(ErrorCode::kInvalid, fmt::format("there is no built-in scenario '{}'; see 'mneme scenarios'", name));
  if (depth > kMostExtensions) return fail(ErrorCode::kInvalid, fmt::format("scenario '{}' extends itself", name));
  return load(fmt::format("scenario {}", name), depth, [&] { return toml::parse(found->toml); });
}

}  // namespace

Result<Scenario> load_scenario(const std::string& name_or_path) {
  const auto all = built_in_scenarios();
  if (std::any_of(all.begin(), all.end(), [&](const BuiltInScenario& s) { return s.name == name_or_path; }))
    return load_built_in(name_or_path, 0);
  if (!std::filesystem::is_regular_file(name_or_path))
    return fail(ErrorCode::kInvalid,
                fmt::format("there is no scenario and no file '{}'; see 'mneme scenarios'", name_or_path));
  return load(name_or_path, 0, [&] { return toml::parse_file(name_or_path); });
}

}  // namespace mneme::cmd
