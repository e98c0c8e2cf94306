// The graph that search.h walks: configurations and their successors. W is the number of 64-bit words for the slots.
#pragma once

#include <array>
#include <bit>
#include <vector>

#include "core/base/hash.h"
#include "sim/check/prepare.h"

namespace mneme::check {

template <size_t W>
struct Bits {
  std::array<uint64_t, W> words{};

  bool test(uint32_t i) const { return (words[i / 64] >> (i % 64) & 1) != 0; }
  void set(uint32_t i) { words[i / 64] |= uint64_t{1} << (i % 64); }
  void clear(uint32_t i) { words[i / 64] &= ~(uint64_t{1} << (i % 64)); }
  bool operator==(const Bits&) const = default;

  Bits without(const Bits& other) const {
    Bits out;
    for (size_t w = 0; w < W; ++w) out.words[w] = words[w] & ~other.words[w];
    return out;
  }
  Bits both(const Bits& other) const {
    Bits out;
    for (size_t w = 0; w < W; ++w) out.words[w] = words[w] & other.words[w];
    return out;
  }
  bool within(const Bits& other) const {
    for (size_t w = 0; w < W; ++w) {
      if ((words[w] & ~other.words[w]) != 0) return false;
    }
    return true;
  }
  int count() const {
    int sum = 0;
    for (uint64_t word : words) sum += std::popcount(word);
    return sum;
  }
  // Whether fn(slot) holds for some bit.
  template <class Fn>
  bool any(Fn fn) const {
    for (size_t w = 0; w < W; ++w) {
      for (uint64_t rest = words[w]; rest != 0; rest &= rest - 1) {
        if (fn(static_cast<uint32_t>(w * 64 + static_cast<size_t>(std::countr_zero(rest))))) return true;
      }
    }
    return false;
  }
  // Calls fn(slot) for each bit in order.
  template <class Fn>
  void each(Fn fn) const {
    for (size_t w = 0; w < W; ++w) {
      for (uint64_t rest = words[w]; rest != 0; rest &= rest - 1) {
        fn(static_cast<uint32_t>(w * 64 + static_cast<size_t>(std::countr_zero(rest))));
      }
    }
  }
};

// Chosen operations, newest first, as a tree with counted references: what no living configuration came by is freed.
class Paths {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Step {
    uint32_t parent;
    uint32_t op;
    uint32_t layer;
    uint32_t references;
  };

  // Adds a reference to the parent; the new step has one, the caller's.
  uint32_t add(uint32_t parent, uint32_t op, uint32_t layer) {
    retain(parent);
    uint32_t at = free_;
    if (at == kNone) {
      at = static_cast<uint32_t>(steps_.size());
      steps_.push_back({});
    } else {
      free_ = steps_[at].parent;
    }
    steps_[at] = {parent, op, layer, 1};
    return at;
  }
  void retain(uint32_t path) {
    if (path != kNone) ++steps_[path].references;
  }
  void release(uint32_t path) {
    while (path != kNone && --steps_[path].references == 0) {
      uint32_t parent = steps_[path].parent;
      steps_[path].parent = free_;
      free_ = path;
      path = parent;
    }
  }
  const Step& operator[](uint32_t path) const { return steps_[path]; }
  size_t memory() const { return steps_.capacity() * sizeof(Step); }

 private:
  std::vector<Step> steps_;
  uint32_t free_ = kNone;
};

template <size_t W>
struct Node {
  Bits<W> may;   // A: open operations that change the state and were not chosen
  Bits<W> must;  // O: open operations that still have to be placed
  ValueId state = 0;
  uint32_t layer = 0;
  uint32_t path = Paths::kNone;  // holds a reference
  // kFirst: in its layer, where nothing was chosen yet.
  enum class Stage : uint8_t { kBefore, kFirst, kWithin } stage = Stage::kBefore;
  bool gained = true;  // an overwriting operation may be chosen next

  bool same_as(const Node& o) const {
    return state == o.state && layer == o.layer && stage == o.stage && gained == o.gained && may == o.may &&
           must == o.must;
  }
  // Whatever can be done from the other can be done from here.
  bool dominates(const Node& o) const {
    return state == o.state && (gained || !o.gained) && o.may.within(may) && must.within(o.must);
  }
  uint64_t hash() const {
    uint64_t h = fold(state, uint64_t{layer} << 3 | static_cast<uint64_t>(stage) << 1 | uint64_t{gained});
    for (size_t w = 0; w < W; ++w) {
      h = fold(h, may.words[w]);
      h = fold(h, must.words[w]);
    }
    return h;
  }
};

template <size_t W>
class Space {
 public:
  using N = Node<W>;
  explicit Space(Prepared& prepared) : p_(prepared), table_(W * 64), better_(W * 64) { install(0, calls_end(0)); }

  uint64_t steps() const { return steps_; }

