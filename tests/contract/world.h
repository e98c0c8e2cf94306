// What a contract test is run against. A World is any type with these members; what is particular to it (ports, real
// directories, virtual time) stays inside.
//
//   Env& here();                 one node
//   Env& there();                another one, or the same; on the same scheduler
//   std::string there_host();    what `here` calls the host of `there`, and `there` itself when it listens
//   void run(fn);                runs fn as the first fiber, to its end; once per World
//   const char* unavailable();   why this world cannot be had on this machine; nullptr when it can
//
// Bodies wait a few milliseconds of the world's time at most, listen on port 0, and use REQUIRE only in the first fiber
// where no scope is open: a failed REQUIRE throws, and a fiber has nobody above to throw to.
#pragma once

#include <cstdint>

#include "core/base/hash.h"
#include "core/env/env.h"
#include "core/fiber/scope.h"
#include "core/fiber/sync.h"

namespace mneme::contract {

// A stream of numbers that is the same in every run.
class Numbers {
 public:
  explicit Numbers(uint64_t seed) : state_(mix(seed + 1)) {}
  uint64_t below(uint64_t bound) { return next() % bound; }
  uint64_t next() { return mix(state_ += 0x9e3779b97f4a7c15u); }

 private:
  uint64_t state_;
};

// Byte `index` of an endless content that repeats nowhere near.
inline uint8_t content_at(uint64_t stream, uint64_t index) { return static_cast<uint8_t>(mix(stream << 40 ^ index)); }

inline Bytes content(uint64_t stream, size_t size, uint64_t from = 0) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = content_at(stream, from + i);
  return bytes;
}

template <class T>
bool is(const Result<T>& result, ErrorCode code) {
  return !result.has_value() && result.error().code == code && !result.error().message.empty();
}

}  // namespace mneme::contract
