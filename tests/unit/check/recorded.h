// Histories for tests and benchmarks that are not random: those recorded from real systems, with their known verdicts,
// and one of unique writes of any length.
#pragma once

#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/base/check.h"
#include "sim/check/formats.h"
#include "support.h"

namespace mneme::check {

struct Recorded {
  std::string name;
  History history;
  bool linearizable;

  bool of_jepsen() const { return name.starts_with("etcd_"); }
};

// In order of names. The verdicts are those of the README beside the files.
inline std::vector<Recorded> recorded_histories(const std::filesystem::path& folder) {
  static const std::vector<std::string> good = {"002", "005", "007", "018", "025", "031", "075", "098"};
  std::vector<Recorded> out;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".md") continue;
    std::ifstream in(entry.path());
    std::stringstream text;
    text << in.rdbuf();
    Recorded one{.name = entry.path().filename().string()};
    Result<History> history = one.of_jepsen() ? parse_jepsen(text.str()) : parse_kv(text.str());
    CHECK(history.has_value());
    one.history = std::move(*history);
    one.linearizable =
        one.of_jepsen() ? std::ranges::find(good, one.name.substr(5, 3)) != good.end() : one.name.contains("ok");
    out.push_back(std::move(one));
  }
  std::ranges::sort(out, {}, &Recorded::name);
  return out;
}

// A register shared by clients that each wait for their answer, written with values of their own. Linearizable.
inline History unique_history(size_t operations, uint32_t clients) {
  Dice dice(7);
  History history;
  KeyId key = history.key("k");
  enum class Stage : uint8_t { kIdle, kCalled, kDone };
  struct Open {
    OpId id = 0;
    Stage stage = Stage::kIdle;
  };
  std::vector<Open> open(clients);
  ValueId state = kAbsent;
  std::vector<ValueId> seen(clients, kAbsent);
  size_t called = 0;
  uint32_t busy = 0;
  while (called < operations || busy > 0) {
    auto client = static_cast<uint32_t>(dice.below(clients));
    Open& mine = open[client];
    if (mine.stage == Stage::kIdle && called < operations) {
      bool write = dice.one_in(2);
      mine.id =
          history.invoke(write ? set(client, key, history.value("v" + std::to_string(called))) : get(client, key));
      mine.stage = Stage::kCalled;
      ++called;
      ++busy;
    } else if (mine.stage == Stage::kCalled) {
      const Operation& op = history.operations[mine.id];
      if (op.kind == Kind::kSet) state = op.a;
      seen[client] = state;
      mine.stage = Stage::kDone;
    } else if (mine.stage == Stage::kDone) {
      bool read = history.operations[mine.id].kind == Kind::kGet;
      history.complete(mine.id, read ? Reply::of(seen[client]) : Reply::nothing());
      mine.stage = Stage::kIdle;
      --busy;
    }
  }
  return history;
}

}  // namespace mneme::check
