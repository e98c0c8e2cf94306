// The node's copy of the shard map: the newest that it has heard of, from the meta group's replica here or from another
// node. It may be behind, which costs a detour and nothing else: what decides is in the groups' own logs.
//
// It is kept in the file `map`, so that a node that starts knows whom to ask. Format, version 1, little-endian:
//
//   offset size
//        0    8  magic "MNEMEMAP"
//        8    4  format version (1)
//       12    4  n: length of the map
//       16    n  the map, as shard::Map::encode() has it
//     16+n    8  XXH3 of everything before
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/env/env.h"
#include "core/fiber/sync.h"
#include "core/shard/map.h"

namespace mneme::node {

class MapCache {
 public:
  explicit MapCache(Env& env)
      : env_(env), map_(std::make_shared<const shard::Map>()), changed_(env.scheduler), unsaved_(env.scheduler) {}

  // Reads the file. kNotFound: there is none; kCorrupt, kUnsupported: it is of no use. Suspends.
  Result<void> load();
  // Makes what is known durable. Suspends.
  Result<void> save();
  // The fiber that saves what is new, now and then; without room on the disk it tries again later. Nodes save a large
  // map at different times, which follow from `node`.
  Result<void> run(NodeId node);

  const shard::Map& map() const { return *map_; }
  const std::shared_ptr<const shard::Map>& shared() const { return map_; }
  uint64_t version() const { return map_->version(); }
  // Takes a map of the same cluster if it is newer than what is known.
  bool offer(std::shared_ptr<const shard::Map> map);
  // The same of a map that shares nothing with what is known, as one that has come as a whole: it makes this node
  // forget what the map was before, because telling the difference would cost too much, and keeping both as well.
  void offer_whole(shard::Map map);
  // What makes this map of the one of that earlier version, each taken after the one before it
  // (Map::encode_change_since); none when it is not remembered any more, and the whole map has to travel. A copy that
  // is offered maps, as where the meta group has a replica, remembers those of the last seconds; one that takes changes
  // remembers the last of these, since all that it does with them is to help out.
  using Changes = std::vector<std::shared_ptr<const std::string>>;
  Changes changes_since(uint64_t version);
  // The version that this node had a second ago, or somewhat longer. Whoever has an older one yet gets no news from
  // where they are made.
  uint64_t settled_version();
  // Takes such a change; one that fits another map than this one is passed over. kCorrupt, kUnsupported, kTooLarge.
  Result<void> take_change(std::string_view change);
  // Suspends until another map is there than that of `version`.
  void wait_for_change(uint64_t version) {
    changed_.wait_until([&] { return map_->version() != version; });
  }

 private:
  struct Earlier {
    std::shared_ptr<const shard::Map> map;
    Instant until;
  };
  struct Taken {
    uint64_t from;
    std::shared_ptr<const std::string> change;
  };
  bool is_news(const shard::Map& map) const;
  void adopt(std::shared_ptr<const shard::Map> map);
  void forget_old();

  Env& env_;
  std::shared_ptr<const shard::Map> map_;
  std::deque<Earlier> earlier_;  // oldest first; they share what has not changed since
  std::map<uint64_t, std::shared_ptr<const std::string>> changes_;  // that were asked for, by their beginnings
  std::deque<Taken> taken_;                                         // each from where the one before it ends, to map_
  size_t taken_bytes_ = 0;
  uint64_t settled_version_ = 0;
  uint64_t noted_version_ = 0;  // will be settled
  Instant noted_at_;
  uint64_t saved_version_ = 0;
  size_t saved_bytes_ = 0;
  fiber::Condition changed_;
  fiber::Condition unsaved_;
};

}  // namespace mneme::node
