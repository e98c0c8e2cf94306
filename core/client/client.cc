#include "core/client/client.h"

#include <algorithm>

#include "core/base/check.h"
#include "core/protocol/request.h"

namespace mneme::client {

namespace {

constexpr size_t kMaxLinks = limits::kMaxMembers;
constexpr Duration kRefreshInterval = 100ms;  // at the least from one refresh to the next; after failures it doubles
constexpr Duration kLongestRefreshInterval = 3200ms;
constexpr Duration kRefreshPatience = 2s;  // with one node
constexpr size_t kNodesPerRefresh = 8;     // asked one after the other until one answers

}  // namespace

Client::Client(Env& env, Options options)
    : env_(env),
      options_(std::move(options)),
      link_options_{options_.max_requests, options_.max_bytes, options_.connect_timeout, options_.silence,
                    options_.observer},
      stale_set_(env.scheduler),
      asked_(env.scheduler),
      opened_(env.scheduler) {
  CHECK(!options_.seeds.empty());
}

void Client::start(fiber::Scope& scope) {
  CHECK(!scope_);
  scope_ = &scope;
  scope.spawn_daemon("client map", [this] { keep_topology(); });
}

// --- Topology

void Client::keep_topology() {
  Duration interval = kRefreshInterval;
  for (;;) {
    stale_set_.wait_until([this] { return stale_; });
    stale_ = false;
    const bool answered = refresh();
    interval = answered ? kRefreshInterval : std::min(interval * 2, kLongestRefreshInterval);
    stale_ |= !answered;
    asked_once_ = true;
    asked_.notify_all();
    env_.clock.sleep_for(env_.scheduler, interval);
  }
}

bool Client::refresh() {
  std::vector<env::Address> nodes = known_nodes();
  const uint64_t drawn = env_.random.draw(Site::kClientNode, 0, ++refresh_rounds_);
  std::rotate(nodes.begin(), nodes.begin() + static_cast<ptrdiff_t>(drawn % nodes.size()), nodes.end());
  if (home_)  // answered last
    if (auto home = std::find(nodes.begin(), nodes.end(), *home_); home != nodes.end())
      std::rotate(nodes.begin(), home, home + 1);
  if (nodes.size() > kNodesPerRefresh) nodes.resize(kNodesPerRefresh);
  return std::any_of(nodes.begin(), nodes.end(), [this](const env::Address& node) { return refresh_from(node); });
}

bool Client::refresh_from(const env::Address& node) {
  Link* link = link_to(node);
  if (!link) return false;
  ++counters_.refreshes;
  std::string bytes;
  protocol::put_command(bytes, {"CLUSTER", "SLOTS"});
  Request request(env_.scheduler, bytes);
  exchange(*link, request, env_.clock.now() + kRefreshPatience);
  if (request.state != Request::State::kAnswered) return false;
  if (request.reply.starts_with('-')) {
    if (judge(request.reply) != Verdict::kDone) return false;
    topology_ = Topology();  // cluster mode is off
    home_ = node;
    return true;
  }
  auto reply = protocol::parse_reply(request.reply);
  auto learnt = reply ? topology_.learn(*reply, node) : Result<void>(std::unexpected(reply.error()));
  if (!learnt) {
    env::log(env_.trace, env::Level::kWarn, "client", "{}: {}", env::to_string(node), learnt.error().message);
    return false;
  }
  drop_unused_links();
  return true;
}

void Client::refresh_soon() {
  stale_ = true;
  stale_set_.notify_one();
}

void Client::failed(const env::Address& node) {
  if (home_ == node) home_.reset();
  refresh_soon();
}

// --- Nodes

std::vector<env::Address> Client::known_nodes() const {
  std::vector<env::Address> nodes = topology_.nodes();
  for (const env::Address& seed : options_.seeds)
    if (std::find(nodes.begin(), nodes.end(), seed) == nodes.end()) nodes.push_back(seed);
  return nodes;
}

bool Client::is_known(const env::Address& node) const {
  const auto& named = topology_.nodes();
  return std::find(named.begin(), named.end(), node) != named.end() ||
         std::find(options_.seeds.begin(), options_.seeds.end(), node) != options_.seeds.end();
}

bool Client::failing(const env::Address& node) const {
  auto link = links_.find(node);
  return link != links_.end() && link->second->failing();
}

Link* Client::link_to(const env::Address& node) {
  auto known = links_.find(node);
  if (known == links_.end()) {
    if (links_.size() >= kMaxLinks) drop_unused_links();
    if (links_.size() >= kMaxLinks) return nullptr;
    known = links_.emplace(node, std::make_unique<Link>(env_, *scope_, link_options_, node)).first;
  }
  return known->second.get();
}

void Client::exchange(Link& link, Request& request, Instant deadline) {
  auto in_time = fiber::with_deadline(env_.scheduler, env_.clock.timers(), deadline, [&]() -> Result<void> {
    link.exchange(request);
    return {};
  });
  CHECK(!in_time || request.is_settled());
}

void Client::drop_unused_links() {
  for (auto& [node, link] : links_)
    if (!is_known(node)) link->close_if_idle();
  // Those that were closed just now have a fiber still and go next time.
  std::erase_if(links_, [this](auto& item) { return !is_known(item.first) && !item.second->in_use(); });
}

}  // namespace mneme::client
