#include "sim/world.h"

#include <algorithm>

#include "sim/machine.h"
#include "sim/network.h"

namespace mneme::sim {

namespace {
constexpr uint64_t kMostCrowdedPicks = 10'000;
}

World::World(uint64_t seed, WorldOptions options, Recorder* recorder)
    : fate_(seed),
      options_(options),
      recorder_(recorder),
      hash_(mix(seed)),
      schedule_(fate_, options.schedule),
      searching_(options.schedule.strategy != Strategy::kFifo),
      network_(std::make_unique<Network>(*this)) {}

World::~World() = default;

void World::run(const std::function<void()>& main) { scheduler_.run(*this, this, main); }

Machine& World::add_machine(std::string name, const MachineOptions& options) {
  auto actor = static_cast<uint32_t>(machines_.size() + 1);
  machines_.push_back(std::make_unique<Machine>(*this, actor, std::move(name), options));
  return *machines_.back();
}

Machine* World::find_machine(std::string_view name) {
  for (auto& machine : machines_)
    if (machine->name() == name) return machine.get();
  return nullptr;
}

void World::happen(Event& event) {
  events_.cancel(event);
  now_ = std::max(now_, event.at());
  note_event(event.kind(), event.actor(), 0);
  event.happen();
}

bool World::wait() {
  if (searching_) return wait_searching();
  // A reactor that was held finds all that came meanwhile when it looks again, before any of its fibers goes on: taken
  // one by one, each might hold it anew and the rest would wait for ever.
  bool released = false;
  const WorldTime release = std::exchange(release_, kNoRelease);
  if (release != kNoRelease && (events_.empty() || release <= events_.next())) {
    now_ = release;
    if (events_.empty() || now_ < events_.next()) return true;
    released = true;
  }
  do {
    if (events_.empty()) return false;
    Event& event = events_.pop();
    CHECK(event.at() >= now_);
    now_ = event.at();
    if (event.actor() != 0) {
      Machine& target = machine(event.actor());
      if (now_ < target.held_until()) {
        events_.schedule(event, target.held_until());
        continue;
      }
    }
    released |= event.actor() != 0 && now_ == machine(event.actor()).held_until();
    note_event(event.kind(), event.actor(), 0);
    event.happen();
  } while (scheduler_.ready_count() == 0 || (released && !events_.empty() && events_.next() == now_));
  return true;
}

size_t World::choose(const std::deque<fiber::Fiber*>& ready) {
  const size_t choice = searching_ ? search(ready) : first(ready);
  if (choice == kNobody) return kNobody;
  const uint32_t actor = ready[choice]->actor();
  note_event(EventKind::kFiber, actor, ready[choice]->id());
  if (computing_takes_time_ && actor != 0) machine(actor).turn_begins();
  return choice;
}

bool World::may_run(const fiber::Fiber& fiber) {
  return now_ >= some_machine_held_until_ || fiber.actor() == 0 || now_ >= machine(fiber.actor()).held_until();
}

size_t World::first(const std::deque<fiber::Fiber*>& ready) {
  if (now_ >= some_machine_held_until_) return 0;
  for (size_t i = 0; i < ready.size(); ++i)
    if (may_run(*ready[i])) return i;
  release_ = kNoRelease;
  for (const fiber::Fiber* fiber : ready) release_ = std::min(release_, machine(fiber->actor()).held_until());
  return kNobody;
}

// --- Schedule search

size_t World::search(const std::deque<fiber::Fiber*>& ready) {
  line_.clear();
  fibers_.clear();
  for (size_t i = 0; i < ready.size(); ++i) {
    const fiber::Fiber& fiber = *ready[i];
    if (fiber.actor() == 0 || machine(fiber.actor()).unwinding()) return i;
    if (!may_run(fiber)) {
      machine(fiber.actor()).expect_release();
      continue;
    }
    fibers_.push_back(i);
    line_.push_back({fiber.lineage(), fiber.turns()});
  }
  if (fibers_.empty()) crowded_picks_ = 0;
  line_up_events();
  if (line_.empty()) return kNobody;
  // Fibers that wait for each other by yielding might keep the one they wait for from its turn for ever.
  const size_t picked = ++crowded_picks_ > kMostCrowdedPicks ? 0 : schedule_.pick(line_);
  if (picked < fibers_.size()) return fibers_[picked];
  next_event_ = due_[picked - fibers_.size()];
  return kNobody;
}

// Adds the events that may happen next to the line of fibers.
void World::line_up_events() {
  for (bool moved = true; moved;) {
    moved = false;
    due_.clear();
    if (events_.empty()) return;
    since_ = fibers_.empty() ? events_.next() : std::min(since_, events_.next());
    events_.due(since_ + options_.schedule.window_ns, due_);
    for (Event* event : due_) {
      if (event->actor() == 0) continue;
      const WorldTime held_until = machine(event->actor()).held_until();
      if (std::max(now_, event->at()) >= held_until) continue;
      events_.schedule(*event, held_until);
      moved = true;
    }
  }
  const auto worlds = std::find_if(due_.begin(), due_.end(), [](const Event* event) { return event->actor() == 0; });
  due_.erase(worlds == due_.begin() && fibers_.empty() && worlds != due_.end() ? worlds + 1 : worlds, due_.end());
  for (const Event* event : due_) line_.push_back({event->task(), static_cast<uint64_t>(event->at())});
}

bool World::wait_searching() {
  if (!next_event_) search(nobody_);
  if (!next_event_) return false;
  Event& event = *std::exchange(next_event_, nullptr);
  const uint32_t actor = event.actor();
  const bool released = actor != 0 && event.at() == machine(actor).held_until();
  happen(event);
  // See wait().
  while (released) {
    events_.due(now_, due_);
    auto next = std::find_if(due_.begin(), due_.end(), [actor](const Event* e) { return e->actor() == actor; });
    if (next == due_.end()) break;
    happen(**next);
  }
  return true;
}

void World::hold(WorldTime until) { some_machine_held_until_ = std::max(some_machine_held_until_, until); }

void World::sleep_until(WorldTime at) {
  struct Wake : Event {
    Wake(World& w) : Event(EventKind::kTimer, 0), world(w), fiber(w.scheduler().current()) {}
    void happen() override { world.scheduler().wake(fiber); }
    World& world;
    fiber::Fiber& fiber;
  } wake(*this);
  scheduler_.throw_if_cancelled();
  events_.schedule(wake, std::max(at, now_));
  scheduler_.park(true);
  if (wake.scheduled()) throw fiber::Cancelled{};
}

}  // namespace mneme::sim
