// mneme scenarios: what there is to simulate, and what of it can be set.
#include <fmt/format.h>

#include <memory>
#include <utility>

#include "cmd/common.h"
#include "cmd/scenario_file.h"

namespace mneme::cmd {

void add_scenarios(CLI::App& app, Run& run) {
  CLI::App* scenarios = app.add_subcommand("scenarios", "List the built-in scenarios");
  auto options = std::make_shared<bool>(false);
  scenarios->add_flag("--options", *options, "list the options of scenarios as well");
  scenarios->footer("Examples:\n  mneme scenarios\n  mneme scenarios --options");
  scenarios->callback([options, &run] {
    run = [options] {
      for (const BuiltInScenario& s : built_in_scenarios())
        fmt::print("{:<16} {}\n", s.name, load_scenario(std::string(s.name)).value().what);
      if (!*options) return +kOk;
      std::string_view section;
      for (const sim::OptionSpec& o : sim::kOptionSpecs) {
        if (std::exchange(section, o.section) != o.section)
          fmt::print("\n[{}]{:<{}}  drawn from\n", section, "", 17 - section.size());
        const std::string drawn = o.from == o.to ? o.text(o.from) : o.text(o.from) + ".." + o.text(o.to);
        fmt::print("{:<19}  {:>14}  {}{}\n", o.name, drawn, o.what,
                   o.unit.empty() || o.named() ? "" : fmt::format(" ({})", o.unit));
      }
      return +kOk;
    };
  });
}

}  // namespace mneme::cmd
