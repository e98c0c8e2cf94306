#include "sim/check/by_revision.h"

#include <algorithm>
#include <tuple>
#include <unordered_map>

namespace mneme::check {
namespace {

struct Placed {
  OpId id;
  Shape shape;
  Position limit = kForever;  // the first return of this one and of all after it
};

// An operation of unknown outcome that has no place yet.
struct Loose {
  OpId id;
  bool taken = false;
};

class Orderer {
 public:
  explicit Orderer(const KeyView& key) : key_(key), values_(*key.values) {}

  std::optional<std::vector<OpId>> run() {
    if (key_.initial.size() != 1) return std::nullopt;
    collect();
    ValueId state = key_.initial.front();
    Position latest_call = 0;
    std::vector<OpId> order;
    order.reserve(told_.size());
    auto place = [&](OpId id, ValueId next) {
      order.push_back(id);
      latest_call = std::max(latest_call, op(id).call);
      state = next;
    };
    for (const Placed& one : told_) {
      std::optional<ValueId> next = step(state, op(one.id), values_);
      if (!next) {
        std::optional<OpId> before = find_before(one, state);
        if (!before) return std::nullopt;
        place(*before, step(state, op(*before), values_).value());
        next = step(state, op(one.id), values_);
      }
      place(one.id, *next);
      if (latest_call >= one.limit) return std::nullopt;  // somebody returned before an earlier one was called
    }
    return order;
  }

 private:
  const Operation& op(OpId id) const { return key_.operations[id]; }

  void collect() {
    for (OpId id : key_.ids) {
      const Operation& one = op(id);
      if (one.outcome == Outcome::kFailed) continue;
      Shape shape = shape_of(one, values_);
      if (one.revision != 0) {
        told_.push_back({id, shape});
      } else if (!shape.observes()) {
        const auto index = static_cast<uint32_t>(loose_.size());
        loose_.push_back({id});
        by_result_[shape.pre == Pre::kAsk ? kAnyValue : shape.to].waiting.push_back(index);
        all_.waiting.push_back(index);
      }
    }
    std::ranges::sort(told_, {}, [&](const Placed& one) {
      return std::tuple(op(one.id).revision, one.shape.observes(), op(one.id).call);
    });
    Position limit = kForever;
    for (size_t i = told_.size(); i-- > 0;) told_[i].limit = limit = std::min(limit, op(told_[i].id).ret);
  }

  // One that leads from `state` to where `one` is possible.
  std::optional<OpId> find_before(const Placed& one, ValueId state) {
    auto leads = [&](OpId id) {
      if (op(id).call >= one.limit) return false;
      std::optional<ValueId> between = step(state, op(id), values_);
      return between && step(*between, op(one.id), values_);
    };
    if (one.shape.pre != Pre::kIs) return take(all_, leads);
    // Sums and appended strings are not known before they are made.
    for (ValueId result : {one.shape.pre_value, kAnyValue}) {
      auto writers = by_result_.find(result);
      if (writers == by_result_.end()) continue;
      if (std::optional<OpId> found = take(writers->second, leads)) return found;
    }
    return std::nullopt;
  }

  // Indices into loose_, in order of their calls: an earlier call fits wherever a later one does.
  struct Waiting {
    std::vector<uint32_t> waiting;
    size_t begin = 0;  // those before are taken
  };

  // Looks at few: what is not found here is left to another path.
  template <class Test>
  std::optional<OpId> take(Waiting& from, Test test) {
    constexpr size_t kLookedAt = 64;
    while (from.begin < from.waiting.size() && loose_[from.waiting[from.begin]].taken) ++from.begin;
    const size_t end = std::min(from.waiting.size(), from.begin + kLookedAt);
    for (size_t i = from.begin; i < end; ++i) {
      Loose& loose = loose_[from.waiting[i]];
      if (loose.taken || !test(loose.id)) continue;
      loose.taken = true;
      return loose.id;
    }
    return std::nullopt;
  }

  const KeyView& key_;
  Values values_;
  std::vector<Placed> told_;
  std::vector<Loose> loose_;
  Waiting all_;
  std::unordered_map<ValueId, Waiting> by_result_;
};

}  // namespace

std::optional<std::vector<OpId>> order_by_revision(const KeyView& key) {
  const bool all_told = std::ranges::all_of(key.ids, [&](OpId id) {
    const Operation& op = key.operations[id];
    return op.outcome != Outcome::kOk || op.revision != 0;
  });
  return all_told ? Orderer(key).run() : std::nullopt;
}

}  // namespace mneme::check
