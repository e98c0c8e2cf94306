// env::Disk over real files below a root directory; an Engine does the waiting.
//
// Writes through different File objects of one file that are open at the same time are made durable each by its own
// syncs only: the owner of a file opens it once for writing.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/env/completions.h"
#include "core/env/disk.h"
#include "disk/engine.h"

namespace mneme::disk {

enum class Way : uint8_t { kBlocking, kThread, kUring, kAdaptive };

struct Options {
  std::string root;
  bool make_root = false;  // its last component, when it is missing
  Way way = Way::kAdaptive;
  // For kAdaptive: how many could use the thread while an operation blocks it: the number of connections. nullptr:
  // many.
  std::function<size_t()> busy;
};

// Fails with kUnsupported when the way is kUring and io_uring is missing or forbidden: then kThread is what remains.
// kAdaptive makes that choice itself. kNotFound, kRefused, kInvalid: the root is missing, closed to us, no directory.
// The scheduler and the completions outlive the disk, and the disk its files.
Result<std::unique_ptr<env::Disk>> open_disk(fiber::Scheduler& scheduler, env::Completions& completions,
                                             Options options);

}  // namespace mneme::disk
