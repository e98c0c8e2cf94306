// The condition. Every operation is one of: a blind write of a value, a read of a value, or a change from one named
// value to another (a compare-and-set that swapped, INCR with its sum, GETSET with its old value, ...); no value is
// written twice, nor is the initial one written. So every operation names who it read from, and:
//
//  - Operations on one value are a *cluster*: its writer, then its readers. A change from u to v joins the cluster of v
//    right behind that of u, because v's writer must come next after u's readers; two changes from the same u are
//    impossible. Clusters so joined are a *block*, and in a linearization blocks do not interleave: nothing can write
//    between a value's writer and its last reader or change, and come back.
//  - The order inside a block is given, but for readers of one value, which go by their calls.
//  - Between blocks: A must precede B iff some operation of A returned before some operation of B was called, that is
//    iff first_return(A) < last_call(B). If this relation has a cycle it has one of length two: in a cycle of blocks
//    A(1) .. A(k) without one, first_return(A(j+1)) >= last_call(A(j)) > first_return(A(j-1)) for all j, and going
//    round by twos gives a number greater than itself. Without cycles of two, ordering the blocks by min(first_return,
//    last_call) respects the relation: let first_return(A) < last_call(B). If A's key is its first_return and B's is
//    its last_call, that is it. If A's key is its last_call, that is <= first_return(A) < B's last_call, and if B's key
//    is its first_return, then last_call(A) <= first_return(B), because otherwise B would have to precede A as well. If
//    both keys are first returns, first_return(B) < first_return(A) would mean first_return(B) < last_call(A), again a
//    cycle of two. (Gibbons and Korach, "Testing shared memories", 1997, have this for reads and writes as forward and
//    backward zones.)
//
// Hence exactly one order needs to be tried: blocks by that key, and inside them as given. It is a linearization iff no
// operation returned before an earlier one in it was called, which one running maximum tells. Operations of unknown
// outcome take part, without a return, only when somebody who took part read their value: as others need not have
// happened, and nobody would notice.
#include "sim/check/unique_writes.h"

#include <algorithm>

namespace mneme::check {
namespace {

constexpr uint32_t kNone = UINT32_MAX;

struct Cluster {
  uint32_t writer = kNone;        // index into ids; kNone: the initial value, or nobody wrote it
  uint32_t follower = kNone;      // the cluster that a change from this value leads to
  uint32_t first_reader = kNone;  // list through next_reader, in order of calls
  uint32_t from = kNone;          // the cluster that the writer, when it is a change, starts from
  bool needed = false;            // somebody who took part read it
};

struct Link {
  ValueId from;
  ValueId to;
  bool observes;
  bool changes;
};

// What the shape says, when it is one of the three kinds.
std::optional<Link> link_of(const Operation& op, Values& values) {
  Shape shape = shape_of(op, values);
  if (shape.impossible || shape.pre == Pre::kIsNot || shape.pre == Pre::kAsk) return std::nullopt;
  if (shape.overwrites() && shape.to == kAbsent) return std::nullopt;
  return Link{shape.pre_value, shape.to, shape.observes(), shape.pre == Pre::kIs};
}

class Checker {
 public:
  Checker(const KeyView& key, Position until, UniqueScratch& scratch)
      : key_(key), until_(until), values_(*key.values), cluster_of_(scratch.cluster_of) {
    // Room for values that sums and appended strings add; each operation adds at most two.
    size_t room = key.values->size() + 2 * key.ids.size() + 1;
    if (cluster_of_.size() < room) cluster_of_.resize(room, kNone);
  }
  ~Checker() {
    for (ValueId value : touched_) cluster_of_[value] = kNone;
  }

  UniqueAnswer run(std::vector<OpId>& order) {
    if (key_.initial.size() != 1) return UniqueAnswer::kNotApplicable;
    initial_ = cluster(key_.initial.front());
    if (!write_down()) return UniqueAnswer::kNotApplicable;
    if (!join()) return UniqueAnswer::kViolation;
    return in_order(order) ? UniqueAnswer::kLinearizable : UniqueAnswer::kViolation;
  }

 private:
  const Operation& op(uint32_t i) const { return key_.operations[key_.ids[i]]; }
  Position return_of(uint32_t i) const { return op(i).ret <= until_ ? op(i).ret : kForever; }
  bool ok(uint32_t i) const { return op(i).outcome == Outcome::kOk && op(i).ret <= until_; }

  uint32_t cluster(ValueId value) {
    uint32_t& at = cluster_of_[value];
    if (at == kNone) {
      at = static_cast<uint32_t>(clusters_.size());
      clusters_.emplace_back();
      touched_.push_back(value);
    }
    return at;
  }

