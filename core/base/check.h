// CHECK: an assertion that is on in every build, for what only a bug in Mneme can violate.
//
// One condition each. Bytes from disk and from the network are input and never CHECKed: they give an Error.
// A failed CHECK prints the condition and its place on stderr and aborts; the simulator reports the seed as a
// failure of property "check".
#pragma once

namespace mneme {

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace mneme

#define CHECK(condition)                                          \
  do {                                                            \
    if (!(condition)) [[unlikely]]                                \
      ::mneme::check_failed(#condition, __FILE_NAME__, __LINE__); \
  } while (false)
