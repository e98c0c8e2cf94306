#include "core/node/router.h"

#include <algorithm>

#include "core/protocol/reply.h"

namespace mneme::node {

using replica::CommandList;
using replica::Outcome;

namespace {

// Before asking again where the answer was "not me": at first, and after some vain attempts. What is refused because
// the map is old was in the log all the same, and the map may stay old for as long as the meta group has no leader.
constexpr Duration kPause = 5ms;
constexpr Duration kLongestPause = 160ms;

class Pauses {
 public:
  // False: there is no time for another attempt until `deadline`.
  bool take(Env& env, Instant deadline) {
    const Instant now = env.clock.now();
    if (now + kPause >= deadline) return false;
    env.clock.sleep_for(env.scheduler, std::min(next_, deadline - now - kPause / 2));
    next_ = std::min(2 * next_, kLongestPause);
    return true;
  }

 private:
  Duration next_ = kPause;
};

// Of a transaction, which is asked for at its first command.
uint16_t slot_of_transaction(const CommandList& commands, size_t first) {
  const auto& items = commands.items();
  for (size_t i = first; i < items.size(); ++i) {
    const uint16_t slot = kv::slot_of_command(*items[i].spec, commands.args(items[i]));
    if (slot != kv::kNoSlot) return slot;
    if (items[i].meta.flags & kv::kLastOfTransaction) break;
  }
  return 0;
}

}  // namespace

Router::Router(Env& env, const Config& config, const Identity& identity, Groups& groups, MapCache& map, Peers& peers)
    : env_(env),
      config_(config),
      identity_(identity),
      groups_(groups),
      map_(map),
      peers_(peers),
      cursors_(env.random.draw(Site::kScanCursors, identity.node.value, 0)),
      // A new process must not use its predecessor's numbers: entries of both may be in the log.
      requests_(env.random.draw(Site::kRequestNumbers, identity.node.value, 0)) {}

kv::Origin Router::next_origin() {
  if (++requests_ == 0) ++requests_;
  return {identity_.node, identity_.incarnation, requests_};
}

// --- Pieces

Router::Pieces Router::cut(const CommandList& commands, Answers& answers) const {
  Pieces pieces;
  uint16_t transaction = kv::kNoSlot;
  const bool only_one = map_.map().shards().size() == 2;  // beside the meta group
  bool as_it_is = true;
  for (size_t i = 0; i < commands.items().size(); ++i) {
    const CommandList::Item& item = commands.items()[i];
    if (item.meta.flags & kv::kInTransaction) {
      if (item.meta.flags & kv::kFirstOfTransaction) transaction = slot_of_transaction(commands, i);
      pieces.all.push_back({.command = i, .slot = transaction});
      continue;
    }
    const kv::Args args = commands.args(item);
    Route route = route_of(*item.spec, args);
    // The only shard executes commands over several slots as they are. Not what is numbered: a retry after a split
    // would not find the answers of the parts.
    if (only_one && (route.spread == Spread::kCrossed || (route.spread == Spread::kSlots && !item.meta.session)))
      route.spread = Spread::kSlot;
    as_it_is &= route.spread == Spread::kSlot || route.spread == Spread::kMeta;
    switch (route.spread) {
      case Spread::kSlot: pieces.all.push_back({.command = i, .slot = route.slot}); break;
      case Spread::kMeta: pieces.all.push_back({.command = i, .group = shard::kMetaGroup}); break;
      case Spread::kScan: pieces.scans.push_back(i); break;
      case Spread::kCrossed: {
        std::string error;
        protocol::put_error(error, kCrossSlot);
        answers.done(i, std::move(error));
        break;
      }
      case Spread::kSlots:
      case Spread::kShards: {
        Scatter scatter = route.spread == Spread::kSlots ? Scatter::over_slots(*item.spec, args)
                                                         : Scatter::over_shards(*item.spec, args, map_.map());
        for (size_t part = 0; part < scatter.parts().size(); ++part)
          pieces.all.push_back({.command = i,
                                .slot = scatter.parts()[part].slot,
                                .group = scatter.parts()[part].group,
                                .scatter = pieces.scatters.size(),
                                .part = part});
        pieces.scatters.emplace_back(i, std::move(scatter));
        break;
      }
    }
  }
  pieces.commands = &commands;
  if (as_it_is) return pieces;
  for (const Piece& piece : pieces.all) {
    const CommandList::Item& item = commands.items()[piece.command];
    if (piece.scatter == SIZE_MAX) {
      pieces.own.add(*item.spec, commands.args(item), item.meta);
    } else {
      const Scatter& scatter = pieces.scatters[piece.scatter].second;
      pieces.own.add(*item.spec, scatter.args(scatter.parts()[piece.part]), item.meta);
    }
  }
  pieces.commands = nullptr;  // own, wherever this is moved to
  return pieces;
}

std::vector<Router::Part> Router::partition(const Pieces& pieces, const std::vector<size_t>& open) {
  std::vector<Part> parts;
  for (size_t at : open) {
    const Piece& piece = pieces.all[at];
    const GroupId group = piece.group ? piece.group : map_.map().owner_of(piece.slot);
    auto part = std::find_if(parts.begin(), parts.end(), [&](const Part& p) { return p.group == group; });
    if (part == parts.end()) part = parts.insert(part, Part{.group = group, .reads = pieces.reads});
    part->pieces.push_back(at);
  }
  for (Part& part : parts) {
    part.origin = next_origin();
    if (part.pieces.size() == pieces.commands->items().size()) {
      part.commands = pieces.commands;
      continue;
    }
    for (size_t at : part.pieces) {
      const CommandList::Item& command = pieces.commands->items()[at];
      part.own.add(*command.spec, pieces.commands->args(command), command.meta);
    }
  }
  for (Part& part : parts)
    if (!part.commands) part.commands = &part.own;
  return parts;
}

void Router::run(Pieces& pieces, const Admitted& admitted, Instant deadline, Answers& answers) {
  Pauses pauses;
  uint64_t version = map_.version();
  std::vector<size_t> open(pieces.all.size());
  for (size_t i = 0; i < open.size(); ++i) open[i] = i;
  while (!open.empty()) {
    auto parts = partition(pieces, open);
    if (admitted)
      for (const Part& part : parts)
        for (size_t i = 0; i < part.pieces.size(); ++i) admitted(pieces.all[part.pieces[i]].command, part.origin, i);
    run(parts, deadline);
    open.clear();
    for (Part& part : parts) {
      if (part.outcome == Outcome::kDone) {
        answers.done(part.pieces, std::move(part.replies));
        continue;
      }
      answers.not_done(part.pieces, part.outcome, part.reason);
      if (part.outcome == Outcome::kNotDone) open.insert(open.end(), part.pieces.begin(), part.pieces.end());
    }
    if (open.empty() || !pauses.take(env_, deadline)) break;
    std::sort(open.begin(), open.end());
    follow_splits(pieces, version, open, answers);
  }
}

// A shard that has been asked for its part and is another one by now: those that came of it have a part each.
void Router::follow_splits(Pieces& pieces, uint64_t& version, std::vector<size_t>& open, Answers& answers) {
  if (std::exchange(version, map_.version()) == map_.version() || pieces.scatters.empty()) return;
  const size_t before = open.size();
  for (size_t i = 0; i < before; ++i) {
    const Piece piece = pieces.all[open[i]];
    if (!piece.group || piece.scatter == SIZE_MAX) continue;
    auto& [command, scatter] = pieces.scatters[piece.scatter];
    const size_t parts = scatter.parts().size();
    scatter.follow_split(piece.part, map_.map());
    pieces.all[open[i]].group = scatter.parts()[piece.part].group;
    const CommandList::Item item = pieces.own.items()[open[i]];
    for (size_t part = parts; part < scatter.parts().size(); ++part) {
      pieces.all.push_back(
          {.command = command, .group = scatter.parts()[part].group, .scatter = piece.scatter, .part = part});
      pieces.own.add(*item.spec, scatter.args(scatter.parts()[part]), item.meta);
      open.push_back(pieces.all.size() - 1);
    }
  }
  answers.grow(pieces.all.size());
}

void Router::join(const Pieces& pieces, const Answers& given, const CommandList& commands, Answers& answers) {
  std::vector<std::vector<Outcome>> outcomes(pieces.scatters.size());
  std::vector<std::vector<std::string_view>> texts(pieces.scatters.size());
  for (size_t i = 0; i < pieces.scatters.size(); ++i) {
    outcomes[i].resize(pieces.scatters[i].second.parts().size());
    texts[i].resize(outcomes[i].size());
  }
  for (size_t at = 0; at < pieces.all.size(); ++at) {
    const Piece& piece = pieces.all[at];
    if (piece.scatter != SIZE_MAX) {
      // Of a part a refusal is no reply: the other parts may have been executed.
      const bool refused = given.outcome(at) == Outcome::kDone && given.text(at).starts_with("-CLUSTERDOWN");
      outcomes[piece.scatter][piece.part] = refused ? Outcome::kNotDone : given.outcome(at);
      texts[piece.scatter][piece.part] = given.text(at);
    } else if (given.outcome(at) == Outcome::kDone) {
      answers.done(piece.command, std::string(given.text(at)));
    } else {
      answers.not_done({piece.command}, given.outcome(at), given.text(at));
    }
  }
  for (size_t i = 0; i < pieces.scatters.size(); ++i) {
    const auto& [command, scatter] = pieces.scatters[i];
    const Outcome whole = whole_of(outcomes[i], !commands.items()[command].spec->is(kv::kRead));
    if (whole == Outcome::kDone) {
      std::string reply;
      if (auto gathered = scatter.gather(texts[i], requests_, reply); !gathered)
        protocol::put_error(reply, "ERR a shard's reply is malformed");
      answers.done(command, std::move(reply));
      continue;
    }
    const size_t failed = static_cast<size_t>(
        std::find_if(outcomes[i].begin(), outcomes[i].end(), [](Outcome o) { return o != Outcome::kDone; }) -
        outcomes[i].begin());
    answers.not_done({command}, whole, texts[i][failed]);
  }
}

void Router::scan(size_t command, kv::Args args, Instant deadline, Answers& answers) {
  std::string reply;
  auto scan = Scan::open(args, cursors_);
  if (!scan) {
    protocol::put_error(reply, scan.error().message);
    return answers.done(command, std::move(reply));
  }
  Pauses pauses;
  while (!scan->enough()) {
    const Scan::Ask ask = scan->next(map_.map());
    Pieces pieces;
    pieces.all.push_back({.slot = ask.slot});
    pieces.own.add(*ask.spec, ask.args);
    pieces.commands = &pieces.own;
    // Once: by another map, another shard is to be asked, or for other slots.
    auto parts = partition(pieces, {0});
    run(parts, deadline);
    const Part& part = parts.front();
    if (part.outcome != Outcome::kDone) {
      if (!pauses.take(env_, deadline)) return answers.not_done({command}, Outcome::kNotDone, part.reason);
      continue;
    }
    if (auto taken = scan->take(part.replies[0]); !taken) {
      protocol::put_error(reply, "ERR a shard's reply is malformed");
      return answers.done(command, std::move(reply));
    }
  }
  scan->answer(cursors_, reply);
  answers.done(command, std::move(reply));
}

void Router::execute(const CommandList& commands, const Admitted& admitted, Answers& answers, Reads reads) {
  const Instant deadline = env_.clock.now() + config_.request_timeout;
  answers.reset(commands.items().size());
  Pieces pieces = cut(commands, answers);
  pieces.reads = reads;
  if (pieces.commands) return run(pieces, admitted, deadline, answers);
  pieces.commands = &pieces.own;
  Answers given;
  given.reset(pieces.all.size());
  run(pieces, admitted, deadline, given);
  join(pieces, given, commands, answers);
  for (size_t command : pieces.scans) scan(command, commands.args(commands.items()[command]), deadline, answers);
}

Outcome Router::execute_in(GroupId group, const CommandList& commands, Instant deadline, replica::ReplySet& replies,
                           std::string& reason) {
  Pauses pauses;
  for (;;) {
    Part part{.group = group};
    part.commands = &commands;
    part.origin = next_origin();
    run(part, deadline);
    replies = std::move(part.replies);
    reason = std::move(part.reason);
    if (part.outcome != Outcome::kNotDone || !pauses.take(env_, deadline)) return part.outcome;
  }
}

void Router::run(std::vector<Part>& parts, Instant deadline) {
  if (parts.size() == 1) return run(parts.front(), deadline);
  auto ended = fiber::with_scope(env_.scheduler, [&](fiber::Scope& scope) {
    for (Part& part : parts) scope.spawn("part", [this, &part, deadline] { run(part, deadline); });
  });
  CHECK(ended.has_value());
}

void Router::run(Part& part, Instant deadline) {
  replica::Call call(env_.scheduler, part.origin, *part.commands);
  attempt(call, part.group, part.reads, deadline);
  if (call.outcome == Outcome::kUnknown) env_.trace.reached(Probe::outcome_unknown);
  part.outcome = call.outcome;
  part.replies = std::move(call.replies);
  part.reason = std::move(call.reason);
}

// Where no replica is here: whom others named, whom the map names, or one replica after the other.
NodeId Router::leader_of(GroupId group, const replica::Replica* here) {
  if (here && here->raft().leader()) return here->raft().leader().node();
  if (here && here->raft().configuration().votes(here->id())) return {};
  const shard::Shard* shard = map_.map().shard(group);
  if (!shard) return {};
  if (auto known = leaders_.find(group); known != leaders_.end()) return known->second;
  if (shard->last.leader && guesses_ % 4 != 3) return shard->last.leader;
  const shard::Configuration& members = shard->configuration();
  return members[guesses_ % members.size()].replica.node;
}

void Router::attempt(replica::Call& call, GroupId group, Reads reads, Instant deadline) {
  replica::Replica* here = groups_.find(group);
  const shard::Shard* shard = map_.map().shard(group);
  if (!shard) return call.settle(Outcome::kNotDone, "the cluster has no shards yet");
  call.epoch = shard->epoch();
  const NodeId leader = leader_of(group, here);
  auto wait_until = [&](auto&& fn) {
    return fiber::with_deadline(env_.scheduler, env_.clock.timers(), deadline, [&]() -> Result<void> {
      fn();
      return {};
    });
  };
  const bool reads_here = reads == Reads::kHere && here && leader && !call.commands.writes();
  if (here && (leader == identity_.node || reads_here)) {
    if (call.commands.writes())
      here->propose(call);
    else
      here->read(call);
  } else if (!leader) {
    call.settle(Outcome::kNotDone, "no leader is known");
    if (const auto held = groups_.hold(group)) (void)wait_until([&] { held->wait_for_leader_change(); });
    return;
  } else if (leader == identity_.node || !peers_.forward(leader, group, call)) {
    leaders_.erase(group);
    ++guesses_;
    return call.settle(Outcome::kNotDone, "the leader cannot be reached");
  }
  if (!wait_until([&] { call.wait(); })) {
    if (call.commands.writes())
      call.settle(Outcome::kUnknown, "no answer in time");
    else
      call.settle(Outcome::kNotDone, "no answer in time");
  }
  if (call.outcome == Outcome::kDone) return;
  // Whom it names is asked next.
  if (call.leader && call.leader != leader) {
    leaders_[group] = call.leader;
  } else {
    leaders_.erase(group);
    ++guesses_;
  }
}

}  // namespace mneme::node
