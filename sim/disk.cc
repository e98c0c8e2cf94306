#include "sim/disk.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "sim/machine.h"
#include "sim/world.h"

namespace mneme::sim {

namespace {

constexpr uint64_t kSector = SparseBytes::kSector;
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 40;
constexpr WorldTime kHungPollNs = 2'000'000;

}  // namespace

struct MachineDisk::Operation : Event {
  Operation(Machine& m, const DiskState& s)
      : Event(EventKind::kDisk, m.actor()), machine(m), state(s), fiber(m.world().scheduler().current()) {}
  void happen() override {
    if (state.hung_)
      wait_until(machine.world().now() + kHungPollNs);
    else
      machine.world().scheduler().wake(fiber);
  }
  void wait_until(WorldTime at) {
    machine.world().events().schedule(*this, at);
    if (machine.options().disk_blocks) machine.hold_until(at);
  }
  Machine& machine;
  const DiskState& state;
  fiber::Fiber& fiber;
};

MachineDisk::MachineDisk(Machine& machine, DiskState& state) : machine_(machine), state_(state) {}
MachineDisk::~MachineDisk() { CHECK(pending_.empty()); }

uint64_t MachineDisk::take_time(Kind kind, uint64_t bytes) {
  World& world = machine_.world();
  machine_.life()->check_alive();
  const DiskOptions& options = state_.options_;
  int64_t base = kind == Kind::kRead ? options.read_ns : kind == Kind::kSync ? options.sync_ns : options.write_ns;
  const uint64_t nth = ++state_.operations_;
  int64_t time = base + static_cast<int64_t>(Fate::scale(world.choose(Choice::kDiskLatency, machine_.actor(), nth),
                                                         static_cast<uint64_t>(base)));
  time += static_cast<int64_t>(bytes / 2);  // 2 GB/s
  if (world.chance(options.tail_ppm, Choice::kDiskTail, machine_.actor(), nth))
    time += static_cast<int64_t>(
        Fate::scale(world.choose(Choice::kDiskTail, machine_.actor(), nth, 1), static_cast<uint64_t>(options.tail_ns)));
  time *= state_.slowness_;
  Operation operation(machine_, state_);
  operation.wait_until(world.now() + time);
  pending_.push_back(&operation);
  {
    fiber::Shield shield(world.scheduler());
    world.scheduler().park(false);
  }
  std::erase(pending_, &operation);
  machine_.life()->check_alive();
  return nth;
}

void MachineDisk::crashed() {
  for (Operation* operation : pending_) {
    machine_.world().events().cancel(*operation);
    machine_.world().scheduler().wake(operation->fiber);
  }
}

class MachineFile final : public env::File {
 public:
  MachineFile(Machine& machine, MachineDisk& disk, std::shared_ptr<Inode> inode, std::string path, bool writable)
      : machine_(machine),
        disk_(disk),
        state_(disk.state_),
        inode_(std::move(inode)),
        path_(std::move(path)),
        writable_(writable) {
    ++disk_.open_files_;
  }
  ~MachineFile() override { --disk_.open_files_; }

  Result<size_t> read(uint64_t offset, std::span<uint8_t> into) override {
    const uint64_t nth = disk_.take_time(MachineDisk::Kind::kRead, into.size());
    if (offset >= content().size() || into.empty()) return size_t{0};
    size_t count = std::min<size_t>(into.size(), content().size() - offset);
    if (auto sector = content().unreadable_in(offset, offset + count)) {
      if (*sector * kSector <= offset)
        return fail(ErrorCode::kIo, fmt::format("reading {} at byte {}: input/output error", path_, offset));
      count = *sector * kSector - offset;
    }
    count = shortened(nth, count);
    const size_t held = content().cached().read(offset, into.first(count));
    machine_.world().fold_bytes(EventKind::kDisk, machine_.actor(), into.first(held), count - held);
    return count;
  }

  Result<void> write(uint64_t offset, ByteView data) override {
    TRY(put(offset, data));
    disk_.take_time(MachineDisk::Kind::kWrite, data.size());
    machine_.world().detail(machine_.actor(), "disk", "{}: {} bytes written at {}", path_, data.size(), offset);
    return {};
  }

  Result<void> write_and_sync(uint64_t offset, ByteView data) override {
    TRY(put(offset, data));
    machine_.world().detail(machine_.actor(), "disk", "{}: {} bytes written at {}, sync begins", path_, data.size(),
                            offset);
    return sync_after(data.size());
  }

