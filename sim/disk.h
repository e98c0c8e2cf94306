// The simulated disk as one process sees it: env::Disk over the machine's DiskState, which has the fault model.
//
// Operations of one process overlap; each takes a latency of its own. A write is in the page cache when it is called,
// anything else has happened when it returns. Two processes of one machine never overlap.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/env/disk.h"
#include "core/fiber/fiber.h"
#include "sim/disk_state.h"
#include "sim/event.h"

namespace mneme::sim {

class Machine;

class MachineDisk final : public env::Disk {
 public:
  MachineDisk(Machine& machine, DiskState& state);
  ~MachineDisk() override;

  Result<std::unique_ptr<env::File>> open(const std::string& path, env::OpenMode mode) override;
  Result<std::vector<std::string>> list(const std::string& directory) override;
  Result<void> make_dir(const std::string& path) override;
  Result<void> rename(const std::string& from, const std::string& to) override;
  Result<void> remove(const std::string& path) override;
  Result<void> sync_dir(const std::string& directory) override;
  Result<std::unique_ptr<env::DirectoryLock>> lock(const std::string& directory) override;

  // The process crashed: wakes the fibers that wait for operations.
  void crashed();
  size_t open_files() const { return open_files_; }

 private:
  friend class MachineFile;
  struct Operation;
  enum class Kind : uint8_t { kRead, kWrite, kSync, kMeta };
  // Suspends for as long as an operation takes, and numbers it; throws Cancelled when the process crashed meanwhile.
  uint64_t take_time(Kind kind, uint64_t bytes);
  Result<std::shared_ptr<Inode>> directory(const std::string& path, const char* operation);

  Machine& machine_;
  DiskState& state_;
  std::vector<Operation*> pending_;
  size_t open_files_ = 0;
};

}  // namespace mneme::sim
