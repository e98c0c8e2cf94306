// Runs a script of commands on a small group of Rafts and writes down everything that they do.
//
// Nothing happens by itself: messages wait on their link until they are delivered, time stands still until it is
// advanced, and with `disk N manual` what a replica wants to store waits too. Commands:
//
//   cluster N [OPTION...]                        a group of N replicas that have never run; options: append-bytes=B,
//                                                inflight=K, generation=G, may-rest, follower-reads, lease=MS,
//                                                drift=PPM
//   campaign N                                   election timeout of N
//   revoke N                                     the owner of leader N takes its lease away
//   wake N                                       the owner of N says that somebody is missing
//   elect N                                      campaign and deliver, told in one line
//   run 1s                                       everything goes its way so long, told by what becomes of each
//   advance 300ms [N...]                         clocks of all replicas, or of some, go on; what is due is done
//   deliver [A->B [COUNT]]                       everything that is on the way and what follows from it; or one link's
//   drop [A->B [COUNT]]                          loses it
//   repeat A->B                                  the next message of a link is there twice
//   swap A->B                                    the next two messages of a link change places
//   hold A->B | release A->B                     `deliver` without a link leaves a held one alone
//   isolate N | heal                             nothing gets to or from N from now on
//   propose N TEXT | read N CONTEXT
//   disk N manual|auto | persist N [COUNT]       store what waits, or only the first COUNT Readys of it
//   crash N | restart N [suspect] [lose=COUNT] [term=T]   the disk comes back without its last entries, and at that
//                                                term; unless it is suspect, without its knowledge
//   checkpoint N [INDEX] | compact N INDEX       a checkpoint at what is applied; the log forgets up to there
//   unreachable N PEER | snapshot-failed N PEER
//   leader-gone N                                the process that N's leader ran in
//   join N GENERATION                            a new replica on node N, with an empty disk, that knows of no group
//   add N NODE... | promote N NODE... | remove N NODE...   leader N begins a change of membership
//   transfer N TO
//   log [N...] | state [N...]
#pragma once

#include <deque>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/unit/raft/replica.h"

namespace mneme::raft {

class Script : private Chance, private Probes {
 public:
  // The text that belongs after the command, in lines.
  std::string run(const std::string& command);

 private:
  using Link = std::pair<uint64_t, uint64_t>;

  uint64_t draw(Site site, uint64_t a, uint64_t b) override;
  bool rarely(Site, uint64_t) override { return false; }
  void reached(Probe probe) override;

  void execute(const std::string& verb, std::istringstream& rest);
  void cluster(std::istringstream& rest);
  void advance(std::istringstream& rest);
  void run_for(std::istringstream& rest);
  void deliver_all();
  bool deliver_one(Link link);
  void persist(uint64_t n, size_t count);
  void restart(std::istringstream& rest);
  void join(uint64_t n, std::istringstream& rest);
  ReplicaId named(uint64_t n);  // the replica on that node
  void show_log(uint64_t n);
  void show_state(uint64_t n);
  void settle(uint64_t n);
  void check(TestReplica& r);
  void take(uint64_t n, Ready ready);
  void send(Message m);
  void print(const std::string& line);
  TestReplica& replica(uint64_t n);
  TestReplica& running(uint64_t n);

  std::vector<TestReplica> replicas_;
  std::vector<std::string> shown_;  // how each replica last described its role
  std::set<uint64_t> manual_;
  std::set<uint64_t> isolated_;
  std::set<Link> held_;
  std::map<Link, std::deque<Message>> network_;
  ClusterInvariants cluster_;
  std::string output_;
  uint32_t generation_ = 0;  // the last that was given to a replica
  std::string acting_;       // who acts, for probes
};

}  // namespace mneme::raft
