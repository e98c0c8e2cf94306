// Any commands in any order: several planners and drivers that know old maps, requests and commands that arrive late,
// twice or never. After each command the map must be sound, must not have forgotten or reused anything, and at the end
// it must agree with its groups.
#include "tests/unit/shard/random.h"

#include <cstdlib>
#include <set>

#include "tests/unit/shard/groups.h"
#include "tests/unit/shard/support.h"

using namespace mneme;
using namespace mneme::shard;

namespace {

class Turmoil {
 public:
  explicit Turmoil(uint64_t seed)
      : random_(seed),
        map_(founded({.nodes = static_cast<uint32_t>(4 + random_.below(4)),
                      .shards = static_cast<uint32_t>(1 + random_.below(4)),
                      .copies = static_cast<uint32_t>(1 + random_.below(3))})),
        replica_(map_),
        groups_(map_) {}

  void run(size_t steps) {
    for (size_t n = 0; n < steps; ++n) {
      if (n % 16 == 0) seen_[random_.below(3)] = map_;  // one of three who act on what they saw
      act();
      if (!late_.empty() && random_.one_in(2)) deliver();
      if (!requests_.empty() && random_.one_in(2)) request();
      REQUIRE(groups_.check() == std::nullopt);
    }
    settle();
  }

  size_t accepted() const { return accepted_; }
  size_t refused() const { return refused_; }
  size_t ended() const { return ended_; }

 private:
  // Applies it to two maps, sometimes decoded anew, and again to one of them.
  void apply(const Command& command) {
    const Map before = map_;
    auto answer = map_.apply(command);
    auto wrong = map_.check();
    INFO(wrong.value_or(""));
    REQUIRE_FALSE(wrong);
    std::string bytes;
    encode(command, bytes);
    auto same = replica_.apply(must(decode_command(bytes)));
    REQUIRE(answer.has_value() == same.has_value());
    if (random_.one_in(8)) {
      std::string checkpoint;
      replica_.encode(checkpoint);
      replica_ = must(Map::decode(checkpoint));
    }
    REQUIRE(map_.digest() == replica_.digest());
    follow();
    if (!answer) {
      ++refused_;
      REQUIRE(map_ == before);
      return;
    }
    ++accepted_;
    REQUIRE(*answer == *same);
    compare(before);
    const Map after = map_;
    auto again = map_.apply(command);
    REQUIRE(again);
    REQUIRE(*again == *answer);
    REQUIRE(map_ == after);
  }

  template <class T>
  static T must(Result<T> result) {
    INFO((result ? "" : result.error().message));
    REQUIRE(result);
    return std::move(*result);
  }

  // One step of the map: what may never go back does not.
  void compare(const Map& before) {
    REQUIRE(map_.version() >= before.version());
    REQUIRE(map_.next_node() >= before.next_node());
    REQUIRE(map_.next_group() >= before.next_group());
    REQUIRE(map_.next_operation() >= before.next_operation());
    for (const auto& [id, node] : before.nodes()) {
      REQUIRE(map_.node(id));
      REQUIRE(map_.node(id)->incarnation == node.incarnation);
      if (node.state == NodeState::kRemoved) REQUIRE(*map_.node(id) == node);
    }
    for (const auto& [id, shard] : map_.shards()) {
      const Shard* old = before.shard(id);
      if (!old) {  // made by a split, with an id that was handed out before and never for anything else
        REQUIRE(id < before.next_group());
        REQUIRE(groups_made_.insert(id).second);
        continue;
      }
      if (shard.slots != old->slots || shard.configuration() != old->configuration())
        REQUIRE(shard.epoch() > old->epoch());
      REQUIRE_FALSE(is_newer(old->last, shard.last));
      REQUIRE(shard.last.next_generation >= old->last.next_generation);
      if (shard.last_operation() != old->last_operation()) {
        REQUIRE_FALSE(old->pending());
        REQUIRE(shard.last_operation() == before.next_operation());
        const Operation& operation = *shard.operation;
        REQUIRE(operation.planned == old->epoch());
        if (operation.child) REQUIRE(children_.insert(operation.child).second);
        if (operation.step == Step::kAddLearner) REQUIRE(replicas_.insert({id, operation.target}).second);
      } else if (old->pending() && !shard.pending()) {
        ++ended_;
      }
    }
  }

  // Somebody decides something by a map of some age.
  void act() {
    const Map& known = random_.one_in(3) ? seen_[random_.below(3)] : map_;
    if (known.shards().empty()) return;
    const GroupId group(1 + random_.below(known.next_group().value));
    const Shard* shard = known.shard(group);
    const Operation* pending = shard ? shard->pending() : nullptr;
    auto report = groups_.report(group);
    switch (random_.below(16)) {
      case 0: return send(AddNode{Incarnation(1000 + random_.below(20)), address(), "c", ""});
      case 1: {
        const NodeId id = any_node(known);
        const Node* node = known.node(id);
        return send(NodeUp{id, random_.one_in(9) || !node ? Incarnation(1) : node->incarnation});
      }
      case 2: {
        const NodeId id = any_node(known);
        const Node* node = known.node(id);
        return send(DrainNode{id, node ? node->revision : 0, random_.one_in(2)});
      }
      case 3: return send(RemoveNode{any_node(known)});
      case 4: return send(SetCopies{known.copies(), static_cast<uint32_t>(random_.below(6))});
      case 5:
        if (report) {
          const Member& member = report->configuration[random_.below(report->configuration.size())];
          if (member.role == Role::kVoter) groups_.elect(group, member.replica.node);
        }
        return;
      case 6:
        if (random_.one_in(8)) groups_.fence(group.value < 3 ? group : kMetaGroup);
        return;
      case 7:
        if (report) send(*report);
        return;
      case 8:
        if (report) groups_.leave_joint(group);
        return;
      case 9:
      case 10:
      case 11:
      case 12:
        if (!pending && shard)
          return send({BeginOperation{group, shard->epoch(), shard->last_operation(), any_action(known)}});
        [[fallthrough]];
      default:
        if (!pending || !report) return;
        if (random_.one_in(6)) {  // gives up
          if (random_.one_in(2)) groups_.fence(group);
          return send(AbandonOperation{pending->id, pending->step, *groups_.report(group)});
        }
        if (random_.one_in(3)) return send(AdvanceOperation{pending->id, pending->step, *report});
        requests_.push_back({group, *pending});
    }
  }

