#include "core/kv/session.h"

#include <algorithm>

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/kv/command.h"

namespace mneme::kv {

namespace {

// Part of the checkpoint format, as the seeds in table.cc.
constexpr uint64_t kSessionSeed = 0x6d6e656d652e7331;
constexpr uint64_t kReplySeed = 0x6d6e656d652e7031;
// What the containers around a reply take, roughly.
constexpr size_t kReplyOverhead = 96;

uint64_t hash_words(std::initializer_list<uint64_t> words, uint64_t seed) {
  return xxh3(ByteView(reinterpret_cast<const uint8_t*>(words.begin()), words.size() * sizeof(uint64_t)), seed);
}

uint64_t digest_of_reply(const KeptReplies& kept) {
  return hash_words({kept.sequence, kept.slot, xxh3(kept.replies, kReplySeed)}, kReplySeed);
}

size_t bytes_of_reply(const KeptReplies& kept) { return kept.replies.size() + kReplyOverhead; }

bool idle_too_long(int64_t last_used_ms, int64_t now_ms) { return now_ms - last_used_ms >= kSessionIdleMs; }

}  // namespace

uint64_t SessionTable::digest_of(uint64_t id, const Session& s) {
  return hash_words({id, static_cast<uint64_t>(s.last_used_ms), s.acknowledged, s.kept_digest, s.kept.size()},
                    kSessionSeed);
}

void SessionTable::before_change(uint64_t id, const Session* session) {
  if (observer_ != nullptr) observer_->before_change(SessionId(id), session);
}

size_t SessionTable::open(SessionId id, int64_t now_ms) {
  size_t removed = 0;
  while (sessions_.size() >= limits::kMaxSessions) {
    remove(sessions_.find(by_use_.begin()->second));
    ++removed;
  }
  before_change(id.value, nullptr);
  auto [at, added] = sessions_.try_emplace(id.value);
  CHECK(added);
  at->second.last_used_ms = now_ms;
  by_use_.emplace(now_ms, id.value);
  digest_ += digest_of(id.value, at->second);
  bytes_used_ += kSessionBytes;
  return removed;
}

void SessionTable::remove(Sessions::iterator at) {
  const Session& session = at->second;
  before_change(at->first, &session);
  forgotten_ = std::max(forgotten_, SessionId(at->first));
  digest_ -= digest_of(at->first, session);
  bytes_used_ -= kSessionBytes + session.kept_bytes;
  by_use_.erase({session.last_used_ms, at->first});
  sessions_.erase(at);
}

Session* SessionTable::find(SessionId id, int64_t now_ms) {
  auto at = sessions_.find(id.value);
  return at == sessions_.end() || idle_too_long(at->second.last_used_ms, now_ms) ? nullptr : &at->second;
}

bool SessionTable::use(SessionId id, int64_t now_ms) {
  Session* session = find(id, now_ms);
  if (session == nullptr) return false;
  note_use(id, *session, 0, now_ms);
  return true;
}

bool SessionTable::close(SessionId id, int64_t now_ms) {
  if (find(id, now_ms) == nullptr) return false;
  remove(sessions_.find(id.value));
  return true;
}

// The digest is the caller's business.
void SessionTable::touch(uint64_t id, Session& session, int64_t now_ms) {
  if (session.last_used_ms == now_ms) return;
  auto node = by_use_.extract({session.last_used_ms, id});
  node.value().first = now_ms;
  by_use_.insert(std::move(node));
  session.last_used_ms = now_ms;
}

void SessionTable::note_use(SessionId id, Session& session, uint64_t ack, int64_t now_ms) {
  if (session.last_used_ms == now_ms && ack <= session.acknowledged) return;
  before_change(id.value, &session);
  digest_ -= digest_of(id.value, session);
  touch(id.value, session, now_ms);
  acknowledge(session, ack);
  digest_ += digest_of(id.value, session);
}

// From the sums only.
void SessionTable::drop_reply(Session& session, const KeptReplies& kept) {
  session.kept_digest -= digest_of_reply(kept);
  session.kept_bytes -= bytes_of_reply(kept);
  bytes_used_ -= bytes_of_reply(kept);
}

void SessionTable::acknowledge(Session& session, uint64_t ack) {
  if (ack <= session.acknowledged) return;
  session.acknowledged = ack;
  auto end = std::find_if(session.kept.begin(), session.kept.end(),
                          [&](const KeptReplies& kept) { return kept.sequence > ack; });
  for (auto kept = session.kept.begin(); kept != end; ++kept) drop_reply(session, *kept);
  session.kept.erase(session.kept.begin(), end);
}

namespace {

std::vector<KeptReplies>::iterator place_of(Session& session, uint64_t sequence, uint16_t slot) {
  return std::lower_bound(session.kept.begin(), session.kept.end(), std::pair(sequence, slot),
                          [](const KeptReplies& kept, const std::pair<uint64_t, uint16_t>& place) {
                            return std::pair(kept.sequence, kept.slot) < place;
                          });
}

}  // namespace

SessionTable::Admission SessionTable::admit(SessionId id, uint64_t sequence, uint16_t slot, uint64_t ack,
                                            int64_t now_ms) {
  Session* session = find(id, now_ms);
  if (session == nullptr) return {Verdict::kUnknown};
  note_use(id, *session, ack, now_ms);
  if (sequence <= session->acknowledged) return {Verdict::kAcknowledged};
  auto at = place_of(*session, sequence, slot);
  if (at != session->kept.end() && at->sequence == sequence && at->slot == slot) return {Verdict::kRepeat, &*at};
  bool full = session->kept.size() >= limits::kMaxSessionReplies || session->kept_bytes >= kMaxSessionBytes;
  return {full ? Verdict::kFull : Verdict::kExecute};
}

void SessionTable::insert_reply(Session& session, std::vector<KeptReplies>::iterator at, KeptReplies kept) {
  kept.replies.shrink_to_fit();
  session.kept_digest += digest_of_reply(kept);
  session.kept_bytes += bytes_of_reply(kept);
  bytes_used_ += bytes_of_reply(kept);
  session.kept.insert(at, std::move(kept));
}

void SessionTable::keep(SessionId id, uint64_t sequence, uint16_t slot, std::string replies) {
  auto found = sessions_.find(id.value);
  if (found == sessions_.end()) return;
  Session& session = found->second;
  before_change(id.value, &session);
  digest_ -= digest_of(id.value, session);
  insert_reply(session, place_of(session, sequence, slot), {sequence, slot, std::move(replies)});
  digest_ += digest_of(id.value, session);
}

size_t SessionTable::sweep(int64_t now_ms, size_t max_removed) {
  size_t removed = 0;
  while (removed < max_removed && !by_use_.empty() && idle_too_long(by_use_.begin()->first, now_ms)) {
    remove(sessions_.find(by_use_.begin()->second));
    ++removed;
  }
  return removed;
}

bool SessionTable::sweep_pending(int64_t now_ms) const {
  return !by_use_.empty() && idle_too_long(by_use_.begin()->first, now_ms);
}

void SessionTable::split(uint16_t at, SessionTable& to) {
  CHECK(to.sessions_.empty());
  auto moves = [at](const KeptReplies& kept) { return kept.slot >= at && kept.slot != kNoSlot; };
  to.by_use_ = by_use_;
  to.forgotten_ = forgotten_;
  for (auto& [id, session] : sessions_) {
    Session& copy = to.sessions_.emplace_hint(to.sessions_.end(), id, Session())->second;
    copy.last_used_ms = session.last_used_ms;
    copy.acknowledged = session.acknowledged;
    bool some_move = false;
    for (const KeptReplies& kept : session.kept) {
      some_move |= moves(kept);
      if (moves(kept) || kept.slot == kNoSlot) to.insert_reply(copy, copy.kept.end(), kept);
    }
    to.digest_ += digest_of(id, copy);
    to.bytes_used_ += kSessionBytes;
    if (!some_move) continue;
    before_change(id, &session);
    digest_ -= digest_of(id, session);
    for (const KeptReplies& kept : session.kept) {
      if (moves(kept)) drop_reply(session, kept);
    }
    std::erase_if(session.kept, moves);
    digest_ += digest_of(id, session);
  }
}

bool SessionTable::restore(SessionId id, int64_t last_used_ms, uint64_t acknowledged) {
  if (sessions_.size() >= limits::kMaxSessions || !id || last_used_ms < 0) return false;
  if (!sessions_.empty() && id.value <= sessions_.rbegin()->first) return false;
  Session& session = sessions_[id.value];
  session.last_used_ms = last_used_ms;
  session.acknowledged = acknowledged;
  by_use_.emplace(last_used_ms, id.value);
  digest_ += digest_of(id.value, session);
  bytes_used_ += kSessionBytes;
  return true;
}

bool SessionTable::restore_reply(uint64_t sequence, uint16_t slot, std::string replies) {
  if (sessions_.empty() || replies.size() > kMaxKeptBytes) return false;
  auto& [id, session] = *sessions_.rbegin();
  if (sequence <= session.acknowledged || session.kept.size() >= limits::kMaxSessionReplies) return false;
  if (!session.kept.empty()) {
    const KeptReplies& last = session.kept.back();
    if (std::pair(last.sequence, last.slot) >= std::pair(sequence, slot)) return false;
  }
  digest_ -= digest_of(id, session);
  insert_reply(session, session.kept.end(), {sequence, slot, std::move(replies)});
  digest_ += digest_of(id, session);
  return true;
}

}  // namespace mneme::kv
