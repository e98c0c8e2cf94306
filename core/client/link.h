// The one connection that a client has with a node, shared by all callers: requests leave in the order in which they
// were handed over, and as many as are waiting leave together; replies come back in that order.
//
// Two fibers, in the client's scope, as long as there is a connection: one connects and reads, the other writes. It is
// made when somebody wants it, and when it breaks nobody makes a new one before somebody wants it again.
//
// What is said of a session belongs to the connection (core/node/resp_session.h), so the writer says it, in the order
// in which things leave: RESUME when the session is another one than before, SEQ before each numbered command. A node
// that refuses a command before looking at it (LOADING, OOM) keeps the number for the next one: RESUME takes it back
// before a command that has none.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>

#include "core/client/session.h"
#include "core/env/env.h"
#include "core/fiber/scope.h"
#include "core/fiber/sync.h"
#include "core/protocol/reply_reader.h"

namespace mneme::client {

class Link;
struct Place;

// One attempt at a command. Lives on its caller's stack; whatever it refers to outlives it. When it goes before it is
// settled, its place among the requests stays and its reply is skipped.
struct Request {
  enum class State : uint8_t {
    kNew,
    kQueued,    // not a byte has left
    kSent,      // some may have
    kAnswered,  // `reply` has come
    kNotSent,   // certainly not executed, `why`
    kLost,      // sent, and no reply will come, `why`
  };

  explicit Request(fiber::Scheduler& scheduler, std::string_view command) : bytes(command), settled(scheduler) {}
  ~Request();
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;
  bool is_settled() const { return state >= State::kAnswered; }
  void settle(State how, std::string_view text);

  std::string_view bytes;            // as it leaves, whole
  const Session* session = nullptr;  // of `number`
  uint64_t number = 0;               // 0: not numbered
  bool asking = false;               // follows -ASK
  uint64_t tag = 0;                  // for the observer

  State state = State::kNew;
  std::string reply;
  std::string why;
  // kLost: the node did not take the number, so it may execute the command without it. It must not be sent again.
  bool number_refused = false;

  fiber::Condition settled;
  Link* link = nullptr;
  std::list<Place>::iterator place;  // in state kQueued and kSent
};

// Where a request stands among those of its connection.
struct Place {
  Request* request;  // null: its caller has gone
  size_t bytes;      // that it counts for
  bool numbered;
  size_t preambles = 0;  // replies that come before its own
};

// Told what leaves, for tests that compare what a client meant with what a node did.
class Observer {
 public:
  virtual ~Observer() = default;
  // An attempt at the call with this tag leaves on the client's end of a stream (env::Stream::id) as the nth command of
  // that stream, from 1. Tag 0: what the client asks for itself.
  virtual void sent(uint64_t tag, uint64_t stream, uint64_t nth) = 0;
};

struct LinkOptions {
  size_t max_requests;  // queued and in flight
  size_t max_bytes;     // of these
  Duration connect_timeout;
  Duration silence;  // how long it may owe replies without a byte coming before it is given up
  Observer* observer;
};

class Link {
 public:
  // All outlive it. Its fibers live in `scope`; it must outlive that.
  Link(Env& env, fiber::Scope& scope, const LinkOptions& options, env::Address address)
      : env_(env),
        scope_(scope),
        options_(options),
        address_(std::move(address)),
        room_(env.scheduler),
        to_write_(env.scheduler) {}
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  // Suspends until the request is settled; for room first, which is the back-pressure. Cancellable: the request's state
  // then tells whether it may have left, as long as it lives.
  void exchange(Request& request);

  const env::Address& address() const { return address_; }
  // Connecting failed a moment ago and is not tried again yet: exchange() settles with kNotSent at once.
  bool failing() const { return env_.clock.now() < not_before_; }
  bool in_use() const { return running_ || users_ > 0; }
  // Ends the connection unless somebody waits for it.
  void close_if_idle();

 private:
  friend struct Request;
  class Connected;

  bool has_room(size_t bytes) const {
    return places() == 0 || (places() < options_.max_requests && bytes_ + bytes <= options_.max_bytes);
  }
  size_t places() const { return queue_.size() + sent_.size(); }
  void enqueue(Request& request);
  void abandon(Request& request);
  void leave(std::list<Place>& list, std::list<Place>::iterator place);

  void run(Connected& connected);
  Result<void> connect_and_serve();
  Result<void> write_all(env::Stream& stream);
  Result<void> read_all(env::Stream& stream);
  void assemble(std::string& out);
  void put_preamble(Place& place, std::string& out);
  Result<size_t> read_some(env::Stream& stream, std::span<uint8_t> into);
  Result<void> take_replies(std::string& buffer);
  Result<void> take(std::string_view reply);
  Result<void> take_preamble(Place& place, std::string_view reply);
  void connecting_failed();
  void drop_all(std::string_view why);

  Env& env_;
  fiber::Scope& scope_;
  const LinkOptions& options_;
  const env::Address address_;

  std::list<Place> queue_;  // not a byte has left
  std::list<Place> sent_;   // in the order of the replies that are to come
  size_t bytes_ = 0;        // of both
  size_t users_ = 0;        // calls of exchange()
  fiber::Condition room_;
  fiber::Condition to_write_;

  bool running_ = false;
  env::Stream* stream_ = nullptr;
  uint64_t failures_ = 0;  // to connect, in a row
  Instant not_before_{INT64_MIN};
  std::string last_failure_;

  // Of the present connection.
  protocol::ReplyParser parser_;
  SessionId resumed_;             // the session that it is bound to
  bool number_may_wait_ = false;  // the last command that left had a number, which the node may not have used
  bool answered_ = false;
  bool nothing_executed_ = false;  // it was turned away
  uint64_t commands_sent_ = 0;
  Instant heard_at_;  // or nothing was owed until then
};

}  // namespace mneme::client
