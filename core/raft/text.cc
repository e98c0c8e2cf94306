#include "core/raft/text.h"

#include <fmt/format.h>

#include "core/raft/raft.h"

namespace mneme::raft {

std::string text_of(const LogPosition& p) { return fmt::format("{}/{}", p.index.value, p.term.value); }

std::string text_of(ReplicaId id) {
  return id.generation() == 0 ? fmt::format("{}", id.node().value)
                              : fmt::format("{}.{}", id.node().value, id.generation());
}

std::string text_of(const Configuration& configuration) {
  auto list = [](std::string_view name, const std::vector<ReplicaId>& ids) {
    std::string text;
    for (ReplicaId id : ids) text += fmt::format("{}{}", text.empty() ? "" : ",", text_of(id));
    return ids.empty() ? text : fmt::format(" {} {}", name, text);
  };
  std::string text = list("voters", configuration.voters) + list("outgoing", configuration.outgoing) +
                     list("learners", configuration.learners);
  return text.empty() ? "nobody" : text.substr(1);
}

std::string head_of(const Message& m) {
  std::string text = fmt::format("{}->{} {} term {}", text_of(m.from), text_of(m.to), name_of(m.type), m.term.value);
  if (m.reject) text += " rejected";
  if (m.suspect) text += " suspect";
  if (m.transfer) text += " transfer";
  switch (m.type) {
    case MessageType::kPreVote:
    case MessageType::kVote: text += " last " + text_of(m.log); break;
    case MessageType::kAppend: text += fmt::format(" after {} commit {}", text_of(m.log), m.commit.value); break;
    case MessageType::kAppendReply:
      text += " " + text_of(m.log);
      if (m.reject) text += " hint " + text_of(m.hint);
      break;
    case MessageType::kHeartbeat:
      text += fmt::format(" commit {} round {}", m.commit.value, m.round);
      if (m.rest) text += " rest at " + text_of(m.log);
      break;
    case MessageType::kHeartbeatReply: text += fmt::format(" round {}", m.round); break;
    case MessageType::kSnapshot: text += " at " + text_of(m.log); break;
    case MessageType::kRestore:
    case MessageType::kRestoreReply: text += fmt::format(" last {} nonce {}", text_of(m.log), m.round); break;
    case MessageType::kReadIndex: text += fmt::format(" request {}", m.round); break;
    case MessageType::kReadIndexReply:
      text += fmt::format(" request {}", m.round);
      if (!m.reject) text += fmt::format(" at {}", m.commit.value);
      break;
    case MessageType::kPreVoteReply:
    case MessageType::kVoteReply:
    case MessageType::kTimeoutNow: break;
  }
  return text;
}

std::string text_of(const Message& m) {
  std::string text = head_of(m);
  if (m.entries.empty()) return text;
  const Entry& first = m.entries.front();
  const Entry& last = m.entries.back();
  text += " entries " + text_of(LogPosition{first.index, first.term});
  if (m.entries.size() > 1) text += " to " + text_of(LogPosition{last.index, last.term});
  return text;
}

}  // namespace mneme::raft