  Action any_action(const Map& known) {
    Action action;
    action.kind = static_cast<ActionKind>(1 + random_.below(5));
    const ActionKind kind = action.kind;
    if (kind == ActionKind::kMove || kind == ActionKind::kRemove) action.source = any_node(known);
    if (kind != ActionKind::kSplit && kind != ActionKind::kRemove) action.target = any_node(known);
    if (kind == ActionKind::kSplit) action.at = static_cast<uint16_t>(random_.below(kSlots));
    return action;
  }

  NodeId any_node(const Map& known) { return NodeId(1 + random_.below(known.next_node().value)); }
  std::string address() { return fmt::format("a{}", random_.below(12)); }

  // Now, later, or both.
  void send(Command command) {
    if (random_.one_in(3)) late_.push_back(command);
    if (random_.one_in(4)) return late_.push_back(std::move(command));
    apply(command);
  }

  void deliver() {
    size_t at = random_.below(late_.size());
    Command command = late_[at];
    if (!random_.one_in(3)) late_.erase(late_.begin() + static_cast<ptrdiff_t>(at));
    if (random_.one_in(20)) return;
    apply(command);
    if (late_.size() > 50) late_.erase(late_.begin(), late_.begin() + 25);
  }

  // One who has the map as it was some versions ago, and gets what has changed, comes to the same.
  void follow() {
    if (map_.version() == behind_.version() || !random_.one_in(4)) return;
    if (behind_.cluster()) {
      std::string change;
      (random_.one_in(2) ? map_ : replica_).encode_change_since(behind_, change);
      const Map followed = must(behind_.with_change(change));
      REQUIRE(followed == map_);
      REQUIRE(followed.digest() == map_.digest());
      REQUIRE(followed.check() == std::nullopt);
    }
    behind_ = map_;
  }

  void request() {
    size_t at = random_.below(requests_.size());
    Request request = requests_[at];
    if (!random_.one_in(3)) requests_.erase(requests_.begin() + static_cast<ptrdiff_t>(at));
    groups_.make(request, random_.one_in(2));
    if (requests_.size() > 50) requests_.erase(requests_.begin(), requests_.begin() + 25);
  }

  // A driver that remembers nothing ends all operations; then map and groups agree.
  void settle() {
    size_t rounds = 0;
    for (bool busy = true; busy;) {
      REQUIRE(++rounds < 100);
      busy = false;
      const Map now = map_;
      for (const auto& [id, shard] : now.shards()) {
        groups_.leave_joint(id);
        const Operation* pending = shard.pending();
        if (!pending) continue;
        busy = true;
        const uint64_t before = map_.version();
        apply(AdvanceOperation{pending->id, pending->step, *groups_.report(id)});
        if (map_.version() != before) continue;
        if (groups_.report(id)->epoch > pending->epoch)
          apply(AbandonOperation{pending->id, pending->step, *groups_.report(id)});
        else if (!groups_.make({id, *pending}) || random_.one_in(4))
          groups_.fence(id);
      }
    }
    for (const auto& [id, group] : groups_.all()) {
      apply(*groups_.report(id));
      REQUIRE(map_.shard(id));
      REQUIRE(map_.shard(id)->slots == group.slots);
      REQUIRE(map_.shard(id)->configuration() == group.configuration);
      REQUIRE(map_.shard(id)->epoch() == group.epoch);
    }
    REQUIRE(map_.shards().size() == groups_.all().size());
  }

  Random random_;
  Map map_;
  Map replica_;
  Map behind_;
  Groups groups_;
  Map seen_[3];
  std::vector<Command> late_;
  std::vector<Request> requests_;
  std::set<GroupId> groups_made_;
  std::set<GroupId> children_;
  std::set<std::pair<GroupId, Replica>> replicas_;
  size_t accepted_ = 0;
  size_t refused_ = 0;
  size_t ended_ = 0;
};

}  // namespace

TEST_CASE("a map stays sound under any commands, whenever and however often they arrive", "[shard]") {
  const char* more = std::getenv("MNEME_SHARD_SEEDS");
  const uint64_t seeds = more ? std::strtoull(more, nullptr, 10) : 60;
  size_t accepted = 0;
  size_t refused = 0;
  size_t ended = 0;
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    INFO("seed " << seed);
    Turmoil turmoil(seed);
    turmoil.run(400);
    accepted += turmoil.accepted();
    refused += turmoil.refused();
    ended += turmoil.ended();
  }
  INFO(accepted << " accepted, " << refused << " refused, " << ended << " operations");
  // Otherwise it would prove little.
  CHECK(accepted > 50 * seeds);
  CHECK(refused > 20 * seeds);
  CHECK(ended > 5 * seeds);
}
