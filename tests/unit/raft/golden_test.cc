// Runs each script of tests/golden/raft and compares what happens with what the file says happens.
// MNEME_REWRITE_GOLDEN=1 rewrites the files instead; the diff is then for a person to read.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/test.h"
#include "tests/unit/raft/script.h"

using namespace mneme::raft;

namespace {

std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// Lines that begin with "> " at the margin are commands, with '#' comments; all others are what a command printed.
std::string replay(const std::string& file) {
  Script script;
  std::string result;
  std::istringstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    bool command = line.starts_with("> ");
    if (command || line.empty() || line.starts_with("#")) result += line + "\n";
    if (command) result += script.run(line.substr(2));
  }
  return result;
}

}  // namespace

TEST_CASE("golden scripts do what their files say", "[raft]") {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(MNEME_SOURCE_DIR "/tests/golden/raft"))
    if (entry.path().extension() == ".txt") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  REQUIRE(files.size() >= 14);
  for (const auto& path : files) {
    std::string expected = read_file(path);
    std::string actual = replay(expected);
    INFO(path.filename().string());
    const bool beyond = path.stem().string().ends_with("_beyond_limit");  // of what Raft promises
    CHECK((actual.find("VIOLATION") != std::string::npos) == beyond);
    if (std::getenv("MNEME_REWRITE_GOLDEN") != nullptr) {
      std::ofstream(path) << actual;
    } else {
      CHECK(actual == expected);
    }
  }
}
