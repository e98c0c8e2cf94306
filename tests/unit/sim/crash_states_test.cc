// What a power loss leaves on the simulated disk, against the rules in crash_rules.h: it must leave each legal state
// for some choices, and no other.
#include <set>
#include <string>
#include <vector>

#include "core/base/hash.h"
#include "tests/one_machine.h"
#include "tests/test.h"
#include "tests/unit/sim/crash_rules.h"

using namespace mneme;
using namespace mneme::sim;
using namespace mneme::sim::testing;

namespace {

Result<void> execute(env::Disk& disk, const std::vector<Step>& program) {
  for (const Step& step : program) {
    auto open = [&] { return disk.open(step.path, env::OpenMode::kReadWrite); };
    switch (step.kind) {
      case Step::kMake: TRY(disk.open(step.path, env::OpenMode::kCreate)); break;
      case Step::kMakeDir: TRY(disk.make_dir(step.path)); break;
      case Step::kWrite:
        TRY(TRY(open())->write(step.begin * kUnit, Bytes(step.count * kUnit, static_cast<uint8_t>(step.letter))));
        break;
      case Step::kTruncate: TRY(TRY(open())->truncate(step.count * kUnit)); break;
      case Step::kRename: TRY(disk.rename(step.path, step.to)); break;
      case Step::kRemove: TRY(disk.remove(step.path)); break;
      case Step::kSync: TRY(TRY(open())->sync()); break;
      case Step::kSyncDir: TRY(disk.sync_dir(step.path)); break;
    }
  }
  return {};
}

Result<void> list(env::Disk& disk, const std::string& directory, Listing& listing) {
  for (const std::string& name : TRY(disk.list(directory))) {
    const std::string path = directory.empty() ? name : directory + "/" + name;
    if (auto file = disk.open(path, env::OpenMode::kRead)) {
      Bytes bytes(TRY((*file)->size()));
      TRY(env::read_exactly(**file, 0, bytes));
      std::string content;
      for (size_t at = 0; at < bytes.size(); at += kUnit) {
        const auto unit = std::span(bytes).subspan(at, std::min<size_t>(kUnit, bytes.size() - at));
        const bool whole = unit.size() == kUnit && std::ranges::count(unit, unit[0]) == kUnit;
        content += !whole ? '?' : unit[0] == 0 ? '.' : static_cast<char>(unit[0]);
      }
      listing[path] = "=" + content;
    } else {
      listing[path] = "/";
      TRY(list(disk, path, listing));
    }
  }
  return {};
}

MachineOptions quick() {
  MachineOptions options;
  options.disk = {.write_ns = 1, .sync_ns = 1, .read_ns = 1, .tail_ns = 1, .tail_ppm = 0};
  return options;
}

// Loses power after the program again and again until every legal state has been there, and fails when that takes too
// long or another one comes.
void check_all_states(const std::vector<Step>& program, size_t attempts = 60'000) {
  Rules rules;
  std::string all;
  for (const Step& step : program) {
    rules.take(step);
    all += text(step) + "; ";
  }
  INFO(all);
  std::set<std::string> missing = rules.legal_states();
  const std::set<std::string> legal = missing;
  mneme::testing::OneMachine one(1, quick());
  one.run([&] {
    for (size_t attempt = 0; attempt < attempts && !missing.empty(); ++attempt) {
      one.machine().disk().wipe();
      std::string left;
      REQUIRE(one.process([&](Env& env) { return execute(env.disk, program); }).has_value());
      one.crash(CrashKind::kPowerLoss);
      REQUIRE(one.process([&](Env& env) -> Result<void> {
                   Listing listing;
                   TRY(list(env.disk, "", listing));
                   left = text(listing);
                   return {};
                 })
                  .has_value());
      INFO("left: " << left);
      REQUIRE(legal.contains(left));
      missing.erase(left);
    }
  });
  INFO(legal.size() << " legal states, of which never left: " << (missing.empty() ? "" : *missing.begin()));
  CHECK(missing.empty());
}

// What everything begins with: durable directories d and e, files a, d/b and e/c of five units each.
const std::vector<Step>& beginning() {
  static const std::vector<Step> steps = {op::make_dir("d"),
                                          op::make_dir("e"),
                                          op::make("a"),
                                          op::make("d/b"),
                                          op::make("e/c"),
                                          op::write("a", 0, 5, 'a'),
                                          op::write("d/b", 0, 5, 'b'),
                                          op::write("e/c", 0, 5, 'c'),
                                          op::sync("a"),
                                          op::sync("d/b"),
                                          op::sync("e/c"),
                                          op::sync_dir("d"),
                                          op::sync_dir("e"),
                                          op::sync_dir("")};
  return steps;
}

std::vector<Step> after_beginning(std::vector<Step> steps) {
  steps.insert(steps.begin(), beginning().begin(), beginning().end());
  return steps;
}

class RandomProgram {
 public:
  explicit RandomProgram(uint64_t seed) : state_(mix(seed)) {
    for (const Step& step : beginning()) rules_.take(step);
  }

  std::vector<Step> draw(size_t steps) {
    std::vector<Step> program;
    while (program.size() < steps) {
      const Step step = some_step();
      if (!possible(step)) continue;
      rules_.take(step);
      program.push_back(step);
    }
    return program;
  }
  const Rules& rules() const { return rules_; }

