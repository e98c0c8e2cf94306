// A set of hash slots: sorted, disjoint half-open ranges that do not touch, so that equal sets have equal ranges.
//
// Slots are below kSlots (core/base/hash.h). What is passed in by code is CHECKed; what is decoded is validated.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/base/hash.h"

namespace mneme::shard {

struct SlotRange {
  uint16_t begin = 0;
  uint16_t end = 0;  // the first slot after it; up to kSlots

  size_t size() const { return static_cast<size_t>(end - begin); }
  bool operator==(const SlotRange&) const = default;
};

class SlotSet {
 public:
  SlotSet() = default;
  explicit SlotSet(SlotRange range) { add(range); }
  static SlotSet all() { return SlotSet({0, kSlots}); }

  // An empty range changes nothing.
  void add(SlotRange range);
  void remove(SlotRange range);
  void add(const SlotSet& other);
  void remove(const SlotSet& other);

  // Takes the slots from `slot` on out of this set and returns them.
  SlotSet split_at(uint16_t slot);

  [[nodiscard]] bool contains(uint16_t slot) const;
  [[nodiscard]] bool empty() const { return ranges_.empty(); }
  [[nodiscard]] size_t size() const;
  // The slot with `n` others before it; n < size().
  [[nodiscard]] uint16_t nth(size_t n) const;
  // In ascending order; valid until the set is changed.
  [[nodiscard]] std::span<const SlotRange> ranges() const { return ranges_; }
  bool operator==(const SlotSet&) const = default;

  // Inclusive, as Redis writes them: "0-5460,5462"; empty: "none".
  [[nodiscard]] std::string text() const;

  // A 2-byte count of ranges, then begin and end of each, 2 bytes each.
  void encode(std::string& out) const;
  // kCorrupt unless the ranges are what encode() writes.
  static Result<SlotSet> decode(Reader& in);

 private:
  std::vector<SlotRange> ranges_;
};

}  // namespace mneme::shard
