// Random commands against a model that is too simple to be wrong: an ordered map and a clock.
#include <optional>

#include "tests/test.h"
#include "tests/unit/kv/support.h"

using namespace mneme;
using namespace mneme::kv;
using namespace mneme::kv::testing;

namespace {

class Model {
 public:
  struct Item {
    std::string value;
    int64_t expire_at = 0;
  };
  int64_t now = 0;

  void move_to(int64_t ms) {
    now = std::max(now, ms);
    std::erase_if(items_, [&](const auto& entry) { return entry.second.expire_at && entry.second.expire_at <= now; });
  }

  std::string run(const Words& w) {
    const std::string& name = w[0];
    const std::string& key = w.size() > 1 ? w[1] : w[0];
    auto at = items_.find(key);
    bool exists = at != items_.end();
    if (name == "GET") return exists ? bulk(at->second.value) : kNull;
    if (name == "SET") {
      items_[key] = {w[2], w.size() > 3 ? now + std::stoll(w[4]) : 0};
      return kOk;
    }
    if (name == "DEL") {
      return integer(static_cast<int64_t>(items_.erase(key)));
    }
    if (name == "STRLEN") return integer(exists ? static_cast<int64_t>(at->second.value.size()) : 0);
    if (name == "APPEND") {
      items_[key].value += w[2];
      return integer(static_cast<int64_t>(items_[key].value.size()));
    }
    if (name == "INCRBY") {
      std::string old = exists ? at->second.value : "0";
      if (old.empty() || old.size() > 15 || old != std::to_string(std::atoll(old.c_str()))) {
        return error("ERR value is not an integer or out of range");
      }
      int64_t sum = std::stoll(old) + std::stoll(w[2]);
      items_[key].value = std::to_string(sum);
      return integer(sum);
    }
    if (name == "CAS") {
      if (!exists || at->second.value != w[2]) return integer(0);
      at->second.value = w[3];
      return integer(1);
    }
    if (name == "PEXPIRE") {
      if (!exists) return integer(0);
      at->second.expire_at = now + std::stoll(w[2]);
      move_to(now);
      return integer(1);
    }
    if (name == "PTTL") return integer(!exists ? -2 : at->second.expire_at == 0 ? -1 : at->second.expire_at - now);
    if (name == "PERSIST") {
      if (!exists || at->second.expire_at == 0) return integer(0);
      at->second.expire_at = 0;
      return integer(1);
    }
    if (name == "RENAME") {
      if (!exists) return error("ERR no such key");
      Item item = at->second;
      items_.erase(at);
      items_[w[2]] = item;
      return kOk;
    }
    if (name == "SETRANGE") {
      size_t offset = std::stoull(w[2]);
      if (w[3].empty()) return integer(exists ? static_cast<int64_t>(at->second.value.size()) : 0);
      std::string& value = items_[key].value;
      while (value.size() < offset + w[3].size()) value += '\0';
      for (size_t i = 0; i < w[3].size(); ++i) value[offset + i] = w[3][i];
      return integer(static_cast<int64_t>(value.size()));
    }
    if (name == "DBSIZE") return integer(static_cast<int64_t>(items_.size()));
    if (name == "RANGE") {
      std::string reply;
      size_t count = 0;
      for (const auto& [k, item] : items_) {
        if (k < w[1] || !(k < w[2])) continue;
        reply += bulk(k) + bulk(item.value);
        count += 2;
      }
      return "*" + std::to_string(count) + "\r\n" + reply;
    }
    return "model knows no " + name;
  }

 private:
  std::map<std::string, Item> items_;
};

}  // namespace

TEST_CASE("random commands answer as the model does, in apply and as reads") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SplitMix random(seed);
    Driver d;
    Model model;
    uint64_t keys = 1 + random.below(60);
    auto key = [&] {
      return std::string(1 + random.below(3), static_cast<char>('a' + random.below(keys) % 20)) +
             std::to_string(random.below(keys));
    };
    auto value = [&] {
      return random.one_in(2) ? std::to_string(random.below(100)) : std::string(random.below(50), 'v');
    };
    auto number = [&](uint64_t bound) { return std::to_string(random.below(bound)); };
    for (int round = 0; round < 4000; ++round) {
      if (random.one_in(5)) d.now += static_cast<int64_t>(random.below(50));
      Words words;
      switch (random.below(16)) {
        case 0: words = {"SET", key(), value()}; break;
        case 1: words = {"SET", key(), value(), "PX", std::to_string(1 + random.below(200))}; break;
        case 2: words = {"DEL", key()}; break;
        case 3: words = {"APPEND", key(), value()}; break;
        case 4: words = {"INCRBY", key(), number(1000)}; break;
        case 5: words = {"CAS", key(), number(100), value()}; break;
        case 6: words = {"PEXPIRE", key(), number(100)}; break;
        case 7: words = {"PERSIST", key()}; break;
        case 8: words = {"RENAME", key(), key()}; break;
        case 9: words = {"SETRANGE", key(), number(20), value()}; break;
        case 10: words = {"DBSIZE"}; break;
        case 11: words = {"RANGE", key(), key()}; break;
        case 12: words = {"STRLEN", key()}; break;
        case 13: words = {"PTTL", key()}; break;
        default: words = {"GET", key()}; break;
      }
      model.move_to(d.now);
      std::string expected = model.run(words);
      INFO("seed " << seed << " round " << round << " " << words[0] << " " << (words.size() > 1 ? words[1] : ""));
      REQUIRE(d.run(words) == expected);
      if (std::string again = d.read(words); again != "not a read") REQUIRE(again == expected);
    }
  }
}
