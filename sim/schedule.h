// Schedule search: in which order things happen that could happen in any order.
//
// A task is a fiber, one direction of a connection, one machine's timers or its disk; a turn of it is what it does from
// one suspension to the next, or one event. Whenever several tasks may go on, the strategy picks one:
//   - FIFO: the one that has been ready longest.
//   - random: every turn of a task draws a rank; the highest goes first. (Yuan, Yang, Gu: Partial order aware
//     concurrency sampling, CAV 2018, without its reassignment.)
//   - PCT of depth d: every task draws a priority; the highest goes first, but at d-1 picks drawn at random the one
//     that would go on falls below all others. A bug that needs d orders among n tasks within k picks is found with a
//     probability of at least 1/(n k^(d-1)). (Burckhardt et al.: A randomized scheduler with probabilistic guarantees
//     of finding bugs, ASPLOS 2010.)
//   - delay-bounded with budget b: FIFO, but at up to b picks drawn at random the first in line is delayed until
//     nothing else may go on. Most ordering bugs need few delays, and k picks have only O(k^b) such schedules. (Emmi,
//     Qadeer, Rakamaric: Delay-bounded scheduling, POPL 2011.)
// A pick counts when there is a choice, among at least two. Runs are long and their length is not known before, so PCT
// and delays begin anew, with new draws, after every `stretch` of picks; the promise above holds for each stretch.
//
// Draws are keyed by the task's name and turn, not by how many were made before, so that what is left out of a run
// moves nothing else; only the picks at which PCT and delays intervene can but be counted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "sim/fate.h"

namespace mneme::sim {

enum class Strategy : uint8_t { kFifo, kRandom, kPct, kDelayBounded };

struct ScheduleOptions {
  Strategy strategy = Strategy::kFifo;
  uint32_t depth = 2;       // kPct: d, at least 1; kDelayBounded: the budget b
  uint64_t stretch = 1000;  // picks
  // How far apart in time events may be and still count as simultaneous; see World.
  int64_t window_ns = 0;
};

class Schedule {
 public:
  struct Task {
    uint64_t name;  // the same in all its turns
    uint64_t turn;  // different from turn to turn
    bool operator==(const Task&) const = default;
  };

  Schedule(const Fate& fate, const ScheduleOptions& options);

  // Which of the tasks that are ready, at least one, in the order in which they became so, goes next.
  size_t pick(std::span<const Task> line);

 private:
  struct Lowered {
    uint64_t name;
    uint64_t to;
  };
  void count();
  size_t pick_by_rank(std::span<const Task> line) const;
  size_t pick_by_priority(std::span<const Task> line);
  size_t pick_with_delays(std::span<const Task> line);
  size_t first_undelayed(std::span<const Task> line) const;
  template <class Value>
  static size_t highest(std::span<const Task> line, Value&& value);  // the first of several

  const Fate& fate_;
  ScheduleOptions options_;
  uint64_t stretch_ = 0;          // the present one's number, from 1
  uint64_t picks_ = 0;            // in it
  std::vector<uint64_t> points_;  // picks of the stretch, from 1, at which the strategy intervenes
  std::vector<Lowered> lowered_;  // kPct: tasks that fell, to what, in this order
  std::vector<Task> delayed_;     // kDelayBounded: in the order of their delays
};

}  // namespace mneme::sim
