// The bare hash map that a replicated store is compared with: 1,000 times set and get, again and again.
// usage: bench_hashmap    one JSON line: nanoseconds for 1,000 set+get, the median of many rounds
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <unordered_map>
#include <vector>

int main() {
  constexpr int kPairs = 1000;
  constexpr int kRounds = 501;
  std::vector<std::string> keys;
  for (int i = 0; i < kPairs; ++i) keys.push_back(fmt::format("key:{:012}", i));
  const std::string value(100, 'x');
  std::vector<double> rounds;
  size_t sum = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::unordered_map<std::string, std::string> map;
    const auto begin = std::chrono::steady_clock::now();
    for (const std::string& key : keys) {
      map[key] = value;
      sum += map.find(key)->second.size();
    }
    rounds.push_back(std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count());
  }
  std::sort(rounds.begin(), rounds.end());
  fmt::print("{{\"pairs\":{},\"ns\":{:.0f},\"sum\":{}}}\n", kPairs, rounds[rounds.size() / 2], sum);
  return 0;
}
