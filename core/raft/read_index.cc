// Linearizable reads without the log (ReadIndex, thesis 6.4), and proof of leadership in general.
//
// A round is a number that heartbeats and appends carry and replies echo. It rises for ever, so a reply that answers
// round n shows that the follower was still in the leader's term after everything that waits for n or less was asked.
// A later message may carry a higher round than the lost one, never a lower, so nothing is confirmed by an old reply.
#include <utility>

#include "core/raft/state.h"

namespace mneme::raft {

namespace {

bool reads_may_start(const Core& c) { return c.committed_in_term && !c.reads_waiting.empty(); }

bool restores_may_start(const Core& c) {
  return std::any_of(c.restores.begin(), c.restores.end(), [](const PendingRestore& r) { return r.round == 0; });
}

void confirm_reads(Core& c, uint64_t round) {
  size_t done = 0;
  for (; done < c.reads_pending.size() && c.reads_pending[done].round <= round; ++done) {
    c.probes.reached(Probe::read_index_confirmed);
    c.out.reads.push_back(c.reads_pending[done].read);
  }
  c.reads_pending.erase(c.reads_pending.begin(), c.reads_pending.begin() + static_cast<ptrdiff_t>(done));
}

}  // namespace

bool reads_open(const Core& c) { return !c.reads_waiting.empty() || !c.reads_pending.empty() || !c.restores.empty(); }

void settle_rounds(Core& c) {
  if (c.reads_pending.empty() && c.restores.empty()) return;
  auto answered = [](const Progress& p) { return std::pair(p.sure_round, p.round); };
  const uint64_t confirmed = agreed(c, c.round, answered);
  confirm_reads(c, confirmed);
  answer_restores(c, confirmed);
}

bool round_due(const Core& c) { return c.role == Role::kLeader && (reads_may_start(c) || restores_may_start(c)); }

void begin_round(Core& c) {
  ++c.round;
  if (reads_may_start(c)) {
    c.probes.reached(Probe::read_round_begun);
    for (uint64_t context : c.reads_waiting) c.reads_pending.push_back({c.round, {context, c.commit}});
    c.reads_waiting.clear();
  }
  for (PendingRestore& restore : c.restores)
    if (restore.round == 0) restore.round = c.round;
  send_heartbeats(c, false);
  settle_rounds(c);  // one that is the only voter confirms itself
}

void retry_rounds(Core& c) {
  if (!c.reads_pending.empty()) c.probes.reached(Probe::read_index_retried);
}

void on_round_answered(Core& c, Progress& p, const Message& m) {
  if (m.round > c.round) return;  // never asked
  uint64_t before = p.sure_round;
  uint64_t before_any = p.round;
  p.round = std::max(p.round, m.round);
  if (!m.suspect) p.sure_round = std::max(p.sure_round, m.round);
  if (p.sure_round == before && p.round == before_any) return;
  if (c.reads_pending.empty() && c.restores.empty()) return;
  settle_rounds(c);
}

void fail_reads(Core& c) {
  for (const PendingRead& pending : c.reads_pending) c.out.failed_reads.push_back(pending.read.context);
  for (uint64_t context : c.reads_waiting) c.out.failed_reads.push_back(context);
  c.reads_pending.clear();
  c.reads_waiting.clear();
  c.restores.clear();
}

}  // namespace mneme::raft