  Result<void> sync() override {
    machine_.life()->check_alive();
    return sync_after(0);
  }

  Result<void> truncate(uint64_t size_bytes) override {
    machine_.life()->check_alive();
    TRY(may_write(size_bytes, 0));
    if (size_bytes > content().size() && size_bytes > state_.room(*inode_)) return full();
    content().truncate(size_bytes);
    disk_.take_time(MachineDisk::Kind::kMeta, 0);
    return {};
  }

  Result<uint64_t> size() override {
    machine_.life()->check_alive();
    return content().size();
  }

 private:
  FileContent& content() { return inode_->content; }

  std::unexpected<Error> full() const {
    return fail(ErrorCode::kNoSpace, fmt::format("writing {}: no space left on device", path_));
  }

  size_t shortened(uint64_t nth, size_t count) const {
    World& world = machine_.world();
    if (!world.chance(state_.short_reads_ppm_, Choice::kShortRead, machine_.actor(), nth)) return count;
    return 1 + Fate::scale(world.choose(Choice::kShortRead, machine_.actor(), nth, 1), count);
  }

  Result<void> may_write(uint64_t offset, uint64_t bytes) const {
    if (!writable_) return fail(ErrorCode::kInvalid, fmt::format("writing {}: it is open for reading only", path_));
    if (offset > kMaxFileBytes - bytes)
      return fail(ErrorCode::kTooLarge, fmt::format("writing {}: file too large", path_));
    return {};
  }

  Result<void> put(uint64_t offset, ByteView data) {
    machine_.life()->check_alive();
    TRY(may_write(offset, data.size()));
    if (data.empty()) return {};
    const uint64_t end = offset + data.size();
    const uint64_t room = end <= content().size() ? end : state_.room(*inode_);
    const ByteView fitting = end <= room ? data : data.first(offset < room ? room - offset : 0);
    if (!fitting.empty()) {
      TRY(may_write_parts(offset, offset + fitting.size()));
      content().write(offset, fitting);
      machine_.world().fold_bytes(EventKind::kDisk, machine_.actor(), fitting);
    }
    if (fitting.size() < data.size()) return full();
    return {};
  }

  // The rest of a sector that is written in part has to be read.
  Result<void> may_write_parts(uint64_t begin, uint64_t end) {
    for (uint64_t edge : {begin, end})
      if (edge % kSector != 0 && content().unreadable_in(edge, edge + 1))
        return fail(ErrorCode::kIo, fmt::format("writing {} at byte {}: input/output error", path_, edge));
    return {};
  }

  Result<void> sync_after(uint64_t bytes) {
    // Only what was written before the sync was asked for is covered by it.
    const uint64_t covered = content().operations();
    disk_.take_time(MachineDisk::Kind::kSync, bytes);
    if (!state_.sync_file(inode_, covered)) {
      machine_.world().record(machine_.actor(), "fault", fmt::format("sync of {} fails", path_));
      return fail(ErrorCode::kIo, fmt::format("syncing {}: input/output error", path_));
    }
    machine_.world().detail(machine_.actor(), "disk", "{}: synced", path_);
    return {};
  }

