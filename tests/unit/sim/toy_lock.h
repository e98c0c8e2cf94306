// A toy system of two kinds of processes, to keep the world free of Raft and keys: a lock server that logs its grants
// to its disk, and clients that take the lock, hold it for a while and release it.
#pragma once

#include <fmt/format.h>

#include <string>

#include "core/env/env.h"
#include "core/fiber/scope.h"
#include "core/fiber/sync.h"
#include "sim/world.h"
#include "tests/test.h"

namespace mneme::sim::testing {

// One lock, kept by the machine `server`.
struct LockService {
  static constexpr uint16_t kPort = 7;

  World& world;
  std::string server;
  uint64_t turns_per_connection = UINT64_MAX;  // after which a client makes a new one

  // Seen from outside.
  int holders = 0;  // clients that believe they hold the lock
  int grants = 0;
  int reconnects = 0;
  bool overlapped = false;
  std::string diary{};  // when what happened

  // Silence may be a connection whose other end is gone.
  static Result<size_t> read_in_time(Env& env, env::Stream& stream, uint8_t& byte) {
    return fiber::with_deadline(env.scheduler, env.clock.timers(), env.clock.now() + 5s, [&] {
      return stream.read({&byte, 1});
    });
  }

  // One lock; a connection that breaks releases it.
  Result<void> serve(Env& env) {
    if (auto made = env.disk.make_dir("lock"); !made) return made;
    auto file = env.disk.open("lock/log", env::OpenMode::kReadWrite);
    if (!file) file = env.disk.open("lock/log", env::OpenMode::kCreate);
    if (!file) return std::unexpected(file.error());
    // Never synced: something for a power loss to tear.
    auto draft = env.disk.open("lock/draft", env::OpenMode::kReadWrite);
    if (!draft) draft = TRY(env.disk.open("lock/draft", env::OpenMode::kCreate));
    TRY(env.disk.sync_dir("lock"));
    TRY(env.disk.sync_dir(""));
    uint64_t at = TRY((*file)->size());
    fiber::Semaphore lock(env.scheduler, 1);
    auto listener = TRY(env.network.listen({server, kPort}));
    note("serves");
    return fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) -> Result<void> {
      for (;;) {
        std::shared_ptr<env::Stream> stream = TRY(listener->accept());
        scope.spawn("session", [&, stream] {
          uint8_t byte;
          bool held = false;
          for (;;) {
            auto got = read_in_time(env, *stream, byte);
            if (!got || *got == 0) break;
            if (byte == 'L') {
              lock.acquire();
              held = true;
              std::string line = fmt::format("grant {}\n", at);
              if (!(*draft)->write(0, Bytes(4096, static_cast<uint8_t>(at)))) break;
              if (!(*file)->write_and_sync(at, as_bytes(line))) break;
              at += line.size();
              if (!stream->write(as_bytes("G"))) break;
            } else {
              held = false;
              lock.release();
            }
          }
          if (held) lock.release();
        });
      }
    });
  }

  Result<void> use(Env& env, uint64_t times) {
    while (times > 0) {
      auto stream = env.network.connect({server, kPort});
      if (!stream) {
        note("no connection");
        env.clock.sleep_for(env.scheduler, 50ms);
        continue;
      }
      ++reconnects;
      note("connected");
      for (uint64_t turn = 0; turn < turns_per_connection && times > 0; ++turn) {
        uint8_t reply;
        if (!(*stream)->write(as_bytes("L"))) break;
        auto got = read_in_time(env, **stream, reply);
        if (!got || *got == 0) break;
        overlapped |= ++holders > 1;
        ++grants;
        note("granted");
        env.clock.sleep_for(env.scheduler, 3ms);
        --holders;
        --times;
        if (!(*stream)->write(as_bytes("U"))) break;
      }
      env.clock.sleep_for(env.scheduler, 10ms);
    }
    return {};
  }

 private:
  void note(std::string_view what) { diary += fmt::format("{} {}\n", world.now(), what); }
};

}  // namespace mneme::sim::testing
