// Serves one Redis client: reads what it sends, executes it in order, answers in order.
//
// One fiber. It reads whatever has arrived, up to a bound; the commands in it become one batch, of which each shard
// gets its part: one of reads only is answered from the shard's state, the leader's or, after READONLY, a follower's
// here; any other goes through the shard's log as one entry, reads included, so that each command sees the ones before
// it. While the batch is on its way nothing more is read, which is the back-pressure on clients that send faster than
// they are served; a client that does not read its answers stops being read from.
//
// Transactions are queued here and travel in one batch, flagged. A session (SESSION RESUME) and a number for the next
// command or transaction (SESSION SEQ) belong to the connection.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "core/node/server.h"
#include "core/protocol/request.h"

namespace mneme::node {

class RespSession {
 public:
  // `first`: what was read of the stream already.
  RespSession(Server& server, Client& client, env::Stream& stream, std::string first)
      : server_(server), client_(client), stream_(stream), buffer_(std::move(first)) {}

  // Suspends until the client leaves, or is sent away.
  void run();

 private:
  // What answers one command: bytes made here, or the replies of commands in the batch.
  struct Slot {
    enum class Kind : uint8_t { kLocal, kBatch, kTransaction } kind;
    int protocol;
    uint64_t nth;  // command of the connection, from 1
    bool silent = false;
    size_t begin = 0;  // kLocal: in local_; otherwise: command in the batch
    size_t end = 0;
    std::vector<int>
        parts;  // kTransaction: for each of its commands, -1: from the batch, else the index in local_parts_
  };
  struct Queued {
    const kv::CommandSpec* spec;
    std::vector<std::string> args;
  };
  enum class Mode : uint8_t { kPlain, kQueueing, kAborted };

  bool fill_batch();  // parses what is there; false: the connection ends after the answers
  void take(kv::Args args);
  void take_command(kv::Args args);
  void take_data(const kv::CommandSpec& spec, kv::Args args);
  void queue(const kv::CommandSpec& spec, kv::Args args);
  void exec();
  void session(const kv::CommandSpec& spec, kv::Args args);
  void resume(SessionId session);
  void ask_registry();
  void note_resumed();
  void add_command(const kv::CommandSpec& spec, kv::Args args, const kv::CommandMeta& meta);
  size_t expected_reply_bytes(const kv::CommandSpec& spec, kv::Args args) const;
  size_t shards() const;
  std::optional<std::string> redirect(const kv::CommandSpec& spec, kv::Args args) const;
  bool refuse_for_memory(const kv::CommandSpec& spec, kv::Args args);
  template <class F>
  void answer(F&& fn);  // fn(std::string&) appends one canonical reply
  void answer_error(std::string_view text);
  kv::CommandMeta next_meta();
  void leave_transaction();
  void execute_batch();
  void assemble();
  // Of a command in the batch that was not done, what the client is told; otherwise nothing.
  std::string failure(size_t command);
  void count_error(std::string_view reply);

  Server& server_;
  Client& client_;
  env::Stream& stream_;
  protocol::RequestParser parser_;
  std::string buffer_;
  size_t used_ = 0;
  size_t need_ = 1;

  std::vector<Slot> slots_;
  std::string local_;
  replica::CommandList commands_;
  Answers answers_;
  std::vector<uint64_t> nth_;       // of each command in the batch; for the observer
  size_t reply_bytes_ = 0;          // of the batch's replies, a guess
  std::deque<std::string> copies_;  // arguments that do not lie in the read buffer
  std::string out_;
  bool closing_ = false;
  bool silent_ = false;     // CLIENT REPLY OFF
  bool skip_next_ = false;  // CLIENT REPLY SKIP

  Mode mode_ = Mode::kPlain;
  std::vector<Queued> queued_;
  size_t queued_bytes_ = 0;
  uint16_t transaction_slot_ = kv::kNoSlot;

  SessionId session_;
  std::string session_failure_;  // why it was not resumed; empty: it was
  Instant touched_at_;           // when the registry was last asked
  bool resuming_ = false;        // by the last command of the batch
  uint64_t sequence_ = 0;        // of the next command; 0: none
  uint64_t ack_ = 0;
  bool numbering_ = false;  // the command being taken is about the session
};

}  // namespace mneme::node
