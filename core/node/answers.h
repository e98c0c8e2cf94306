// What became of each command of a client's batch: its outcome, and its reply, or why there is none.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "core/replica/call.h"

namespace mneme::node {

class Answers {
 public:
  void reset(size_t commands) {
    commands_.assign(commands, {});
    sets_.clear();
    texts_.clear();
  }
  void grow(size_t commands) { commands_.resize(commands); }
  size_t size() const { return commands_.size(); }
  replica::Outcome outcome(size_t command) const { return commands_[command].outcome; }
  // kDone: the canonical reply; otherwise a sentence. Valid until reset().
  std::string_view text(size_t command) const {
    const One& one = commands_[command];
    return one.set ? (*one.set)[one.place] : one.text;
  }

  // The replies of a batch in which `commands[i]` was the ith.
  void done(const std::vector<size_t>& commands, replica::ReplySet replies) {
    const replica::ReplySet& set = sets_.emplace_back(std::move(replies));
    for (size_t i = 0; i < commands.size(); ++i) commands_[commands[i]] = {replica::Outcome::kDone, &set, i, {}};
  }
  void not_done(const std::vector<size_t>& commands, replica::Outcome outcome, std::string_view reason) {
    const std::string& text = texts_.emplace_back(reason);
    for (size_t command : commands) commands_[command] = {outcome, nullptr, 0, text};
  }
  void done(size_t command, std::string reply) {
    commands_[command] = {replica::Outcome::kDone, nullptr, 0, texts_.emplace_back(std::move(reply))};
  }

 private:
  struct One {
    replica::Outcome outcome = replica::Outcome::kPending;
    const replica::ReplySet* set = nullptr;
    size_t place = 0;
    std::string_view text;
  };
  std::vector<One> commands_;
  std::deque<replica::ReplySet> sets_;  // whose elements stay where they are
  std::deque<std::string> texts_;
};

}  // namespace mneme::node
