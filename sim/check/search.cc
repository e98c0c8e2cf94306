#include "sim/check/search.h"

#include <algorithm>
#include <tuple>

#include "core/base/check.h"
#include "sim/check/space.h"

namespace mneme::check {
namespace {

// Nodes met, each once.
template <size_t W>
class Met {
 public:
  Met() : slots_(64, 0) {}
  bool add(const Node<W>& node) {
    if (nodes_.size() * 2 >= slots_.size()) grow();
    uint64_t hash = node.hash();
    size_t mask = slots_.size() - 1;
    size_t at = hash & mask;
    for (; slots_[at] != 0; at = (at + 1) & mask) {
      if (nodes_[slots_[at] - 1].same_as(node)) return false;
    }
    nodes_.push_back(node);
    slots_[at] = static_cast<uint32_t>(nodes_.size());
    return true;
  }
  size_t memory() const { return nodes_.capacity() * sizeof(Node<W>) + slots_.capacity() * sizeof(uint32_t); }

 private:
  void grow() {
    slots_.assign(slots_.size() * 2, 0);
    size_t mask = slots_.size() - 1;
    for (size_t i = 0; i < nodes_.size(); ++i) {
      size_t at = nodes_[i].hash() & mask;
      while (slots_[at] != 0) at = (at + 1) & mask;
      slots_[at] = static_cast<uint32_t>(i + 1);
    }
  }
  std::vector<Node<W>> nodes_;
  std::vector<uint32_t> slots_;
};

enum class Progress : uint8_t { kMore, kLinearizable, kViolation };

template <size_t W>
std::vector<Node<W>> starts(const Prepared& prepared) {
  std::vector<Node<W>> out;
  for (ValueId state : prepared.initial) {
    Node<W> node;
    node.state = state;
    out.push_back(node);
  }
  return out;
}

template <size_t W>
class DepthFirst {
 public:
  explicit DepthFirst(Prepared& prepared) : p_(prepared), space_(prepared), stack_(starts<W>(prepared)) {}

  Progress run(uint64_t until_steps, uint64_t most_memory) {
    while (!stack_.empty()) {
      if (steps() >= until_steps || memory() > most_memory) return Progress::kMore;
      Node<W> node = stack_.back();
      stack_.pop_back();
      if (node.layer == p_.layers.size()) {
        path = node.path;
        return Progress::kLinearizable;
      }
      ++nodes_;
      if (!met_.add(node)) {
        paths.release(node.path);
        continue;
      }
      furthest = std::max(furthest, node.layer);
      space_.expand(node, paths, stack_);
    }
    return Progress::kViolation;
  }
  uint64_t steps() const { return space_.steps() + nodes_; }
  uint64_t memory() const {
    return met_.memory() + paths.memory() + stack_.capacity() * sizeof(Node<W>) + p_.values.memory();
  }

  Paths paths;
  uint32_t path = Paths::kNone;
  uint32_t furthest = 0;

 private:
  Prepared& p_;
  Space<W> space_;
  Met<W> met_;
  std::vector<Node<W>> stack_;
  uint64_t nodes_ = 0;
};

// Nodes of one layer of which none dominates a later one. Among very many of one state only the first are compared
// with: a dominated one that stays costs time, not truth.
template <size_t W>
class Undominated {
 public:
  Undominated() : heads_(64, kNone) {}
  bool add(const Node<W>& node) {
    constexpr int kCompared = 512;
    uint32_t& head = heads_[mix(node.state) & (heads_.size() - 1)];
    int compared = 0;
    for (uint32_t at = head; at != kNone && compared < kCompared; at = next_[at], ++compared) {
      if (nodes_[at].dominates(node)) return false;
    }
    next_.push_back(head);
    head = static_cast<uint32_t>(nodes_.size());
    nodes_.push_back(node);
    if (nodes_.size() > heads_.size() * 2) grow();
    return true;
  }
  void clear() {
    for (const Node<W>& node : nodes_) heads_[mix(node.state) & (heads_.size() - 1)] = kNone;
    nodes_.clear();
    next_.clear();
  }
  std::vector<Node<W>>& nodes() { return nodes_; }
  const std::vector<Node<W>>& nodes() const { return nodes_; }
  size_t memory() const { return nodes_.capacity() * (sizeof(Node<W>) + 4) + heads_.capacity() * 4; }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  void grow() {
    heads_.assign(heads_.size() * 4, kNone);
    for (uint32_t i = 0; i < nodes_.size(); ++i) {
      uint32_t& head = heads_[mix(nodes_[i].state) & (heads_.size() - 1)];
      next_[i] = head;
      head = i;
    }
  }
  std::vector<Node<W>> nodes_;
  std::vector<uint32_t> next_, heads_;
};

template <size_t W>
class Frontier {
 public:
  explicit Frontier(Prepared& prepared, bool recorded) : p_(prepared), space_(prepared), recorded_(recorded) {
    for (const Node<W>& node : starts<W>(prepared)) ahead_.add(node);
    begin_layer();
  }

