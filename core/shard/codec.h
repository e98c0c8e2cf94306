// How the structs of this folder are written and read: each lists its fields once, for both directions.
//
// `fields(codec, value)` is called with an Encoder and a const value, or with a Decoder and one to fill in. A Decoder
// never trusts its input: counts are bounded by what is left of it, nothing is allocated ahead, and after the first
// error all later reads give nothing. Every accepted input is what the Encoder writes for what was read.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/shard/command.h"
#include "core/shard/types.h"

namespace mneme::shard {

class Encoder {
 public:
  explicit Encoder(std::string& out) : out_(out), writer_(out) {}

  template <std::integral T>
  void number(const T& value) {
    store_le(scratch_, value);
    writer_.raw(ByteView(scratch_, sizeof value));
  }
  template <class Tag>
  void id(const Id<Tag>& id) {
    writer_.id(id);
  }
  void flag(const bool& value) { writer_.u8(value ? 1 : 0); }
  template <class E>
  void choice(const E& value, E) {
    writer_.u8(static_cast<uint8_t>(value));
  }
  void text(const std::string& value, size_t) { writer_.blob(value); }
  void slots(const SlotSet& value) { value.encode(out_); }
  template <class T, class Each>
  void list(const std::vector<T>& values, size_t, Each each) {
    writer_.u32(static_cast<uint32_t>(values.size()));
    for (const T& value : values) each(*this, value);
  }
  template <class T, class Each>
  void optional(const std::optional<T>& value, Each each) {
    flag(value.has_value());
    if (value) each(*this, *value);
  }

 private:
  std::string& out_;
  Writer<std::string> writer_;
  uint8_t scratch_[8];
};

class Decoder {
 public:
  explicit Decoder(std::string_view bytes) : reader_(bytes) {}

  template <std::integral T>
  void number(T& value) {
    ByteView bytes = reader_.raw(sizeof value);
    if (reader_.ok()) value = load_le<T>(bytes.data());
  }
  template <class Tag>
  void id(Id<Tag>& id) {
    id = reader_.id<Id<Tag>>();
  }
  void flag(bool& value) {
    uint8_t byte = reader_.u8();
    if (byte > 1) refuse(ErrorCode::kCorrupt, "a flag is neither 0 nor 1");
    value = byte == 1;
  }
  template <class E>
  void choice(E& value, E last) {
    uint8_t byte = reader_.u8();
    if (!reader_.ok()) return;
    if (byte < 1 || byte > static_cast<uint8_t>(last)) return refuse(ErrorCode::kUnsupported, "a value is not known");
    value = static_cast<E>(byte);
  }
  void text(std::string& value, size_t max) {
    size_t size = reader_.u32();
    if (size > max) return refuse(ErrorCode::kTooLarge, "a text is too long");
    value = std::string(as_text(reader_.raw(size)));
  }
  void slots(SlotSet& value) {
    auto decoded = SlotSet::decode(reader_);
    if (!decoded) return refuse(decoded.error().code, std::move(decoded.error().message));
    value = std::move(*decoded);
  }
  template <class T, class Each>
  void list(std::vector<T>& values, size_t max, Each each) {
    uint32_t count = reader_.u32();
    if (count > max) return refuse(ErrorCode::kTooLarge, "a list is too long");
    for (uint32_t i = 0; i < count && ok(); ++i) each(*this, values.emplace_back());
  }
  template <class T, class Each>
  void optional(std::optional<T>& value, Each each) {
    bool has = false;
    flag(has);
    if (has && ok()) each(*this, value.emplace());
  }

  void refuse(ErrorCode code, std::string message) {
    if (!error_) error_ = Error{code, std::move(message)};
  }
  bool ok() const { return reader_.ok() && !error_; }
  // Everything was read, and it was good. `what` names it: "a shard command".
  Result<void> finish(std::string_view what) const {
    if (error_) return fail(error_->code, std::string(what) + ": " + error_->message);
    if (!reader_.ok()) return fail(ErrorCode::kCorrupt, std::string(what) + " ends too early");
    if (!reader_.at_end()) return fail(ErrorCode::kCorrupt, std::string(what) + " has bytes after its end");
    return {};
  }