  // The layer's calls come in, and what can no longer matter goes.
  void enter(N& node) {
    move_to(node.layer);
    if (node.stage != N::Stage::kBefore) return;
    node.stage = N::Stage::kFirst;
    const Layer& layer = p_.layers[node.layer];
    uint32_t begin = node.layer == 0 ? 0 : p_.layers[node.layer - 1].calls_end;
    uint32_t gone = node.layer == 0 ? 0 : p_.layers[node.layer - 1].gone_end;
    for (uint32_t i = gone; i < layer.gone_end; ++i) node.may.clear(p_.ops[p_.gone[i]].slot);
    for (uint32_t i = begin; i < layer.calls_end; ++i) {
      const KeyOp& op = p_.ops[i];
      if (!op.shape.observes()) node.may.set(op.slot);
      if (op.ok() && p_.next(node.state, op) != node.state) node.must.set(op.slot);
    }
    forget_bound(node);
  }

  // Replaces a node by its successors: out gets those to be looked at last first. Their paths hold references, the
  // node's own is released.
  void expand(N node, Paths& paths, std::vector<N>& out) {
    enter(node);
    bool first = node.stage == N::Stage::kFirst;
    uint32_t x = p_.layers[node.layer].returning;
    const KeyOp& returning = p_.ops[x];
    uint32_t slot = returning.slot;
    if (!node.may.test(slot)) {
      // It was chosen before, or observes and was placed. An observer that waits needs another state first.
      if (!node.must.test(slot)) {
        emit(node, node.path, out);
        return;
      }
      choose_others(node, slot, paths, out);
      paths.release(node.path);
      return;
    }
    ++steps_;
    ValueId next = p_.next(node.state, returning);
    bool fits = next != Prepared::kImpossible && (node.gained || !returning.shape.overwrites());
    bool freed = !node.must.test(slot);
    // Dropping one that was freed before the layer began is an end of its own, unless choosing it changes nothing but
    // what else it frees. One that was freed within the layer, by being overwritten, was better chosen before that.
    bool drops = first && freed && !(fits && next == node.state);
    bool missed = !freed || p_.layers[node.layer].useful;
    if (missed) choose_others(node, slot, paths, out);
    if (fits && (missed || next == node.state)) {
      N child = node;
      apply(child, returning, next, slot);
      emit(child, paths.add(node.path, x, node.layer), out);
    }
    if (drops) {
      drop(node, slot, out);
    } else {
      paths.release(node.path);
    }
  }

 private:
  uint32_t calls_end(uint32_t layer) const { return p_.layers.empty() ? 0 : p_.layers[layer].calls_end; }

  // What is bound to a state that nobody can make any more will not be chosen. Forgotten, it does not keep apart
  // configurations that are alike.
  void forget_bound(N& node) {
    node.may.both(bound_).each([&](uint32_t slot) {
      const ValueId needs = p_.ops[table_[slot]].shape.pre_value;
      if (needs == node.state) return;
      if (!node.may.any([&](uint32_t maker) { return p_.makes(p_.ops[table_[maker]], needs); })) node.may.clear(slot);
    });
  }

  // On to the next layer: takes over the reference to `path`.
  void emit(const N& node, uint32_t path, std::vector<N>& out) {
    N child = node;
    child.path = path;
    ++child.layer;
    child.stage = N::Stage::kBefore;
    child.gained = true;
    out.push_back(child);
  }

  void drop(const N& node, uint32_t slot, std::vector<N>& out) {
    N child = node;
    child.may.clear(slot);
    emit(child, node.path, out);
  }

  // Chooses `op`, which leads to `next`. Returns whether something was gained that an overwriting operation right
  // afterwards would not have given as well.
  bool apply(N& node, const KeyOp& op, ValueId next, uint32_t returning) {
    bool gained = node.must.test(op.slot) && !op.shape.total;
    node.may.clear(op.slot);
    node.must.clear(op.slot);
    node.state = next;
    if (op.shape.overwrites()) node.must = node.must.without(total_);
    Bits<W> waiting = node.must;
    waiting.each([&](uint32_t slot) {
      const KeyOp& open = p_.ops[table_[slot]];
      if (p_.next(next, open) != next) return;
      node.must.clear(slot);
      // The returning one must end well in this layer, and not all ends are by being overwritten.
      gained |= !open.shape.total || (slot == returning && !open.shape.overwrites());
    });
    return gained;
  }

  // Whether somebody open could go on from the node's state and not only wipe it out.
  bool wanted(const N& node) {
    return node.may.without(overwriting_).any([&](uint32_t slot) {
      ValueId next = p_.next(node.state, p_.ops[table_[slot]]);
      return next != Prepared::kImpossible && next != node.state;
    });
  }