  Progress run(uint64_t until_steps, uint64_t most_memory) {
    while (layer < p_.layers.size()) {
      // First come those for which least was chosen, which are the likeliest to dominate.
      while (done_ < here_.nodes().size()) {
        if (steps() >= until_steps || memory() > most_memory) return Progress::kMore;
        children_.clear();
        paths.retain(here_.nodes()[done_].path);
        space_.expand(here_.nodes()[done_++], paths, children_);
        for (const Node<W>& child : children_) {
          if (!(child.layer == layer ? here_ : ahead_).add(child)) paths.release(child.path);
        }
      }
      if (ahead_.nodes().empty()) return Progress::kViolation;
      ++layer;
      begin_layer();
    }
    path = begun_.front().path;
    return Progress::kLinearizable;
  }
  uint64_t steps() const { return space_.steps() + nodes_; }
  uint64_t memory() const {
    return here_.memory() + ahead_.memory() + begun_.capacity() * sizeof(Node<W>) + paths.memory() + p_.values.memory();
  }
  // At the return where it ran empty.
  std::vector<ValueId> states() const { return states_of(here_.nodes()); }

  std::vector<std::vector<ValueId>> trace;
  Paths paths;
  uint32_t path = Paths::kNone;
  uint32_t layer = 0;

 private:
  static std::vector<ValueId> states_of(const std::vector<Node<W>>& nodes) {
    std::vector<ValueId> out;
    for (const Node<W>& node : nodes) out.push_back(node.state);
    std::ranges::sort(out);
    out.erase(std::ranges::unique(out).begin(), out.end());
    return out;
  }

  // What is ahead becomes what is here, the most promising first.
  void begin_layer() {
    begun_ = ahead_.nodes();
    ahead_.clear();
    for (const Node<W>& node : here_.nodes()) paths.release(node.path);
    nodes_ += here_.nodes().size();
    here_.clear();
    done_ = 0;
    std::ranges::sort(begun_, [](const Node<W>& a, const Node<W>& b) {
      int by_score = (a.may.count() - a.must.count()) - (b.may.count() - b.must.count());
      if (by_score != 0) return by_score > 0;
      return std::tie(a.state, a.may.words, a.must.words) < std::tie(b.state, b.may.words, b.must.words);
    });
    if (recorded_) trace.push_back(states_of(begun_));
    if (layer == p_.layers.size()) return;
    for (Node<W>& node : begun_) {
      space_.enter(node);
      if (!here_.add(node)) paths.release(node.path);
    }
  }