  bool write_down() {
    next_reader_.assign(key_.ids.size(), kNone);
    last_reader_.clear();
    for (uint32_t i = 0; i < key_.ids.size() && op(i).call < until_; ++i) {
      const Operation& one = op(i);
      if (one.outcome == Outcome::kFailed) continue;
      std::optional<Link> link;
      if (one.outcome == Outcome::kOk && one.ret > until_) {
        Operation cut = one;
        cut.outcome = Outcome::kUnknown;
        cut.reply = ReplyKind::kNothing;
        link = link_of(cut, values_);
      } else {
        link = link_of(one, values_);
      }
      if (!link) return false;
      if (link->observes) {
        if (ok(i) && link->changes) add_reader(cluster(link->from), i);
        continue;
      }
      uint32_t to = cluster(link->to);
      if (clusters_[to].writer != kNone || to == initial_) return false;
      uint32_t from = link->changes ? cluster(link->from) : kNone;
      clusters_[to].writer = i;
      clusters_[to].from = from;
    }
    return true;
  }

  void add_reader(uint32_t to, uint32_t i) {
    last_reader_.resize(clusters_.size(), kNone);
    uint32_t& last = last_reader_[to];
    (last == kNone ? clusters_[to].first_reader : next_reader_[last]) = i;
    last = i;
    clusters_[to].needed = true;
  }

  // Who took part, and which cluster follows which. False: somebody read what nobody wrote, or two changed one value.
  bool join() {
    clusters_[initial_].needed = true;
    for (uint32_t at = 0; at < clusters_.size(); ++at) {
      const Cluster& one = clusters_[at];
      if (one.needed || (one.writer != kNone && ok(one.writer))) need(at);
    }
    for (uint32_t at = 0; at < clusters_.size(); ++at) {
      const Cluster& one = clusters_[at];
      if (!one.needed || at == initial_) continue;
      if (one.writer == kNone) return false;
      if (one.from == kNone) continue;
      if (clusters_[one.from].follower != kNone) return false;
      clusters_[one.from].follower = at;
    }
    return true;
  }

  void need(uint32_t at) {
    clusters_[at].needed = true;
    for (at = clusters_[at].from; at != kNone && !clusters_[at].needed; at = clusters_[at].from) {
      clusters_[at].needed = true;
    }
  }

  template <class Fn>
  void each_of_block(uint32_t head, Fn fn) const {
    for (uint32_t at = head; at != kNone; at = clusters_[at].follower) {
      if (clusters_[at].writer != kNone) fn(clusters_[at].writer);
      for (uint32_t i = clusters_[at].first_reader; i != kNone; i = next_reader_[i]) fn(i);
    }
  }

  bool in_order(std::vector<OpId>& order) {
    std::vector<std::pair<Position, uint32_t>> blocks;
    size_t placed = 0;
    size_t members = 0;
    for (uint32_t head = 0; head < clusters_.size(); ++head) {
      if (!clusters_[head].needed) continue;
      ++members;
      if (head == initial_ || clusters_[head].from != kNone) continue;
      Position first_return = kForever;
      Position last_call = 0;
      each_of_block(head, [&](uint32_t i) {
        first_return = std::min(first_return, return_of(i));
        last_call = std::max(last_call, op(i).call);
      });
      blocks.emplace_back(std::min(first_return, last_call), head);
    }
    std::ranges::sort(blocks);
    blocks.insert(blocks.begin(), {0, initial_});  // as if written before everything

    order.clear();
    order.reserve(key_.ids.size());
    Position latest_call = 0;
    for (auto [at, head] : blocks) {
      for (uint32_t one = head; one != kNone; one = clusters_[one].follower) ++placed;
      bool fits = true;
      each_of_block(head, [&](uint32_t i) {
        latest_call = std::max(latest_call, op(i).call);
        fits &= latest_call < return_of(i);
        order.push_back(key_.ids[i]);
      });
      if (!fits) return false;
    }
    return placed == members;  // otherwise changes go round in a circle, with no writer to begin
  }

  const KeyView& key_;
  const Position until_;
  Values values_;
  std::vector<uint32_t>& cluster_of_;
  std::vector<ValueId> touched_;
  std::vector<Cluster> clusters_;
  std::vector<uint32_t> next_reader_;
  std::vector<uint32_t> last_reader_;
  uint32_t initial_ = 0;
};

}  // namespace

UniqueAnswer check_unique_writes(const KeyView& key, Position until, UniqueScratch& scratch, std::vector<OpId>& order) {
  return Checker(key, until, scratch).run(order);
}

}  // namespace mneme::check
