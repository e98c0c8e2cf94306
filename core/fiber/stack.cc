#include "core/fiber/stack.h"

#include <sys/mman.h>
#include <unistd.h>

#include "core/base/check.h"

#if MNEME_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif

namespace mneme::fiber {

namespace {
size_t page_bytes() { return static_cast<size_t>(::sysconf(_SC_PAGESIZE)); }

constexpr int kGuardInstall = 102;  // MADV_GUARD_INSTALL, of Linux 6.13

// A protected page of its own is a mapping more, and a process has 65,530; a guard in the page table is none.
bool guard(void* page, size_t bytes) {
  return ::madvise(page, bytes, kGuardInstall) == 0 || ::mprotect(page, bytes, PROT_NONE) == 0;
}

// What ran on it last never returned from its outermost frames, and what AddressSanitizer was told of these stays with
// the addresses, even when they are mapped anew.
void forget_frames([[maybe_unused]] const Stack& stack) {
#if MNEME_ADDRESS_SANITIZER
  __asan_unpoison_memory_region(stack.base, stack.size);
#endif
}
}  // namespace

Stack StackPool::take() {
  if (free_.empty()) {
    const size_t guard_bytes = page_bytes();
    void* mapped = ::mmap(nullptr, stack_bytes_ + guard_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    CHECK(mapped != MAP_FAILED);
    CHECK(guard(mapped, guard_bytes));
    all_.push_back({static_cast<std::byte*>(mapped) + guard_bytes, stack_bytes_});
    free_.push_back(all_.back());
  }
  const Stack stack = free_.back();
  free_.pop_back();
  forget_frames(stack);
  return stack;
}

StackPool::~StackPool() {
  const size_t guard_bytes = page_bytes();
  for (const Stack& stack : all_) ::munmap(stack.base - guard_bytes, stack.size + guard_bytes);
}

}  // namespace mneme::fiber
