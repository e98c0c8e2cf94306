#include "core/raft/invariants.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/hash.h"
#include "core/raft/text.h"

namespace mneme::raft {

namespace {

template <class... Args>
std::string sentence(ReplicaId node, Term term, fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format("node {} in term {}: {}", text_of(node), term.value,
                     fmt::format(format, std::forward<Args>(args)...));
}

uint64_t hash_of(const Entry& entry) {
  return xxh3(entry.payload ? std::string_view(*entry.payload) : std::string_view(), static_cast<uint64_t>(entry.kind));
}

}  // namespace

View view_of(const Raft& raft) {
  View v;
  v.id = raft.id();
  v.role = raft.role();
  v.term = raft.term();
  v.vote = raft.vote();
  v.durable = raft.durable_hard_state();
  v.leader = raft.leader();
  v.suspect = raft.suspect();
  v.commit = raft.commit();
  v.commit_term = raft.term_at(v.commit).value_or(Term());
  v.applied = raft.applied();
  v.persisted = raft.persisted_index();
  v.persisted_term = raft.term_at(v.persisted).value_or(Term());
  v.first = raft.first_index();
  v.last = raft.last_index();
  v.last_term = raft.term_at(v.last).value_or(Term());
  v.configuration = raft.configuration_index();
  v.committed_in_term = raft.committed_in_term();
  v.resting = raft.resting();
  v.lease = raft.lease_valid(Instant{INT64_MIN});
  return v;
}

// One that rests has nothing to do, and only its owner and its leader can change that.
std::optional<std::string> check_rest(const Raft& raft, const View& v) {
  auto bad = [&](const char* why) { return sentence(v.id, v.term, "rests but {}", why); };
  if (v.role != Role::kLeader && (v.role != Role::kFollower || !v.leader)) return bad("has no leader");
  if (v.commit != v.last || v.persisted != v.last) return bad("has entries that are not committed and durable");
  if (v.durable.term != v.term) return bad("its term is not durable");
  if (v.suspect) return bad("is suspect");
  if (raft.configuration().joint()) return bad("its configuration is joint");
  if (raft.next_deadline() != kNever) return bad("has a timer");
  if (v.role != Role::kLeader) return std::nullopt;
  if (!v.committed_in_term) return bad("has committed nothing in its term");
  if (raft.transferring_to()) return bad("hands leadership over");
  for (ReplicaId member : raft.configuration().members())
    if (raft.match_index(member) != v.last) return bad("a member is behind");
  return std::nullopt;
}

std::optional<std::string> check_state(const Raft& raft, const View& v) {
  auto bad = [&]<class... Args>(fmt::format_string<Args...> format, Args&&... args) {
    return sentence(v.id, v.term, format, std::forward<Args>(args)...);
  };
  if (v.last.next() < v.first) return bad("the log begins at {} but ends at {}", v.first.value, v.last.value);
  if (v.commit > v.last) return bad("commit index {} is beyond the log's end {}", v.commit.value, v.last.value);
  if (v.commit.next() < v.first) return bad("commit index {} is before the log's base", v.commit.value);
  if (v.applied > v.commit) return bad("applied {} but committed only {}", v.applied.value, v.commit.value);
  if (v.persisted > v.last) return bad("persisted {} is beyond the log's end {}", v.persisted.value, v.last.value);
  if (v.last_term > v.term) return bad("the log's last entry {} is of term {}", v.last.value, v.last_term.value);
  if (v.commit_term > v.last_term) return bad("terms fall between {} and {}", v.commit.value, v.last.value);
  if (v.configuration > v.last) return bad("its configuration is that of entry {}", v.configuration.value);
  if (v.configuration >= v.first && raft.entry_at(v.configuration).kind != EntryKind::kConfig)
    return bad("its configuration is that of entry {}, which has none", v.configuration.value);
  if (v.lease) {
    if (v.role != Role::kLeader) return bad("has a lease but does not lead");
    if (!v.committed_in_term) return bad("has a lease but has committed nothing in its term");
    if (raft.transferring_to()) return bad("has a lease but hands leadership over");
    if (v.configuration > v.commit) return bad("has a lease but its configuration is not committed");
  }
  if (v.resting)
    if (auto violation = check_rest(raft, v)) return violation;
  switch (v.role) {
    case Role::kLeader:
      if (v.suspect) return bad("leads although it is suspect");
      if (v.leader != v.id) return bad("leads but names {} as leader", v.leader.value);
      if (v.vote != v.id) return bad("leads but voted for {}", v.vote.value);
      if (v.last_term != v.term) return bad("leads but its log ends in term {}", v.last_term.value);
      if (v.committed_in_term != (v.commit_term == v.term))
        return bad("is wrong about having committed {} in its term", v.commit.value);
      break;
    case Role::kCandidate:
      if (v.vote != v.id) return bad("is a candidate but voted for {}", v.vote.value);
      [[fallthrough]];
    case Role::kPreCandidate:
      if (v.leader) return bad("campaigns although {} leads", v.leader.value);
      break;
    case Role::kFollower:
      if (v.leader == v.id) return bad("follows itself");
      break;
  }
  return std::nullopt;
}

std::optional<std::string> check_transition(const View& before, const View& after) {
  auto bad = [&]<class... Args>(fmt::format_string<Args...> format, Args&&... args) {
    return sentence(after.id, after.term, format, std::forward<Args>(args)...);
  };
  if (after.id != before.id) return bad("was node {} before", before.id.value);
  if (after.term < before.term) return bad("the term was {} before", before.term.value);
  if (after.commit < before.commit)
    return bad("commit index fell from {} to {}", before.commit.value, after.commit.value);
  if (after.applied < before.applied)
    return bad("applied index fell from {} to {}", before.applied.value, after.applied.value);
  if (after.first < before.first)
    return bad("the log's beginning moved back from {} to {}", before.first.value, after.first.value);
  if (after.suspect && !before.suspect) return bad("became suspect without a restart");
  if (after.term > before.term) return std::nullopt;
  if (after.role == Role::kLeader && before.role != Role::kLeader && before.role != Role::kCandidate)
    return bad("became leader without having been a candidate");
  if (before.vote && after.vote != before.vote)
    return bad("vote changed from {} to {}", before.vote.value, after.vote.value);
  if (before.leader && after.leader && after.leader != before.leader)
    return bad("leader changed from {} to {}", before.leader.value, after.leader.value);
  if (before.role == Role::kLeader && after.role == Role::kLeader && after.last < before.last)
    return bad("a leader's log shrank from {} to {}", before.last.value, after.last.value);
  if (before.role == Role::kLeader && after.role == Role::kLeader && after.commit > before.commit &&
      after.commit_term != after.term)
    return bad("committed entry {} of term {} by counting replicas", after.commit.value, after.commit_term.value);
  if (before.role == Role::kLeader && after.role == Role::kLeader && after.configuration > before.configuration) {
    if (before.configuration > after.commit)
      return bad("began a change of membership at {} while the one at {} was not committed", after.configuration.value,
                 before.configuration.value);
    if (!after.committed_in_term)
      return bad("began a change of membership at {} before it had committed anything", after.configuration.value);
  }
  if (before.role == Role::kLeader && (after.role == Role::kCandidate || after.role == Role::kPreCandidate))
    return bad("a leader campaigns");
  return std::nullopt;
}

std::optional<std::string> check_transition(const View& before, const Raft& after, const View& now) {
  if (auto violation = check_transition(before, now)) return violation;
  auto replaced = [&](LogIndex index, Term term) { return index >= now.first && after.term_at(index) != term; };
  if (replaced(before.commit, before.commit_term))
    return sentence(now.id, now.term, "committed entry {} of term {} was replaced", before.commit.value,
                    before.commit_term.value);
  bool led = before.role == Role::kLeader && now.role == Role::kLeader && before.term == now.term;
  if (led && replaced(before.last, before.last_term))
    return sentence(now.id, now.term, "a leader replaced its own entry {}", before.last.value);
  return std::nullopt;
}

ClusterInvariants::Seen& ClusterInvariants::seen(ReplicaId node) {
  for (Seen& s : seen_)
    if (s.node == node) return s;
  seen_.push_back({node, {}, {}, {}});
  return seen_.back();
}

std::optional<std::string> ClusterInvariants::restarted(const Raft& raft) {
  std::erase_if(seen_, [&](const Seen& s) { return s.node == raft.id(); });
  const Durable& d = durable(raft.id());
  if (raft.suspect()) return std::nullopt;
  const HardState hard = raft.durable_hard_state();
  if (hard.term < d.hard.term)
    return sentence(raft.id(), hard.term, "came back without term {}, which was durable", d.hard.term.value);
  if (hard.term == d.hard.term && d.hard.vote && hard.vote != d.hard.vote)
    return sentence(raft.id(), hard.term, "came back without its vote for {}, which was durable", d.hard.vote.value);
  if (d.last.index < raft.first_index().prev()) return std::nullopt;
  if (raft.term_at(d.last.index) == d.last.term) return std::nullopt;
  return sentence(raft.id(), hard.term, "came back without entry {} of term {}, which was durable, and is not suspect",
                  d.last.index.value, d.last.term.value);
}

void ClusterInvariants::rolled_back(ReplicaId node) {
  std::erase_if(durable_, [&](const Durable& d) { return d.node == node; });
}

ClusterInvariants::Durable& ClusterInvariants::durable(ReplicaId node) {
  for (Durable& d : durable_)
    if (d.node == node) return d;
  durable_.push_back({node, {}, {}, {}, {}});
  return durable_.back();
}

void ClusterInvariants::note_durable(const Raft& raft) {
  Durable& d = durable(raft.id());
  d.hard = raft.durable_hard_state();
  if (d.hard.vote) {
    auto at = std::lower_bound(d.votes.begin(), d.votes.end(), d.hard.term,
                               [](const HardState& h, Term term) { return h.term < term; });
    if (at == d.votes.end() || at->term != d.hard.term) d.votes.insert(at, d.hard);
  }
  const std::optional<Term> term = raft.term_at(raft.persisted_index());
  d.last = term ? LogPosition{raft.persisted_index(), *term} : LogPosition{};
  if (!term) return;  // between a snapshot and its record's sync
  const LogPosition last = d.last;
  auto at = std::lower_bound(d.reached.begin(), d.reached.end(), last.term,
                             [](const LogPosition& p, Term term) { return p.term < term; });
  if (at == d.reached.end() || at->term != last.term)
    d.reached.insert(at, last);
  else
    at->index = std::max(at->index, last.index);
}

std::optional<std::string> ClusterInvariants::too_few_votes(const std::vector<ReplicaId>& voters, ReplicaId leader,
                                                            Term term) const {
  const auto votes = static_cast<size_t>(std::count_if(durable_.begin(), durable_.end(), [&](const Durable& d) {
    return std::binary_search(voters.begin(), voters.end(), d.node) &&
           std::find(d.votes.begin(), d.votes.end(), HardState{term, leader}) != d.votes.end();
  }));
  if (votes * 2 > voters.size()) return std::nullopt;
  return fmt::format("{} durable votes of {} voters", votes, voters.size());
}

// Logs that end in the same term agree up to the shorter one's end (log matching).
std::optional<std::string> ClusterInvariants::too_few_holders(const std::vector<ReplicaId>& voters,
                                                              LogPosition position) const {
  const auto holders = static_cast<size_t>(std::count_if(durable_.begin(), durable_.end(), [&](const Durable& d) {
    return std::binary_search(voters.begin(), voters.end(), d.node) &&
           std::any_of(d.reached.begin(), d.reached.end(),
                       [&](const LogPosition& p) { return p.term == position.term && p.index >= position.index; });
  }));
  if (holders * 2 > voters.size()) return std::nullopt;
  return fmt::format("durable on {} of {} voters", holders, voters.size());
}

std::optional<std::string> ClusterInvariants::observe(const Raft& raft) {
  Seen& s = seen(raft.id());
  note_durable(raft);
  if (raft.commit() > s.checked) {
    if (auto violation = check_commit_rule(raft, s)) return violation;
    if (auto violation = check_committed(raft, s)) return violation;
  }
  const bool begins = raft.role() == Role::kLeader && s.led != raft.term();
  if (s.configuration != raft.configuration()) s.configuration = raft.configuration();
  return begins ? check_leader(raft, s) : std::nullopt;
}

std::optional<std::string> ClusterInvariants::check_leader(const Raft& raft, Seen& s) {
  s.led = raft.term();
  auto [at, fresh] = leader_of_.try_emplace(raft.term().value, raft.id());
  if (at->second != raft.id())
    return sentence(raft.id(), raft.term(), "leads, but node {} led this term already", at->second.value);
  const Configuration& configuration = raft.configuration();
  for (const auto* half : {&configuration.voters, &configuration.outgoing})
    if (auto few = half->empty() ? std::nullopt : too_few_votes(*half, raft.id(), raft.term()))
      return sentence(raft.id(), raft.term(), "leads with {}", *few);
  for (ReplicaId member : configuration.members())
    if (LogIndex match = raft.match_index(member); match && member != raft.id())
      return sentence(raft.id(), raft.term(), "begins to lead believing that node {} holds its log up to {}",
                      text_of(member), match.value);
  // Complete is what was committed in earlier terms. A late winner of an old term owes nothing to later ones.
  if (committed_.empty() || committed_.back().known_in > raft.term()) return std::nullopt;
  LogIndex index = last_committed();
  if (index < raft.first_index().prev()) return std::nullopt;
  if (raft.term_at(index) == committed_.back().term) return std::nullopt;
  return sentence(raft.id(), raft.term(), "leads without entry {} of term {}, which was committed by term {}",
                  index.value, committed_.back().term.value, committed_.back().known_in.value);
}

// By the configuration that was in force before the step, which may have begun another.
std::optional<std::string> ClusterInvariants::check_commit_rule(const Raft& raft, const Seen& s) {
  // Others are told, and a leader that has just begun knew before.
  if (raft.role() != Role::kLeader || raft.term_at(raft.commit()) != raft.term()) return std::nullopt;
  const Configuration& configuration = s.led == raft.term() ? s.configuration : raft.configuration();
  for (const auto* half : {&configuration.voters, &configuration.outgoing})
    if (auto few = half->empty() ? std::nullopt : too_few_holders(*half, {raft.commit(), raft.term()}))
      return sentence(raft.id(), raft.term(), "committed entry {}, which is {}", raft.commit().value, *few);
  return std::nullopt;
}

std::optional<std::string> ClusterInvariants::check_configuration(const Raft& raft, LogIndex index,
                                                                  const Entry& entry) {
  if (!configuration_) configuration_ = raft.configuration_at(index.prev());
  if (entry.kind != EntryKind::kConfig) return std::nullopt;
  const Configuration next = raft.configuration_at(index);
  auto illegal = illegal_step(*configuration_, next);
  if (illegal)
    illegal = sentence(raft.id(), raft.term(), "committed entry {}, from {} to {}: {}", index.value,
                       text_of(*configuration_), text_of(next), *illegal);
  configuration_ = next;
  return illegal;
}

std::optional<std::string> ClusterInvariants::check_committed(const Raft& raft, Seen& s) {
  LogIndex base = raft.first_index().prev();
  if (s.checked < base) {  // only the position is left of what a checkpoint covers
    Term term = *raft.term_at(base);
    if (base > last_committed()) {  // nobody was watched committing this: the record begins again here
      committed_.clear();
      configuration_ = raft.configuration_at(base);
      first_ = base.next();
    } else if (base >= first_ && committed(base).term != term) {
      return sentence(raft.id(), raft.term(),
                      "its checkpoint at {} is of term {}, but the entry committed is of term {}", base.value,
                      term.value, committed(base).term.value);
    }
    s.checked = base;
  }
  while (s.checked < raft.commit()) {
    LogIndex index = s.checked.next();
    const Entry& entry = raft.entry_at(index);
    uint64_t hash = hash_of(entry);
    if (index > last_committed()) {
      committed_.push_back({entry.term, hash, raft.term()});
      if (auto violation = check_configuration(raft, index, entry)) return violation;
    } else if (index >= first_) {
      const Committed& known = committed(index);
      if (known.term != entry.term)
        return sentence(raft.id(), raft.term(), "committed entry {} of term {}, but another replica of term {}",
                        index.value, entry.term.value, known.term.value);
      if (known.hash != hash)
        return sentence(raft.id(), raft.term(), "committed another entry {} of term {} than another replica",
                        index.value, entry.term.value);
    }
    s.checked = index;
  }
  return std::nullopt;
}

}  // namespace mneme::raft
