#include "sim/scenarios/kv_oracle.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/protocol/resp.h"
#include "sim/check/commit_order.h"

namespace mneme::sim {

void KvOracle::violate(std::string property, std::string summary) {
  if (found_) return;
  found_ = true;
  violated_({std::move(property), std::move(summary)});
}

void KvOracle::admitted(uint64_t stream, uint64_t nth, const kv::Origin& origin, size_t position) {
  admitted_[{stream, nth}] = {origin, position};
}

void KvOracle::started(NodeId node, const raft::Raft& raft, LogIndex applied, uint64_t digest) {
  last_seen_.erase(node.value);
  if (auto wrong = cluster_.restarted(raft)) return violate("raft invariant", *wrong);
  if (raft.suspect() && !damaged_.contains(node.value))
    return violate("raft invariant", fmt::format("n{} is suspect, and nothing damaged its disk", node.value));
  if (applied) compare_digest(node, applied, digest);
  moved(node, raft);
}

void KvOracle::moved(NodeId node, const raft::Raft& raft) {
  if (found_) return;
  const raft::View now = raft::view_of(raft);
  auto [at, first] = last_seen_.try_emplace(node.value, now);
  if (first || at->second != now) {
    if (auto wrong = raft::check_state(raft, now)) return violate("raft invariant", *wrong);
    if (auto wrong = first ? std::nullopt : raft::check_transition(at->second, raft, now))
      return violate("raft invariant", *wrong);
    at->second = now;
  } else if (now.role != raft::Role::kLeader) {
    return;
  }
  if (auto wrong = cluster_.observe(raft)) violate("raft invariant", *wrong);
}

KvOracle::Applied& KvOracle::at(LogIndex index) {
  if (log_.size() < index.value) log_.resize(index.value);
  return log_[index.value - 1];
}

void KvOracle::compare_digest(NodeId node, LogIndex index, uint64_t digest) {
  const Applied& entry = at(index);
  if (entry.known && entry.digest != digest)
    violate("replica equality",
            fmt::format("n{} has another state than the first replica that applied index {}", node.value, index.value));
}

void KvOracle::applied(NodeId node, const raft::Entry& entry, uint64_t digest) {
  Applied& slot = at(entry.index);
  if (!slot.known) {
    slot = {true, entry.kind == raft::EntryKind::kData, entry.payload, digest};
    return;
  }
  compare_digest(node, entry.index, digest);
}

void KvOracle::installed(NodeId node, LogIndex index, uint64_t digest) { compare_digest(node, index, digest); }

void KvOracle::read_served(const kv::Origin& origin, LogIndex applied) { reads_[origin].push_back(applied); }

std::optional<Finding> KvOracle::judge(const std::vector<OpRecord>& records) {
  // Who asked: every attempt that was admitted, by batch and position.
  std::map<std::pair<uint64_t, size_t>, size_t> asked;  // (request, position) -> record
  for (size_t i = 0; i < records.size(); ++i)
    for (auto& attempt : records[i].attempts)
      if (auto found = admitted_.find(attempt); found != admitted_.end())
        asked[{found->second.first.request, found->second.second}] = i;

  // Where each operation stands: after which index, and in which order within it; writes before the reads at that
  // index.
  struct Place {
    LogIndex index;
    bool read;
    size_t position;
    size_t record;
  };
  std::vector<Place> places;
  std::vector<bool> placed(records.size());
  std::vector<std::vector<std::string>> answers(records.size());  // that the model gives, for each place
  KvModel model;
  for (LogIndex index{1}; index.value <= log_.size(); index = index.next()) {
    const Applied& entry = log_[index.value - 1];
    if (!entry.known)
      return Finding{
          "log", fmt::format("no replica was seen to apply index {}, though {} was applied", index.value, log_.size())};
    if (!entry.data) {
      model.skip(index);
      continue;
    }
    auto reader = kv::BatchReader::open(*entry.payload);
    const kv::Origin origin = reader->header().origin;
    const auto& given = model.apply(index, *entry.payload);
    for (size_t position = 0; position < given.size(); ++position) {
      auto found = asked.find({origin.request, position});
      if (found == asked.end()) continue;
      const size_t record = found->second;
      answers[record].push_back(given[position].reply);
      if (!given[position].executed) continue;
      if (placed[record])
        return Finding{
            "exactly once",
            fmt::format("{} was executed twice, the second time at index {}", records[record].text(), index.value),
            {records[record]}};
      placed[record] = true;
      places.push_back({index, false, position, record});
    }
  }
  // A batch of reads may have been answered more than once, by leaders who did not know of each other's answers; any of
  // them may have reached the client.
  for (auto& [key, record] : asked) {
    const OpRecord& op = records[record];
    if (op.outcome != ClientOutcome::kOk || placed[record]) continue;
    std::optional<Place> place;
    for (auto& attempt : op.attempts) {
      auto found = admitted_.find(attempt);
      if (found == admitted_.end()) continue;
      auto served = reads_.find(found->second.first);
      if (served == reads_.end()) continue;
      for (LogIndex index : served->second) {
        answers[record].push_back(model.read(index, op.args));
        std::string wire;
        protocol::downgrade(answers[record].back(), wire);
        if (!place || wire == op.reply) place = Place{index, true, found->second.second, record};
      }
    }
    if (!place) continue;
    places.push_back(*place);
    placed[record] = true;
  }

  std::string expected;
  for (size_t i = 0; i < records.size(); ++i) {
    const OpRecord& record = records[i];
    if (record.outcome == ClientOutcome::kFailed && placed[i])
      return Finding{"outcome",
                     fmt::format("{} was answered with '{}', which says that it did not happen, and was executed",
                                 record.text(), record.reply.substr(0, record.reply.find('\r'))),
                     {record}};
    const std::string_view refusal = std::string_view(record.reply).substr(0, record.reply.find('\r'));
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
    auto on_the_wire = [&](const std::string& answer) -> const std::string& {
      expected.clear();
      protocol::downgrade(answer, expected);
      return expected;
    };
    if (std::any_of(answers[i].begin(), answers[i].end(),
                    [&](const std::string& answer) { return on_the_wire(answer) == record.reply; }))
      continue;
    std::string shown;
    for (const std::string& answer : answers[i])
      shown += " " + on_the_wire(answer).substr(0, expected.find_last_not_of("\r\n") + 1);
    return Finding{"commit order",
                   fmt::format("{} was answered {}, the replicas' order of commands gives{}", record.text(),
                               record.reply.substr(0, record.reply.find_last_not_of("\r\n") + 1), shown),
                   {record}};
  }

  std::stable_sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
    if (a.index != b.index) return a.index < b.index;
    if (a.read != b.read) return b.read;
    return a.position < b.position;
  });
  // Reads at one index see the same state: any order of theirs will do, so the one of their calls is tried; of those
  // called at once, the one in which they were written down.
  for (auto begin = places.begin(); begin != places.end();) {
    auto end = begin;
    while (end != places.end() && end->index == begin->index && end->read == begin->read) ++end;
    if (begin->read)
      std::stable_sort(begin, end, [&](const Place& a, const Place& b) {
        return std::pair(records[a.record].called, a.record) < std::pair(records[b.record].called, b.record);
      });
    begin = end;
  }
  check::CommitOrder order;
  std::map<uint64_t, size_t> last_of_stream;  // the record that was sent last among those placed
  for (const Place& place : places) {
    const OpRecord& record = records[place.record];
    // What was answered as unknown may happen after what the same connection asked later.
    if (record.outcome == ClientOutcome::kOk && record.attempts.size() == 1) {
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