 private:
  uint64_t below(uint64_t bound) { return mix(state_ += 0x9e3779b97f4a7c15u) % bound; }
  std::string some_path() {
    static const std::vector<std::string> paths = {"a", "f", "d", "e", "d/b", "d/f", "e/c", "e/d", "e/d/b", "f/c"};
    return paths[below(paths.size())];
  }
  std::string some_directory() { return std::vector<std::string>{"", "d", "e", "f", "e/d"}[below(5)]; }
  Step some_step() {
    // One after the other: in which order arguments are evaluated is up to the compiler.
    const uint64_t kind = below(12);
    const std::string path = some_path();
    const std::string other = some_path();
    const std::string directory = some_directory();
    const uint64_t place = below(9);
    const uint64_t count = 1 + below(3);
    const char letter = static_cast<char>('k' + letters_++ % 16);
    switch (kind) {
      case 0: return op::make(path);
      case 1: return op::make_dir(path);
      case 2:
      case 3: return op::rename(path, other);
      case 4: return op::remove(path);
      case 5: return op::sync(path);
      case 6: return op::sync_dir(directory);
      case 7:
      case 8: return op::truncate(path, place);
      default: return op::write(path, place, count, letter);
    }
  }
  bool possible(const Step& step) const {
    auto parent = [](const std::string& path) { return path.substr(0, path.rfind('/') + 1); };
    auto has_parent = [&](const std::string& path) {
      const std::string above = parent(path);
      return rules_.is_directory(above.substr(0, above.size() - !above.empty()));
    };
    const bool is_file = rules_.exists(step.path) && !rules_.is_directory(step.path);
    switch (step.kind) {
      case Step::kMake:
      case Step::kMakeDir: return !rules_.exists(step.path) && has_parent(step.path);
      case Step::kRename:
        if (!rules_.exists(step.path) || !has_parent(step.to) || step.path == step.to) return false;
        if (step.to.starts_with(step.path + "/")) return false;
        return !rules_.exists(step.to) || (is_file && !rules_.is_directory(step.to));
      case Step::kRemove: return is_file || rules_.is_empty_directory(step.path);
      case Step::kSyncDir: return rules_.is_directory(step.path);
      default: return is_file;
    }
  }

  uint64_t state_;
  uint64_t letters_ = 0;
  Rules rules_;
};

}  // namespace

TEST_CASE("of a sector that was written several times any version may survive a power loss", "[sim][disk]") {
  check_all_states(after_beginning({op::write("a", 0, 2, 'x'), op::write("a", 0, 1, 'y'), op::write("a", 1, 3, 'z')}));
}

TEST_CASE("a file that grew has the size of any of its pages, and its sectors or zeros", "[sim][disk]") {
  check_all_states(after_beginning({op::write("a", 5, 2, 'x'), op::write("a", 14, 6, 'y')}));
  check_all_states(after_beginning({op::truncate("a", 40), op::write("a", 6, 1, 'x')}));
}

TEST_CASE("what lies behind a truncation and was written again is old only with the old size", "[sim][disk]") {
  check_all_states(after_beginning({op::truncate("a", 1), op::write("a", 3, 3, 'x')}));
  check_all_states(after_beginning(
      {op::write("a", 0, 6, 'x'), op::truncate("a", 3), op::truncate("a", 6), op::write("a", 2, 1, 'y')}));
}

TEST_CASE("nothing that is moved is lost on the way", "[sim][disk]") {
  for (const std::vector<Step>& steps : std::vector<std::vector<Step>>{
           {op::make_dir("f"), op::rename("d/b", "f/b")},
           {op::make_dir("f"), op::make_dir("f/g"), op::rename("d/b", "f/g/b"), op::remove("d")},
           {op::make_dir("f"), op::make_dir("f/g"), op::rename("d/b", "f/g/b"), op::sync_dir("f/g")},
           {op::make_dir("f"), op::make_dir("f/g"), op::sync_dir("f"), op::rename("d/b", "f/g/b")},
           {op::rename("d/b", "e/b"), op::remove("d"), op::rename("e/b", "b"), op::rename("b", "g")},
           {op::rename("d", "e/d"), op::rename("e/d/b", "b"), op::remove("e/d"), op::sync_dir("")},
       }) {
    const std::vector<Step> program = after_beginning(steps);
    check_all_states(program);
    Rules rules;
    for (const Step& step : program) rules.take(step);
    for (const std::string& state : rules.legal_states()) {
      INFO(state);
      CHECK(state.find("=bbbbb") != std::string::npos);
    }
  }
}

TEST_CASE("no directory comes to lie below itself", "[sim][disk]") {
  check_all_states({op::make_dir("d"), op::make_dir("d/e"), op::sync_dir("d"), op::sync_dir(""), op::rename("d/e", "e"),
                    op::rename("d", "e/d")});
}

TEST_CASE("a sync of a directory does not make its own entry durable", "[sim][disk]") {
  check_all_states(after_beginning({op::make_dir("f"), op::make("f/c"), op::sync_dir("f"), op::rename("e/c", "f/d")}));
}

TEST_CASE("random programs leave after a power loss what the rules allow, and all of it", "[sim][disk]") {
  size_t tried = 0;
  size_t states = 0;
  for (uint64_t seed = 1; tried < 500; ++seed) {
    RandomProgram random(seed);
    const std::vector<Step> program = random.draw(2 + seed % 6);
    if (random.rules().pending() > 14) continue;
    const size_t legal = random.rules().legal_states().size();
    if (legal < 3 || legal > 150) continue;
    ++tried;
    states += legal;
    check_all_states(after_beginning(program));
  }
  CHECK(states > 7'000);
}