  void choose_others(const N& node, uint32_t returning, Paths& paths, std::vector<N>& out) {
    choose_among(unknown_, node, returning, paths, out);
    choose_among(known_, node, returning, paths, out);
  }
  void choose_among(const Bits<W>& among, const N& node, uint32_t returning, Paths& paths, std::vector<N>& out) {
    node.may.both(among).each([&](uint32_t slot) {
      if (slot == returning) return;
      uint32_t index = table_[slot];
      const KeyOp& op = p_.ops[index];
      if (!node.gained && op.shape.overwrites()) return;
      ++steps_;
      ValueId next = p_.next(node.state, op);
      if (next == Prepared::kImpossible || (next == node.state && !hides(node, op))) return;
      if (op.same != 0 && has_better(node, op)) return;
      N child = node;
      child.gained = apply(child, op, next, returning);
      if (!child.gained && !wanted(child)) return;
      child.stage = N::Stage::kWithin;
      child.path = paths.add(node.path, index, node.layer);
      out.push_back(child);
    });
  }

  // Writing what is there changes nothing but this: others may be hidden before it.
  bool hides(const N& node, const KeyOp& op) const {
    Bits<W> hidden = node.must.both(total_);
    hidden.clear(op.slot);
    return op.shape.overwrites() && hidden != Bits<W>{};
  }

  // An open operation that differs in its times only and returns earlier. One that was freed does not stand in for one
  // that must be placed, unless choosing it frees the other.
  bool has_better(const N& node, const KeyOp& op) const {
    Bits<W> others = node.may.both(better_[op.slot]);
    if (node.must.test(op.slot) && !op.shape.overwrites()) others = others.both(node.must);
    return others != Bits<W>{};
  }

  // The table of slots follows the layer of the node at hand.
  void move_to(uint32_t layer) {
    while (layer_ < layer) {
      const Layer& here = p_.layers[layer_];
      const Layer& next = p_.layers[layer_ + 1];
      uninstall(here.returning);
      ++layer_;
      for (uint32_t i = here.gone_end; i < next.gone_end; ++i) uninstall(p_.gone[i]);
      install(here.calls_end, next.calls_end);
      for (uint32_t i = here.bound_end; i < next.bound_end; ++i) bind(p_.bound[i]);
    }
    while (layer_ > layer) {
      const Layer& here = p_.layers[layer_];
      const Layer& before = p_.layers[layer_ - 1];
      for (uint32_t i = before.bound_end; i < here.bound_end; ++i) unbind(p_.bound[i]);
      for (uint32_t i = before.calls_end; i < here.calls_end; ++i) uninstall(i);
      --layer_;
      for (uint32_t i = before.gone_end; i < here.gone_end; ++i) install_one(p_.gone[i]);
      install_one(before.returning);
    }
  }
  void install(uint32_t begin, uint32_t end) {
    for (uint32_t i = begin; i < end; ++i) install_one(i);
  }
  void install_one(uint32_t index) {
    const KeyOp& op = p_.ops[index];
    table_[op.slot] = index;
    (op.ok() ? known_ : unknown_).set(op.slot);
    if (op.shape.total) total_.set(op.slot);
    if (op.shape.overwrites()) overwriting_.set(op.slot);
    if (op.bound_from <= layer_) bound_.set(op.slot);
    better_[op.slot] = {};
    if (op.same == 0) return;
    auto relate = [&](uint32_t slot) {
      const KeyOp& other = p_.ops[table_[slot]];
      if (other.same != op.same || slot == op.slot) return;
      bool other_first = other.ret != op.ret ? other.ret < op.ret : other.call < op.call;
      if (other_first) {
        better_[op.slot].set(slot);
      } else {
        better_[slot].set(op.slot);
      }
    };
    known_.each(relate);
    unknown_.each(relate);
  }
  void uninstall(uint32_t index) {
    const KeyOp& op = p_.ops[index];
    known_.clear(op.slot);
    unknown_.clear(op.slot);
    total_.clear(op.slot);
    overwriting_.clear(op.slot);
    bound_.clear(op.slot);
    if (op.same == 0) return;
    auto forget = [&](uint32_t slot) { better_[slot].clear(op.slot); };
    known_.each(forget);
    unknown_.each(forget);
  }

  // Of operations that are open; the others come with their bit, or are past.
  void bind(uint32_t index) {
    if (is_open(index)) bound_.set(p_.ops[index].slot);
  }
  void unbind(uint32_t index) {
    if (is_open(index)) bound_.clear(p_.ops[index].slot);
  }
  bool is_open(uint32_t index) const {
    const uint32_t slot = p_.ops[index].slot;
    return table_[slot] == index && unknown_.test(slot);
  }

  Prepared& p_;
  uint32_t layer_ = 0;
  std::vector<uint32_t> table_;  // slot -> op
  std::vector<Bits<W>> better_;
  Bits<W> known_, unknown_, total_, overwriting_, bound_;
  uint64_t steps_ = 0;
};

}  // namespace mneme::check
