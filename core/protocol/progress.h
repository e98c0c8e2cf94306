// How far an incremental decoder got with the bytes it was shown.
#pragma once

#include <cstdint>

namespace mneme::protocol {

enum class Progress : uint8_t {
  kDone,   // one whole unit was decoded
  kMore,   // its end has not arrived yet
  kError,  // it never will: the stream is not what it should be, and nothing after this point can be trusted
};

}  // namespace mneme::protocol
