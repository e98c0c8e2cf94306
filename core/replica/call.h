// A batch of commands that waits for its outcome, and the three outcomes there are.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/base/ids.h"
#include "core/fiber/sync.h"
#include "core/kv/batch.h"
#include "core/kv/command.h"

namespace mneme::replica {

// The canonical replies of a batch's commands, in their order.
class ReplySet {
 public:
  void add(std::string_view reply) {
    bytes_ += reply;
    ends_.push_back(bytes_.size());
  }
  // Lets the caller append one reply to bytes in place: `fn(std::string&)`.
  template <class F>
  void add_with(F&& fn) {
    fn(bytes_);
    ends_.push_back(bytes_.size());
  }
  size_t size() const { return ends_.size(); }
  std::string_view operator[](size_t i) const {
    size_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(bytes_).substr(begin, ends_[i] - begin);
  }
  const std::string& bytes() const { return bytes_; }
  void clear() {
    bytes_.clear();
    ends_.clear();
  }

 private:
  std::string bytes_;
  std::vector<size_t> ends_;
};

enum class Outcome : uint8_t {
  kPending,
  kDone,     // executed, durably; the replies are there
  kNotDone,  // certainly not executed, now or later; asking again is safe
  kUnknown,  // it may have been executed, or may still be
};

// Commands as views into a buffer that its owner keeps while a call waits.
class CommandList {
 public:
  struct Item {
    const kv::CommandSpec* spec;
    kv::CommandMeta meta;
    size_t first = 0;  // argument
    size_t count = 0;
  };
  void add(const kv::CommandSpec& spec, kv::Args args, const kv::CommandMeta& meta = {}) {
    items_.push_back({&spec, meta, args_.size(), args.size()});
    args_.insert(args_.end(), args.begin(), args.end());
    encoded_bytes_ += kv::BatchBuilder::encoded_size(args);
    if (!spec.is(kv::kRead) || meta.session) writes_ = true;
  }
  const std::vector<Item>& items() const { return items_; }
  kv::Args args(const Item& item) const { return kv::Args(args_).subspan(item.first, item.count); }
  // Something in it must go through the log. Then all of it does, so that each command sees the ones before it.
  bool writes() const { return writes_; }
  bool empty() const { return items_.empty(); }
  size_t encoded_bytes() const { return encoded_bytes_; }
  std::string encode(const kv::BatchHeader& header) const;
  void clear() {
    items_.clear();
    args_.clear();
    writes_ = false;
    encoded_bytes_ = 0;
  }

 private:
  std::vector<Item> items_;
  std::vector<std::string_view> args_;
  bool writes_ = false;
  size_t encoded_bytes_ = 0;
};

// Registers itself where it waits; settled once. Lives on the waiting fiber's stack, and leaves all registers when it
// dies, so that a caller that gives up needs to tell nobody.
class Call {
 public:
  // Where a call is registered: takes it out when the call dies first.
  class Register {
   public:
    virtual void forget(Call& call) = 0;

   protected:
    ~Register() = default;
  };

  Call(fiber::Scheduler& scheduler, const kv::Origin& origin, const CommandList& commands)
      : origin(origin), commands(commands), settled_(scheduler) {}
  ~Call() { leave(); }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  void settle(Outcome how, std::string_view why = {}) {
    if (outcome != Outcome::kPending) return;
    leave();
    outcome = how;
    reason = why;
    settled_.notify_all();
  }
  // Suspends until settled.
  void wait() {
    settled_.wait_until([this] { return outcome != Outcome::kPending; });
  }
  // To be asked again after kNotDone.
  void reset() {
    leave();
    outcome = Outcome::kPending;
    replies.clear();
    reason.clear();
    leader = NodeId();
  }
  void registered(Register& where, uint64_t key_a, uint64_t key_b) {
    where_ = &where;
    this->key_a = key_a;
    this->key_b = key_b;
  }

  const kv::Origin origin;
  const CommandList& commands;
  Epoch epoch;           // of the shard, as whoever routed the batch knew it
  std::string payload;   // already encoded; empty: from `commands`
  NodeId forwarded_to;   // 0: proposed here
  GroupId forwarded_in;  // the group
  Term forwarded_at;     // its term, as far as it was known here
  bool cut_off = false;  // the connection that it went by broke
  Outcome outcome = Outcome::kPending;
  ReplySet replies;
  std::string reason;  // of kNotDone and kUnknown, for the client
  NodeId leader;       // of kNotDone: who leads, as far as whoever was asked knows; 0: not known
  uint64_t key_a = 0;  // the register's
  uint64_t key_b = 0;

 private:
  void leave() {
    if (Register* where = std::exchange(where_, nullptr)) where->forget(*this);
  }
  fiber::Condition settled_;
  Register* where_ = nullptr;
};

}  // namespace mneme::replica
