#include "core/client/topology.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/limits.h"
#include "core/protocol/request.h"

namespace mneme::client {

using protocol::Reply;

static_assert(limits::kMaxMembers < UINT16_MAX);

namespace {

bool is_host(std::string_view host) {
  return !host.empty() && host.size() <= limits::kMaxAddressBytes &&
         std::all_of(host.begin(), host.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

std::optional<uint16_t> port_of(int64_t number) {
  if (number < 1 || number > UINT16_MAX) return std::nullopt;
  return static_cast<uint16_t>(number);
}

std::optional<env::Address> parse_node(const Reply& node, const env::Address& asked) {
  if (node.kind != Reply::Kind::kArray || node.elements.size() < 2) return std::nullopt;
  const Reply& host = node.elements[0];
  const Reply& port = node.elements[1];
  if (port.kind != Reply::Kind::kInteger) return std::nullopt;
  const bool unnamed = host.kind == Reply::Kind::kNull || (host.kind == Reply::Kind::kBulk && host.text.empty());
  if (!unnamed && (host.kind != Reply::Kind::kBulk || !is_host(host.text))) return std::nullopt;
  auto number = port_of(port.integer);
  if (!number) return std::nullopt;
  return env::Address{unnamed ? asked.host : host.text, *number};
}

Result<void> malformed(std::string_view what) {
  return fail(ErrorCode::kInvalid, fmt::format("malformed reply to CLUSTER SLOTS: {}", what));
}

}  // namespace

std::optional<uint16_t> Topology::add(const env::Address& node) {
  // Few nodes, and asked only when something has changed.
  auto known = std::find(nodes_.begin(), nodes_.end(), node);
  if (known == nodes_.end()) {
    if (nodes_.size() == limits::kMaxMembers) return std::nullopt;
    known = nodes_.insert(known, node);
  }
  return static_cast<uint16_t>(known - nodes_.begin());
}

Result<void> Topology::learn_range(const Reply& range, const env::Address& asked) {
  if (range.kind != Reply::Kind::kArray || range.elements.size() < 3) return malformed("a range without a node");
  const Reply& begin = range.elements[0];
  const Reply& end = range.elements[1];
  if (begin.kind != Reply::Kind::kInteger || end.kind != Reply::Kind::kInteger || begin.integer < 0 ||
      begin.integer > end.integer || end.integer >= kSlots)
    return malformed("a range of slots that there cannot be");
  for (size_t i = 2; i < range.elements.size(); ++i) {
    auto address = parse_node(range.elements[i], asked);
    if (!address) return malformed("a node without host and port");
    auto node = add(*address);
    if (!node) return malformed(fmt::format("more than {} nodes", limits::kMaxMembers));
    if (i == 2) std::fill(owners_.begin() + begin.integer, owners_.begin() + end.integer + 1, *node);
  }
  return {};
}

Result<void> Topology::learn(const Reply& reply, const env::Address& asked) {
  if (reply.kind != Reply::Kind::kArray || reply.elements.size() > kSlots) return malformed("not a list of ranges");
  Topology fresh;
  fresh.owners_.assign(kSlots, kNobody);
  for (const Reply& range : reply.elements) TRY(fresh.learn_range(range, asked));
  *this = std::move(fresh);
  return {};
}

void Topology::moved(uint16_t slot, const env::Address& to) {
  auto node = add(to);
  if (!node) return;
  owners_.resize(kSlots, kNobody);
  owners_[slot] = *node;
}

std::optional<Redirection> parse_redirection(std::string_view reply, const env::Address& asked) {
  reply = reply.substr(0, reply.find('\r'));
  const size_t slot_at = reply.find(' ');
  if (slot_at == std::string_view::npos) return std::nullopt;
  const size_t address_at = reply.find(' ', slot_at + 1);
  if (address_at == std::string_view::npos) return std::nullopt;
  auto slot = protocol::parse_integer(reply.substr(slot_at + 1, address_at - slot_at - 1));
  std::string_view address = reply.substr(address_at + 1);
  const size_t colon = address.rfind(':');
  if (!slot || *slot < 0 || *slot >= kSlots || colon == std::string_view::npos) return std::nullopt;
  std::string_view host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  auto number = protocol::parse_integer(address.substr(colon + 1));
  auto port = number ? port_of(*number) : std::nullopt;
  if (!port || (!host.empty() && !is_host(host))) return std::nullopt;
  return Redirection{static_cast<uint16_t>(*slot), {host.empty() ? asked.host : std::string(host), *port}};
}

}  // namespace mneme::client
