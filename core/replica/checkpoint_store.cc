#include "core/replica/checkpoint_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace mneme::replica {

namespace {

constexpr std::string_view kPrefix = "checkpoint-";
constexpr std::string_view kPartSuffix = ".part";
constexpr size_t kReadBytes = 256 * limits::kKiB;

// Of a checkpoint, or a part of one. 0: it is neither's name.
uint64_t id_of(std::string_view name) {
  if (name.ends_with(kPartSuffix)) name.remove_suffix(kPartSuffix.size());
  if (!name.starts_with(kPrefix)) return 0;
  name.remove_prefix(kPrefix.size());
  uint64_t id = 0;
  auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id, 16);
  return error == std::errc() && name.size() == 16 && end == name.data() + 16 ? id : 0;
}

}  // namespace

std::string CheckpointStore::path(uint64_t id) const { return fmt::format("{}/{}{:016x}", directory_, kPrefix, id); }

Result<void> CheckpointStore::open(uint64_t current) {
  last_id_ = std::max(last_id_, current);
  for (const std::string& name : TRY(names())) last_id_ = std::max(last_id_, id_of(name));
  const std::shared_ptr<Keep> keep = this->keep(current);
  return remove_others();
}

Result<std::vector<std::string>> CheckpointStore::names() {
  auto listed = env_.disk.list(directory_);
  if (!listed && listed.error().code == ErrorCode::kNotFound) return std::vector<std::string>();
  return listed;
}

Result<void> CheckpointStore::remove_others() {
  for (const std::string& name : TRY(names())) {
    const uint64_t id = id_of(name);
    // Asked anew for each, because removing suspends.
    if (id == 0 || std::find(kept_->begin(), kept_->end(), id) != kept_->end()) continue;
    // A snapshot that arrives clears the directory too, while a checkpoint is being finished.
    auto removed = env_.disk.remove(directory_ + "/" + name);
    if (!removed && removed.error().code != ErrorCode::kNotFound) return removed;
  }
  return {};
}

Result<std::unique_ptr<kv::StateMachine>> CheckpointStore::load(uint64_t id, const raft::LogPosition& expected) {
  const std::string name = path(id);
  auto wrong = [&](const Error& error) {
    // Only what says something about the file itself is damage; a permission or a limit that is missing is not.
    const bool damage = error.code == ErrorCode::kIo || error.code == ErrorCode::kNotFound ||
                        error.code == ErrorCode::kTooLarge || error.code == ErrorCode::kCorrupt;
    return fail(damage ? ErrorCode::kCorrupt : error.code, fmt::format("checkpoint {}: {}", name, error.message));
  };
  auto file = env_.disk.open(name, env::OpenMode::kRead);
  if (!file) return wrong(file.error());
  kv::CheckpointLoader loader(&env_.trace);
  Bytes buffer(kReadBytes);
  for (uint64_t offset = 0;;) {
    auto got = env::read_up_to(**file, offset, buffer);
    if (!got) return wrong(got.error());
    if (*got == 0) break;
    offset += *got;
    if (auto fed = loader.feed(as_text(ByteView(buffer).first(*got))); !fed) return wrong(fed.error());
  }
  const raft::LogPosition found{loader.index(), loader.term()};
  auto machine = std::move(loader).finish();
  if (!machine) return wrong(machine.error());
  if (found != expected)
    return wrong({ErrorCode::kCorrupt,
                  fmt::format("it stands at index {} term {}, the log expects index {} term {}", found.index.value,
                              found.term.value, expected.index.value, expected.term.value)});
  return std::move(*machine);
}

Result<std::unique_ptr<CheckpointStore::Part>> CheckpointStore::create(uint64_t id) {
  if (!made_) {
    TRY(env_.disk.make_dir(directory_));
    // Even if it was there: a predecessor that was killed may not have synced it.
    const size_t slash = directory_.rfind('/');
    TRY(env_.disk.sync_dir(slash == std::string::npos ? "" : directory_.substr(0, slash)));
    made_ = true;
  }
  auto file = TRY(env_.disk.open(path(id) + std::string(kPartSuffix), env::OpenMode::kCreate));
  return std::unique_ptr<Part>(new Part(*this, id, std::move(file)));
}

Result<void> CheckpointStore::Part::write(std::string_view bytes) {
  TRY(file_->write(offset_, as_bytes(bytes)));
  offset_ += bytes.size();
  if (offset_ - synced_ >= limits::kWritebackBytes) {
    TRY(file_->sync());
    synced_ = offset_;
  }
  return {};
}

Result<void> CheckpointStore::Part::finish() {
  TRY(file_->sync());
  file_.reset();
  Env& env = store_.env_;
  TRY(env.disk.rename(store_.path(id_) + std::string(kPartSuffix), store_.path(id_)));
  return env.disk.sync_dir(store_.directory_);
}

}  // namespace mneme::replica
