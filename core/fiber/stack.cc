#include "core/fiber/stack.h"

#include <sys/mman.h>
#include <unistd.h>

#include "core/base/check.h"

namespace mneme::fiber {

namespace {
size_t page_bytes() { return static_cast<size_t>(::sysconf(_SC_PAGESIZE)); }
}  // namespace

Stack StackPool::take() {
  if (!free_.empty()) {
    Stack stack = free_.back();
    free_.pop_back();
    return stack;
  }
  const size_t guard = page_bytes();
  void* mapped = ::mmap(nullptr, stack_bytes_ + guard, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  CHECK(mapped != MAP_FAILED);
  CHECK(::mprotect(mapped, guard, PROT_NONE) == 0);
  Stack stack{static_cast<std::byte*>(mapped) + guard, stack_bytes_};
  all_.push_back(stack);
  return stack;
}

StackPool::~StackPool() {
  const size_t guard = page_bytes();
  for (const Stack& stack : all_) ::munmap(stack.base - guard, stack.size + guard);
}

}  // namespace mneme::fiber
