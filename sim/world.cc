#include "sim/world.h"

#include "sim/machine.h"
#include "sim/network.h"

namespace mneme::sim {

World::World(uint64_t seed, WorldOptions options, Recorder* recorder)
    : fate_(seed),
      options_(options),
      recorder_(recorder),
      hash_(mix(seed)),
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

bool World::wait() {
  // A reactor that was held finds all that came meanwhile when it looks again, before any of its fibers goes on: taken
  // one by one, each might hold it anew and the rest would wait for ever.
  bool released = false;
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
  size_t choice = 0;
  if (now_ < some_machine_held_until_) {
    auto may_run = [&](const fiber::Fiber* fiber) {
      return fiber->actor() == 0 || now_ >= machine(fiber->actor()).held_until();
    };
    size_t free = 0;
    for (const fiber::Fiber* fiber : ready) free += may_run(fiber);
    if (free == 0) return kNobody;
    size_t nth = options_.random_order ? Fate::scale(fate_.draw(Choice::kFiberOrder, ++resumptions_), free) : 0;
    while (!may_run(ready[choice]) || nth-- > 0) ++choice;
  } else if (options_.random_order && ready.size() > 1) {
    choice = Fate::scale(fate_.draw(Choice::kFiberOrder, ++resumptions_), ready.size());
  }
  const uint32_t actor = ready[choice]->actor();
  note_event(EventKind::kFiber, actor, ready[choice]->id());
  if (computing_takes_time_ && actor != 0) machine(actor).turn_begins();
  return choice;
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
