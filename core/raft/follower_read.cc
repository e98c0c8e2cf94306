// Linearizable reads at followers and learners (thesis 6.4, end): the leader is asked for the index.
//
// All reads asked between two Readys share one request, and the leader answers all requests that come between two of
// its own with one round. A request is never repeated: what is not answered fails, and the caller asks anew, in a new
// request with a new number. So an answer always speaks of a round that began after every read of its request was
// asked (etcd-io/etcd#20418 is what comes of numbers that are used twice). The numbers of a life begin at a random one,
// lest an answer meant for the life before be taken for one's own.
#include <utility>

#include "core/base/hash.h"
#include "core/raft/state.h"

namespace mneme::raft {

bool request_due(const Core& c) { return c.role == Role::kFollower && c.leader && !c.reads_waiting.empty(); }

void send_read_request(Core& c) {
  if (c.read_request == 0) {
    // The time is part of the cause so that the next life, perhaps in the same term, draws another.
    const uint64_t cause = fold(c.hard.term.value, static_cast<uint64_t>(c.now.ns));
    c.read_request = c.chance.draw(Site::kReadRequest, c.config.id.value, cause);
  }
  ++c.read_request;
  c.probes.reached(Probe::follower_read_requested);
  const Instant until = c.now + c.config.election_timeout;
  for (const WaitingRead& read : c.reads_waiting) c.reads_requested.push_back({c.read_request, read.context, until});
  c.reads_waiting.clear();
  Message m = message_to(c, c.leader, MessageType::kReadIndex);
  m.round = c.read_request;
  send_reply(c, std::move(m));
}

Instant read_requests_until(const Core& c) {
  return c.reads_requested.empty() ? kNever : c.reads_requested.front().until;
}

void expire_read_requests(Core& c) {
  size_t late = 0;
  for (; late < c.reads_requested.size() && c.reads_requested[late].until <= c.now; ++late)
    c.out.failed_reads.push_back(c.reads_requested[late].context);
  c.reads_requested.erase(c.reads_requested.begin(), c.reads_requested.begin() + static_cast<ptrdiff_t>(late));
}

void on_read_index(Core& c, const Message& m) {
  Progress* p = c.role == Role::kLeader ? c.peer(m.from) : nullptr;
  if (p && may_wait(c)) {
    p->heard = c.now;
    return wait_or_answer(c, m.from, m.round);
  }
  Message reply = message_to(c, m.from, MessageType::kReadIndexReply);
  reply.round = m.round;
  reply.reject = true;
  send_reply(c, std::move(reply));
}

void on_read_index_reply(Core& c, const Message& m) {
  if (c.role != Role::kFollower || c.leader != m.from) return;
  for (const RequestedRead& read : c.reads_requested) {
    if (read.request != m.round) continue;
    if (m.reject) {
      c.out.failed_reads.push_back(read.context);
    } else {
      c.probes.reached(Probe::follower_read_answered);
      c.out.reads.push_back({read.context, m.commit});
    }
  }
  std::erase_if(c.reads_requested, [&](const RequestedRead& read) { return read.request == m.round; });
}

}  // namespace mneme::raft