  Machine& machine_;
  MachineDisk& disk_;
  DiskState& state_;
  std::shared_ptr<Inode> inode_;
  std::string path_;
  bool writable_;
};

Result<std::unique_ptr<env::File>> MachineDisk::open(const std::string& path, env::OpenMode mode) {
  TRY(env::check_path(path, false));
  take_time(Kind::kMeta, 0);
  const DiskTree::Place at = state_.tree_.place(path);
  auto inode = at.inode;
  if (mode == env::OpenMode::kCreate) {
    if (inode) return fail(ErrorCode::kExists, fmt::format("{} exists already", path));
    if (!at.directory) return fail(ErrorCode::kNotFound, fmt::format("creating {}: no such directory", path));
    if (!state_.has_room_for_entry())
      return fail(ErrorCode::kNoSpace, fmt::format("creating {}: no space left on device", path));
    inode = state_.tree_.make(at, false);
    machine_.world().detail(machine_.actor(), "disk", "{}: created", path);
  } else if (!inode) {
    return fail(ErrorCode::kNotFound, fmt::format("opening {}: no such file or directory", path));
  }
  if (inode->directory) return fail(ErrorCode::kInvalid, fmt::format("opening {}: it is a directory", path));
  return std::make_unique<MachineFile>(machine_, *this, std::move(inode), path, mode != env::OpenMode::kRead);
}

Result<std::shared_ptr<Inode>> MachineDisk::directory(const std::string& path, const char* operation) {
  auto inode = state_.tree_.find(path);
  if (inode && inode->directory) return inode;
  return fail(ErrorCode::kNotFound, fmt::format("{} {}: no such directory", operation, path));
}

Result<std::vector<std::string>> MachineDisk::list(const std::string& path) {
  TRY(env::check_path(path, true));
  take_time(Kind::kMeta, 0);
  const auto listed = TRY(directory(path, "listing"));
  std::vector<std::string> names;
  for (auto& [name, inode] : listed->entries) names.push_back(name);
  return names;
}

Result<void> MachineDisk::make_dir(const std::string& path) {
  TRY(env::check_path(path, false));
  take_time(Kind::kMeta, 0);
  const DiskTree::Place at = state_.tree_.place(path);
  if (at.inode) {
    if (at.inode->directory) return {};
    return fail(ErrorCode::kExists, fmt::format("making directory {}: a file of that name exists", path));
  }
  if (!at.directory)
    return fail(ErrorCode::kNotFound, fmt::format("making directory {}: no such parent directory", path));
  if (!state_.has_room_for_entry())
    return fail(ErrorCode::kNoSpace, fmt::format("making directory {}: no space left on device", path));
  state_.tree_.make(at, true);
  return {};
}

Result<void> MachineDisk::rename(const std::string& from, const std::string& to) {
  TRY(env::check_path(from, false));
  TRY(env::check_path(to, false));
  take_time(Kind::kMeta, 0);
  const DiskTree::Place old = state_.tree_.place(from);
  const DiskTree::Place now = state_.tree_.place(to);
  if (!old.inode) return fail(ErrorCode::kNotFound, fmt::format("renaming {}: no such file or directory", from));
  if (!now.directory) return fail(ErrorCode::kNotFound, fmt::format("renaming {} to {}: no such directory", from, to));
  if (from == to) return {};
  if (now.inode && (old.inode->directory || now.inode->directory))
    return fail(ErrorCode::kExists, fmt::format("renaming {} to {}: only a file replaces a file", from, to));
  if (old.inode->directory && to.starts_with(from + '/'))
    return fail(ErrorCode::kInvalid, fmt::format("renaming {} to {}: into itself", from, to));
  state_.tree_.rename(old, now);
  machine_.world().detail(machine_.actor(), "disk", "{}: renamed to {}", from, to);
  return {};
}

Result<void> MachineDisk::remove(const std::string& path) {
  TRY(env::check_path(path, false));
  take_time(Kind::kMeta, 0);
  const DiskTree::Place what = state_.tree_.place(path);
  if (!what.inode) return fail(ErrorCode::kNotFound, fmt::format("removing {}: no such file or directory", path));
  if (!what.inode->entries.empty())
    return fail(ErrorCode::kExists, fmt::format("removing {}: the directory is not empty", path));
  if (what.inode->locked_by_boot == machine_.boots())
    return fail(ErrorCode::kBusy, fmt::format("removing {}: the directory is in use", path));
  state_.tree_.remove(what);
  machine_.world().detail(machine_.actor(), "disk", "{}: removed", path);
  return {};
}

Result<void> MachineDisk::sync_dir(const std::string& path) {
  TRY(env::check_path(path, true));
  take_time(Kind::kSync, 0);
  state_.sync_directory(TRY(directory(path, "syncing")));
  machine_.world().detail(machine_.actor(), "disk", "directory {}: synced", path.empty() ? "/" : path);
  return {};
}

Result<std::unique_ptr<env::DirectoryLock>> MachineDisk::lock(const std::string& path) {
  TRY(env::check_path(path, true));
  take_time(Kind::kMeta, 0);
  auto inode = TRY(directory(path, "locking"));
  if (inode->locked_by_boot == machine_.boots())
    return fail(ErrorCode::kBusy, fmt::format("{} is in use by another process", path));
  inode->locked_by_boot = machine_.boots();
  struct Lock final : env::DirectoryLock {
    explicit Lock(std::shared_ptr<Inode> i) : inode(std::move(i)), boot(inode->locked_by_boot) {}
    ~Lock() override {
      if (inode->locked_by_boot == boot) inode->locked_by_boot = 0;
    }
    std::shared_ptr<Inode> inode;
    uint64_t boot;
  };
  return std::make_unique<Lock>(std::move(inode));
}

}  // namespace mneme::sim
