#include "cmd/cluster_asker.h"

#include <algorithm>

#include "core/fiber/scope.h"
#include "core/protocol/request.h"

namespace mneme::cmd {

namespace {

constexpr Duration kChangePatience{15s};  // a node waits for a leader of the meta group for some seconds

// "REFUSED slot 7 ..." without its first word, which says the kind.
Error error_of(const std::string& text) {
  const size_t blank = std::min(text.find(' '), text.size());
  const std::string_view kind = std::string_view(text).substr(0, blank);
  std::string sentence = text.substr(std::min(blank + 1, text.size()));
  if (kind == "REFUSED") return {ErrorCode::kRefused, std::move(sentence)};
  if (kind == "CLUSTERDOWN" || kind == "LOADING") return {ErrorCode::kUnavailable, std::move(sentence)};
  if (kind == "UNCERTAIN") return {ErrorCode::kTimeout, std::move(sentence)};
  if (kind == "ERR") return {ErrorCode::kInvalid, std::move(sentence)};
  return {ErrorCode::kInvalid, text};
}

}  // namespace

Result<protocol::Reply> Asker::ask(const std::string& address, const std::vector<std::string>& command,
                                   Duration timeout) {
  return fiber::with_deadline(scheduler_, loop_.timers(), loop_.now() + timeout, [&]() -> Result<protocol::Reply> {
    auto stream = TRY(network_.connect(TRY(env::parse_address(address))));
    const std::vector<std::string_view> words(command.begin(), command.end());
    std::string request;
    protocol::put_command(request, words);
    TRY(stream->write(as_bytes(request)));
    protocol::ReplyParser parser;
    std::string buffer;
    for (;;) {
      auto step = parser.next(buffer);
      if (step.progress == protocol::Progress::kError) return std::unexpected(std::move(step.error));
      if (step.progress == protocol::Progress::kDone) {
        auto reply = TRY(protocol::parse_reply(std::string_view(buffer).substr(0, step.length)));
        if (reply.kind == protocol::Reply::Kind::kError) return std::unexpected(error_of(reply.text));
        return reply;
      }
      uint8_t chunk[16384];
      const size_t got = TRY(stream->read(chunk));
      if (got == 0) return fail(ErrorCode::kClosed, "the node closed the connection without an answer");
      buffer.append(reinterpret_cast<const char*>(chunk), got);
    }
  });
}

Result<protocol::Reply> Asker::ask(const std::vector<std::string>& command) { return ask(node_, command, timeout_); }

Result<protocol::Reply> Asker::change(const std::vector<std::string>& command) {
  auto reply = ask(node_, command, std::max(timeout_, kChangePatience));
  if (!reply && (reply.error().code == ErrorCode::kClosed || reply.error().code == ErrorCode::kTimeout))
    return fail(ErrorCode::kTimeout, fmt::format("it is not known whether this was done: {}; asking again is harmless",
                                                 reply.error().message));
  return reply;
}

Result<Json> Asker::status(const std::string& address) {
  auto reply = ask(address, {"MNEME.STATUS"}, timeout_);
  if (!reply && reply.error().code != ErrorCode::kInvalid) return std::unexpected(reply.error());
  auto status = reply ? Json::parse(reply->text, nullptr, false) : Json();
  if (!status.is_object() || !status.contains("map_version"))
    return fail(ErrorCode::kUnsupported, "this is no node of Mneme, or one of another version");
  return status;
}

Result<Json> Asker::map() {
  auto map = Json::parse(TRY(ask({"MNEME.MAP"})).text, nullptr, false);
  if (!map.is_object() || !map.contains("shards"))
    return fail(ErrorCode::kUnsupported, "this is no node of Mneme, or one of another version");
  return map;
}

Result<std::vector<std::string>> Asker::sentences(const std::vector<std::string>& command) {
  std::vector<std::string> sentences;
  for (protocol::Reply& one : TRY(change(command)).elements) sentences.push_back(std::move(one.text));
  return sentences;
}

const Json* Survey::group_on(uint64_t node, uint64_t group) const {
  const auto found = groups.find(group);
  if (found == groups.end()) return nullptr;
  const auto one = found->second.find(node);
  return one == found->second.end() ? nullptr : &one->second;
}

const Json* Survey::leader_of(uint64_t group) const {
  const auto found = groups.find(group);
  if (found == groups.end()) return nullptr;
  const Json* newest = nullptr;
  for (const auto& [node, one] : found->second)
    if (one["role"] == "leader" && (!newest || one["term"] > (*newest)["term"])) newest = &one;
  return newest;
}

uint64_t Survey::behind(uint64_t node, uint64_t group) const {
  const Json* leader = leader_of(group);
  const Json* one = group_on(node, group);
  if (!leader || !one) return 0;
  const uint64_t commit = (*leader)["commit"];
  return commit - std::min<uint64_t>(commit, (*one)["applied"]);
}

Result<Survey> survey(Asker& asker) {
  Survey all;
  all.asked = TRY(asker.status(asker.node()));
  if (!all.asked["ready"]) return all;
  all.map = TRY(asker.map());
  for (const Json& node : all.map["nodes"]) {
    if (node["state"] == "removed") continue;
    const uint64_t id = node["id"];
    if (all.asked["node"] == id) {
      all.nodes[id] = all.asked;
      continue;
    }
    auto status = asker.status(node["address"]);
    if (status && (*status)["incarnation"] == node["incarnation"])
      all.nodes[id] = std::move(*status);
    else if (status)
      all.nodes[id] = Json{{"error", fmt::format("at {} is another node, with another data directory",
                                                 node["address"].get<std::string>())}};
    else
      all.nodes[id] = Json{{"error", status.error().message}};
  }
  for (const auto& [id, node] : all.nodes)
    for (const Json& group : node.value("groups", Json::array())) all.groups[group["group"]][id] = group;
  if (auto plan = asker.sentences({"MNEME.PLAN"})) all.plan = std::move(*plan);
  return all;
}

}  // namespace mneme::cmd
