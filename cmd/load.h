// A load generator: raw connections that send preformatted requests and count the replies.
//
// Light, so that on a small machine what is measured is the server: a fiber per connection, one write and as few reads
// as it takes for each round of `pipeline` requests, no allocation per request, and replies are only told apart, not
// read. A request's latency is the time from the write of its round to the read that brought its reply.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/histogram.h"
#include "core/env/network.h"
#include "core/fiber/scope.h"
#include "net/event_loop.h"
#include "net/tcp.h"

namespace mneme::cmd {

struct LoadPlan {
  std::vector<env::Address> nodes;  // connections are spread over them
  bool cluster = false;             // each key goes to the node that CLUSTER SLOTS names; `nodes` are whom to ask
  size_t connections = 50;
  size_t pipeline = 1;
  uint64_t requests = 0;  // in all; 0: until `time` has passed
  Duration time{0};
  size_t value_bytes = 100;
  uint32_t keys = 100'000;  // key:000000000000 and up, drawn evenly
  uint32_t sets = 1, gets = 0;
};

struct LoadReport {
  uint64_t replies = 0;                    // error replies too
  std::map<std::string, uint64_t> errors;  // by the first word of an error reply, at most kMaxErrorWords
  uint64_t lost_connections = 0;
  std::string why_lost;  // the first of them
  Duration took{0};
  Histogram latency;

  uint64_t error_replies() const;
};

// Tells the replies to SET and GET apart, in RESP2, in whatever pieces they arrive.
class ReplyCounter {
 public:
  static constexpr size_t kMaxErrorWord = 24;  // longer ones are cut off

  // How many replies end in `bytes`. Calls error(word) for each that is an error. After what is no such reply, broken()
  // holds and nothing more may be counted.
  template <class F>
  uint64_t count(std::string_view bytes, F&& error);
  bool broken() const { return broken_; }

 private:
  enum class Part : uint8_t { kType, kLine, kRest };
  bool end_line();

  Part part_ = Part::kType;
  char type_ = 0;
  bool broken_ = false;
  uint64_t rest_ = 0;  // kRest: bytes of a bulk string still to come, its CR LF included
  size_t line_size_ = 0;
  char line_[kMaxErrorWord];
};

class Load {
 public:
  static constexpr size_t kMaxErrorWords = 64;

  // All outlive it.
  Load(net::EventLoop& loop, const LoadPlan& plan) : loop_(loop), network_(loop), plan_(plan) {}

  // Connects, sends, and waits for the last replies; at most kPatience longer than planned. An error: it could not
  // begin. Suspends.
  Result<void> run();
  // Sends no more: run() returns when what is out is answered. Callable from anywhere on the loop's thread.
  void stop() { stopped_ = true; }
  bool begun() const { return begun_; }

  const LoadReport& report() const { return report_; }
  // From the first request to now, or to the end.
  Duration elapsed() const { return ended_ ? report_.took : begun_ ? loop_.now() - begin_ : Duration(0); }

 private:
  struct Connection {
    std::unique_ptr<env::Stream> stream;
    const std::vector<uint32_t>* keys = nullptr;  // those of its node; null: all
    uint64_t random = 0;
  };
  Result<void> find_owners();
  Result<void> connect();
  Result<void> drive(Connection& connection);
  size_t take_round();
  void put_round(Connection& connection, size_t requests, std::string& out);
  void count_error(std::string_view word);

  net::EventLoop& loop_;
  net::TcpNetwork network_;
  const LoadPlan& plan_;
  std::vector<env::Address> nodes_;
  std::vector<std::vector<uint32_t>> keys_of_;  // by node, with plan_.cluster
  std::vector<Connection> connections_;
  std::string set_, get_;  // requests with room for the key's digits
  LoadReport report_;
  uint64_t sent_ = 0;
  bool stopped_ = false;
  bool begun_ = false;
  bool ended_ = false;
  Instant begin_;
  Instant until_ = kNever;
};

}  // namespace mneme::cmd
