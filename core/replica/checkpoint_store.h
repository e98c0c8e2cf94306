// Checkpoints of one group as files, and what is on the way to become one.
//
// A checkpoint `id` is the file `checkpoint-<16 hex digits>` in the store's directory, in the format of
// core/kv/checkpoint.h; ids grow and are never reused, and say nothing about which checkpoint is further: one that is
// received may be begun before one of this node's own and be further, or the other way round. While it is written, or
// received from another node, it has the suffix ".part"; it is synced, renamed and the directory synced before anybody
// refers to it. A file stays for as long as somebody holds its Keep: from the drawing of the id until its record is
// durable in the log, from then until the next one's is, and while it is sent to somebody. A snapshot is a list of
// files; today the list has one.
#pragma once

#include <algorithm>
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

  // Removes every file of a checkpoint but `current`'s (0: none). Suspends.
  Result<void> open(uint64_t current);
  // Reads and checks a checkpoint. kCorrupt names the file. Suspends.
  Result<std::unique_ptr<kv::StateMachine>> load(uint64_t id, const raft::LogPosition& expected);
  // Keeps the file of a checkpoint, which need not exist yet. May outlive the store.
  class Keep {
   public:
    Keep(std::shared_ptr<std::vector<uint64_t>> kept, uint64_t id) : kept_(std::move(kept)), id_(id) {
      kept_->push_back(id);
    }
    ~Keep() { kept_->erase(std::find(kept_->begin(), kept_->end(), id_)); }
    Keep(const Keep&) = delete;
    Keep& operator=(const Keep&) = delete;
    uint64_t id() const { return id_; }

   private:
    std::shared_ptr<std::vector<uint64_t>> kept_;
    uint64_t id_;
  };
  std::shared_ptr<Keep> keep(uint64_t id) { return std::make_shared<Keep>(kept_, id); }
  // With an id of its own.
  std::shared_ptr<Keep> keep_next() { return keep(++last_id_); }
  // Removes the files, and parts of files, that nobody keeps. Suspends.
  Result<void> remove_others();
  std::string path(uint64_t id) const;

  // A file on the way to be checkpoint `id`. Without finish() the part stays until remove_others(), and whoever writes
  // it keeps its id.
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
  // Makes the directory with the first one, since a disk may have no room for even that. Suspends.
  Result<std::unique_ptr<Part>> create(uint64_t id);

 private:
  Result<std::vector<std::string>> names();

  Env& env_;
  std::string directory_;
  uint64_t last_id_ = 0;
  bool made_ = false;  // the directory is there, and durable
  std::shared_ptr<std::vector<uint64_t>> kept_ = std::make_shared<std::vector<uint64_t>>();
};

}  // namespace mneme::replica
