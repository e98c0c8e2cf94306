#include "tests/unit/raft/script.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "core/raft/text.h"

namespace mneme::raft {

namespace {

std::string text_of(const Entry& entry) {
  std::string text = text_of(LogPosition{entry.index, entry.term});
  if (entry.kind == EntryKind::kConfig)
    return text + ":{" + text_of(decode_configuration(*entry.payload).value()) + "}";
  return entry.payload ? text + ":" + *entry.payload : text;
}

std::string text_of(const std::vector<Entry>& entries) {
  std::string text;
  for (const Entry& entry : entries) text += " " + text_of(entry);
  return text;
}

std::string with_entries(const Message& m) {
  std::string text = head_of(m);
  if (!m.entries.empty()) text += " entries" + text_of(m.entries);
  return text;
}

std::pair<uint64_t, uint64_t> link_of(const std::string& text) {
  size_t arrow = text.find("->");
  if (arrow == std::string::npos) throw std::runtime_error("not a link: " + text);
  return {std::stoull(text.substr(0, arrow)), std::stoull(text.substr(arrow + 2))};
}

Duration duration_of(const std::string& text) {
  size_t end = 0;
  auto number = static_cast<int64_t>(std::stoull(text, &end));
  if (text.substr(end) == "ms") return std::chrono::milliseconds(number);
  if (text.substr(end) == "s") return std::chrono::seconds(number);
  throw std::runtime_error("not a duration: " + text);
}

}  // namespace

// Patience is the election timeout and a tenth of it per id, so that a script's reader knows whose timer is next.
uint64_t Script::draw(Site site, uint64_t a, uint64_t b) {
  if (site == Site::kElectionTimeout) return a * 100'000'000;
  return 1000 + (fold(a, b) % 1000);
}

void Script::reached(Probe probe) {
  std::string line = fmt::format("  {} reached {}\n", acting_, kProbeNames[static_cast<size_t>(probe)]);
  if (!output_.ends_with(line)) output_ += line;
}

void Script::print(const std::string& line) { output_ += "  " + line + "\n"; }

TestReplica& Script::replica(uint64_t n) {
  if (n == 0 || n > replicas_.size()) throw std::runtime_error("no such replica");
  acting_ = fmt::format("{}", n);
  return replicas_[n - 1];
}

TestReplica& Script::running(uint64_t n) {
  TestReplica& r = replica(n);
  if (!r.raft) throw std::runtime_error("that replica is down");
  return r;
}

std::string Script::run(const std::string& command) {
  output_.clear();
  std::istringstream rest(command);
  std::string verb;
  rest >> verb;
  try {
    execute(verb, rest);
  } catch (const std::exception& error) {
    print(fmt::format("cannot: {}", error.what()));
  }
  return output_;
}

void Script::execute(const std::string& verb, std::istringstream& rest) {
  if (verb == "cluster") return cluster(rest);
  if (verb == "advance") return advance(rest);
  if (verb == "run") return run_for(rest);
  if (verb == "restart") return restart(rest);
  if (verb == "heal") return isolated_.clear();
  if (verb == "log" || verb == "state") {
    std::vector<uint64_t> which;
    for (uint64_t n = 0; rest >> n;) which.push_back(n);
    for (uint64_t n = 1; which.empty() && n <= replicas_.size(); ++n) verb == "log" ? show_log(n) : show_state(n);
    for (uint64_t n : which) verb == "log" ? show_log(n) : show_state(n);
    return;
  }
  if (verb == "deliver" || verb == "drop" || verb == "repeat" || verb == "swap" || verb == "hold" ||
      verb == "release") {
    std::string name;
    size_t count = SIZE_MAX;
    rest >> name;
    if (name.empty()) return verb == "deliver" ? deliver_all() : network_.clear();
    if (!(rest >> count)) count = SIZE_MAX;
    Link link = link_of(name);
    std::deque<Message>& queue = network_[link];
    if (verb == "hold") held_.insert(link);
    if (verb == "release") held_.erase(link);
    if (verb == "repeat") queue.push_front(queue.at(0));
    if (verb == "swap") std::swap(queue.at(0), queue.at(1));
    if (verb == "drop")
      queue.erase(queue.begin(), queue.begin() + static_cast<ptrdiff_t>(std::min(count, queue.size())));
    if (verb == "deliver") {
      count = std::min(count, queue.size());
      while (count-- > 0 && deliver_one(link)) continue;
    }
    return;
  }

  uint64_t n = 0;
  rest >> n;
  if (verb == "isolate") {
    isolated_.insert(n);
  } else if (verb == "disk") {
    std::string how;
    rest >> how;
    how == "manual" ? (void)manual_.insert(n) : (void)manual_.erase(n);
    if (how == "auto") persist(n, SIZE_MAX);
  } else if (verb == "persist") {
    size_t count = 0;
    persist(n, rest >> count ? count : SIZE_MAX);
  } else if (verb == "crash") {
    running(n).crash();
    shown_[n - 1].clear();
  } else if (verb == "campaign") {
    running(n).raft->campaign(replica(n).now);
    settle(n);
  } else if (verb == "revoke") {
    running(n).raft->revoke_lease();
    settle(n);
  } else if (verb == "wake") {
    running(n).raft->wake(replica(n).now);
    settle(n);
  } else if (verb == "elect") {
    running(n).raft->campaign(replica(n).now);
    settle(n);
    deliver_all();
    std::string told = std::exchange(output_, {});
    for (size_t at = 0; (at = told.find("VIOLATION", at)) != std::string::npos; ++at)
      print(told.substr(at, told.find('\n', at) - at));
    print(shown_[n - 1]);
  } else if (verb == "propose") {
    std::string text;
    rest >> text;
    auto position = running(n).raft->propose(std::make_shared<const std::string>(text), replica(n).now);
    if (!position) print(fmt::format("{} refuses: {}", n, position.error().message));
    settle(n);
  } else if (verb == "read") {
    uint64_t context = 0;
    rest >> context;
    auto asked = running(n).raft->read_index(context, replica(n).now);
    if (!asked) print(fmt::format("{} refuses: {}", n, asked.error().message));
    settle(n);
  } else if (verb == "checkpoint") {
    TestReplica& r = running(n);
    uint64_t index = 0;
    LogIndex at = rest >> index ? LogIndex(index) : r.raft->applied();
    LogPosition position{at, r.raft->term_at(at).value()};
    r.raft->checkpoint_available(position);
    r.disk.compact(position, r.raft->configuration_at(at));
    settle(n);
  } else if (verb == "compact") {
    uint64_t index = 0;
    rest >> index;
    running(n).raft->compact(LogIndex(index));
    settle(n);
  } else if (verb == "unreachable" || verb == "snapshot-failed") {
    uint64_t peer = 0;
    rest >> peer;
    const ReplicaId other = named(peer);
    verb == "unreachable" ? running(n).raft->unreachable(other) : running(n).raft->snapshot_failed(other);
    settle(n);
  } else if (verb == "leader-gone") {
    running(n).raft->leader_gone(running(n).raft->leader(), replica(n).now);
    settle(n);
  } else if (verb == "join") {
    join(n, rest);
  } else if (verb == "add" || verb == "promote" || verb == "remove") {
    Change change;
    for (uint64_t other = 0; rest >> other;) {
      if (verb == "add") change.add.push_back(ReplicaId(NodeId(other), ++generation_));
      if (verb == "promote") change.promote.push_back(named(other));
      if (verb == "remove") change.remove.push_back(named(other));
    }
    auto position = running(n).raft->propose_change(change, replica(n).now);
    if (!position) print(fmt::format("{} refuses: {}", n, position.error().message));
    settle(n);
  } else if (verb == "transfer") {
    uint64_t to = 0;
    rest >> to;
    const ReplicaId heir = named(to);  // first: whoever is asked for last is who probes are put down to
    auto begun = running(n).raft->transfer(heir, replica(n).now);
    if (!begun) print(fmt::format("{} refuses: {}", n, begun.error().message));
    settle(n);
  } else {
    throw std::runtime_error("no such command");
  }
}

void Script::cluster(std::istringstream& rest) {
  size_t count = 0;
  rest >> count;
  Config config;
  for (std::string option; rest >> option;) {
    if (option == "may-rest") config.may_rest = true;
    if (option == "follower-reads") config.follower_reads = true;
    if (option.find('=') == std::string::npos) continue;
    uint64_t value = std::stoull(option.substr(option.find('=') + 1));
    if (option.starts_with("append-bytes=")) config.max_append_bytes = value;
    if (option.starts_with("lease=")) config.lease = std::chrono::milliseconds(value);
    if (option.starts_with("drift=")) config.drift_ppm = static_cast<uint32_t>(value);
    if (option.starts_with("inflight=")) config.max_inflight_appends = value;
    if (option.starts_with("generation=")) generation_ = static_cast<uint32_t>(value);
  }
  for (uint64_t n = 1; n <= count; ++n) config.voters.push_back(ReplicaId(NodeId(n), generation_));
  replicas_.resize(count);
  shown_.resize(count);
  for (uint64_t n = 1; n <= count; ++n) {
    replica(n).config = config;
    replica(n).config.id = config.voters[n - 1];
    replica(n).start(*this, *this);
    settle(n);
  }
}

ReplicaId Script::named(uint64_t n) { return replica(n).config.id; }

void Script::join(uint64_t n, std::istringstream& rest) {
  uint32_t generation = 0;
  rest >> generation;
  if (n > replicas_.size()) {
    replicas_.resize(n);
    shown_.resize(n);
  }
  TestReplica& r = replica(n);
  if (r.raft) throw std::runtime_error("it is running");
  r.config = replica(1).config;
  r.config.id = ReplicaId(NodeId(n), generation);
  r.config.voters.clear();
  r.disk = {};
  r.start(*this, *this);
  settle(n);
}

void Script::restart(std::istringstream& rest) {
  uint64_t n = 0;
  rest >> n;
  TestReplica& r = replica(n);
  if (r.raft) throw std::runtime_error("it is running");
  bool rolled_back = false;
  for (std::string option; rest >> option;) {
    if (option == "suspect") r.disk.suspect = true;
    if (option.starts_with("lose=")) r.disk.lose(std::stoull(option.substr(5)));
    if (option.starts_with("term=")) r.disk.hard = {Term(std::stoull(option.substr(5))), ReplicaId()};
    rolled_back = !r.disk.suspect;
  }
  if (rolled_back) cluster_.rolled_back(named(n));
  r.start(*this, *this);
  if (auto bad = cluster_.restarted(*r.raft)) print("VIOLATION " + *bad);
  settle(n);
}

void Script::advance(std::istringstream& rest) {
  std::string how_long;
  rest >> how_long;
  Duration step = duration_of(how_long);
  std::set<uint64_t> which;
  for (uint64_t n = 0; rest >> n;) which.insert(n);
  for (uint64_t n = 1; n <= replicas_.size(); ++n) {
    if (!which.empty() && !which.contains(n)) continue;
    TestReplica& r = replica(n);
    Instant end = r.now + step;
    while (r.raft && r.raft->next_deadline() <= end) {
      r.now = std::max(r.now, r.raft->next_deadline());
      r.raft->tick(r.now);
      settle(n);
    }
    r.now = end;
  }
}

void Script::run_for(std::istringstream& rest) {
  std::string how_long;
  rest >> how_long;
  const Duration step = 100ms;
  for (Duration left = duration_of(how_long); left > Duration::zero(); left -= step) {
    std::istringstream once("100ms");
    advance(once);
    deliver_all();
  }
  std::istringstream lines(std::exchange(output_, {}));
  for (std::string line; std::getline(lines, line);)
    if (line.find(" is ") != std::string::npos || line.find("VIOLATION") != std::string::npos) output_ += line + "\n";
}

bool Script::deliver_one(Link link) {
  std::deque<Message>& queue = network_[link];
  if (queue.empty()) return false;
  Message m = std::move(queue.front());
  queue.pop_front();
  TestReplica& to = replica(link.second);
  if (!to.raft || to.config.id != m.to) return true;
  print("> " + with_entries(m));
  to.raft->step(std::move(m), to.now);
  settle(link.second);
  return true;
}

// In rounds over the links, so that whoever is delivered to first does not run ahead.
void Script::deliver_all() {
  for (int round = 0; round < 1000; ++round) {
    bool any = false;
    std::vector<Link> links;
    for (const auto& [link, queue] : network_)
      if (!queue.empty() && !held_.contains(link)) links.push_back(link);
    for (Link link : links) any |= deliver_one(link);
    if (!any) return;
  }
  print("messages without end");
}

void Script::send(Message m) {
  const uint64_t from = m.from.node().value;
  const uint64_t to = m.to.node().value;
  bool lost = isolated_.contains(from) || isolated_.contains(to) || to > replicas_.size();
  print(with_entries(m) + (lost ? " (lost)" : ""));
  if (!lost) network_[{from, to}].push_back(std::move(m));
}

void Script::settle(uint64_t n) {
  TestReplica& r = running(n);
  check(r);
  while (r.raft->has_ready()) take(n, r.raft->ready());
  if (!manual_.contains(n) && !r.unstored.empty()) persist(n, SIZE_MAX);
  std::string shown = fmt::format("{} is {} in term {}{}", n, name_of(r.raft->role()), r.raft->term().value,
                                  r.raft->suspect() ? ", suspect" : "");
  if (r.raft->leader()) shown += fmt::format(", leader {}", text_of(r.raft->leader()));
  if (r.raft->resting()) shown += ", resting";
  if (shown_[n - 1] != shown) print(shown);
  shown_[n - 1] = shown;
  check(r);
}

void Script::check(TestReplica& r) {
  if (auto bad = r.check()) print("VIOLATION " + *bad);
  if (auto bad = cluster_.observe(*r.raft)) print("VIOLATION " + *bad);
}

void Script::take(uint64_t n, Ready ready) {
  std::string text;
  if (ready.hard_state)
    text += fmt::format(" term {} vote {}", ready.hard_state->term.value, text_of(ready.hard_state->vote));
  if (ready.snapshot)
    text += fmt::format(" snapshot {} {{{}}}", text_of(*ready.snapshot), text_of(ready.configuration));
  if (!ready.entries.empty()) text += " entries" + text_of(ready.entries);
  if (ready.clear_suspect) text += " clear-suspect";
  if (!text.empty()) print(fmt::format("{} stores{}", n, text));
  for (Message& m : ready.messages) send(std::move(m));
  ready.messages.clear();
  if (!ready.committed.empty()) print(fmt::format("{} applies{}", n, text_of(ready.committed)));
  if (!ready.committed.empty()) running(n).raft->applied(ready.committed.back().index);
  for (const ReadState& read : ready.reads) print(fmt::format("{} reads {} at {}", n, read.context, read.index.value));
  for (uint64_t context : ready.failed_reads) print(fmt::format("{} fails read {}", n, context));
  if (ready.needs_persisting() || !ready.messages_after_persist.empty())
    running(n).unstored.push_back(std::move(ready));
}

void Script::persist(uint64_t n, size_t count) {
  TestReplica& r = running(n);
  std::vector<Message> messages;
  uint64_t number = 0;
  for (; count > 0 && !r.unstored.empty(); --count) {
    Ready& ready = r.unstored.front();
    if (!r.disk.store(ready)) print("VIOLATION the Ready does not fit the disk");
    number = ready.number;
    for (Message& m : ready.messages_after_persist) messages.push_back(std::move(m));
    r.unstored.pop_front();
  }
  if (number == 0) return;
  r.raft->persisted(number);
  if (manual_.contains(n)) print(fmt::format("{} has stored up to {}", n, r.raft->persisted_index().value));
  for (Message& m : messages) send(std::move(m));
  settle(n);
}

void Script::show_log(uint64_t n) {
  TestReplica& r = running(n);
  std::string text;
  for (LogIndex i = r.raft->first_index(); i <= r.raft->last_index(); i = i.next())
    text += (i == r.raft->commit().next() ? " |" : "") + (" " + text_of(r.raft->entry_at(i)));
  LogIndex base = r.raft->first_index().prev();
  print(fmt::format("{} after {}:{}", n, text_of(LogPosition{base, *r.raft->term_at(base)}), text));
}

void Script::show_state(uint64_t n) {
  TestReplica& r = replica(n);
  if (!r.raft) return print(fmt::format("{} is down", n));
  std::string text =
      fmt::format("{}: {} term {} vote {} leader {} commit {} applied {} persisted {} last {}{}", n,
                  name_of(r.raft->role()), r.raft->term().value, text_of(r.raft->vote()), text_of(r.raft->leader()),
                  r.raft->commit().value, r.raft->applied().value, r.raft->persisted_index().value,
                  r.raft->last_index().value, r.raft->suspect() ? " suspect" : "");
  if (r.raft->role() == Role::kLeader)
    for (bool first = true; ReplicaId member : r.raft->configuration().members())
      text += fmt::format("{} {}:{}", std::exchange(first, false) ? " match" : "", text_of(member),
                          r.raft->match_index(member).value);
  if (r.raft->lease_valid(r.now)) text += " lease";
  if (r.raft->configuration_index()) text += " {" + text_of(r.raft->configuration()) + "}";
  print(text);
}

}  // namespace mneme::raft
