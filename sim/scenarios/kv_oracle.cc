#include "sim/scenarios/kv_oracle.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "core/protocol/resp.h"
#include "sim/check/commit_order.h"

namespace mneme::sim {

namespace {

// As a client gets it that has not asked for RESP3.
std::string wire(const std::string& canonical) {
  std::string out;
  protocol::downgrade(canonical, out);
  return out;
}

}  // namespace

void KvOracle::violate(std::string property, std::string summary) {
  if (found_) return;
  found_ = true;
  violated_({std::move(property), std::move(summary)});
}

void KvOracle::admitted(uint64_t stream, uint64_t nth, const kv::Origin& origin, size_t position) {
  if (!violated_) return;
  admitted_[{stream, nth}].emplace_back(origin, position);
}

void KvOracle::started(NodeId node, GroupId id, const raft::Raft& raft, LogIndex applied, uint64_t digest) {
  Group& group = groups_[id];
  retired(node, id);
  group.replica[node.value] = raft.id();
  running_.insert(node.value);
  shape_.in_force(id, raft.configuration_index(), raft.configuration());
  if (!violated_) return moved(node, id, raft);
  if (auto wrong = group.cluster.restarted(raft)) return violate("raft invariant", *wrong);
  if (raft.suspect() && !damaged_.contains(node.value))
    return violate("raft invariant", fmt::format("n{} is suspect, and nothing damaged its disk", node.value));
  if (applied) compare_digest(node, id, applied, digest);
  moved(node, id, raft);
}

void KvOracle::moved(NodeId node, GroupId id, const raft::Raft& raft) {
  // What a crash unwinds may still touch its replica.
  if (found_ || !running_.contains(node.value)) return;
  const raft::View now = raft::view_of(raft);
  Group& group = groups_[id];
  auto [at, first] = group.last_seen.try_emplace(node.value, now);
  if (at->second.configuration != now.configuration || at->second.last_term != now.last_term)
    shape_.in_force(id, now.configuration, raft.configuration());
  if (!violated_) {
    at->second = now;
    return;
  }
  if (first || at->second != now) {
    if (auto wrong = raft::check_state(raft, now)) return violate("raft invariant", *wrong);
    if (auto wrong = first ? std::nullopt : raft::check_transition(at->second, raft, now))
      return violate("raft invariant", *wrong);
    at->second = now;
  } else if (now.role != raft::Role::kLeader) {
    return;
  }
  if (auto wrong = group.cluster.observe(raft)) return violate("raft invariant", *wrong);
  if (auto wrong = leases_ ? leases_->moved(node, id, raft) : std::nullopt) return violate("lease", *wrong);
  if (after_step) after_step();
}

void KvOracle::retired(NodeId node, GroupId group) {
  groups_[group].last_seen.erase(node.value);
  if (leases_) leases_->gone(node, group);
}

void KvOracle::stopped(NodeId node) {
  for (auto& [id, group] : groups_) group.last_seen.erase(node.value);
  if (leases_) leases_->gone(node);
  running_.erase(node.value);
}

void KvOracle::rolled_back(NodeId node) {
  for (auto& [id, group] : groups_)
    if (auto own = group.replica.find(node.value); own != group.replica.end()) group.cluster.rolled_back(own->second);
}

const raft::View* KvOracle::last_seen(NodeId node, GroupId id) const {
  auto group = groups_.find(id);
  if (group == groups_.end()) return nullptr;
  auto found = group->second.last_seen.find(node.value);
  return found == group->second.last_seen.end() ? nullptr : &found->second;
}

KvOracle::Applied& KvOracle::at(GroupId group, LogIndex index) {
  auto& log = groups_[group].log;
  if (log.size() < index.value) log.resize(index.value);
  return log[index.value - 1];
}

void KvOracle::compare_digest(NodeId node, GroupId group, LogIndex index, uint64_t digest) {
  if (!violated_) return;
  Applied& entry = at(group, index);
  // What a split's child begins with has no entry.
  if (entry.digest == 0) entry.digest = digest;
  if (entry.digest != digest)
    violate("replica equality", fmt::format("n{} has another state of group {} than the first replica that applied "
                                            "index {}",
                                            node.value, group.value, index.value));
}

void KvOracle::applied(NodeId node, GroupId group, const raft::Entry& entry, uint64_t digest) {
  if (auto wrong = shape_.applied(group, entry); wrong && violated_) violate("shape", *wrong);
  if (!violated_) return;
  if (auto wrong = leases_ ? leases_->applied(group, entry.index) : std::nullopt) return violate("lease", *wrong);
  if (after_apply) after_apply(group, entry);
  Applied& slot = at(group, entry.index);
  if (!slot.known) {
    const uint64_t known = slot.digest;
    slot = {true, entry.kind, entry.payload, known == 0 ? digest : known};
  }
  compare_digest(node, group, entry.index, digest);
}

void KvOracle::installed(NodeId node, GroupId group, LogIndex index, uint64_t digest) {
  compare_digest(node, group, index, digest);
}

void KvOracle::has_shard(NodeId node, GroupId group, LogIndex applied, const kv::ShardState& shard) {
  if (!violated_ || found_) return;
  if (auto wrong = shape_.shown(node, group, applied, shard)) violate("shape", *wrong);
}

void KvOracle::read_served(GroupId group, const kv::Origin& origin, LogIndex applied) {
  if (violated_) reads_[origin].emplace_back(group, applied);
}

std::optional<Finding> KvOracle::judge(const std::vector<OpRecord>& records) {
  Judging judging{.records = records,
                  .asked = {},
                  .placed = std::vector<bool>(records.size()),
                  .answers = std::vector<std::vector<std::string>>(records.size()),
                  .models = {},
                  .repeated = {}};
  // Who asked: every attempt that was admitted, by batch and position.
  for (size_t i = 0; i < records.size(); ++i)
    for (auto& attempt : records[i].attempts)
      if (auto found = admitted_.find(attempt); found != admitted_.end())
        for (auto& [origin, position] : found->second) judging.asked[{origin.request, position}] = i;

  std::map<GroupId, std::vector<Place>> places;
  // A child's id is above its parent's.
  for (const auto& [id, group] : groups_)
    if (auto wrong = replay(judging, id, places[id])) return wrong;

  for (auto& [key, record] : judging.asked) {
    const OpRecord& op = records[record];
    if (judging.placed[record]) continue;
    if (op.outcome == ClientOutcome::kFailed) judging.placed[record] = judging.repeated.contains(record);
    if (op.outcome != ClientOutcome::kOk) continue;
    const std::vector<Executed> there = executions(judging, record);
    if (there.empty()) continue;
    // Which of them the client was told is not known. The first that it may have been was not later than that one, and
    // not before the call.
    auto told = std::find_if(there.begin(), there.end(), [&](const Executed& e) { return wire(e.answer) == op.reply; });
    if (told == there.end()) told = there.begin();
    if (there.size() > 1) judging.uncertain.insert(record);
    places[told->group].push_back(told->place);
    judging.placed[record] = true;
  }
  if (auto wrong = judge_answers(judging)) return wrong;
  for (auto& [group, here] : places)
    if (auto wrong = judge_order(judging, std::move(here))) return wrong;
  return std::nullopt;
}

// What of a record may have been executed any number of times, by place: a batch of reads is answered more than once by
// leaders who do not know of each other's answers, and the client library sends reads again. A slot goes from a group
// to one with a higher id only.
std::vector<KvOracle::Executed> KvOracle::executions(Judging& judging, size_t record) {
  const OpRecord& op = judging.records[record];
  std::vector<Executed> all;
  if (auto logged = judging.repeated.find(record); logged != judging.repeated.end()) all = logged->second;
  for (auto& attempt : op.attempts) {
    auto found = admitted_.find(attempt);
    if (found == admitted_.end()) continue;
    for (auto& [origin, position] : found->second) {
      auto served = reads_.find(origin);
      if (served == reads_.end()) continue;
      for (auto [group, index] : served->second) {
        all.push_back({group, {index, true, position, record}, judging.models[group].read(index, op.args)});
        judging.answers[record].push_back(all.back().answer);
      }
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const Executed& a, const Executed& b) {
    return std::tuple(a.group, a.place.index, a.place.read, a.place.position) <
           std::tuple(b.group, b.place.index, b.place.read, b.place.position);
  });
  return all;
}

std::optional<Finding> KvOracle::replay(Judging& judging, GroupId id, std::vector<Place>& places) {
  const std::vector<Applied>& log = groups_[id].log;
  KvModel& model = judging.models[id];
  for (LogIndex index = model.last().next(); index.value <= log.size(); index = index.next()) {
    const Applied& entry = log[index.value - 1];
    if (!entry.known)
      return Finding{"log", fmt::format("no replica was seen to apply index {} of group {}, though {} was applied",
                                        index.value, id.value, log.size())};
    if (entry.kind == raft::EntryKind::kConfig) {
      model.configure(index);
      continue;
    }
    if (entry.kind != raft::EntryKind::kData) {
      model.skip(index);
      continue;
    }
    auto reader = kv::BatchReader::open(*entry.payload);
    const kv::Origin origin = reader->header().origin;
    const auto& given = model.apply(index, *entry.payload);
    for (auto& [child, begun] : model.take_children()) judging.models[child] = std::move(begun);
    for (size_t position = 0; position < given.size(); ++position) {
      auto found = judging.asked.find({origin.request, position});
      if (found == judging.asked.end()) continue;
      const size_t record = found->second;
      judging.answers[record].push_back(given[position].reply);
      if (!given[position].executed) continue;
      if (judging.records[record].repeats) {
        judging.repeated[record].push_back({id, {index, false, position, record}, given[position].reply});
        continue;
      }
      if (judging.placed[record])
        return Finding{"exactly once",
                       fmt::format("{} was executed twice, the second time at index {} of group {}",
                                   judging.records[record].text(), index.value, id.value),
                       {judging.records[record]}};
      judging.placed[record] = true;
      places.push_back({index, false, position, record});
    }
  }
  return std::nullopt;
}

std::optional<Finding> KvOracle::judge_answers(const Judging& judging) const {
  const auto& [records, asked, placed, answers, models, repeated, uncertain] = judging;
  for (size_t i = 0; i < records.size(); ++i) {
    const OpRecord& record = records[i];
    if (record.outcome == ClientOutcome::kFailed && placed[i])
      return Finding{"outcome",
                     fmt::format("{} was answered with '{}', which says that it did not happen, and was executed",
                                 record.text(), record.reply.substr(0, record.reply.find('\r'))),
                     {record}};
    const std::string_view refusal = std::string_view(record.reply).substr(0, record.reply.find('\r'));
    if (refusal.starts_with("-EXPIRED the reply to number") && refusal.ends_with("was acknowledged"))
      return Finding{
          "exactly once", fmt::format("{} waited for its answer and was told '{}'", record.text(), refusal), {record}};
    // Only of an answer that was too long to be kept may the client be told no more than that.
    if (refusal.starts_with("-EXPIRED") && !refusal.ends_with("the command was executed") && !answers[i].empty() &&
        std::none_of(answers[i].begin(), answers[i].end(), [](auto& a) { return a.starts_with("-EXPIRED"); }))
      return Finding{
          "exactly once",
          fmt::format("{} was answered '{}', though its session lived and it had not acknowledged the answer",
                      record.text(), refusal),
          {record}};
    if (record.outcome != ClientOutcome::kOk) continue;
    if (!placed[i])
      return Finding{
          "durability", fmt::format("{} was acknowledged and is in no replica's log", record.text()), {record}};
    if (std::any_of(answers[i].begin(), answers[i].end(),
                    [&](const std::string& answer) { return wire(answer) == record.reply; }))
      continue;
    std::string shown;
    for (const std::string& answer : answers[i]) {
      const std::string expected = wire(answer);
      shown += " " + expected.substr(0, expected.find_last_not_of("\r\n") + 1);
    }
    return Finding{"commit order",
                   fmt::format("{} was answered {}, the replicas' order of commands gives{}", record.text(),
                               record.reply.substr(0, record.reply.find_last_not_of("\r\n") + 1), shown),
                   {record}};
  }

  return std::nullopt;
}

std::optional<Finding> KvOracle::judge_order(const Judging& judging, std::vector<Place> places) {
  const std::vector<OpRecord>& records = judging.records;
  std::stable_sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
    if (a.index != b.index) return a.index < b.index;
    if (a.read != b.read) return b.read;
    return a.position < b.position;
  });
  // Reads at one index see the same state: any order of theirs will do that neither real time nor a connection
  // contradicts, and the one in which they were sent does that. Calls made at once may leave in another order.
  for (auto begin = places.begin(); begin != places.end();) {
    auto end = begin;
    while (end != places.end() && end->index == begin->index && end->read == begin->read) ++end;
    if (begin->read)
      std::stable_sort(begin, end, [&](const Place& a, const Place& b) {
        return records[a.record].sent_order < records[b.record].sent_order;
      });
    begin = end;
  }
  check::CommitOrder order;
  std::map<uint64_t, size_t> last_of_stream;  // the record that was sent last among those placed
  for (const Place& place : places) {
    const OpRecord& record = records[place.record];
    // What was answered as unknown may happen after what the same connection asked later.
    if (record.outcome == ClientOutcome::kOk && record.attempts.size() == 1 &&
        !judging.uncertain.contains(place.record)) {
      const auto [stream, nth] = record.attempts[0];
      auto [before, first] = last_of_stream.try_emplace(stream, place.record);
      const OpRecord& other = records[before->second];
      if (!first && other.attempts[0].second > nth)
        return Finding{"pipeline order",
                       fmt::format("{} was sent before {} on the same connection and executed after it, at index {}",
                                   record.text(), other.text(), place.index.value),
                       {record, other}};
      before->second = place.record;
    }
    const bool returned = record.outcome == ClientOutcome::kOk;
    if (auto later = order.add(place.record, record.called, returned ? std::optional(record.returned) : std::nullopt))
      return Finding{"real-time order",
                     fmt::format("{} had returned when {} was called, but the replicas put it later, at index {}",
                                 record.text(), records[*later].text(), place.index.value),
                     {record, records[*later]}};
    order_.push_back(place.record);
  }
  return std::nullopt;
}

}  // namespace mneme::sim
