#include "sim/check/search.h"

#include <algorithm>
#include <numeric>

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
  void clear() {
    if (nodes_.size() * 8 < slots_.size()) {
      size_t mask = slots_.size() - 1;
      // Their chains are all short, so each entry is found where it was put; clearing what is near costs less than all.
      for (const Node<W>& node : nodes_) {
        for (size_t at = node.hash() & mask; slots_[at] != 0; at = (at + 1) & mask) slots_[at] = 0;
      }
    } else {
      std::ranges::fill(slots_, 0);
    }
    nodes_.clear();
  }
  const std::vector<Node<W>>& nodes() const { return nodes_; }
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

  Progress run(uint64_t until_steps) {
    while (!stack_.empty()) {
      if (steps() >= until_steps) return Progress::kMore;
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
  uint64_t memory() const { return met_.memory() + paths.memory() + stack_.capacity() * sizeof(Node<W>); }

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

template <size_t W>
class Frontier {
 public:
  explicit Frontier(Prepared& prepared) : p_(prepared), space_(prepared), work_(starts<W>(prepared)) {}

  Progress run(uint64_t until_steps) {
    while (true) {
      if (layer == p_.layers.size()) {
        path = work_.front().path;
        return Progress::kLinearizable;
      }
      while (!work_.empty()) {
        if (steps() >= until_steps) return Progress::kMore;
        Node<W> node = work_.back();
        work_.pop_back();
        ++nodes_;
        children_.clear();
        space_.expand(node, paths, children_);
        for (const Node<W>& child : children_) take(child);
      }
      if (next_.empty()) return Progress::kViolation;
      ++layer;
      work_.swap(next_);
      met_.clear();
      keep_best();
    }
  }
  uint64_t steps() const { return space_.steps() + nodes_; }
  uint64_t memory() const {
    return met_.memory() + paths.memory() + (work_.capacity() + next_.capacity()) * sizeof(Node<W>);
  }
  // At the return where it ran empty.
  std::vector<ValueId> states() const {
    std::vector<ValueId> out = begun_;
    for (const Node<W>& node : met_.nodes()) out.push_back(node.state);
    std::ranges::sort(out);
    out.erase(std::ranges::unique(out).begin(), out.end());
    return out;
  }

  Paths paths;
  uint32_t path = Paths::kNone;
  uint32_t layer = 0;

 private:
  void take(const Node<W>& child) {
    if (!met_.add(child)) {
      paths.release(child.path);
    } else {
      (child.layer == layer ? work_ : next_).push_back(child);
    }
  }

  // Drops dominated configurations. Among very many only the most promising are compared with: a dominated one that
  // stays costs time, not truth.
  void keep_best() {
    auto score = [](const Node<W>& node) { return node.may.count() - node.must.count(); };
    if (work_.size() > 1) {
      std::ranges::sort(work_, [&](const Node<W>& a, const Node<W>& b) {
        if (a.state != b.state) return a.state < b.state;
        int sa = score(a);
        int sb = score(b);
        if (sa != sb) return sa > sb;
        if (a.may.words != b.may.words) return a.may.words < b.may.words;
        return a.must.words < b.must.words;
      });
      constexpr size_t kCompared = 256;
      size_t kept = 0;
      size_t group = 0;
      for (size_t i = 0; i < work_.size(); ++i) {
        const Node<W> node = work_[i];
        if (kept > 0 && work_[kept - 1].state != node.state) group = kept;
        bool dominated = false;
        for (size_t k = group; k < std::min(kept, group + kCompared) && !dominated; ++k) {
          dominated = node.may.within(work_[k].may) && work_[k].must.within(node.must);
        }
        if (dominated) {
          paths.release(node.path);
        } else {
          work_[kept++] = node;
        }
      }
      work_.resize(kept);
    }
    begun_.clear();
    for (const Node<W>& node : work_) begun_.push_back(node.state);
  }

  Prepared& p_;
  Space<W> space_;
  Met<W> met_;
  std::vector<Node<W>> work_, next_, children_;
  std::vector<ValueId> begun_;
  uint64_t nodes_ = 0;
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
  Frontier<W> frontier(p);
  bool depth_on = method != Method::kFrontier;
  bool frontier_on = method != Method::kDepthFirst;
  uint64_t turn = 64 + 8 * p.ops.size();
  uint64_t depth_spent = 0;
  uint64_t frontier_spent = 0;
  auto spent = [&] { return depth.steps() + frontier.steps(); };
  auto finish = [&](Answer answer) {
    found.answer = answer;
    found.steps = spent();
    found.memory = depth.memory() + frontier.memory() + p.values.memory();
    return found;
  };
  while ((depth_on || frontier_on) && spent() < budget.steps) {
    uint64_t left = budget.steps - spent();
    if (depth_on) {
      depth_spent = depth.steps() + std::min(turn, left);
      Progress progress = depth.run(depth_spent);
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
      frontier_spent = frontier.steps() + std::min(turn * 16, budget.steps - spent());
      Progress progress = frontier.run(frontier_spent);
      if (progress == Progress::kLinearizable) {
        found.order = linearization(p, frontier.paths, frontier.path);
        return finish(Answer::kLinearizable);
      }
      if (progress == Progress::kViolation) {
        found.failing = p.ops[p.layers[frontier.layer].returning].id;
        found.states = frontier.states();
        return finish(Answer::kViolation);
      }
      if (frontier.memory() + p.values.memory() > budget.memory_bytes / 2) frontier_on = false;
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
