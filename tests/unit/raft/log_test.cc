#include "core/raft/log.h"

#include "core/base/hash.h"
#include "tests/test.h"

using namespace mneme;
using namespace mneme::raft;

TEST_CASE("the log tells the term of its base and of every entry, whatever was appended, cut and compacted", "[raft]") {
  uint64_t draws = 0;
  auto below = [&](uint64_t bound) { return mix(++draws) % bound; };
  for (int round = 0; round < 100; ++round) {
    Log log({LogIndex(3), Term(1)}, {{Term(1), LogIndex(4)}, {Term(2), LogIndex(5)}});
    uint64_t base = 3;
    std::vector<uint64_t> terms = {1, 1, 2};  // of the base and of what follows it
    uint64_t number = 0;
    for (int step = 0; step < 100; ++step) {
      const uint64_t last = base + terms.size() - 1;
      switch (below(6)) {
        case 0:
          if (last > base) {
            const uint64_t from = base + 1 + below(last - base);
            log.truncate_from(LogIndex(from));
            terms.resize(from - base);
          }
          break;
        case 1: {
          log.hand_out(++number);
          const uint64_t upto = base + below(last - base + 1);
          log.compact(LogIndex(upto));
          terms.erase(terms.begin(), terms.begin() + static_cast<std::ptrdiff_t>(upto - base));
          base = upto;
          break;
        }
        case 2:
          if (below(4) > 0) break;
          base = last + below(3);
          terms = {terms.back() + below(2)};
          log.restart_at({LogIndex(base), Term(terms[0])}, LogIndex());
          break;
        default: terms.push_back(terms.back() + (below(3) == 0)); log.append({Term(terms.back()), log.last().next()});
      }
      REQUIRE(log.last() == LogIndex(base + terms.size() - 1));
      REQUIRE(log.last_position() == LogPosition{log.last(), Term(terms.back())});
      REQUIRE(log.base() == LogPosition{LogIndex(base), Term(terms.front())});
      for (size_t i = 0; i < terms.size(); ++i) REQUIRE(log.term_at(LogIndex(base + i)) == Term(terms[i]));
      REQUIRE_FALSE(log.term_at(LogIndex(base - 1)));
      REQUIRE_FALSE(log.term_at(log.last().next()));
    }
  }
}
