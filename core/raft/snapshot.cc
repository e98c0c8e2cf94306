// Followers that need entries which are gone (Raft 7). The files travel by the owner's hand; here only positions do.
#include <algorithm>
#include <utility>

#include "core/raft/state.h"

namespace mneme::raft {

void send_snapshot(Core& c, Progress& p) {
  // None covers what is gone. It waits for one, and asks at each heartbeat whether the follower got there by itself, as
  // the child of a split does.
  if (c.checkpoint.index < c.log.base().index) {
    p.probe_from(std::max(p.next, c.log.base().index.next()));
    p.paused = true;
    return;
  }
  c.probes.reached(Probe::snapshot_sent);
  Message m = message_to(c, p.id, MessageType::kSnapshot);
  m.log = c.checkpoint;
  m.commit = c.commit;
  m.entries.push_back({c.checkpoint.term, c.checkpoint.index, EntryKind::kConfig,
                       std::make_shared<const std::string>(encode(c.members.at(c.checkpoint.index)))});
  p.send_snapshot(c.checkpoint, c.now);
  send(c, std::move(m));
}

void on_snapshot(Core& c, const Message& m) {
  if (!m.log.index || !m.log.term || m.entries.front().kind != EntryKind::kConfig || !m.entries.front().payload) return;
  auto configuration = decode_configuration(*m.entries.front().payload);
  if (!configuration || !follow(c, m.from)) return;
  if (m.log.index <= c.commit) return acknowledge(c, m, {c.commit, *c.log.term_at(c.commit)});
  if (c.log.holds(m.log)) {
    raise_commit(c, m.log.index);
    return acknowledge(c, m, m.log);
  }
  // Nothing of the log stays: what the snapshot covers is in it, and what is beyond follows a different past.
  if (c.log.last() >= m.log.index) c.probes.reached(Probe::snapshot_over_diverged_log);
  c.probes.reached(Probe::snapshot_installed);
  c.out.configuration = *configuration;
  restart_at(c, m.log, std::move(*configuration));
  c.commit = m.log.index;
  c.commit_handed_out = m.log.index;
  c.checkpoint = m.log;
  c.out.snapshot = m.log;
  acknowledge(c, m, m.log);
}

}  // namespace mneme::raft