  Prepared& p_;
  Space<W> space_;
  Undominated<W> here_;   // of this layer; those before done_ have been expanded
  Undominated<W> ahead_;  // of the next, not entered yet
  std::vector<Node<W>> begun_, children_;
  size_t done_ = 0;
  uint64_t nodes_ = 0;
  const bool recorded_;
};

// The chosen operations are those of the path; the others have their places where search.h says: observers as soon as
// they are possible, hidden writes before the first that overwrites them.
std::vector<OpId> linearization(Prepared& p, const Paths& paths, uint32_t path) {
  if (p.initial.size() != 1) return {};  // the path does not tell where it began
  std::vector<Paths::Step> steps;
  std::vector<bool> chosen(p.ops.size(), false);
  for (; path != Paths::kNone; path = paths[path].parent) {
    steps.push_back(paths[path]);
    chosen[paths[path].op] = true;
  }
  std::ranges::reverse(steps);
  std::vector<OpId> order;
  std::vector<uint32_t> open;
  ValueId state = p.initial.front();
  auto place_if = [&](auto test) {
    std::erase_if(open, [&](uint32_t index) {
      bool now = test(p.ops[index]);
      if (now) order.push_back(p.ops[index].id);
      return now;
    });
  };
  auto settle = [&] { place_if([&](const KeyOp& op) { return p.next(state, op) == state; }); };
  size_t at = 0;
  uint32_t called = 0;
  for (uint32_t layer = 0; layer < p.layers.size(); ++layer) {
    for (; called < p.layers[layer].calls_end; ++called) {
      if (p.ops[called].ok() && !chosen[called]) open.push_back(called);
    }
    settle();
    for (; at < steps.size() && steps[at].layer == layer; ++at) {
      const KeyOp& op = p.ops[steps[at].op];
      if (op.shape.overwrites()) place_if([](const KeyOp& hidden) { return hidden.shape.total; });
      order.push_back(op.id);
      state = p.next(state, op);
      settle();
    }
  }
  CHECK(open.empty());
  return order;
}

template <size_t W>
Found run(Prepared& p, const Budget& budget, Method method) {
  Found found;
  DepthFirst<W> depth(p);
  std::optional<Frontier<W>> frontier;  // made when it is needed, which in an easy history is never
  bool depth_on = method == Method::kBoth || method == Method::kDepthFirst;
  bool frontier_on = method != Method::kDepthFirst;
  uint64_t turn = 64 + 8 * p.ops.size();
  auto spent = [&] { return depth.steps() + (frontier ? frontier->steps() : 0); };
  auto finish = [&](Answer answer) {
    found.answer = answer;
    found.steps = spent();
    found.memory = depth.memory();
    if (frontier) {
      found.trace = std::move(frontier->trace);
      found.memory += frontier->memory() - p.values.memory();
    }
    return found;
  };
  while ((depth_on || frontier_on) && spent() < budget.steps) {
    uint64_t left = budget.steps - spent();
    if (depth_on) {
      Progress progress = depth.run(depth.steps() + std::min(turn, left), budget.memory_bytes / 2);
      if (progress == Progress::kLinearizable) {
        found.order = linearization(p, depth.paths, depth.path);
        return finish(Answer::kLinearizable);
      }
      if (progress == Progress::kViolation) {
        found.failing = p.ops[p.layers[depth.furthest].returning].id;
        return finish(Answer::kViolation);
      }
      if (depth.memory() > budget.memory_bytes / 2) depth_on = false;
    }
    if (frontier_on && spent() < budget.steps) {
      if (!frontier) frontier.emplace(p, method == Method::kTrace);
      uint64_t until = frontier->steps() + std::min(turn * 16, budget.steps - spent());
      Progress progress = frontier->run(until, budget.memory_bytes / 2);
      if (progress == Progress::kLinearizable) {
        found.order = linearization(p, frontier->paths, frontier->path);
        return finish(Answer::kLinearizable);
      }
      if (progress == Progress::kViolation) {
        found.failing = p.ops[p.layers[frontier->layer].returning].id;
        found.states = frontier->states();
        return finish(Answer::kViolation);
      }
      if (frontier->memory() > budget.memory_bytes / 2) frontier_on = false;
    }
    turn *= 4;
  }
  return finish(Answer::kInconclusive);
}

}  // namespace

Found search(Prepared& prepared, const Budget& budget, Method method) {
  if (prepared.slots <= 64) return run<1>(prepared, budget, method);
  if (prepared.slots <= 128) return run<2>(prepared, budget, method);
  if (prepared.slots <= 256) return run<4>(prepared, budget, method);
  if (prepared.slots <= 1024) return run<16>(prepared, budget, method);
  if (prepared.slots <= 4096) return run<64>(prepared, budget, method);
  return {};  // more operations open at once than any search gets through
}

}  // namespace mneme::check
