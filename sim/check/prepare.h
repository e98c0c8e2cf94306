// One key's history, made ready for search: what cannot matter is gone, values that nobody tells apart are one, and
// every operation has a slot (a bit) for as long as it can still be chosen.
#pragma once

#include <span>
#include <vector>

#include "sim/check/model.h"

namespace mneme::check {

// Operations of one key, in order of their calls, as indices into an array that the caller keeps.
struct KeyView {
  const Operation* operations = nullptr;
  std::span<const OpId> ids;
  const Interner* values = nullptr;
  // The states before the first operation: one, or several when any of them is allowed (reduce.h).
  std::span<const ValueId> initial;
};

// Values of one key, numbered from 0 as they come.
class ValueNumbers {
 public:
  explicit ValueNumbers(size_t at_most);
  uint32_t number(ValueId value);
  size_t size() const { return count_; }

 private:
  struct Slot {
    ValueId value;
    uint32_t number = UINT32_MAX;  // free
  };
  std::vector<Slot> slots_;  // open addressing, power of two, at most half full
  uint32_t count_ = 0;
};

struct KeyOp {
  Shape shape;
  OpId id = 0;
  Position call = 0;
  Position ret = kForever;  // kForever: outcome unknown
  uint32_t same = 0;        // operations with equal `same` differ in their call and return only; 0: like no other
  uint32_t slot = 0;
  uint32_t needs = 0;  // number of shape.pre_value
  uint32_t gives = 0;  // number of shape.to
  // Of unknown outcome and bound to one state: from this layer on, all that could make that state have been called.
  uint32_t bound_from = UINT32_MAX;

  bool ok() const { return ret != kForever; }
};

// The stretch of a history that ends with one return.
struct Layer {
  uint32_t returning = 0;  // index into ops
  uint32_t calls_end = 0;  // ops before this index have been called
  uint32_t gone_end = 0;   // unknown ones before this index of Prepared::gone can no longer matter
  uint32_t bound_end = 0;  // those before this index of Prepared::bound have their bound_from at this layer or before
  bool useful = true;      // somebody who returns later may need what `returning` writes
};

struct Prepared {
  // `abstract`: whether values that nobody asks for become one; without, the states found are real ones.
  explicit Prepared(const KeyView& key, bool abstract = true);

  const Operation* operations;
  Values values;
  std::vector<ValueId> initial;
  std::vector<KeyOp> ops;       // in order of calls
  std::vector<Layer> layers;    // in order of returns
  std::vector<uint32_t> gone;   // unknown ops in the order in which they stop to matter
  std::vector<uint32_t> bound;  // in order of bound_from
  uint32_t slots = 0;

  // Whether `op` can lead to `state` from any other.
  bool makes(const KeyOp& op, ValueId state) const;

  // The state after `op` in `state`, or kImpossible.
  static constexpr ValueId kImpossible = UINT32_MAX;
  ValueId next(ValueId state, const KeyOp& op) {
    switch (op.shape.pre) {
      case Pre::kAny: break;
      case Pre::kIs:
        if (state != op.shape.pre_value || op.shape.impossible) return kImpossible;
        break;
      case Pre::kIsNot:
        if (state == op.shape.pre_value) return kImpossible;
        break;
      case Pre::kAsk: return step(state, operations[op.id], values).value_or(kImpossible);
    }
    return op.shape.post == Post::kSame ? state : op.shape.to;
  }

 private:
  void collect(const KeyView& key);
  void abstract_values();
  void number_values();
  void find_needs();
  void find_same();
  void lay_out();
  void find_bounds();
  Position need_of(const KeyOp& op) const;

  // By number of the value, the last return of an operation that can only happen there; kForever where that is not
  // known.
  std::vector<Position> needed_until_;
  Position needed_by_others_ = 0;  // of operations that do not name the one state they need
};

}  // namespace mneme::check
