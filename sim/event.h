// Events of the simulated world and the queue that orders them by virtual time.
//
// Events are members of what they are about (a segment's pipe, a waiting disk operation, a clock), never allocated on
// their own, and leave the queue when they die. Equal times are ordered by scheduling order, unless a schedule is
// searched (schedule.h).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/base/check.h"

namespace mneme::sim {

class EventQueue;

// What is counted, hashed and shown in traces.
enum class EventKind : uint8_t {
  kTimer = 1,
  kDelivery,
  kConnection,
  kDisk,
  kFault,
  kBoot,
  kFiber,   // a fiber goes on; not queued
  kOutput,  // bytes leave a process; not queued
};

// Virtual nanoseconds since the beginning of the run: the world's own time, seen by no process.
using WorldTime = int64_t;
inline constexpr WorldTime kMillisecond = 1'000'000;

class Event {
 public:
  Event(EventKind kind, uint32_t actor) : actor_(actor), kind_(kind) {}
  virtual ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  virtual void happen() = 0;
  // The task of a schedule that this is a turn of; see schedule.h.
  virtual uint64_t task() const { return (static_cast<uint64_t>(kind_) << 32) + actor_; }
  bool scheduled() const { return queue_ != nullptr; }
  WorldTime at() const { return at_; }
  uint32_t actor() const { return actor_; }  // whose process it happens to; 0: the world's
  EventKind kind() const { return kind_; }
  void set_actor(uint32_t actor) { actor_ = actor; }
  bool before(const Event& other) const { return at_ != other.at_ ? at_ < other.at_ : order_ < other.order_; }

 private:
  friend class EventQueue;
  EventQueue* queue_ = nullptr;
  WorldTime at_ = 0;
  uint64_t order_ = 0;
  uint32_t position_ = 0;
  uint32_t actor_;
  EventKind kind_;
};

class EventQueue {
 public:
  EventQueue() = default;
  ~EventQueue() {
    for (Slot& slot : heap_) slot.event->queue_ = nullptr;
  }
  EventQueue(const EventQueue&) = delete;
  EventQueue& operator=(const EventQueue&) = delete;

  bool empty() const { return heap_.empty(); }
  WorldTime next() const { return heap_.front().at; }
  // Moves the event when it is scheduled already.
  void schedule(Event& event, WorldTime at) {
    if (event.queue_) cancel(event);
    event.queue_ = this;
    event.at_ = at;
    event.order_ = ++scheduled_;
    heap_.push_back({at, event.order_, &event});
    sift_up(heap_.size() - 1);
  }
  void cancel(Event& event) {
    if (!event.queue_) return;
    CHECK(event.queue_ == this);
    event.queue_ = nullptr;
    size_t position = event.position_;
    Slot last = heap_.back();
    heap_.pop_back();
    if (last.event == &event) return;
    place(last, position);
    sift_up(position);
    sift_down(last, last.event->position_);
  }
  // Those due until then, in order.
  void due(WorldTime until, std::vector<Event*>& events) const {
    events.clear();
    if (!heap_.empty() && heap_.front().at <= until) events.push_back(heap_.front().event);
    for (size_t i = 0; i < events.size(); ++i) {
      const size_t first = 4 * size_t{events[i]->position_} + 1;
      for (size_t child = first; child < first + 4 && child < heap_.size(); ++child)
        if (heap_[child].at <= until) events.push_back(heap_[child].event);
    }
    std::sort(events.begin(), events.end(), [](const Event* a, const Event* b) { return a->before(*b); });
  }
  Event& pop() {
    Event& event = *heap_.front().event;
    event.queue_ = nullptr;
    const Slot last = heap_.back();
    heap_.pop_back();
    if (!heap_.empty()) sift_down(last, 0);
    return event;
  }

 private:
  struct Slot {
    WorldTime at;
    uint64_t order;
    Event* event;
    bool operator<(const Slot& other) const { return at != other.at ? at < other.at : order < other.order; }
  };
  void place(const Slot& slot, size_t position) {
    heap_[position] = slot;
    slot.event->position_ = static_cast<uint32_t>(position);
  }
  void sift_up(size_t position) {
    Slot slot = heap_[position];
    while (position > 0) {
      size_t parent = (position - 1) / 4;
      if (!(slot < heap_[parent])) break;
      place(heap_[parent], position);
      position = parent;
    }
    place(slot, position);
  }
  // Puts the slot where it belongs, at `position` or below.
  void sift_down(const Slot& slot, size_t position) {
    const size_t size = heap_.size();
    for (;;) {
      size_t first = 4 * position + 1;
      if (first >= size) break;
      size_t best = first;
      for (size_t child = first + 1; child < first + 4 && child < size; ++child)
        if (heap_[child] < heap_[best]) best = child;
      if (!(heap_[best] < slot)) break;
      place(heap_[best], position);
      position = best;
    }
    place(slot, position);
  }

  std::vector<Slot> heap_;
  uint64_t scheduled_ = 0;
};

inline Event::~Event() {
  if (queue_) queue_->cancel(*this);
}

}  // namespace mneme::sim
