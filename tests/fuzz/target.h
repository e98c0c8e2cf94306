// What a fuzz target is: libFuzzer's entry point, and a few inputs to begin with.
//
// A target aborts when a decoder breaks a promise: by a failed CHECK, by a sanitizer, or by its own require().
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace mneme::fuzz {

// Well-formed inputs, which the stand-alone driver mutates.
std::vector<std::string> corpus();

inline void require(bool promise, const char* what) {
  if (promise) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

}  // namespace mneme::fuzz
