// Reads without a round, for as long as a majority has promised to vote for nobody else (raft.h; thesis 6.4.1).
//
// The leader's side. An answer to a round was given after the round began, so the voter's promise, an election timeout
// from when it heard the leader, ends later than an election timeout after the round's beginning. The lease is counted
// from there by the leader's clock: it is no longer than the election timeout, and what the leader's clock may lose
// against the voter's is taken off. Counting from when the answer arrived would add the time that it was on its way.
//
// The voter's side. Its promise covers its own vote for itself and its pre-votes, outlives terms that it learns of from
// others, and is taken to have been given just before each restart. Only the leader's own transfer overrides it.
#include <utility>

#include "core/raft/state.h"

namespace mneme::raft {

namespace {

// Rounds that begin closer together share a note, the earlier one's: a lease this part shorter, and few notes.
constexpr int kNotesPerLease = 32;

Duration usable(const Config& config) {
  const int64_t lease = config.lease.count();
  return Duration(lease - (lease / 1'000'000 + 1) * config.drift_ppm);
}

// Of the last round noted that is not after that one; 0: none.
Instant begun(const Core& c, uint64_t round) {
  Instant at;
  for (const LeaseRound& noted : c.lease_rounds)
    if (noted.round <= round) at = noted.begun;
  return at;
}

bool may_have_lease(const Core& c) {
  if (c.config.lease == Duration::zero() || c.role != Role::kLeader || !c.committed_in_term) return false;
  if (c.transfer.to || c.lease_forfeited) return false;
  // Not while the next leader may be elected by others than those who gave their promises.
  return c.votes && c.members.index() <= c.commit;
}

}  // namespace

void next_round(Core& c) {
  ++c.round;
  if (c.config.lease == Duration::zero()) return;
  std::erase_if(c.lease_rounds, [&](const LeaseRound& noted) { return c.now - noted.begun >= c.config.lease; });
  if (c.lease_rounds.empty() || c.now - c.lease_rounds.back().begun >= c.config.lease / kNotesPerLease)
    c.lease_rounds.push_back({c.round, c.now});
}

void note_promise(Core& c, Progress& p, const Message& m) {
  const Instant from = begun(c, m.round);
  p.promised = std::max(p.promised, from);
  if (!m.suspect) p.sure_promised = std::max(p.sure_promised, from);
}

void revoke_lease(Core& c) {
  c.lease_rounds.clear();
  for (Progress& p : c.peers) p.promised = p.sure_promised = {};
}

// One that is alone asks nobody, so its own word lasts for ever.
Instant lease_end(const Core& c) {
  if (!may_have_lease(c)) return {};
  auto when = [](Instant t) { return static_cast<uint64_t>(std::max<int64_t>(t.ns, 0)); };
  auto promised = [&](const Progress& p) { return std::pair(when(p.sure_promised), when(p.promised)); };
  const Instant from{static_cast<int64_t>(agreed(c, when(kNever), promised))};
  if (from == kNever || from.ns == 0) return from;
  return from + usable(c.config);
}

bool has_lease(const Core& c, Instant now) { return now < lease_end(c); }

// One that is alone has promised nothing: there is nobody who could lead but it.
bool is_bound(const Core& c) {
  return c.config.lease > Duration::zero() && !c.alone() && c.now - c.leader_heard < c.config.election_timeout;
}

}  // namespace mneme::raft
