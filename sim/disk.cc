#include "sim/disk.h"

#include <fmt/format.h>

#include <algorithm>

#include "sim/machine.h"
#include "sim/world.h"

namespace mneme::sim {

namespace {
constexpr uint64_t kSector = limits::kSectorBytes;
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 40;

// As the real disk has it. The root itself is "".
Result<void> check_path(std::string_view path, bool may_be_root) {
  if (path.empty() && may_be_root) return {};
  size_t begin = 0;
  bool strange = path.find('\0') != std::string_view::npos;
  while (!strange && begin <= path.size()) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    strange = part.empty() || part == "." || part == "..";
    begin = end + 1;
  }
  if (!strange) return {};
  return fail(ErrorCode::kInvalid, "the path does not lead to a place below the disk's root");
}

}  // namespace

// --- DiskState

DiskState::DiskState(World& world, uint32_t actor, DiskOptions options)
    : world_(world), actor_(actor), options_(options) {
  auto root = std::make_shared<Inode>();
  root->directory = true;
  cached_[""] = durable_[""] = root;
}

std::string DiskState::parent(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::shared_ptr<Inode> DiskState::find(const std::string& path) const {
  auto found = cached_.find(path);
  return found == cached_.end() ? nullptr : found->second;
}

bool DiskState::is_directory(const std::string& path) const {
  auto inode = find(path);
  return inode && inode->directory;
}

bool DiskState::Change::touches_a_name_of(const Change& other) const {
  for (auto& [name, inode] : names)
    for (auto& [its, its_inode] : other.names)
      if (name == its) return true;
  return false;
}

void DiskState::change(Change change) {
  for (auto& [name, inode] : change.names) {
    if (inode)
      cached_[name] = inode;
    else
      cached_.erase(name);
  }
  changes_.push_back(std::move(change));
}

void DiskState::hold(const Change& change) {
  for (auto& [name, inode] : change.names) {
    if (inode)
      durable_[name] = inode;
    else
      durable_.erase(name);
  }
}

void DiskState::sync_directory(const std::string& directory) {
  auto concerned = [&](const Change& c) { return c.directory == directory || c.other_directory == directory; };
  std::vector<bool> synced(changes_.size());
  for (size_t i = changes_.size(); i-- > 0;) {
    synced[i] = synced[i] || concerned(changes_[i]);
    // Only one that crosses directories can take along a change of another directory.
    if (!synced[i] || !changes_[i].crosses()) continue;
    for (size_t j = 0; j < i; ++j) synced[j] = synced[j] || changes_[i].touches_a_name_of(changes_[j]);
  }
  size_t kept = 0;
  for (size_t i = 0; i < changes_.size(); ++i) {
    if (synced[i])
      hold(changes_[i]);
    else if (kept++ != i)
      changes_[kept - 1] = std::move(changes_[i]);
  }
  changes_.resize(kept);
}

void DiskState::sync_ranges(Inode& inode, size_t count) {
  if (inode.durable.size() != inode.cached.size()) inode.durable.resize(inode.cached.size());
  for (size_t i = 0; i < count; ++i) {
    uint64_t end = std::min(inode.dirty[i].end, inode.cached.size());
    uint64_t begin = std::min(inode.dirty[i].begin, end);
    inode.durable.copy(inode.cached, begin, end);
  }
  inode.dirty.erase(inode.dirty.begin(), inode.dirty.begin() + static_cast<std::ptrdiff_t>(count));
  inode.cleaned += count;
}

// Copies each dirty sector to the disk or not, by its own choice.
static void write_back_some(World& world, Choice choice, uint32_t actor, uint64_t cause, Inode& inode) {
  for (const Inode::Range& range : inode.dirty) {
    for (uint64_t sector = range.begin / kSector; sector * kSector < range.end; ++sector) {
      uint64_t begin = std::max(sector * kSector, range.begin);
      uint64_t end = std::min({(sector + 1) * kSector, range.end, inode.cached.size(), inode.durable.size()});
      if (begin >= end || !world.chance(500'000, choice, (uint64_t{actor} << 32) + cause, inode.number, sector))
        continue;
      inode.durable.copy(inode.cached, begin, end);
    }
  }
  inode.cleaned += inode.dirty.size();
  inode.dirty.clear();
}

void DiskState::fail_sync(Inode& inode, uint64_t cause) {
  if (inode.durable.size() < inode.cached.size()) inode.durable.resize(inode.cached.size());
  write_back_some(world_, Choice::kFailedSyncSector, actor_, cause, inode);
}

void DiskState::power_loss() {
  const uint64_t cause = ++power_losses_;
  // Which changes of names hold: each by its own choice, but a change that holds takes along the earlier ones to its
  // names.
  std::vector<bool> holds(changes_.size());
  for (size_t i = changes_.size(); i-- > 0;) {
    holds[i] = holds[i] || world_.chance(500'000, Choice::kTornEntry, actor_, cause, i);
    if (!holds[i]) continue;
    for (size_t j = 0; j < i; ++j)
      if (changes_[i].touches_a_name_of(changes_[j])) holds[j] = true;
  }
  for (size_t i = 0; i < changes_.size(); ++i)
    if (holds[i]) hold(changes_[i]);
  changes_.clear();
  // An entry below a directory that is gone is gone too.
  std::erase_if(durable_, [&](const auto& entry) {
    for (std::string up = entry.first; !up.empty();) {
      up = parent(up);
      if (!durable_.contains(up)) return true;
    }
    return false;
  });
  cached_ = durable_;
  for (auto& [path, inode] : durable_) {
    if (inode->durable.size() != inode->cached.size() &&
        world_.chance(500'000, Choice::kTornSize, (uint64_t{actor_} << 32) + cause, inode->number))
      inode->durable.resize(inode->cached.size());
    write_back_some(world_, Choice::kTornSector, actor_, cause, *inode);
    inode->cached = inode->durable;
    inode->locked_by_boot = 0;
  }
}

void DiskState::wipe() {
  changes_.clear();
  auto root = std::make_shared<Inode>();
  root->directory = true;
  cached_.clear();
  durable_.clear();
  cached_[""] = durable_[""] = root;
}

std::shared_ptr<Inode> DiskState::pick_file(uint64_t cause) const {
  std::vector<std::shared_ptr<Inode>> files;
  for (auto& [path, inode] : durable_)
    if (!inode->directory && !inode->durable.empty()) files.push_back(inode);
  if (files.empty()) return nullptr;
  return files[Fate::scale(world_.choose(Choice::kDamagePlace, actor_, cause, 0), files.size())];
}

// A sector that holds something, if the file has any: damage to never-written space is rarely interesting.
static uint64_t pick_sector(World& world, uint32_t actor, uint64_t cause, const Inode& inode) {
  const std::vector<uint64_t> written = inode.durable.written_sectors();
  const uint64_t sectors = (inode.durable.size() + kSector - 1) / kSector;
  uint64_t drawn = world.choose(Choice::kDamagePlace, actor, cause, 1);
  return written.empty() ? Fate::scale(drawn, sectors) : written[Fate::scale(drawn, written.size())];
}

std::string DiskState::rot(uint64_t cause) {
  auto inode = pick_file(cause);
  if (!inode) return "";
  uint64_t sector = pick_sector(world_, actor_, cause, *inode);
  uint64_t size = std::min<uint64_t>(kSector, inode->durable.size() - sector * kSector);
  uint64_t flips = 1 + Fate::scale(world_.choose(Choice::kDamageBits, actor_, cause, 0), 8);
  for (uint64_t i = 1; i <= flips; ++i) {
    uint64_t bit = Fate::scale(world_.choose(Choice::kDamageBits, actor_, cause, i), size * 8);
    uint8_t byte = 0;
    inode->durable.read(sector * kSector + bit / 8, {&byte, 1});
    byte ^= static_cast<uint8_t>(1u << (bit % 8));
    inode->durable.write(sector * kSector + bit / 8, {&byte, 1});
  }
  return fmt::format("file {} sector {}, {} bits", inode->number, sector, flips);
}

std::string DiskState::make_unreadable(uint64_t cause) {
  auto inode = pick_file(cause);
  if (!inode) return "";
  uint64_t sector = pick_sector(world_, actor_, cause, *inode);
  inode->unreadable.insert(sector);
  return fmt::format("file {} sector {}", inode->number, sector);
}

uint64_t DiskState::bytes_used() const {
  uint64_t total = 0;
  for (auto& [path, inode] : cached_) total += inode->cached.size();
  return total;
}

// --- MachineDisk

struct MachineDisk::Operation : Event {
  Operation(World& w, uint32_t actor) : Event(EventKind::kDisk, actor), world(w), fiber(w.scheduler().current()) {}
  void happen() override { world.scheduler().wake(fiber); }
  World& world;
  fiber::Fiber& fiber;
};

MachineDisk::MachineDisk(Machine& machine, DiskState& state) : machine_(machine), state_(state) {}
MachineDisk::~MachineDisk() { CHECK(pending_.empty()); }

void MachineDisk::take_time(Kind kind, uint64_t bytes) {
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
  Operation operation(world, machine_.actor());
  world.events().schedule(operation, world.now() + time);
  if (machine_.options().disk_blocks) machine_.hold_until(world.now() + time);
  pending_.push_back(&operation);
  {
    fiber::Shield shield(world.scheduler());
    world.scheduler().park(false);
  }
  std::erase(pending_, &operation);
  machine_.life()->check_alive();
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
      : machine_(machine), disk_(disk), inode_(std::move(inode)), path_(std::move(path)), writable_(writable) {
    ++disk_.open_files_;
  }
  ~MachineFile() override { --disk_.open_files_; }

  Result<size_t> read(uint64_t offset, std::span<uint8_t> into) override {
    disk_.take_time(MachineDisk::Kind::kRead, into.size());
    const SparseBytes& content = inode_->cached;
    if (offset >= content.size() || into.empty()) return size_t{0};
    size_t count = std::min<size_t>(into.size(), content.size() - offset);
    for (uint64_t sector : inode_->unreadable)
      if (sector * kSector < offset + count && offset < (sector + 1) * kSector)
        return fail(ErrorCode::kIo, fmt::format("reading {} at byte {}: input/output error", path_, offset));
    content.read(offset, into.first(count));
    machine_.world().fold_bytes(EventKind::kDisk, machine_.actor(), into.first(count));
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
    if (size_bytes > inode_->cached.size() && disk_.state_.full_) return full();
    uint64_t old = inode_->cached.size();
    inode_->cached.resize(size_bytes);
    inode_->dirty.push_back({std::min(old, size_bytes), std::max(old, size_bytes)});
    disk_.take_time(MachineDisk::Kind::kMeta, 0);
    return {};
  }

  Result<uint64_t> size() override {
    machine_.life()->check_alive();
    return inode_->cached.size();
  }

 private:
  std::unexpected<Error> full() const {
    return fail(ErrorCode::kNoSpace, fmt::format("writing {}: no space left on device", path_));
  }

  Result<void> may_write(uint64_t offset, uint64_t bytes) const {
    if (!writable_) return fail(ErrorCode::kInvalid, fmt::format("writing {}: it is open for reading only", path_));
    if (offset > kMaxFileBytes - bytes)
      return fail(ErrorCode::kInvalid, fmt::format("writing {}: file too large", path_));
    return {};
  }

  Result<void> put(uint64_t offset, ByteView data) {
    machine_.life()->check_alive();
    TRY(may_write(offset, data.size()));
    if (data.empty()) return {};
    SparseBytes& content = inode_->cached;
    if (offset + data.size() > content.size()) {
      if (disk_.state_.full_) return full();
      content.resize(offset + data.size());
    }
    content.write(offset, data);
    inode_->dirty.push_back({offset, offset + data.size()});
    if (!inode_->unreadable.empty())
      std::erase_if(inode_->unreadable, [&](uint64_t sector) {
        return offset <= sector * kSector && (sector + 1) * kSector <= offset + data.size();
      });
    machine_.world().fold_bytes(EventKind::kDisk, machine_.actor(), data);
    return {};
  }

  Result<void> sync_after(uint64_t bytes) {
    // Only what was written before the sync was asked for is covered by it.
    const uint64_t covered = inode_->cleaned + inode_->dirty.size();
    disk_.take_time(MachineDisk::Kind::kSync, bytes);
    DiskState& state = disk_.state_;
    if (state.fail_next_sync_) {
      state.fail_next_sync_ = false;
      state.fail_sync(*inode_, state.operations_);
      machine_.world().record(machine_.actor(), "fault", fmt::format("sync of {} fails", path_));
      return fail(ErrorCode::kIo, fmt::format("syncing {}: input/output error", path_));
    }
    // Another sync of this file may have come first and made some of it durable already.
    state.sync_ranges(*inode_, covered > inode_->cleaned ? covered - inode_->cleaned : 0);
    machine_.world().detail(machine_.actor(), "disk", "{}: synced", path_);
    return {};
  }

  Machine& machine_;
  MachineDisk& disk_;
  std::shared_ptr<Inode> inode_;
  std::string path_;
  bool writable_;
};

Result<std::unique_ptr<env::File>> MachineDisk::open(const std::string& path, env::OpenMode mode) {
  TRY(check_path(path, false));
  take_time(Kind::kMeta, 0);
  auto inode = state_.find(path);
  if (mode == env::OpenMode::kCreate) {
    if (inode) return fail(ErrorCode::kExists, fmt::format("{} exists already", path));
    auto parent = state_.find(DiskState::parent(path));
    if (!parent || !parent->directory)
      return fail(ErrorCode::kNotFound, fmt::format("creating {}: no such directory", path));
    if (state_.full_) return fail(ErrorCode::kNoSpace, fmt::format("creating {}: no space left on device", path));
    inode = std::make_shared<Inode>();
    inode->number = ++state_.inodes_;
    state_.change({DiskState::parent(path), DiskState::parent(path), {{path, inode}}});
    machine_.world().detail(machine_.actor(), "disk", "{}: created", path);
  } else if (!inode) {
    return fail(ErrorCode::kNotFound, fmt::format("opening {}: no such file or directory", path));
  }
  if (inode->directory) return fail(ErrorCode::kInvalid, fmt::format("opening {}: it is a directory", path));
  return std::make_unique<MachineFile>(machine_, *this, std::move(inode), path, mode != env::OpenMode::kRead);
}

Result<std::vector<std::string>> MachineDisk::list(const std::string& directory) {
  TRY(check_path(directory, true));
  take_time(Kind::kMeta, 0);
  auto inode = state_.find(directory);
  if (!inode || !inode->directory)
    return fail(ErrorCode::kNotFound, fmt::format("listing {}: no such directory", directory));
  std::vector<std::string> names;
  for (auto& [path, entry] : state_.cached_)
    if (!path.empty() && DiskState::parent(path) == directory)
      names.push_back(path.substr(directory.empty() ? 0 : directory.size() + 1));
  return names;
}

Result<void> MachineDisk::make_dir(const std::string& path) {
  TRY(check_path(path, false));
  take_time(Kind::kMeta, 0);
  if (auto inode = state_.find(path)) {
    if (inode->directory) return {};
    return fail(ErrorCode::kExists, fmt::format("making directory {}: a file of that name exists", path));
  }
  auto parent = state_.find(DiskState::parent(path));
  if (!parent || !parent->directory)
    return fail(ErrorCode::kNotFound, fmt::format("making directory {}: no such parent directory", path));
  if (state_.full_) return fail(ErrorCode::kNoSpace, fmt::format("making directory {}: no space left on device", path));
  auto inode = std::make_shared<Inode>();
  inode->number = ++state_.inodes_;
  inode->directory = true;
  state_.change({DiskState::parent(path), DiskState::parent(path), {{path, inode}}});
  return {};
}

Result<void> MachineDisk::rename(const std::string& from, const std::string& to) {
  TRY(check_path(from, false));
  TRY(check_path(to, false));
  take_time(Kind::kMeta, 0);
  auto inode = state_.find(from);
  if (!inode) return fail(ErrorCode::kNotFound, fmt::format("renaming {}: no such file or directory", from));
  if (!state_.is_directory(DiskState::parent(to)))
    return fail(ErrorCode::kNotFound, fmt::format("renaming {} to {}: no such directory", from, to));
  if (from == to) return {};
  auto replaced = state_.find(to);
  if (replaced && (inode->directory || replaced->directory))
    return fail(ErrorCode::kExists, fmt::format("renaming {} to {}: a directory is not replaced", from, to));
  DiskState::Change change{DiskState::parent(from), DiskState::parent(to), {{from, nullptr}, {to, inode}}};
  if (inode->directory) {
    const std::string below = from + '/';
    if (to.starts_with(below))
      return fail(ErrorCode::kInvalid, fmt::format("renaming {} to {}: into itself", from, to));
    // Entries are kept by their full paths, so that what is below goes along.
    for (auto entry = state_.cached_.lower_bound(below);
         entry != state_.cached_.end() && entry->first.starts_with(below); ++entry) {
      change.names.emplace_back(entry->first, nullptr);
      change.names.emplace_back(to + '/' + entry->first.substr(below.size()), entry->second);
    }
  }
  state_.change(std::move(change));
  machine_.world().detail(machine_.actor(), "disk", "{}: renamed to {}", from, to);
  return {};
}

Result<void> MachineDisk::remove(const std::string& path) {
  TRY(check_path(path, false));
  take_time(Kind::kMeta, 0);
  auto inode = state_.find(path);
  if (!inode) return fail(ErrorCode::kNotFound, fmt::format("removing {}: no such file or directory", path));
  if (inode->directory)
    for (auto& [other, entry] : state_.cached_)
      if (!other.empty() && other != path && DiskState::parent(other) == path)
        return fail(ErrorCode::kExists, fmt::format("removing {}: the directory is not empty", path));
  state_.change({DiskState::parent(path), DiskState::parent(path), {{path, nullptr}}});
  machine_.world().detail(machine_.actor(), "disk", "{}: removed", path);
  return {};
}

Result<void> MachineDisk::sync_dir(const std::string& directory) {
  TRY(check_path(directory, true));
  take_time(Kind::kSync, 0);
  if (!state_.is_directory(directory))
    return fail(ErrorCode::kNotFound, fmt::format("syncing {}: no such directory", directory));
  state_.sync_directory(directory);
  machine_.world().detail(machine_.actor(), "disk", "directory {}: synced", directory.empty() ? "/" : directory);
  return {};
}

Result<std::unique_ptr<env::DirectoryLock>> MachineDisk::lock(const std::string& directory) {
  TRY(check_path(directory, true));
  take_time(Kind::kMeta, 0);
  auto inode = state_.find(directory);
  if (!inode || !inode->directory)
    return fail(ErrorCode::kNotFound, fmt::format("locking {}: no such directory", directory));
  if (inode->locked_by_boot == machine_.boots())
    return fail(ErrorCode::kBusy, fmt::format("{} is in use by another process", directory));
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