 private:
  Reader reader_;
  std::optional<Error> error_;
};

// A list in the order of its ids, so that it has one encoding. Calls take(id, Value) with each value as it comes, until
// one is refused. `what` names them: "nodes".
template <class Value, class IdOf, class Take>
void sorted_list(Decoder& c, size_t max, std::string_view what, IdOf id_of, Take take) {
  uint32_t count = 0;
  c.number(count);
  if (count > max) c.refuse(ErrorCode::kTooLarge, "there are too many " + std::string(what));
  decltype(id_of(Value())) last;
  for (uint32_t i = 0; i < count && c.ok(); ++i) {
    Value value;
    fields(c, value);
    if (i > 0 && id_of(value) <= last) c.refuse(ErrorCode::kCorrupt, std::string(what) + " are unsorted");
    if (!c.ok()) return;
    last = id_of(value);
    take(last, std::move(value));
  }
}

// A parameter that is `T` or `const T`.
template <class U, class T>
concept Of = std::same_as<std::remove_const_t<U>, T>;

inline constexpr auto kEach = [](auto& codec, auto& value) { fields(codec, value); };

void fields(auto& c, Of<Replica> auto& r) {
  c.id(r.node);
  c.number(r.generation);
}

void fields(auto& c, Of<Member> auto& m) {
  fields(c, m.replica);
  c.choice(m.role, Role::kOutgoing);
}

void fields(auto& c, Of<Node> auto& n) {
  c.id(n.id);
  c.id(n.incarnation);
  c.text(n.peer_address, limits::kMaxAddressBytes);
  c.text(n.client_address, limits::kMaxAddressBytes);
  c.text(n.rack, limits::kMaxRackBytes);
  c.choice(n.state, NodeState::kRemoved);
  c.number(n.revision);
}

void fields(auto& c, Of<Report> auto& r) {
  c.id(r.group);
  c.id(r.epoch);
  c.id(r.configuration_index);
  c.list(r.configuration, limits::kMaxReplicas, kEach);
  c.number(r.next_generation);
  c.slots(r.slots);
  c.id(r.term);
  c.id(r.leader);
  c.number(r.number);
  c.number(r.bytes);
  c.number(r.writes_per_second);
}

void fields(auto& c, Of<Action> auto& a) {
  c.choice(a.kind, ActionKind::kTransfer);
  c.id(a.source);
  c.id(a.target);
  c.number(a.at);
}

void fields(auto& c, Of<Operation> auto& o) {
  c.id(o.id);
  c.id(o.after);
  c.id(o.planned);
  fields(c, o.action);
  fields(c, o.source);
  fields(c, o.target);
  c.id(o.child);
  c.choice(o.step, Step::kSplit);
  c.id(o.epoch);
  c.choice(o.outcome, Outcome::kAbandoned);
}

void fields(auto& c, Of<Shard> auto& s) {
  c.slots(s.slots);
  fields(c, s.last);
  c.optional(s.operation, kEach);
}

// take(NodeId, Node)
template <class Take>
void list_of_nodes(Decoder& c, Take take) {
  sorted_list<Node>(
      c, limits::kMaxMembersEver, "nodes", [](const Node& node) { return node.id; }, take);
}

// take(GroupId, Shard)
template <class Take>
void list_of_shards(Decoder& c, Take take) {
  sorted_list<Shard>(
      c, kSlots + 1u, "shards", [](const Shard& shard) { return shard.group(); }, take);
}

void fields(auto& c, Of<Founder> auto& f) {
  c.id(f.id);
  c.id(f.incarnation);
  c.text(f.peer_address, limits::kMaxAddressBytes);
  c.text(f.client_address, limits::kMaxAddressBytes);
  c.text(f.rack, limits::kMaxRackBytes);
}

void fields(auto& c, Of<FoundCluster> auto& f) {
  c.id(f.cluster);
  c.number(f.cluster_version);
  c.number(f.copies);
  c.number(f.shards);
  c.list(f.nodes, limits::kMaxMembers, kEach);
}

void fields(auto& c, Of<AddNode> auto& a) {
  c.id(a.incarnation);
  c.text(a.peer_address, limits::kMaxAddressBytes);
  c.text(a.client_address, limits::kMaxAddressBytes);
  c.text(a.rack, limits::kMaxRackBytes);
}

void fields(auto& c, Of<NodeUp> auto& u) {
  c.id(u.node);
  c.id(u.incarnation);
}

void fields(auto& c, Of<DrainNode> auto& d) {
  c.id(d.node);
  c.number(d.revision);
  c.flag(d.drain);
}

void fields(auto& c, Of<RemoveNode> auto& r) { c.id(r.node); }

void fields(auto& c, Of<SetCopies> auto& s) {
  c.number(s.from);
  c.number(s.to);
}

void fields(auto& c, Of<RaiseClusterVersion> auto& r) { c.number(r.to); }

void fields(auto& c, Of<BeginOperation> auto& b) {
  c.id(b.group);
  c.id(b.epoch);
  c.id(b.after);
  fields(c, b.action);
}

void fields(auto& c, Of<AdvanceOperation> auto& a) {
  c.id(a.operation);
  c.choice(a.step, Step::kSplit);
  fields(c, a.report);
}

void fields(auto& c, Of<AbandonOperation> auto& a) {
  c.id(a.operation);
  c.choice(a.step, Step::kSplit);
  fields(c, a.report);
}

}  // namespace mneme::shard
