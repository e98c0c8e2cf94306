// Which node serves which slot, as the cluster said last: CLUSTER SLOTS for all slots, MOVED for one. Pure.
//
// It may be out of date at any time; who asks the wrong node is told so. What nodes say is input: bounded and checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/env/network.h"
#include "core/protocol/reply_reader.h"

namespace mneme::client {

class Topology {
 public:
  // Replaces everything by a reply to CLUSTER SLOTS: [begin, end, [host, port, id, ...], replicas ...], ... `asked` is
  // the node that gave it, whose host stands for one that is empty or null. kInvalid: not such a reply; nothing
  // changes.
  Result<void> learn(const protocol::Reply& reply, const env::Address& asked);
  // One slot has moved. Ignored when it would be one node too many.
  void moved(uint16_t slot, const env::Address& to);

  // Null: nobody is known to serve it.
  const env::Address* owner(uint16_t slot) const {
    return slot < owners_.size() && owners_[slot] != kNobody ? &nodes_[owners_[slot]] : nullptr;
  }
  // All nodes that were named, replicas too, each once; in the order of their naming.
  const std::vector<env::Address>& nodes() const { return nodes_; }

 private:
  static constexpr uint16_t kNobody = UINT16_MAX;

  std::optional<uint16_t> add(const env::Address& node);
  Result<void> learn_range(const protocol::Reply& range, const env::Address& asked);

  std::vector<env::Address> nodes_;
  std::vector<uint16_t> owners_;  // by slot, indices of nodes_; empty: nobody serves anything
};

struct Redirection {
  uint16_t slot = 0;
  env::Address to;
};

// What "-MOVED 3999 host:port" and "-ASK ..." say; hosts may be in brackets, or empty: `asked`'s. Nothing when it is
// malformed.
[[nodiscard]] std::optional<Redirection> parse_redirection(std::string_view reply, const env::Address& asked);

}  // namespace mneme::client
