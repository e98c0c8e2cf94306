// A map from ids to values that is cheap to copy and to compare with an earlier copy of itself.
//
// A shard map with ten thousand shards is copied at each of its versions, and each changes a few of them. So entries
// lie in chunks, in the order of their ids, and copies share the chunks and the values that neither has changed: a copy
// costs a pointer per chunk, a change the copy of one chunk of pointers and of one value, and what two copies differ in
// is found by looking only into the chunks that they do not share.
//
// Values are reached by const reference, valid until that entry or the table is changed or gone. Nothing is ever taken
// away. Copies that share something belong to one thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>
#include <vector>

#include "core/base/check.h"

namespace mneme::shard {

// A value of which copies are one until somebody edits theirs. What was moved from may only be assigned to or go.
//
// Not std::shared_ptr, which counts with atomic instructions and takes twice the room: a copy of a table counts its
// chunks, and a changed chunk all that is in it.
template <class T>
class Shared {
 public:
  Shared() : held_(new Held{1, T()}) {}
  explicit Shared(T value) : held_(new Held{1, std::move(value)}) {}
  Shared(const Shared& other) noexcept : held_(other.held_) { ++held_->owners; }
  Shared(Shared&& other) noexcept : held_(std::exchange(other.held_, nullptr)) {}
  Shared& operator=(Shared other) noexcept {
    std::swap(held_, other.held_);
    return *this;
  }
  ~Shared() {
    if (held_ && --held_->owners == 0) delete held_;
  }

  const T& operator*() const { return held_->value; }
  const T* operator->() const { return &held_->value; }
  // Its own from here on.
  T& edit() {
    if (held_->owners != 1) *this = Shared(held_->value);
    return held_->value;
  }
  bool is_same(const Shared& other) const { return held_ == other.held_; }
  bool operator==(const Shared& other) const { return is_same(other) || held_->value == other.held_->value; }

 private:
  struct Held {
    size_t owners;
    T value;
  };
  Held* held_;
};

template <class Id, class Value>
class Table {
  struct Entry {
    Id id;
    Shared<Value> value;
    bool operator==(const Entry&) const = default;
  };
  using Chunk = std::vector<Entry>;
  struct Part {
    Id last;  // of the chunk's, here so that looking for an id touches one chunk
    Shared<Chunk> chunk;
    explicit Part(Chunk entries) : last(entries.back().id), chunk(std::move(entries)) {}
  };
  using Chunks = std::vector<Part>;
  static constexpr size_t kMaxChunk = 32;

 public:
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = std::pair<Id, const Value&>;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = value_type;

    Iterator() = default;
    value_type operator*() const { return {entry().id, *entry().value}; }
    Iterator& operator++() {
      if (++at_ == chunk()->size()) ++chunk_, at_ = 0;
      return *this;
    }
    Iterator operator++(int) { return std::exchange(*this, std::next(*this)); }
    bool operator==(const Iterator& other) const { return chunk_ == other.chunk_ && at_ == other.at_; }

   private:
    friend class Table;
    Iterator(const Chunks& chunks, size_t chunk) : chunks_(&chunks), chunk_(chunk) {}
    bool at_end() const { return chunk_ == chunks_->size(); }
    const Shared<Chunk>& chunk() const { return (*chunks_)[chunk_].chunk; }
    const Entry& entry() const { return (*chunk())[at_]; }

    const Chunks* chunks_ = nullptr;
    size_t chunk_ = 0;
    size_t at_ = 0;
  };

  Iterator begin() const { return {chunks_, 0}; }
  Iterator end() const { return {chunks_, chunks_.size()}; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  // Null when there is none.
  const Value* find(Id id) const {
    const size_t at = chunk_of(id);
    if (at == chunks_.size()) return nullptr;
    const Chunk& chunk = *chunks_[at].chunk;
    const Entry* entry = place_in(chunk, id);
    return entry != end_of(chunk) && entry->id == id ? &*entry->value : nullptr;
  }
  bool contains(Id id) const { return find(id) != nullptr; }
  // There is one.
  const Value& at(Id id) const {
    const Value* found = find(id);
    CHECK(found != nullptr);
    return *found;
  }
  // There is one.
  Id last_id() const {
    CHECK(!empty());
    return chunks_.back().last;
  }

  // Makes or replaces.
  void set(Id id, Value value) {
    const size_t at = chunk_of(id);
    if (at == chunks_.size()) return append({id, Shared<Value>(std::move(value))});
    Chunk& chunk = chunks_[at].chunk.edit();
    const auto place = chunk.begin() + (place_in(chunk, id) - chunk.data());
    if (place->id == id) {
      place->value = Shared<Value>(std::move(value));
      return;
    }
    chunk.insert(place, {id, Shared<Value>(std::move(value))});
    ++size_;
    if (chunk.size() > kMaxChunk) split(at);
  }

  // Calls changed(id, value) for each entry that is not the same in `before`, in the order of ids.
  template <class F>
  void for_changes_since(const Table& before, F changed) const {
    Iterator old = before.begin();
    for (Iterator now = begin(); !now.at_end();) {
      if (old.at_ == 0 && now.at_ == 0 && !old.at_end() && old.chunk().is_same(now.chunk())) {
        ++old.chunk_, ++now.chunk_;
      } else if (!old.at_end() && old.entry().id < now.entry().id) {
        ++old;
      } else {
        const bool same = !old.at_end() && old.entry() == now.entry();
        if (!same) changed(now.entry().id, *now.entry().value);
        ++now;
      }
    }
  }

  bool operator==(const Table& other) const {
    if (size_ != other.size_) return false;
    bool same = true;
    for_changes_since(other, [&](Id, const Value&) { same = false; });
    return same;
  }

 private:
  // The first whose last id is not below; the number of chunks if there is none.
  size_t chunk_of(Id id) const {
    const auto found = std::lower_bound(chunks_.begin(), chunks_.end(), id,
                                        [](const Part& part, Id wanted) { return part.last < wanted; });
    return static_cast<size_t>(found - chunks_.begin());
  }
  static const Entry* end_of(const Chunk& chunk) { return chunk.data() + chunk.size(); }
  static const Entry* place_in(const Chunk& chunk, Id id) {
    return std::lower_bound(chunk.data(), end_of(chunk), id,
                            [](const Entry& entry, Id wanted) { return entry.id < wanted; });
  }
  // Behind all others: ids grow, so chunks are filled.
  void append(Entry entry) {
    ++size_;
    if (chunks_.empty() || chunks_.back().chunk->size() >= kMaxChunk) {
      chunks_.emplace_back(Chunk{std::move(entry)});
      return;
    }
    chunks_.back().last = entry.id;
    chunks_.back().chunk.edit().push_back(std::move(entry));
  }
  void split(size_t at) {
    const Chunk whole = *chunks_[at].chunk;
    const auto middle = whole.begin() + static_cast<std::ptrdiff_t>(kMaxChunk / 2);
    chunks_[at] = Part(Chunk(whole.begin(), middle));
    chunks_.insert(chunks_.begin() + static_cast<std::ptrdiff_t>(at) + 1, Part(Chunk(middle, whole.end())));
  }

  Chunks chunks_;
  size_t size_ = 0;
};

}  // namespace mneme::shard
