// Fiber stacks: mapped memory with a guard page below, pooled and reused last-in-first-out.
//
// Pages are touched only when used, so a pool of many stacks costs address space, not memory; reusing the most recently
// released one keeps few of them warm, which is what a fork of the process pays for.
#pragma once

#include <cstddef>
#include <vector>

// GCC says it by a macro, Clang by a feature.
#if defined(__has_feature)
#define MNEME_ADDRESS_SANITIZER __has_feature(address_sanitizer)
#elif defined(__SANITIZE_ADDRESS__)
#define MNEME_ADDRESS_SANITIZER 1
#else
#define MNEME_ADDRESS_SANITIZER 0
#endif

namespace mneme::fiber {

struct Stack {
  std::byte* base = nullptr;  // lowest usable address, just above the guard page
  size_t size = 0;

  std::byte* top() const { return base + size; }
};

class StackPool {
 public:
  explicit StackPool(size_t stack_bytes) : stack_bytes_(stack_bytes) {}
  ~StackPool();
  StackPool(const StackPool&) = delete;
  StackPool& operator=(const StackPool&) = delete;

  Stack take();  // aborts when the kernel refuses to map another
  void give_back(Stack stack) { free_.push_back(stack); }

 private:
  size_t stack_bytes_;
  std::vector<Stack> free_;
  std::vector<Stack> all_;
};

}  // namespace mneme::fiber
