// Drives a fuzz target without libFuzzer: fuzz_x [RUNS [SEED [FIRST]]].
//
// Input i is a function of (SEED, i) alone: one of the target's corpus, changed in a few places. When a run dies, its
// number is printed, and `fuzz_x 1 SEED i` runs it again.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <string_view>

#include "core/base/hash.h"
#include "tests/fuzz/target.h"

extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace {

using namespace mneme;

volatile uint64_t running = 0;

// Called while dying: nothing but write() is safe.
void tell_run() {
  char text[] = "\ndied in run                     \n";
  char* digit = text + sizeof text - 3;
  uint64_t number = running;
  do {
    *digit-- = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number != 0);
  (void)!write(STDERR_FILENO, text, sizeof text - 1);
}

void on_signal(int signal) {
  tell_run();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

class Random {
 public:
  Random(uint64_t seed, uint64_t run) : state_(fold(seed, run)) {}
  size_t below(size_t n) { return mix(state_ += 0x9e3779b97f4a7c15u) % n; }

 private:
  uint64_t state_;
};

constexpr std::array<std::string_view, 32> kWords = {"\r\n",    "\r",
                                                     "\n",      "*",
                                                     "$",       "-1",
                                                     "0",       "9223372036854775808",
                                                     "65537",   "12582913",
                                                     "(",       ")",
                                                     "((",      "\"",
                                                     "\\",      "\\x4",
                                                     "\\25",    "'",
                                                     "#|",      "|#",
                                                     "#;",      ";",
                                                     "_",       "%2",
                                                     "~1",      "=5",
                                                     "String ", "Num",
                                                     "\t",      "\xff\xff\xff\xff",
                                                     "\xd7",    "\x16"};

std::string input(const std::vector<std::string>& corpus, uint64_t seed, uint64_t run) {
  Random random(seed, run);
  std::string bytes = corpus[random.below(corpus.size())];
  for (size_t changes = random.below(6); changes-- > 0;) {
    size_t at = random.below(bytes.size() + 1);
    size_t length = std::min(random.below(16), bytes.size() - at);
    switch (random.below(8)) {
      case 0:
        if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8)));
        break;
      case 1:
        if (at < bytes.size()) bytes[at] = static_cast<char>(random.below(256));
        break;
      case 2:
      case 3: bytes.insert(at, kWords[random.below(kWords.size())]); break;
      case 4: bytes.erase(at, length); break;
      case 5: bytes.insert(at, bytes.substr(random.below(bytes.size() + 1), length)); break;
      case 6: bytes.resize(at); break;
      default: bytes.insert(at, corpus[random.below(corpus.size())]); break;
    }
  }
  return bytes;
}

uint64_t number(int argc, char** argv, int index, uint64_t otherwise) {
  return argc > index ? std::strtoull(argv[index], nullptr, 10) : otherwise;
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t runs = number(argc, argv, 1, 100'000);
  uint64_t seed = number(argc, argv, 2, 1);
  uint64_t first = number(argc, argv, 3, 0);
  for (int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) std::signal(signal, on_signal);
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(tell_run);
  std::vector<std::string> corpus = fuzz::corpus();
  for (uint64_t run = first; run < first + runs; ++run) {
    running = run;
    std::string bytes = input(corpus, seed, run);
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  }
  std::printf("%llu inputs, no crash\n", static_cast<unsigned long long>(runs));
  return 0;
}
