#include "core/replica/forwarded.h"

#include "tests/unit/replica/support.h"

using namespace mneme;
using namespace mneme::replica;

namespace {

struct Sent {
  Sent(std::vector<std::string_view> words, uint64_t request, NodeId to, GroupId group) {
    args = std::move(words);
    commands.add(*kv::find_command(args[0]), args);
    call.emplace(scheduler, kv::Origin{NodeId(1), Incarnation(7), request}, commands);
    call->forwarded_to = to;
    call->forwarded_in = group;
    call->forwarded_at = Term(4);
  }
  fiber::Scheduler scheduler;
  std::vector<std::string_view> args;
  CommandList commands;
  std::optional<Call> call;
};

TEST_CASE("what went by a connection that broke is settled as soon as nothing more can be learnt", "[replica]") {
  const GroupId here(2), elsewhere(3);
  Forwarded forwarded;
  Sent read({"GET", "k"}, 1, NodeId(2), here);
  Sent write({"SET", "k", "v"}, 2, NodeId(2), here);
  Sent blind({"SET", "k", "v"}, 3, NodeId(2), elsewhere);
  Sent other({"SET", "k", "v"}, 4, NodeId(3), elsewhere);
  Sent later({"SET", "k", "v"}, 5, NodeId(2), here);
  later.call->forwarded_at = Term(5);
  for (Sent* sent : {&read, &write, &blind, &other, &later}) forwarded.watch(*sent->call);

  // The connection holds: another leader's entries say nothing, for the answer comes.
  forwarded.outlived(here, Term(5));
  CHECK(write.call->outcome == Outcome::kPending);

  forwarded.lost(NodeId(2), [&](GroupId group) { return group == here; });
  CHECK(read.call->outcome == Outcome::kNotDone);
  CHECK(blind.call->outcome == Outcome::kUnknown);
  CHECK(other.call->outcome == Outcome::kPending);
  CHECK(write.call->outcome == Outcome::kPending);

  forwarded.outlived(here, Term(4));  // of the leader that was asked
  CHECK(write.call->outcome == Outcome::kPending);
  forwarded.outlived(elsewhere, Term(5));
  CHECK(write.call->outcome == Outcome::kPending);
  forwarded.outlived(here, Term(5));
  CHECK(write.call->outcome == Outcome::kUnknown);
  CHECK(later.call->outcome == Outcome::kPending);  // sent to that very leader

  // What comes to be applied all the same is still an answer for those that wait.
  CHECK(forwarded.find(later.call->origin) == &*later.call);
  CHECK(forwarded.find(write.call->origin) == nullptr);
}

}  // namespace
