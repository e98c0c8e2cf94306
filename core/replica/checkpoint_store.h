// Checkpoints of one group as files, and what is on the way to become one.
//
// A checkpoint `id` is the file `checkpoint-<16 hex digits>` in the store's directory, in the format of
// core/kv/checkpoint.h; ids grow and are never reused. While it is written, or received from another node, it has the
// suffix ".part"; it is synced, renamed and the directory synced before anybody refers to it. A snapshot is a list of
// files; today the list has one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/env/env.h"
#include "core/kv/checkpoint.h"
#include "core/raft/types.h"

namespace mneme::replica {

class CheckpointStore {
 public:
  CheckpointStore(Env& env, std::string directory) : env_(env), directory_(std::move(directory)) {}

  // Makes the directory, removes unfinished files, and every checkpoint but `current` (0: none). Suspends.
  Result<void> open(uint64_t current);
  // Reads and checks a checkpoint. kCorrupt names the file. Suspends.
  Result<std::unique_ptr<kv::StateMachine>> load(uint64_t id, const raft::LogPosition& expected);
  // Removes all but `current` and those that are being read. Suspends.
  Result<void> remove_others(uint64_t current);
  uint64_t next_id() { return ++last_id_; }
  std::string path(uint64_t id) const;

  // A file on the way to be checkpoint `id`. Destroying it without finish() leaves the part, which open() removes.
  class Part {
   public:
    // Appends. Suspends.
    Result<void> write(std::string_view bytes);
    // Makes it durable under its name. Suspends.
    Result<void> finish();
    uint64_t id() const { return id_; }
    uint64_t bytes() const { return offset_; }

   private:
    friend class CheckpointStore;
    Part(CheckpointStore& store, uint64_t id, std::unique_ptr<env::File> file)
        : store_(store), id_(id), file_(std::move(file)) {}
    CheckpointStore& store_;
    uint64_t id_;
    std::unique_ptr<env::File> file_;
    uint64_t offset_ = 0;
    uint64_t synced_ = 0;
  };
  Result<std::unique_ptr<Part>> create(uint64_t id);

  // Keeps a checkpoint's file while it is sent to somebody.
  class Reading {
   public:
    Reading(CheckpointStore& store, uint64_t id) : store_(store), id_(id) { store_.reading_.push_back(id); }
    ~Reading() { std::erase(store_.reading_, id_); }
    Reading(const Reading&) = delete;
    Reading& operator=(const Reading&) = delete;

   private:
    CheckpointStore& store_;
    uint64_t id_;
  };

 private:
  Env& env_;
  std::string directory_;
  uint64_t last_id_ = 0;
  std::vector<uint64_t> reading_;
};

}  // namespace mneme::replica
