// Style rules that matter are a test: who may include whom, and what core may not name.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/test.h"

namespace fs = std::filesystem;

namespace {

std::vector<fs::path> sources(const std::string& folder) {
  std::vector<fs::path> files;
  for (auto& entry : fs::recursive_directory_iterator(fs::path(MNEME_SOURCE_DIR) / folder))
    if (entry.path().extension() == ".h" || entry.path().extension() == ".cc") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

std::string text_of(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// "core/raft/log.h" -> "core/raft"; "sim/world.h" -> "sim".
std::string folder_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

}  // namespace

TEST_CASE("every folder includes only what the architecture allows", "[tidy]") {
  const std::map<std::string, std::set<std::string>> allowed = {
      {"core/base", {}},
      {"core/fiber", {"core/base"}},
      {"core/env", {"core/base", "core/fiber"}},
      {"core/raft", {"core/base"}},
      {"core/protocol", {"core/base"}},
      {"core/kv", {"core/base", "core/protocol", "core/shard"}},
      {"core/shard", {"core/base"}},
      {"core/wal", {"core/base", "core/fiber", "core/env", "core/raft"}},
      {"core/replica", {"core/base", "core/fiber", "core/env", "core/raft", "core/kv", "core/wal"}},
      {"core/node",
       {"core/base", "core/fiber", "core/env", "core/raft", "core/kv", "core/shard", "core/wal", "core/protocol",
        "core/replica"}},
      {"core/client", {"core/base", "core/fiber", "core/env", "core/kv", "core/protocol"}},
      {"net", {"core/base", "core/fiber", "core/env"}},
      {"disk", {"core/base", "core/fiber", "core/env"}},
      {"sim", {"core/base", "core/fiber", "core/env"}},
      {"sim/check", {"core/base"}},
      {"sim/scenarios",
       {"core/base", "core/fiber", "core/env", "core/raft", "core/kv", "core/shard", "core/wal", "core/protocol",
        "core/replica", "core/node", "core/client", "sim", "sim/check"}},
  };
  const std::regex include("#include \"([^\"]+)\"");
  for (const char* top : {"core", "net", "disk", "sim"}) {
    for (const fs::path& path : sources(top)) {
      const std::string name = fs::relative(path, MNEME_SOURCE_DIR).string();
      const std::string folder = folder_of(name);
      REQUIRE(allowed.contains(folder));
      const std::string text = text_of(path);
      for (std::sregex_iterator found(text.begin(), text.end(), include), end; found != end; ++found) {
        const std::string included = (*found)[1];
        INFO(name << " includes " << included);
        CHECK((folder_of(included) == folder || allowed.at(folder).contains(folder_of(included))));
      }
    }
  }
}

TEST_CASE("core and sim name no clock, chance, thread or surroundings of their own", "[tidy]") {
  const std::regex forbidden(
      R"(std::thread|std::mutex|steady_clock::now|system_clock::now|random_device|std::mt19937|\brand\(|getenv|_distribution<|\bis_simulated|this_thread)");
  for (const char* top : {"core", "sim"})
    for (const fs::path& path : sources(top)) {
      std::smatch found;
      const std::string text = text_of(path);
      INFO(path.string() << ": " << (std::regex_search(text, found, forbidden) ? found.str() : ""));
      CHECK_FALSE(std::regex_search(text, forbidden));
    }
}

TEST_CASE("every header is included once and says what it is first", "[tidy]") {
  for (const char* top : {"core", "net", "disk", "sim", "cmd"})
    for (const fs::path& path : sources(top)) {
      if (path.extension() != ".h") continue;
      const std::string text = text_of(path);
      INFO(path.string());
      CHECK(text.find("#pragma once") != std::string::npos);
      CHECK(text.starts_with("// "));
    }
}
