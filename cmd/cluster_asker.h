// Asks the nodes of a running cluster what they know, for `mneme cluster`.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/fiber/fiber.h"
#include "core/protocol/reply_reader.h"
#include "net/event_loop.h"
#include "net/tcp.h"

namespace mneme::cmd {

using Json = nlohmann::ordered_json;

class Asker {
 public:
  // `timeout` is for what only looks; what changes something may take longer.
  Asker(fiber::Scheduler& scheduler, net::EventLoop& loop, std::string node, Duration timeout)
      : scheduler_(scheduler), loop_(loop), network_(loop), node_(std::move(node)), timeout_(timeout) {}

  // One command, on a connection of its own, to the node that was named. Suspends. An error that it answers has a code:
  // kInvalid, it makes no sense; kRefused, not as things are; kUnavailable, not now; kTimeout, unknown whether done.
  Result<protocol::Reply> ask(const std::vector<std::string>& command);
  Result<protocol::Reply> change(const std::vector<std::string>& command);
  // MNEME.STATUS of a node, MNEME.MAP.
  Result<Json> status(const std::string& address);
  Result<Json> map();
  // A list of sentences.
  Result<std::vector<std::string>> sentences(const std::vector<std::string>& command);

  const std::string& node() const { return node_; }
  void sleep(Duration duration) { loop_.sleep_for(scheduler_, duration); }
  Instant now() const { return loop_.now(); }

 private:
  Result<protocol::Reply> ask(const std::string& address, const std::vector<std::string>& command, Duration timeout);

  fiber::Scheduler& scheduler_;
  net::EventLoop& loop_;
  net::TcpNetwork network_;
  std::string node_;
  Duration timeout_;
};

// What is known of the whole cluster: what the asked node knows, and what each node says of itself.
struct Survey {
  Json asked;                      // its status
  Json map;                        // null while it is not ready
  std::map<uint64_t, Json> nodes;  // status by id, of all but those removed; one that did not answer has "error"
  std::map<uint64_t, std::map<uint64_t, Json>> groups;  // what the nodes say of their groups, by group and node
  std::vector<std::string> plan;                        // MNEME.PLAN

  // The group in the status of the node that leads it, or null.
  const Json* leader_of(uint64_t group) const;
  // By how many entries that node's replica of the group is behind; 0 where that cannot be said.
  uint64_t behind(uint64_t node, uint64_t group) const;
  const Json* group_on(uint64_t node, uint64_t group) const;
};

Result<Survey> survey(Asker& asker);

// What somebody should look into, a sentence each.
std::vector<std::string> troubles(const Survey& all);

void print(const Survey& all, bool every_shard);
Json to_json(const Survey& all);

}  // namespace mneme::cmd
