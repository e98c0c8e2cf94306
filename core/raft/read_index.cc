// Linearizable reads without the log (ReadIndex, thesis 6.4), and proof of leadership in general.
//
// A round is a number that heartbeats and appends carry and replies echo. It rises for ever, so a reply that answers
// round n shows that the follower was still in the leader's term after everything that waits for n or less was asked.
// A later message may carry a higher round than the lost one, never a lower, so nothing is confirmed by an old reply.
#include <utility>

#include "core/base/limits.h"
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
    answer_read(c, c.reads_pending[done].asker, c.reads_pending[done].read);
  }
  c.reads_pending.erase(c.reads_pending.begin(), c.reads_pending.begin() + static_cast<ptrdiff_t>(done));
}

}  // namespace

void answer_read(Core& c, ReplicaId asker, ReadState read) {
  if (!asker) return c.out.reads.push_back(read);
  Message reply = message_to(c, asker, MessageType::kReadIndexReply);
  reply.round = read.context;
  reply.commit = read.index;
  send(c, std::move(reply));
}

bool reads_open(const Core& c) {
  return !c.reads_waiting.empty() || !c.reads_pending.empty() || !c.reads_requested.empty() || !c.restores.empty();
}

bool may_wait(const Core& c) {
  return c.reads_waiting.size() + c.reads_pending.size() + c.reads_requested.size() < limits::kMaxWaitingReads;
}

Result<void> ask_read(Core& c, uint64_t context) {
  const bool may_ask_leader = c.config.follower_reads && c.role == Role::kFollower && c.leader;
  if (c.role != Role::kLeader && !may_ask_leader) return fail(ErrorCode::kUnavailable, "this replica does not lead");
  if (!may_wait(c)) return fail(ErrorCode::kUnavailable, "too many reads are waiting");
  if (c.role == Role::kLeader && !c.committed_in_term) c.probes.reached(Probe::read_deferred_no_commit_in_term);
  note_activity(c);
  wait_or_answer(c, ReplicaId(), context);
  return {};
}

void wait_or_answer(Core& c, ReplicaId asker, uint64_t context) {
  if (!has_lease(c, c.now)) return c.reads_waiting.push_back({asker, context});
  c.probes.reached(Probe::lease_read_answered);
  answer_read(c, asker, {context, c.commit});
}

void settle_rounds(Core& c) {
  if (c.reads_pending.empty() && c.restores.empty()) return;
  auto answered = [](const Progress& p) { return std::pair(p.sure_round, p.round); };
  const uint64_t confirmed = agreed(c, c.round, answered);
  confirm_reads(c, confirmed);
  answer_restores(c, confirmed);
}

bool round_due(const Core& c) { return c.role == Role::kLeader && (reads_may_start(c) || restores_may_start(c)); }

void begin_round(Core& c) {
  next_round(c);
  if (reads_may_start(c)) {
    c.probes.reached(Probe::read_round_begun);
    for (const WaitingRead& read : c.reads_waiting)
      c.reads_pending.push_back({c.round, read.asker, {read.context, c.commit}});
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
  note_promise(c, p, m);
  uint64_t before = p.sure_round;
  uint64_t before_any = p.round;
  p.round = std::max(p.round, m.round);
  if (!m.suspect) p.sure_round = std::max(p.sure_round, m.round);
  if (p.sure_round == before && p.round == before_any) return;
  if (c.reads_pending.empty() && c.restores.empty()) return;
  settle_rounds(c);
}

void fail_reads(Core& c) {
  auto failed = [&](ReplicaId asker, uint64_t context) {
    if (!asker) c.out.failed_reads.push_back(context);  // others notice themselves
  };
  for (const PendingRead& pending : c.reads_pending) failed(pending.asker, pending.read.context);
  for (const RequestedRead& read : c.reads_requested) failed({}, read.context);
  for (const WaitingRead& read : c.reads_waiting) failed(read.asker, read.context);
  c.reads_pending.clear();
  c.reads_requested.clear();
  c.reads_waiting.clear();
  c.restores.clear();
}

}  // namespace mneme::raft
