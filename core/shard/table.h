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
#include <memory>
#include <utility>
#include <vector>

#include "core/base/check.h"

namespace mneme::shard {

// A value of which copies are one until somebody edits theirs.
template <class T>
class Shared {
 public:
  Shared() : value_(std::make_shared<T>()) {}
  explicit Shared(T value) : value_(std::make_shared<T>(std::move(value))) {}

  const T& operator*() const { return *value_; }
  const T* operator->() const { return value_.get(); }
  // Its own from here on.
  T& edit() {
    if (value_.use_count() != 1) value_ = std::make_shared<T>(*value_);
    return *value_;
  }
  bool is_same(const Shared& other) const { return value_ == other.value_; }
  bool operator==(const Shared& other) const { return is_same(other) || *value_ == *other.value_; }

 private:
  std::shared_ptr<T> value_;
};

template <class Id, class Value>
class Table {
  struct Entry {
    Id id;
    Shared<Value> value;
    bool operator==(const Entry&) const = default;
  };
  using Chunk = std::vector<Entry>;
  using Chunks = std::vector<Shared<Chunk>>;
  static constexpr size_t kMaxChunk = 64;

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
      if (++at_ == (*chunks_)[chunk_]->size()) ++chunk_, at_ = 0;
      return *this;
    }
    Iterator operator++(int) { return std::exchange(*this, std::next(*this)); }
    bool operator==(const Iterator& other) const { return chunk_ == other.chunk_ && at_ == other.at_; }

   private:
    friend class Table;
    Iterator(const Chunks& chunks, size_t chunk) : chunks_(&chunks), chunk_(chunk) {}
    bool at_end() const { return chunk_ == chunks_->size(); }
    const Shared<Chunk>& chunk() const { return (*chunks_)[chunk_]; }
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
    const size_t chunk = chunk_of(id);
    if (chunk == chunks_.size()) return nullptr;
    const Entry* entry = place_in(*chunks_[chunk], id);
    return entry != end_of(*chunks_[chunk]) && entry->id == id ? &*entry->value : nullptr;
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
    return chunks_.back()->back().id;
  }

  // Makes or replaces.
  void set(Id id, Value value) {
    if (chunks_.empty()) {
      chunks_.emplace_back(Chunk{{id, Shared<Value>(std::move(value))}});
      size_ = 1;
      return;
    }
    const size_t at = std::min(chunk_of(id), chunks_.size() - 1);
    Chunk& chunk = chunks_[at].edit();
    const auto place = chunk.begin() + (place_in(chunk, id) - chunk.data());
    if (place != chunk.end() && place->id == id) {
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
      while (!old.at_end() && old.entry().id < now.entry().id) ++old;
      if (old.at_ == 0 && now.at_ == 0 && !old.at_end() && old.chunk().is_same(now.chunk())) {
        ++old.chunk_, ++now.chunk_;
        continue;
      }
      const bool same = !old.at_end() && old.entry() == now.entry();
      if (!same) changed(now.entry().id, *now.entry().value);
      ++now;
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
    const auto found = std::lower_bound(chunks_.begin(), chunks_.end(), id, [](const Shared<Chunk>& chunk, Id wanted) {
      return chunk->back().id < wanted;
    });
    return static_cast<size_t>(found - chunks_.begin());
  }
  static const Entry* end_of(const Chunk& chunk) { return chunk.data() + chunk.size(); }
  static const Entry* place_in(const Chunk& chunk, Id id) {
    return std::lower_bound(chunk.data(), end_of(chunk), id,
                            [](const Entry& entry, Id wanted) { return entry.id < wanted; });
  }
  // Ids grow: the last chunk stays full, and the next one begins.
  void split(size_t at) {
    Chunk& chunk = chunks_[at].edit();
    const auto middle =
        chunk.begin() + static_cast<std::ptrdiff_t>(at + 1 == chunks_.size() ? kMaxChunk : kMaxChunk / 2);
    Chunk rest(middle, chunk.end());
    chunk.erase(middle, chunk.end());
    chunks_.insert(chunks_.begin() + static_cast<std::ptrdiff_t>(at) + 1, Shared<Chunk>(std::move(rest)));
  }

  Chunks chunks_;
  size_t size_ = 0;
};

}  // namespace mneme::shard
