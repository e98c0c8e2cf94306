#include "core/raft/configuration.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "core/base/bytes.h"
#include "core/base/limits.h"
#include "core/raft/text.h"

namespace mneme::raft {

namespace {

using Ids = std::vector<ReplicaId>;

constexpr uint8_t kVersion = 1;

bool contains(const Ids& sorted, ReplicaId id) { return std::binary_search(sorted.begin(), sorted.end(), id); }

void insert(Ids& sorted, ReplicaId id) {
  auto at = std::lower_bound(sorted.begin(), sorted.end(), id);
  if (at == sorted.end() || *at != id) sorted.insert(at, id);
}

void remove(Ids& sorted, ReplicaId id) { std::erase(sorted, id); }

bool is_strictly_ascending(const Ids& ids) {
  return std::adjacent_find(ids.begin(), ids.end(), std::greater_equal<>()) == ids.end();
}

Ids united(const Ids& a, const Ids& b) {
  Ids both;
  std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  return both;
}

std::unexpected<Error> senseless(std::string sentence) { return fail(ErrorCode::kInvalid, std::move(sentence)); }

// Learners that are new have generations that were never given before.
std::optional<std::string> illegal_learners(const Configuration& from, const Configuration& to) {
  for (ReplicaId id : to.learners) {
    if (contains(from.learners, id)) continue;
    if (id.generation() <= from.generation || id.generation() > to.generation)
      return fmt::format("replica {} is not new", text_of(id));
  }
  return std::nullopt;
}

}  // namespace

bool Configuration::votes(ReplicaId id) const { return contains(voters, id) || contains(outgoing, id); }
bool Configuration::learns(ReplicaId id) const { return contains(learners, id); }
std::vector<ReplicaId> Configuration::electorate() const { return united(voters, outgoing); }
std::vector<ReplicaId> Configuration::members() const { return united(electorate(), learners); }

ReplicaId Configuration::on(NodeId node) const {
  for (ReplicaId id : members())
    if (id.node() == node) return id;
  return {};
}

Result<Configuration> after_change(const Configuration& now, const Change& change) {
  if (change.add.empty() && change.promote.empty() && change.remove.empty()) return senseless("nothing is to change");
  Configuration next = now;
  bool voters_change = !change.promote.empty();
  bool learners_change = !change.add.empty();
  for (ReplicaId id : change.add) {
    if (!id.node()) return senseless("a replica needs a node");
    if (ReplicaId there = next.on(id.node()))
      return senseless(fmt::format("node {} has replica {} of this group already", id.node().value, text_of(there)));
    if (id.generation() <= now.generation)
      return senseless(
          fmt::format("replica {} is not new: this group has had generation {}", text_of(id), now.generation));
    insert(next.learners, id);
    next.generation = std::max(next.generation, id.generation());
  }
  for (ReplicaId id : change.promote) {
    if (!contains(next.learners, id)) return senseless(fmt::format("replica {} is no learner", text_of(id)));
    remove(next.learners, id);
    insert(next.voters, id);
  }
  for (ReplicaId id : change.remove) {
    if (contains(now.voters, id)) {
      voters_change = true;
      remove(next.voters, id);
    } else if (contains(now.learners, id) && contains(next.learners, id)) {
      learners_change = true;
      remove(next.learners, id);
    } else {
      return senseless(fmt::format("there is no replica {} to remove", text_of(id)));
    }
  }
  if (voters_change && learners_change)
    return senseless("learners come and go in a change of their own, apart from voters");
  if (next.voters.empty()) return senseless("nobody would be left to vote");
  if (next.members().size() > limits::kMaxNodes)
    return senseless(fmt::format("a group has {} replicas at most", limits::kMaxNodes));
  if (voters_change) next.outgoing = now.voters;
  return next;
}

Configuration leave_joint(const Configuration& joint) {
  Configuration final = joint;
  final.outgoing.clear();
  return final;
}

Configuration first_of_child(const Configuration& parent) {
  Configuration child;
  child.generation = 1;
  // Sorted anew: ids are in the order of their generations first.
  for (ReplicaId id : parent.voters) insert(child.voters, ReplicaId(id.node(), child.generation));
  for (ReplicaId id : parent.learners) insert(child.learners, ReplicaId(id.node(), child.generation));
  return child;
}

std::optional<std::string> illegal_step(const Configuration& from, const Configuration& to) {
  if (from.joint()) {
    if (to == leave_joint(from)) return std::nullopt;
    return "a joint configuration is followed by something else than its end";
  }
  if (to.generation < from.generation) return "the generation falls";
  if (!to.joint()) {
    if (to.voters != from.voters) return "voters change without a joint configuration";
    return illegal_learners(from, to);
  }
  if (to.outgoing != from.voters) return "the outgoing voters of a joint configuration are not those of before";
  if (to.generation != from.generation) return "replicas are added while voters change";
  for (ReplicaId id : to.voters)
    if (!contains(from.voters, id) && !contains(from.learners, id))
      return fmt::format("replica {} becomes a voter and was no learner", text_of(id));
  for (ReplicaId id : from.learners)
    if (!to.has(id)) return fmt::format("learner {} is gone after voters changed", text_of(id));
  for (ReplicaId id : to.learners)
    if (!contains(from.learners, id)) return fmt::format("learner {} is new after voters changed", text_of(id));
  return std::nullopt;
}

std::string encode(const Configuration& configuration) {
  std::string out;
  Writer w(out);
  w.u8(kVersion);
  w.u8(0);
  w.u16(0);
  w.u32(configuration.generation);
  for (const Ids* ids : {&configuration.voters, &configuration.outgoing, &configuration.learners})
    w.u16(static_cast<uint16_t>(ids->size()));
  for (const Ids* ids : {&configuration.voters, &configuration.outgoing, &configuration.learners})
    for (ReplicaId id : *ids) w.id(id);
  return out;
}

Result<Configuration> decode_configuration(std::string_view payload) {
  auto corrupt = [](const char* what) { return fail(ErrorCode::kCorrupt, fmt::format("a configuration {}", what)); };
  Reader r(payload);
  const uint8_t version = r.u8();
  if (r.ok() && version != kVersion)
    return fail(ErrorCode::kUnsupported, fmt::format("a configuration of version {}", version));
  const bool reserved = r.u8() != 0 || r.u16() != 0;
  Configuration configuration;
  configuration.generation = r.u32();
  Ids* lists[] = {&configuration.voters, &configuration.outgoing, &configuration.learners};
  uint16_t counts[3];
  for (uint16_t& count : counts) count = r.u16();
  if (!r.ok()) return corrupt("ends within its header");
  if (reserved) return corrupt("has reserved bytes that are not zero");
  for (size_t i = 0; i < 3; ++i) {
    if (counts[i] > limits::kMaxNodes) return corrupt("has too many members");
    for (uint16_t n = 0; n < counts[i]; ++n) lists[i]->push_back(r.id<ReplicaId>());
  }
  if (!r.ok()) return corrupt("ends within its members");
  if (!r.at_end()) return corrupt("has bytes after its end");
  if (configuration.voters.empty()) return corrupt("has no voters");
  for (const Ids* ids : lists)
    if (!is_strictly_ascending(*ids)) return corrupt("names its members out of order");
  for (ReplicaId id : configuration.members())
    if (!id.node() || id.generation() > configuration.generation) return corrupt("names a member that cannot be");
  for (ReplicaId id : configuration.learners)
    if (configuration.votes(id)) return corrupt("names a learner that votes");
  return configuration;
}

}  // namespace mneme::raft
