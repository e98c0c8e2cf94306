// Sessions: replies kept so that a command sent again is answered again instead of executed again (Raft thesis 6.3).
//
// A client opens a session, numbers its commands, and says with each up to which number it has its replies (ack). All
// replies above that mark are kept, by (sequence, slot), not only the highest: a client that pipelines may retry any of
// them, in any order. A transaction is one number and keeps the replies of all its commands.
//
// Over several groups. A session is opened in one group, the registry, whose ids ascend. In a shard it begins to exist
// when a command first comes in it. That must never happen to a session that the shard once had: its replies are gone,
// and a command that was executed would be executed again. So the table remembers `forgotten`, the highest id that it
// ever removed for any reason: idle, evicted or closed. Every id that it removed is at or below it, so one above it
// that is not in the table was never here, and nothing in it was executed here: to begin with no replies is right. One
// at or below it is refused, though it may never have been here either: that is the price, for a session that is first
// used in a shard after a younger one was forgotten there. Its client opens another. A split copies the table with
// `forgotten`, and whatever either half executed before is answered from the copy.
//
// Replicated state: everything here is a function of the log alone. Bounded three ways: at most limits::kMaxSessions,
// the least recently used (by log time, ties by id) making room; at most limits::kMaxSessionReplies and
// kMaxSessionBytes of replies in one, beyond which its commands are refused until the client acknowledges some; and a
// session unused for kSessionIdleMs of log time is gone. As with keys, a session that is due is gone for everybody at
// once and removed a few per entry.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/ids.h"
#include "core/base/limits.h"

namespace mneme::kv {

inline constexpr int64_t kSessionIdleMs = 60 * 60 * 1000;
inline constexpr size_t kMaxSessionBytes = 16 * limits::kMiB;
// A longer answer is not kept; who asks again is told so. Room for GETSET of the largest value.
inline constexpr size_t kMaxKeptBytes = limits::kMaxValueBytes + 64;

// What a session counts for in bytes_used(), without its replies.
inline constexpr size_t kSessionBytes = 256;

// What one number was answered: the canonical replies of a command or of a transaction's commands, each preceded by its
// 4-byte length.
struct KeptReplies {
  uint64_t sequence = 0;
  uint16_t slot = 0;
  std::string replies;
};

struct Session {
  int64_t last_used_ms = 0;
  uint64_t acknowledged = 0;      // the low-water mark: nothing up to it is kept or accepted any more
  std::vector<KeptReplies> kept;  // by (sequence, slot)
  uint64_t kept_digest = 0;       // sum over `kept`
  size_t kept_bytes = 0;
};

// Told of every change to a session before it happens, with the session as it is, or null when it is about to be added.
class SessionObserver {
 public:
  virtual ~SessionObserver() = default;
  virtual void before_change(SessionId id, const Session* session) = 0;
};

class SessionTable {
 public:
  // Whether session `id` was certainly never in this table.
  bool never_seen(SessionId id) const { return id > forgotten_ && !sessions_.contains(id.value); }
  SessionId forgotten() const { return forgotten_; }  // 0: none
  // Opens session `id`, which is not there. Returns how many others had to go to make room.
  size_t open(SessionId id, int64_t now_ms);
  // False when there is no such session.
  bool close(SessionId id, int64_t now_ms);

  // Marks the session as used now. False when there is no such session.
  bool use(SessionId id, int64_t now_ms);

  enum class Verdict { kExecute, kRepeat, kUnknown, kAcknowledged, kFull };
  struct Admission {
    Verdict verdict;
    const KeptReplies* kept = nullptr;  // kRepeat: what to answer; until the table changes
  };
  // Takes note of the ack, and says what to do with command `sequence`. Marks the session as used now.
  Admission admit(SessionId id, uint64_t sequence, uint16_t slot, uint64_t ack, int64_t now_ms);
  // Keeps the replies of a command that was admitted and executed. The session may be gone by then.
  void keep(SessionId id, uint64_t sequence, uint16_t slot, std::string replies);

  // Removes up to `max_removed` sessions that were idle too long, and returns how many.
  size_t sweep(int64_t now_ms, size_t max_removed);

  bool sweep_pending(int64_t now_ms) const;

  // Copies all sessions to `to`, which is empty, and divides the replies: those of slots from `at` on go there, the
  // others stay, and those without a slot are in both. So whoever asks again is answered, whichever half he asks.
  void split(uint16_t at, SessionTable& to);

  size_t size() const { return sessions_.size(); }
  uint64_t digest() const { return digest_; }
  size_t bytes_used() const { return bytes_used_; }

  // By id, the idle ones that are still here included.
  const std::map<uint64_t, Session>& all() const { return sessions_; }
  // Puts back what a checkpoint held. False when it breaks a bound or an order; ids must ascend.
  bool restore(SessionId id, int64_t last_used_ms, uint64_t acknowledged);
  void restore_forgotten(SessionId id) { forgotten_ = id; }
  bool restore_reply(uint64_t sequence, uint16_t slot, std::string replies);  // of the session restored last

  void observe(SessionObserver* observer) { observer_ = observer; }

 private:
  using Sessions = std::map<uint64_t, Session>;
  Session* find(SessionId id, int64_t now_ms);
  void before_change(uint64_t id, const Session* session);
  void note_use(SessionId id, Session& session, uint64_t ack, int64_t now_ms);
  void touch(uint64_t id, Session& session, int64_t now_ms);
  void insert_reply(Session& session, std::vector<KeptReplies>::iterator at, KeptReplies kept);
  void drop_reply(Session& session, const KeptReplies& kept);
  void acknowledge(Session& session, uint64_t ack);
  void remove(Sessions::iterator session);
  static uint64_t digest_of(uint64_t id, const Session& session);

  Sessions sessions_;
  std::set<std::pair<int64_t, uint64_t>> by_use_;  // (last use, id)
  SessionId forgotten_;
  uint64_t digest_ = 0;
  size_t bytes_used_ = 0;
  SessionObserver* observer_ = nullptr;
};

}  // namespace mneme::kv
